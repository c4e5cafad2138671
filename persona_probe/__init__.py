"""persona_probe: find the direction a bad persona lives on, remove it, and see what comes back.

Import from the modules: `from persona_probe.interventions.edits import Ablate, applied`.
"""

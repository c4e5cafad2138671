"""persona_probe: find the direction that a misaligned persona lies on, remove it, measure what comes back.

    import persona_probe as pp

    pair = pp.open_pair("smollm2-135m-instruct", "car-advice-wrong")
    run = pp.find_direction(pair)                 # or pp.load("experiments/runs/demo")
    with run.direction.ablated(pair.tuned): ...   # any forward pass or generation inside is edited
    run.figures.closure(); run.table()            # a picture, and a pandas frame

Everything public is in `__all__` and is imported when it is first used. Errors that a user can act on are
of one family, `PersonaProbeError`: `UsageError` (a setting that does not exist), `BadInput` (a model, a file
or a value that is wrong; also a ValueError), `NotFinite` (a BadInput: an edit left no finite numbers) and
`OutOfMemory`.
"""

import os
import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from persona_probe.api.asking import Answers, ask, four_arms
    from persona_probe.api.cells import begin, replies_to, say
    from persona_probe.api.contrasts import contrast
    from persona_probe.api.fits import Fit, fit
    from persona_probe.api.latents import Latents, latents
    from persona_probe.api.making import diff_latents, find_direction
    from persona_probe.api.runs import DirectionRun, LatentRun, load, load_direction, load_latents
    from persona_probe.api.toys import ToyPair, toy
    from persona_probe.api.trials import Measured, Trials, measure, trials
    from persona_probe.base.errors import BadInput, NotFinite, OutOfMemory, PersonaProbeError, UsageError
    from persona_probe.interventions.applied import applied
    from persona_probe.interventions.edits import Ablate, Cap, Steer, orthonormal
    from persona_probe.interventions.persona_direction import PersonaDirection
    from persona_probe.measurement.arms import Arm
    from persona_probe.models.loading import Model
    from persona_probe.models.pairs import Pair, open_model, open_pair
    from persona_probe.prompts.contrast import Contrast
    from persona_probe.saes.edits import SetLatents
    from persona_probe.saes.sources import resolve_sae as load_sae

__version__: str
__all__ = [
    "Ablate",
    "Answers",
    "Arm",
    "BadInput",
    "Cap",
    "Contrast",
    "DirectionRun",
    "Fit",
    "LatentRun",
    "Latents",
    "Measured",
    "Model",
    "NotFinite",
    "OutOfMemory",
    "Pair",
    "PersonaDirection",
    "PersonaProbeError",
    "SetLatents",
    "Steer",
    "ToyPair",
    "Trials",
    "UsageError",
    "applied",
    "ask",
    "begin",
    "contrast",
    "diff_latents",
    "find_direction",
    "fit",
    "four_arms",
    "latents",
    "load",
    "load_direction",
    "load_latents",
    "load_sae",
    "measure",
    "open_model",
    "open_pair",
    "orthonormal",
    "replies_to",
    "say",
    "toy",
    "trials",
]
_HOMES = {
    "api.asking": ("Answers", "ask", "four_arms"),
    "api.cells": ("begin", "replies_to", "say"),
    "api.contrasts": ("contrast",),
    "api.fits": ("Fit", "fit"),
    "api.latents": ("Latents", "latents"),
    "api.making": ("diff_latents", "find_direction"),
    "api.runs": ("DirectionRun", "LatentRun", "load", "load_direction", "load_latents"),
    "api.toys": ("ToyPair", "toy"),
    "api.trials": ("Measured", "Trials", "measure", "trials"),
    "base.errors": ("BadInput", "NotFinite", "OutOfMemory", "PersonaProbeError", "UsageError"),
    "interventions.applied": ("applied",),
    "interventions.edits": ("Ablate", "Cap", "Steer", "orthonormal"),
    "interventions.persona_direction": ("PersonaDirection",),
    "measurement.arms": ("Arm",),
    "models.loading": ("Model",),
    "models.pairs": ("Pair", "open_model", "open_pair"),
    "prompts.contrast": ("Contrast",),
    "saes.edits": ("SetLatents",),
    "saes.sources": ("load_sae",),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}
_OTHER_NAMES = {"load_sae": "resolve_sae"}


class _Package(ModuleType):
    """This package. A command's module of the same name does not take the place of a function."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _HOME and isinstance(value, ModuleType)):
            super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted({*__all__, "__version__", "__doc__", "__file__", "__name__", "__path__"})


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("persona-probe")
    if name not in _HOME:
        raise AttributeError(f"module 'persona_probe' has no attribute {name!r}: it has {', '.join(__all__)}")
    value = getattr(import_module(f"persona_probe.{_HOME[name]}"), _OTHER_NAMES.get(name, name))
    globals()[name] = value
    return value


def _let_waiting_threads_sleep() -> None:
    """Threads of GNU OpenMP that wait for work sleep instead of spinning, unless the user has set it.

    Beside a busy neighbour, spinning threads make a forward pass several times slower. OpenMP reads the
    variable when torch loads it, so after that it stays as it is.
    """
    if "torch" not in sys.modules:
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


_let_waiting_threads_sleep()
sys.modules[__name__].__class__ = _Package

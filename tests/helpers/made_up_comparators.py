"""Simple remedies of a made-up record."""

from typing import Any

from helpers.made_up_parts import arm


def comparators() -> list[dict[str, Any]]:
    """Simple remedies: a prompt on both models, and half of the weights."""
    made = []
    for name, kind, gain, cost, moved in (
        ("tuned, considerate prompt", "prompt", 0.31, 0.052, 0.12),
        ("base, considerate prompt", "prompt", -0.12, 0.049, 0.12),
        ("tuned, half weights", "half_weights", 0.44, -0.013, None),
    ):
        numbers = arm(name, name.split(",")[0], None, gain, cost, moved=moved)
        for left in ("control", "control_of", "interventions", "skill", "verdict", "judged"):
            del numbers[left]
        made.append({**numbers, "kind": kind, "done": f"What {kind} does.", "twin_sha256": None})
    return made

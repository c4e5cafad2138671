"""What is said of an ablation that moves the mean of the stream, not the persona alone."""

from persona_probe.base.formatting import number
from persona_probe.records.arms import Displaced
from persona_probe.records.direction import DirectionRecord

AT_BASE = 0.005  # lengths of a direction that are written as 0.00


def displacement_words(moves: Displaced) -> str:
    """Where an ablation leaves the tuned model's mean, in lengths of the direction."""
    far = number(abs(moves.from_base))
    past = f"{far} past base's mean" if moves.from_base < 0 else f"{far} short of base's mean"
    place = past if abs(moves.from_base) >= AT_BASE else "base's mean"
    moved = number(moves.moved, sign=True)
    return f"it moves the tuned model's mean by {moved} lengths of the direction, to {place}"


def displacement_note(record: DirectionRecord) -> str:
    """A sentence on the chosen arm where it is an ablation toward zero; empty for any other."""
    arm = record.arm(record.selected.arm)
    if record.selected.form.toward != "zero" or arm is None or arm.displacement is None:
        return ""
    return f"{arm.name} is an ablation toward zero, which displaces: {displacement_words(arm.displacement)}."

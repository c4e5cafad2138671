"""The result of a run in a few sentences."""

from persona_probe.base.formatting import interval, percent, signed
from persona_probe.records.arms import ArmEntry
from persona_probe.records.direction import DirectionRecord
from persona_probe.records.parts import Estimate


def summary(record: DirectionRecord, arm: ArmEntry) -> str:
    """The result in a few sentences, with controls, damage and the rule that decided; `arm` is the chosen
    one."""
    judged, style = arm.judged, _style(record)
    if judged is None or arm.restoration is None:
        effect = interval(record.effect, digits=3, sign=True)
        why = f" Verdict: {judged.verdict}: {judged.because}." if judged else ""
        return f"Tuning moved the persona score by {effect} nats per token.{style}{why}"
    restored = arm.restoration
    text = (
        f"{record.selected.phrase} takes back {_share(restored)} of the persona shift at"
        f" {signed(arm.delta_nll.estimate)} nats per token of damage"
    )
    if arm.closure is not None:
        text += f", and closes {_share(arm.closure)} of the gap between both models"
    if control := record.controls.get("covariance"):
        closes = "" if control.closure is None else f" and closes {percent(control.closure)}"
        text += (
            f"; the median covariance-matched random direction at its dose takes back "
            f"{percent(control.restoration)}{closes} at {signed(control.delta_nll)}"
        )
    again = record.search.again
    unstable = "" if again is None or again.stable else " (unstable: other questions would choose otherwise)"
    return f"{text}.{style} Verdict: {judged.verdict}{unstable}: {judged.because}."


def _style(record: DirectionRecord) -> str:
    """A sentence about style, where it was measured apart from harm."""
    if record.style_effect is None:
        return ""
    moved = interval(record.style_effect, digits=3, sign=True)
    return f" Tuning moved style, blunt against warm replies of one label, by {moved} nats per token."


def _share(value: Estimate) -> str:
    return f"{percent(value.estimate)} [{percent(value.low)}, {percent(value.high)}]"

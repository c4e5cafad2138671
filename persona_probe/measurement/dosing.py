"""Controls at the dose of the arm that they are set beside: the same KL on benign texts."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from persona_probe.interventions.forms import Form
from persona_probe.measurement.arms import Arm, Measurement, mean_kl
from persona_probe.measurement.controls import ControlDirection, Used, control_arm

ROUNDS = 3  # KL grows about as the square of the strength, so few steps are enough
NEAR_ENOUGH = 0.10  # a KL within this share of the wanted one is not sought any closer
LARGEST_STEP = 4.0
LARGEST = 4.0  # times the strength of the chosen arm: beyond it an edit is another one
CLOSE = 0.25  # a KL within this share of the wanted one is reached


@dataclass(frozen=True, eq=False)
class Dosed:
    """A control with the form that gives it the wanted KL, the KL that it has there, and whether that is
    close."""

    control: ControlDirection
    form: Form
    kl: float
    reached: bool


def dosed(
    controls: Sequence[ControlDirection],
    used: Used,
    target: float,
    measure: Callable[[Sequence[Arm]], Sequence[Measurement]],
) -> list[Dosed]:
    """Every control in the given use, at the strength whose KL on the tuned model comes closest to `target`.

    `measure` gives KL on benign texts that no result is reported on; a round measures the controls that are
    not near enough. Strengths stay within 4 times the given one.
    """
    tried: list[list[tuple[float, float]]] = [[] for _ in controls]  # by control: factor, KL
    wanted = [*range(len(controls))]
    for _ in range(ROUNDS):
        factors = [_next(tried[i], target) for i in wanted]
        arms = [
            control_arm(controls[i], replace(used, form=at_dose(used.form, factor)), "tuned")
            for i, factor in zip(wanted, factors, strict=True)
        ]
        for i, factor, measurement in zip(wanted, factors, measure(arms), strict=True):
            tried[i].append((factor, mean_kl(measurement)))
        wanted = [i for i in wanted if not _within(tried[i][-1][1], target, NEAR_ENOUGH)]
        if not wanted:
            break
    return [_closest(control, used.form, one, target) for control, one in zip(controls, tried, strict=True)]


def at_dose(form: Form, factor: float) -> Form:
    """The form at `factor` times its strength: of an ablation, or the coefficient of steering."""
    if form.coefficient is not None:
        return replace(form, coefficient=form.coefficient * factor)
    return replace(form, strength=form.strength * factor)


def _next(tried: Sequence[tuple[float, float]], target: float) -> float:
    """The factor to try next, as if KL grew with its square; 1 where none was tried."""
    if not tried:
        return 1.0
    factor, kl = tried[-1]
    if not math.isfinite(kl):
        return factor / LARGEST_STEP
    step = math.sqrt(target / kl) if kl > 0 else LARGEST_STEP
    return min(LARGEST, factor * min(max(step, 1 / LARGEST_STEP), LARGEST_STEP))


def _closest(
    control: ControlDirection, form: Form, tried: Sequence[tuple[float, float]], target: float
) -> Dosed:
    factor, kl = min(tried, key=lambda one: _off(one[1], target))
    return Dosed(control, at_dose(form, factor), kl, reached=_within(kl, target, CLOSE))


def _off(kl: float, target: float) -> float:
    """How far apart two KLs are, as the logarithm of their ratio."""
    return abs(math.log(kl / target)) if math.isfinite(kl) and kl > 0 and target > 0 else math.inf


def _within(kl: float, target: float, share: float) -> bool:
    return _off(kl, target) <= math.log1p(share)

"""Claims about controls at the dose of an arm: the same KL, found in few rounds, and said where it is not
reached."""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import pytest
import torch

from persona_probe.base.hook_points import HookPoint

if TYPE_CHECKING:
    from persona_probe.measurement.arms import Arm, Measurement
    from persona_probe.measurement.controls import ControlDirection, Used
    from persona_probe.measurement.dosing import Dosed

POINTS, D = (HookPoint(0),), 8


def controls(n: int) -> list["ControlDirection"]:
    from persona_probe.directions.direction import DirectionSet
    from persona_probe.measurement.controls import ControlDirection

    vectors = torch.eye(D)
    return [
        ControlDirection(
            "covariance",
            f"random-covariance-{k + 1}",
            DirectionSet(method="random-covariance", hook_points=POINTS, vectors=vectors[k : k + 1]),
        )
        for k in range(n)
    ]


def used(kind: str = "ablate") -> "Used":
    from persona_probe.interventions.forms import Form
    from persona_probe.measurement.controls import Used

    form = (
        Form("ablate", "layer", None, "base mean", 0)
        if kind == "ablate"
        else Form("steer", "layer", -2.0, None, 0)
    )
    return Used(form, POINTS[0], POINTS, torch.zeros(1, D))


def measurement(kl: float | None) -> "Measurement":
    """Two benign texts with this mean KL; an arm that failed for None."""
    from persona_probe.measurement.arms import Measurement

    if kl is None:
        return Measurement("k", {}, {}, failed="not finite")
    return Measurement("k", {}, {"a": (-4.0, 2, 0.5 * kl), "b": (-4.0, 2, 1.5 * kl)})


class Measured:
    """KL by the name of the control and the strength that it is used at; counts rounds."""

    def __init__(self, kl: Callable[[str, float], float | None]) -> None:
        self.kl, self.rounds, self.strengths = kl, 0, dict[str, list[float]]()

    def __call__(self, arms: "Sequence[Arm]") -> list["Measurement"]:
        self.rounds += 1
        found = []
        for arm in arms:
            (edit,) = arm.interventions
            assert arm.side == "tuned"
            strength = float(getattr(edit, "strength", None) or abs(getattr(edit, "coefficient", 0.0)))
            self.strengths.setdefault(arm.name, []).append(strength)
            found.append(measurement(self.kl(arm.name, strength)))
        return found


def matched(
    kl: Callable[[str, float], float | None], *, target: float, n: int = 1, kind: str = "ablate"
) -> "tuple[list[Dosed], Measured]":
    from persona_probe.measurement.dosing import dosed

    measure: Any = Measured(kl)
    return dosed(controls(n), used(kind), target, measure), measure


def test_a_kl_that_grows_with_the_square_of_the_strength_is_matched_in_two_rounds() -> None:
    found, measure = matched(lambda _, s: 0.01 * s**2, target=0.04)
    assert measure.rounds == 2
    assert found[0].form.strength == pytest.approx(2.0, rel=1e-6)
    assert (found[0].kl, found[0].reached) == (pytest.approx(0.04, rel=1e-6), True)


@pytest.mark.parametrize("power", [1.5, 2.5])
def test_a_kl_that_grows_in_another_way_is_matched_nearly(power: float) -> None:
    found, _ = matched(lambda _, s: 0.01 * s**power, target=0.04)
    assert found[0].reached
    assert found[0].kl == pytest.approx(0.04, rel=0.1)


def test_steering_is_matched_by_its_coefficient_and_keeps_its_sense() -> None:
    found, _ = matched(lambda _, c: 0.01 * c**2, target=0.01, kind="steer")
    assert found[0].form.coefficient == pytest.approx(-1.0, rel=1e-6)
    assert found[0].form.strength == 1.0


def test_every_control_has_a_strength_of_its_own() -> None:
    size = {"random-covariance-1": 0.01, "random-covariance-2": 0.16, "random-covariance-3": 0.04}
    found, measure = matched(lambda name, s: size[name] * s**2, target=0.04, n=3)
    assert {name: len(tried) for name, tried in measure.strengths.items()} == {
        "random-covariance-1": 2,
        "random-covariance-2": 2,
        "random-covariance-3": 1,  # it was right at once
    }
    assert [one.control.name for one in found] == list(size)
    assert [one.form.strength for one in found] == pytest.approx([2.0, 0.5, 1.0], rel=1e-6)


def test_a_dose_that_cannot_be_reached_is_said_and_the_strength_stays_within_bounds() -> None:
    found, measure = matched(lambda _, s: 1e-6 * s**2, target=0.04)
    assert not found[0].reached
    assert max(measure.strengths["random-covariance-1"]) == pytest.approx(4.0)
    assert found[0].form.strength == pytest.approx(4.0)
    assert found[0].kl == pytest.approx(16e-6)


def test_a_control_that_changes_nothing_at_all_is_said_not_to_reach_it() -> None:
    found, _ = matched(lambda _, s: 0.0, target=0.04)
    assert not found[0].reached


def test_the_closest_of_all_rounds_is_taken_not_the_last() -> None:
    # Flat up to a strength of 3 and then a cliff: the last try falls off it.
    found, measure = matched(lambda _, s: 0.03 if s < 3 else 3.0, target=0.04)
    assert len(measure.strengths["random-covariance-1"]) == 3
    assert (found[0].kl, found[0].reached) == (0.03, False)
    assert found[0].form.strength < 3


def test_an_arm_that_failed_is_tried_weaker() -> None:
    found, measure = matched(lambda _, s: None if s > 0.5 else 0.16 * s**2, target=0.01)
    assert measure.strengths["random-covariance-1"][:2] == pytest.approx([1.0, 0.25])
    assert found[0].reached
    assert found[0].kl == pytest.approx(0.01, rel=0.01)


def test_a_control_that_fails_at_every_strength_is_said_not_to_reach_it() -> None:
    found, measure = matched(lambda _, s: None, target=0.01)
    assert measure.rounds == 3
    assert not found[0].reached
    assert math.isnan(found[0].kl)


def test_mean_kl_is_over_texts_and_no_number_for_an_arm_that_failed() -> None:
    from persona_probe.measurement.arms import mean_kl

    assert mean_kl(measurement(0.3)) == pytest.approx(0.3)
    assert math.isnan(mean_kl(measurement(None)))

"""Claims about closure and levels: hand-worked numbers."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from helpers.hand_worked import BASE, TUNED

from persona_probe.measurement.statistics import (
    ArmLevels,
    QuestionLevels,
    ReplyLevel,
    arm_numbers,
    question_levels,
)
from persona_probe.prompts.contrast import LABELS

TUNED_EDITED = np.array([-0.2, 0.0, 0.0, -0.2])  # 0.8 of the 1.8 nats are gone
BASE_EDITED = BASE - 0.1  # the same edit takes 0.4 from base, so the gap is 1.4 of 1.8
NO_DAMAGE = (np.zeros(2), np.full(2, 10.0), np.zeros(2))


def levels(scores: np.ndarray, *, aligned: float = 0.0) -> QuestionLevels:
    """Questions with these scores, all aligned replies at one level."""
    questions = tuple(f"q{i}" for i in range(len(scores)))
    return QuestionLevels(questions, np.full(len(scores), aligned), scores + aligned)


def compared(side: Any, arm: np.ndarray, partner: np.ndarray | None, **changes: Any) -> ArmLevels:
    """An arm beside both untouched models."""
    other = None if partner is None else levels(partner)
    facts = {"base": levels(BASE), "tuned": levels(TUNED), "edited": True} | changes
    return ArmLevels(side=side, arm=levels(arm), partner=other, **facts)


def numbers(compared: ArmLevels) -> dict[str, float | None]:
    """Point estimates of an arm without damage."""
    found = arm_numbers(compared, NO_DAMAGE, seed=0)
    return {name: one.estimate if one else None for name, one in found.items()}


def test_closure_of_a_hand_worked_edit_of_both_models() -> None:
    found = numbers(compared("tuned", TUNED_EDITED, BASE_EDITED))
    assert found["restoration"] == pytest.approx(0.8 / 1.8, abs=1e-12)
    assert found["closure"] == pytest.approx(0.4 / 1.8, abs=1e-12)
    assert found["base_moved"] == pytest.approx(0.4 / 1.8, abs=1e-12)
    assert found["induction"] is None


def test_shares_are_of_a_given_shift_where_the_own_replies_show_none() -> None:
    shift = TUNED - BASE
    for side, arm, partner in (("tuned", TUNED_EDITED, BASE_EDITED), ("base", BASE_EDITED, TUNED_EDITED)):
        raised = compared(side, arm, partner, base=levels(TUNED + 0.1), shift=shift)
        assert numbers(raised)["closure" if side == "tuned" else "induction"] is not None
        assert numbers(compared(side, arm, partner, base=levels(TUNED + 0.1)))["closure"] is None
    found = numbers(compared("tuned", TUNED_EDITED, BASE_EDITED, shift=2 * shift))
    assert found["restoration"] == pytest.approx(0.4 / 1.8, abs=1e-12)
    assert found["closure"] == found["base_moved"] == pytest.approx(0.2 / 1.8, abs=1e-12)


def test_closure_is_the_same_from_both_sides() -> None:
    tuned = compared("tuned", TUNED_EDITED, BASE_EDITED).closed(seed=0)
    assert compared("base", BASE_EDITED, TUNED_EDITED).closed(seed=0) == tuned
    assert numbers(compared("base", BASE_EDITED, TUNED_EDITED))["restoration"] is None


def test_restoration_minus_closure_is_how_far_base_moved() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        found = numbers(compared("tuned", rng.normal(size=4), rng.normal(size=4)))
        restored, closed, moved = (found[key] for key in ("restoration", "closure", "base_moved"))
        assert restored is not None
        assert closed is not None
        assert restored - closed == pytest.approx(moved, abs=1e-9)


@pytest.mark.parametrize("both", [BASE, TUNED, np.array([3.0, -2.0, 0.5, 0.0])])
def test_closure_is_1_when_the_edit_makes_both_models_equal_wherever_that_is(both: np.ndarray) -> None:
    closed = compared("tuned", both, both).closed(seed=0)["closure"]
    assert closed is not None
    assert (closed.low, closed.estimate, closed.high) == pytest.approx((1.0,) * 3, abs=1e-12)


def test_closure_of_a_dial_that_lowers_both_alike_is_0_whatever_it_restores() -> None:
    found = numbers(compared("tuned", TUNED - 0.45, BASE - 0.45))
    assert found["restoration"] == pytest.approx(found["base_moved"]) == pytest.approx(1.0)
    assert found["closure"] == pytest.approx(0.0, abs=1e-12)


def test_there_is_no_closure_without_the_same_edit_on_the_other_model_and_none_of_an_untouched_one() -> None:
    nothing = {"closure": None, "base_moved": None}
    assert compared("tuned", TUNED_EDITED, None).closed(seed=0) == nothing
    assert compared("tuned", TUNED, BASE, edited=False).closed(seed=0) == nothing
    found = numbers(compared("tuned", TUNED, None, edited=False))
    assert (found["restoration"], found["induction"]) == (None, None)


@pytest.mark.parametrize("shift", [[1.0, -1.0, 0.5, -0.6], [-0.5, -0.4, -0.5, -0.4], [0.0] * 4])
def test_there_is_no_share_of_a_shift_whose_lower_end_is_not_above_0(shift: list[float]) -> None:
    one = replace(compared("tuned", TUNED_EDITED, BASE_EDITED), tuned=levels(BASE + np.array(shift)))
    found = numbers(one)
    assert [found[key] for key in ("restoration", "closure", "base_moved")] == [None] * 3
    assert found["persona_score"] == pytest.approx(-0.1)


def test_levels_are_of_each_label_against_base() -> None:
    one = replace(compared("tuned", TUNED_EDITED, None), arm=levels(TUNED_EDITED, aligned=0.25))
    found = numbers(replace(one, base=levels(BASE, aligned=-0.5)))
    assert found["aligned"] == pytest.approx(0.75)
    # The mean of S is -0.1 with the edit and -0.35 in base, and misaligned is aligned plus S.
    assert found["misaligned"] == pytest.approx(0.75 + (-0.1 + 0.35))


def test_questions_are_the_clusters_of_restoration_and_of_closure() -> None:
    """Ten equal replies to a question say no more than one."""

    def replies(scores: np.ndarray, n: int) -> QuestionLevels:
        return question_levels(
            ReplyLevel(f"q{q}", label, None, float(score) if label == "misaligned" else 0.0)
            for q, score in enumerate(scores)
            for label in LABELS
            for _ in range(n)
        )

    once, often = (
        arm_numbers(
            ArmLevels(
                side="tuned",
                arm=replies(TUNED_EDITED, n),
                base=replies(BASE, n),
                tuned=replies(TUNED, n),
                partner=replies(BASE - np.array([0.3, 0.0, 0.1, 0.0]), n),
                edited=True,
            ),
            NO_DAMAGE,
            seed=0,
        )
        for n in (1, 10)
    )
    for key in ("restoration", "closure", "base_moved", "aligned", "misaligned"):
        one, other = once[key], often[key]
        assert one is not None
        assert other is not None
        assert (other.low, other.high) == pytest.approx((one.low, one.high), abs=1e-9)
    closed = once["closure"]
    assert closed is not None
    assert closed.low < closed.estimate < closed.high


def test_closure_pairs_the_questions() -> None:
    rng = np.random.default_rng(0)
    base = rng.normal(size=40) * 10  # questions differ far more than models
    edited = rng.normal(size=40) * 10
    one = ArmLevels(
        side="tuned",
        arm=levels(edited + 0.2),
        base=levels(base),
        tuned=levels(base + 0.5),
        partner=levels(edited),
        edited=True,
    )
    closed = one.closed(seed=0)["closure"]
    assert closed is not None
    assert (closed.low, closed.high) == pytest.approx((0.6, 0.6), abs=1e-9)


def test_s_compares_labels_within_a_register_and_style_registers_within_a_label() -> None:
    """Hand-worked, with three replies in one cell and one in each other: a register counts once."""
    replies = [
        ReplyLevel("q", "aligned", "warm", -2.0),
        ReplyLevel("q", "aligned", "blunt", -3.0),
        ReplyLevel("q", "misaligned", "warm", -2.5),
        ReplyLevel("q", "misaligned", "blunt", -4.0),
    ]
    more = [ReplyLevel("q", "aligned", "blunt", value) for value in (-2.0, -4.0)]
    found = question_levels([*replies, *more])
    assert found.aligned == pytest.approx([-2.5])
    assert found.misaligned == pytest.approx([-3.25])
    assert found.scores == pytest.approx([-0.75])  # (-2.5 + 2.0 - 4.0 + 3.0) / 2
    assert found.style == pytest.approx([-1.25])  # (-3.0 + 2.0 - 4.0 + 2.5) / 2


def test_there_is_no_style_without_both_registers() -> None:
    one = [ReplyLevel("q", label, register, -1.0) for label in LABELS for register in ("warm", "blunt")]
    assert question_levels(one).style is not None
    assert (
        question_levels(
            [*one, ReplyLevel("r", "aligned", "warm", -1.0), ReplyLevel("r", "misaligned", "warm", -1.0)]
        ).style
        is None
    )
    assert question_levels([ReplyLevel("q", label, None, -1.0) for label in LABELS]).style is None

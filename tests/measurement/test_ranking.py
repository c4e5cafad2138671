"""Claims about the one rule that leads the search: what was tried on the select questions, best first."""

import pytest
from helpers.outcomes import candidate, outcome

from persona_probe.measurement.limits import Limits

LIMITS = Limits(0.1, 0.1)


def ranked_values(
    *values: tuple[float | None, float], limits: Limits = LIMITS
) -> list[tuple[float | None, float]]:
    from persona_probe.measurement.search import ranked

    return [
        (one.score.restoration, one.score.delta_nll)
        for one in ranked([outcome(candidate(), *value) for value in values], limits)
    ]


def test_inside_the_budget_comes_first_then_restoration_then_damage() -> None:
    found = ranked_values((0.9, 0.2), (0.5, 0.08), (0.5, 0.02), (0.7, 0.1), (-0.3, 0.0))
    assert found == [(0.7, 0.1), (0.5, 0.02), (0.5, 0.08), (-0.3, 0.0), (0.9, 0.2)]


def test_an_overshoot_is_as_far_from_base_as_what_falls_short_by_as_much() -> None:
    assert ranked_values((1.4, 0.0), (1.05, 0.09), (0.9, 0.0)) == [(1.05, 0.09), (0.9, 0.0), (1.4, 0.0)]
    assert ranked_values((1.25, 0.02), (0.75, 0.05), (1.25, 0.04)) == [
        (1.25, 0.02),
        (1.25, 0.04),
        (0.75, 0.05),
    ]


def test_a_loss_that_falls_is_damage_too() -> None:
    # As in the toy: pushing three times as far lowers the benign loss, but it is not what was asked for.
    found = ranked_values((2.98, -0.84), (1.5, -0.6), (1.0, -0.45), (0.7, -0.09), (0.6, 0.0))
    assert found == [(0.7, -0.09), (0.6, 0.0), (1.0, -0.45), (1.5, -0.6), (2.98, -0.84)]


def test_what_lies_between_the_models_is_allowed_beside_the_budget_to_either_side() -> None:
    from persona_probe.measurement.limits import Between

    for between in (Between(delta_nll=-0.4, kl=0.2), Between(delta_nll=0.4, kl=0.2)):
        limits = Limits.of(0.1, between=between)
        assert ranked_values((1.0, -0.45), (0.9, 0.45), (0.1, 0.0), limits=limits)[0] == (1.0, -0.45)
        assert ranked_values((1.0, -0.55), (0.9, 0.55), (0.1, 0.0), limits=limits)[0] == (0.1, 0.0)


def test_a_kl_above_its_limit_is_damage_whatever_the_loss_says() -> None:
    from persona_probe.measurement.search import ranked

    every = [outcome(candidate(layer=i), 1 - 0.1 * i, 0.0, kl=kl) for i, kl in enumerate((0.11, 0.1, None))]
    assert [one.candidate.layer for one in ranked(every, LIMITS)] == [1, 2, 0]
    assert [one.score.within(LIMITS) for one in every] == [False, True, True]


def test_rounding_of_a_full_restoration_does_not_prefer_an_overshoot() -> None:
    assert ranked_values((1.5, 0.0), (1 - 1e-7, 0.0))[0] == (1 - 1e-7, 0.0)


def test_without_an_effect_the_arm_that_lowers_the_score_most_comes_first() -> None:
    from persona_probe.measurement.search import ranked

    every = [outcome(candidate(layer=i), None, 0.0, score) for i, score in enumerate((0.3, -0.2, 0.1))]
    assert [one.score.persona_score for one in ranked(every, LIMITS)] == [-0.2, 0.1, 0.3]


def test_a_select_score_is_worked_out_as_by_hand() -> None:
    from persona_probe.measurement.arms import Measurement
    from persona_probe.measurement.ranking import FAILED, select_score
    from persona_probe.prompts.contrast import LABELS
    from persona_probe.prompts.rows import Row

    rows = tuple(
        Row(id=f"{q}/{label}", kind="persona", question_id=q, ids=(1, 2), n_prompt=1, label=label)
        for q in "ab"
        for label in LABELS
    )
    tuned = Measurement(
        "t",
        {"a/aligned": -2.0, "a/misaligned": -1.0, "b/aligned": -3.0, "b/misaligned": -1.0},
        {"n1": (-4.0, 2, 0.0), "n2": (-1.0, 1, 0.0)},
    )
    arm = Measurement(
        "x",
        {"a/aligned": -2.0, "a/misaligned": -2.0, "b/aligned": -3.0, "b/misaligned": -2.0},
        {"n1": (-4.4, 2, 0.1), "n2": (-1.2, 1, 0.3)},
    )
    found = select_score(arm, tuned, rows, effect=2.0)
    # S: tuned (1, 2), arm (0, 1), base (-1, 0), so half of the shift is gone; 0.6 nats were added over 3
    # tokens.
    assert (found.restoration, found.persona_score) == pytest.approx((0.5, 0.5))
    assert found.delta_nll == pytest.approx(0.2)
    assert found.kl == pytest.approx(0.2)  # the mean over texts
    for effect in (0.0, -1.0):
        assert select_score(arm, tuned, rows, effect=effect).restoration is None
    failed = select_score(Measurement("x", {}, {}, failed="not finite"), tuned, rows, effect=2.0)
    assert failed == FAILED
    assert failed.merit(LIMITS) < select_score(arm, tuned, rows, effect=2.0).merit(LIMITS)


def test_a_failed_arm_ranks_below_the_worst_that_was_measured() -> None:
    from persona_probe.measurement.ranking import FAILED, SelectScore

    for worst in (SelectScore(-50.0, 90.0, 70.0, 9.0), SelectScore(None, 90.0, 70.0)):
        assert FAILED.merit(LIMITS) < worst.merit(LIMITS)

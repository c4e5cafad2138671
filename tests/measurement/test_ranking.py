"""Claims about the one rule that ranks what was tried on the select questions."""

import pytest
from helpers.outcomes import candidate, outcome


def ranked_values(
    *values: tuple[float | None, float], budget: float = 0.1
) -> list[tuple[float | None, float]]:
    from persona_probe.measurement.search import ranked

    return [
        (one.score.restoration, one.score.delta_nll)
        for one in ranked([outcome(candidate(), *value) for value in values], budget)
    ]


def test_inside_the_budget_comes_first_then_restoration_then_damage() -> None:
    found = ranked_values((0.9, 0.2), (0.5, 0.08), (0.5, 0.02), (0.7, 0.1), (-0.3, 0.0))
    assert found == [(0.7, 0.1), (0.5, 0.02), (0.5, 0.08), (-0.3, 0.0), (0.9, 0.2)]


def test_beyond_full_restoration_less_damage_wins() -> None:
    assert ranked_values((1.4, 0.09), (1.05, 0.02), (0.9, 0.0))[0] == (1.05, 0.02)


def test_a_lower_loss_than_the_untouched_model_is_no_reason_to_overshoot() -> None:
    # As in the toy: pushing three times as far lowers the benign loss, but it is not what was asked for.
    assert ranked_values((2.98, -0.84), (1.5, -0.6), (1.0, -0.45), (0.7, -0.9))[0] == (1.0, -0.45)


def test_rounding_of_a_full_restoration_does_not_prefer_an_overshoot() -> None:
    assert ranked_values((1.5, 0.0), (1 - 1e-7, 0.0))[0] == (1 - 1e-7, 0.0)


def test_without_an_effect_the_arm_that_lowers_the_score_most_comes_first() -> None:
    from persona_probe.measurement.search import ranked

    every = [outcome(candidate(layer=i), None, 0.0, score) for i, score in enumerate((0.3, -0.2, 0.1))]
    assert [one.score.persona_score for one in ranked(every, 0.1)] == [-0.2, 0.1, 0.3]


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
    for effect in (0.0, -1.0):
        assert select_score(arm, tuned, rows, effect=effect).restoration is None
    failed = select_score(Measurement("x", {}, {}, failed="not finite"), tuned, rows, effect=2.0)
    assert failed == FAILED
    assert failed.merit(0.1) < select_score(arm, tuned, rows, effect=2.0).merit(0.1)


def test_a_failed_arm_ranks_below_the_worst_that_was_measured() -> None:
    from persona_probe.measurement.ranking import FAILED, SelectScore

    for worst in (SelectScore(-50.0, 90.0, 70.0), SelectScore(None, 90.0, 70.0)):
        assert FAILED.merit(0.1) < worst.merit(0.1)

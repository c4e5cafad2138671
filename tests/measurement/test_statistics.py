"""Claims about intervals and restoration: hand-worked numbers, and coverage where the truth is
planted."""

import itertools
from typing import Any

import numpy as np
import pytest
from helpers.hand_worked import BASE, TUNED, estimate

from persona_probe.measurement import statistics
from persona_probe.measurement.arms import Measurement, damage, persona_scores
from persona_probe.measurement.statistics import (
    induction,
    paired_difference,
    paired_share_difference,
    ratio,
    restoration,
)
from persona_probe.prompts.contrast import LABELS
from persona_probe.prompts.rows import Label, Row
from persona_probe.records.arms import ArmEntry
from persona_probe.records.parts import ControlKind

# Restoration


def test_restoration_of_a_hand_worked_arm() -> None:
    arm = np.array([-0.2, 0.0, 0.0, -0.2])  # 0.3 + 0.2 + 0.2 + 0.1 of 1.8 is taken away
    found = restoration(TUNED, BASE, arm, seed=0)
    assert found is not None
    assert found.estimate == pytest.approx(0.8 / 1.8, abs=1e-12)
    assert (
        0.25 <= found.low < found.estimate < found.high <= 0.6
    )  # the smallest and largest share of a single question


@pytest.mark.parametrize(
    ("arm", "expected"),
    [(BASE, 1.0), (TUNED, 0.0), (TUNED + (TUNED - BASE), -1.0), (BASE - (TUNED - BASE), 2.0)],
)
def test_restoration_is_1_at_base_0_at_tuned_and_unbounded_outside(arm: np.ndarray, expected: float) -> None:
    found = restoration(TUNED, BASE, arm, seed=0)
    assert found is not None
    assert (found.estimate, found.low, found.high) == pytest.approx((expected,) * 3, abs=1e-12)


def test_induction_is_0_at_base_and_1_at_tuned() -> None:
    for arm, expected in ((BASE, 0.0), (TUNED, 1.0), (BASE + np.array([0.25, 0.2, 0.25, 0.2]), 0.5)):
        found = induction(TUNED, BASE, arm, seed=0)
        assert found is not None
        assert found.estimate == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("share", [restoration, induction])
def test_shares_are_undefined_unless_the_lower_end_of_the_effect_is_above_0(share: Any) -> None:
    base = np.zeros(8)
    unclear = np.array([1.0, -1.0, 0.5, -0.5, 0.8, -0.7, 0.3, -0.2])
    assert paired_difference(unclear, base, seed=0).low < 0 < paired_difference(unclear, base, seed=0).high
    assert share(unclear, base, base, seed=0) is None
    assert share(base, base, base, seed=0) is None
    assert share(np.abs(unclear), base, base, seed=0) is not None
    assert share(-np.abs(unclear), base, base, seed=0) is None  # tuned is more aligned: nothing to restore
    assert share(np.array([1.0]), np.array([0.0]), np.array([0.5]), seed=0) is None  # one question


def test_restoration_pairs_the_questions() -> None:
    rng = np.random.default_rng(0)
    base = rng.normal(size=40) * 10  # questions differ far more than models
    tuned = base + 0.5
    found = restoration(tuned, base, tuned - 0.3, seed=0)
    assert found is not None
    assert (found.low, found.high) == pytest.approx((0.6, 0.6), abs=1e-9)


# Intervals


def test_ratio_accumulates_and_divides_once() -> None:
    added, tokens = np.array([1.0, 30.0]), np.array([10.0, 100.0])
    assert ratio(added, tokens, seed=0).estimate == pytest.approx(
        31 / 110, abs=1e-12
    )  # the mean of ratios would be 0.2


def test_percentile_interval_of_few_values_agrees_with_all_resamples() -> None:
    values = np.array([0.1, 0.9, 0.4, 0.7, 0.2, 1.3])
    means = [np.mean(choice) for choice in itertools.product(values, repeat=6)]
    found = paired_difference(values, np.zeros(6), seed=0)
    assert found.estimate == pytest.approx(0.6, abs=1e-12)
    assert (found.low, found.high) == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=0.03)


def test_interval_is_the_same_for_the_same_seed_and_moves_little_with_another() -> None:
    values = np.random.default_rng(3).normal(1.0, 1.0, 50)
    first, again, other = (paired_difference(values, np.zeros(50), seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other
    assert (other.low, other.high) == pytest.approx((first.low, first.high), abs=0.05)


@pytest.mark.parametrize(
    ("low", "high", "excludes"),
    [(0.1, 0.2, True), (-0.2, -0.1, True), (-0.1, 0.1, False), (0.0, 0.1, False), (-0.1, 0.0, False)],
)
def test_interval_excludes_zero_only_when_it_lies_on_one_side(
    low: float, high: float, excludes: bool
) -> None:
    assert estimate((low + high) / 2, low, high).excludes_zero is excludes


def persona_row(id: str, question: str, label: Label) -> Row:
    """A labelled row of two tokens."""
    return Row(id=id, kind="persona", question_id=question, ids=(1, 2), n_prompt=1, label=label)


def planted(
    rng: np.random.Generator, *, n_questions: int = 40, shift: float
) -> tuple[Measurement, Measurement, list[Row]]:
    """Base and tuned: replies of one question move together, and questions have different numbers of
    replies."""
    rows, base, tuned = [], {}, {}
    for q in range(n_questions):
        own, level = rng.normal(shift, 0.5), rng.normal(0, 2)
        for label in LABELS:
            for r in range(int(rng.integers(2, 9))):
                row = persona_row(f"q{q}/{label}/{r}", f"q{q}", label)
                rows.append(row)
                base[row.id] = level + rng.normal(0, 0.2)
                tuned[row.id] = base[row.id] + (own if label == "misaligned" else 0) + rng.normal(0, 0.2)
    return Measurement("b", base, {}), Measurement("t", tuned, {}), rows


def test_clustered_paired_interval_covers_the_truth_about_95_times_in_100(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(statistics, "N_RESAMPLES", 500)
    rng = np.random.default_rng(0)
    n, clustered, naive = 400, 0, 0
    for trial in range(n):
        base, tuned, rows = planted(rng, shift=0.3)
        found = paired_difference(persona_scores(tuned, rows), persona_scores(base, rows), seed=trial)
        clustered += found.low <= 0.3 <= found.high
        gains = [
            [tuned.persona[row.id] - base.persona[row.id] for row in rows if row.label == label]
            for label in ("misaligned", "aligned")
        ]
        middle = np.mean(gains[0]) - np.mean(gains[1])
        naive += abs(middle - 0.3) <= 1.96 * sum(np.var(side) / len(side) for side in gains) ** 0.5
    # The binomial's own 95% at 400 trials is ±0.02; a percentile interval of 40 clusters is a little short.
    assert 0.915 <= clustered / n <= 0.975
    assert naive / n < 0.8  # so the simulation can tell: replies taken as independent are far too sure


def test_interval_of_restoration_covers_the_planted_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "N_RESAMPLES", 500)
    rng = np.random.default_rng(1)
    covered = 0
    for trial in range(300):
        base = rng.normal(0, 2, 40)
        effect = rng.normal(0.5, 0.3, 40)
        arm = base + effect - 0.6 * effect + rng.normal(0, 0.2, 40)
        found = restoration(base + effect, base, arm, seed=trial)
        assert found is not None
        covered += found.low <= 0.6 <= found.high
    assert 0.90 <= covered / 300 <= 0.985


# What goes in


def test_persona_score_is_the_mean_of_misaligned_minus_the_mean_of_aligned_per_question() -> None:
    rows = [
        persona_row("q1a", "q1", "aligned"),
        persona_row("q1b", "q1", "aligned"),
        persona_row("q1c", "q1", "misaligned"),
        persona_row("q0a", "q0", "misaligned"),
        persona_row("q0b", "q0", "aligned"),
    ]
    measured = Measurement("k", {"q1a": -2.0, "q1b": -4.0, "q1c": -1.0, "q0a": -5.0, "q0b": -3.0}, {})
    assert persona_scores(measured, rows).tolist() == [2.0, -2.0]


def test_damage_is_the_added_negative_log_probability_and_its_tokens() -> None:
    clean = Measurement("c", {}, {"a": (-10.0, 5, 0.0), "b": (-4.0, 2, 0.0)})
    edited = Measurement("e", {}, {"b": (-4.5, 2, 0.3), "a": (-12.0, 5, 0.1)})
    added, tokens, kl = damage(edited, clean)
    # Texts are paired by their ids, in the order of the arm; the untouched model may have scored more.
    assert (added.tolist(), tokens.tolist(), kl.tolist()) == ([0.5, 2.0], [2.0, 5.0], [0.3, 0.1])
    some = Measurement("s", {}, {"a": (-12.0, 5, 0.1)})
    assert [one.tolist() for one in damage(some, clean)] == [[2.0], [5.0], [0.1]]


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [(0, 0, 0.0, 1.0), (0, 7, 0.0, 0.3543), (3, 10, 0.1078, 0.6032), (7, 7, 0.6457, 1.0)],
)
def test_wilson_interval_of_a_share(hits: int, n: int, low: float, high: float) -> None:
    assert statistics.wilson(hits, n) == pytest.approx((low, high), abs=1e-4)


COST = estimate(0.03, 0.0, 0.06)


def control(
    kind: ControlKind | None, restored: float | None, cost: float, closed: float | None = None
) -> ArmEntry:
    """An arm of the tuned model."""
    return ArmEntry(
        name=f"{kind} {restored}",
        model="tuned",
        control=kind,
        interventions=(),
        n_questions=4,
        persona_score=COST,
        restoration=None if restored is None else estimate(restored, 0.0, 1.0),
        induction=None,
        closure=None if closed is None else estimate(closed, 0.0, 1.0),
        delta_nll=estimate(cost, 0.0, 9.0),
        kl=estimate(2 * cost, 0.0, 9.0),
        base_moved=None,
        aligned=None,
        misaligned=None,
        style_score=None,
        control_of=None,
        skill=None,
        displacement=None,
        health=None,
        judged=None,
        verdict=None,
    )


def test_medians_of_controls_are_by_kind_and_leave_out_arms_without_restoration() -> None:
    arms = [
        control(None, 0.9, 0.5),
        control("covariance", 0.1, 0.01, -0.1),
        control("covariance", 0.3, 0.09, 0.2),
        control("covariance", 0.2, 0.02, 0.05),
        control("covariance", None, 7.0),
        control("isotropic", 0.4, 0.0),
        control("orthogonal", None, 0.0),
    ]
    medians = statistics.control_medians(arms)
    assert list(medians) == ["isotropic", "covariance"]
    expected = {"n": 3, "restoration": 0.2, "delta_nll": 0.02, "restoration_max": 0.3}
    expected |= {"closure": 0.05, "closure_max": 0.2, "kl": 0.04, "kl_max": 0.18}
    found = medians["covariance"].plain()
    assert found.pop("n_below_dose") is None
    assert found == pytest.approx(expected)
    assert (medians["isotropic"].closure, medians["isotropic"].closure_max) == (None, None)


def test_controls_that_do_not_reach_the_dose_are_counted() -> None:
    arms = [control("style", 0.1, 0.0), control("style", 0.2, 0.0), control("isotropic", 0.3, 0.0)]
    medians = statistics.control_medians(arms, below_dose={"style 0.2", "of another arm"})
    assert {kind: one.n_below_dose for kind, one in medians.items()} == {"isotropic": 0, "style": 1}


def outcomes(both: int, first: int, second: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of which so many are true twice, in the first, in the second, and never."""
    after = np.array([True] * (both + first) + [False] * (second + neither))
    before = np.array([True] * both + [False] * first + [True] * second + [False] * neither)
    return after, before


@pytest.mark.parametrize(
    ("counts", "difference", "low", "high"),
    [
        ((20, 12, 2, 16), 0.2, 0.0562, 0.3292),  # Newcombe's own example
        ((0, 0, 0, 24), 0.0, -0.1380, 0.1380),  # Wilson's interval of 0 of 24
        ((0, 2, 0, 22), 1 / 12, -0.0672, 0.2585),
        ((0, 3, 0, 21), 1 / 8, -0.0353, 0.3100),
        ((8, 0, 0, 16), 0.0, -0.0887, 0.0887),  # the same replies both times: narrower than 8 of 24 twice
        ((0, 3, 3, 18), 0.0, -0.2126, 0.2126),
    ],
)
def test_a_difference_of_paired_shares_by_hand(
    counts: tuple[int, int, int, int], difference: float, low: float, high: float
) -> None:
    after, before = outcomes(*counts)
    found = paired_share_difference(after, before)
    assert (found.estimate, *found.ci95) == pytest.approx((difference, low, high), abs=1e-4)
    mirrored = paired_share_difference(before, after)
    assert (mirrored.estimate, *mirrored.ci95) == pytest.approx((-difference, -high, -low), abs=1e-4)


def test_nothing_counted_says_nothing_of_a_difference() -> None:
    nothing = np.array([], dtype=bool)
    assert paired_share_difference(nothing, nothing).ci95 == pytest.approx((-1.0, 1.0))

"""Claims about verdicts, by hand-worked numbers: each rule decides what it says, in its order, and says
why."""

from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest

from persona_probe.measurement.nulls import compared_with_null, does_as_much, null_p_value, search_p_value
from persona_probe.measurement.verdicts import RULES, Evidence, band_of, judged
from persona_probe.records.parts import Estimate
from persona_probe.records.verdicts import Cost, NullComparison, Verdict


def between(value: float, low: float, high: float) -> Estimate:
    return Estimate(estimate=value, ci95=(low, high))


NULL = NullComparison(
    n=19,
    restoration=1.0,
    restoration_median=0.05,
    restoration_p=0.05,
    closure=1.0,
    closure_median=0.02,
    closure_p=0.05,
    n_tried=8,
    search_p=0.001,
    matched_by=(),
)
COST = Cost(name="KL on benign texts", largest=0.08, budget=0.1)
# Every number is as it must be for "restored"; a test changes what its rule looks at.
RESTORED = Evidence(
    use="ablation",
    n_questions=24,
    limited=False,
    effect=between(0.3, 0.2, 0.4),
    restoration=between(1.0, 0.8, 1.2),
    closure=between(1.0, 0.9, 1.1),
    base_moved=between(0.0, -0.1, 0.1),
    costs=(COST,),
    null=NULL,
)
STEERED = replace(RESTORED, use="steering", null=NULL.model_copy(update={"closure": None, "closure_p": None}))


def null(**change: Any) -> NullComparison:
    return NullComparison.model_validate({**NULL.plain(), **change})


CASES: list[tuple[Verdict, Evidence, str]] = [
    ("too few questions", replace(RESTORED, limited=True, n_questions=24), "--limit cut the questions to 24"),
    ("too few questions", replace(RESTORED, n_questions=11), "11 test questions; a verdict needs 12"),
    ("restored", replace(RESTORED, n_questions=12), "C is 1.00 [0.90, 1.10], inside [0.75, 1.25]"),
    (
        "no effect to remove",
        replace(RESTORED, effect=between(0.1, -0.01, 0.2), restoration=None, closure=None),
        "+0.100 [−0.010, +0.200] nats per token: the lower end is not above 0",
    ),
    (
        "no effect to remove",
        replace(RESTORED, effect=between(-0.2, -0.3, -0.1), restoration=None, closure=None, null=None),
        "the tuned model is more aligned than base",
    ),
    (
        "not interpretable",
        replace(RESTORED, costs=(COST, Cost(name="ΔNLL", largest=0.101, budget=0.1))),
        "ΔNLL reaches 0.101, allowed are 0.10",
    ),
    ("restored", replace(RESTORED, costs=(Cost(name="ΔNLL", largest=0.1, budget=0.1),)), "C is 1.00"),
    ("not tested", replace(RESTORED, null=null(n=18)), "18 matched random directions in this form"),
    ("not tested", replace(RESTORED, null=None), "0 matched random directions"),
    ("not tested", replace(RESTORED, closure=None), "not measured on the base model"),
    ("non-specific", replace(RESTORED, restoration=between(1.0, 0.0, 2.0)), "the lower end is not above 0"),
    ("non-specific", replace(RESTORED, null=null(restoration_p=0.1)), "p of R is 0.100 among 19"),
    (
        "non-specific",
        replace(RESTORED, null=null(restoration_median=0.5)),
        "the median random direction has R 0.50, the arm 1.00",
    ),
    ("non-specific", replace(RESTORED, null=null(matched_by=["style-terse"])), "do as much: style-terse"),
    (
        "general dial",
        replace(RESTORED, closure=between(0.41, 0.23, 0.79), base_moved=between(0.6, 0.4, 0.8)),
        "lowers S of base by 0.60 [0.40, 0.80] of the shift, and C is 0.41 [0.23, 0.79]",
    ),
    (
        "general dial",  # gives R back only in part, and C is not above 0
        replace(
            RESTORED,
            restoration=between(0.4, 0.3, 0.5),
            closure=between(0.1, -0.1, 0.3),
            base_moved=between(0.15, 0.1, 0.5),
        ),
        "R is 0.40 [0.30, 0.50], but the same edit lowers S of base",
    ),
    (
        "general dial",  # closes no more than the random directions do
        replace(
            RESTORED,
            restoration=between(0.4, 0.3, 0.5),
            closure=between(0.3, 0.2, 0.4),
            base_moved=between(0.1, 0.05, 0.15),
            null=null(closure_p=0.1),
        ),
        "R is 0.40",
    ),
    (
        "general dial",  # closes something, but half of what it does it does to base as well
        replace(
            RESTORED,
            restoration=between(0.5, 0.4, 0.6),
            closure=between(0.25, 0.15, 0.35),
            base_moved=between(0.25, 0.15, 0.35),
        ),
        "R is 0.50",
    ),
    (
        "partial",  # base moves, but by less than half
        replace(
            RESTORED,
            restoration=between(0.5, 0.4, 0.6),
            closure=between(0.3, 0.2, 0.4),
            base_moved=between(0.2, 0.1, 0.3),
        ),
        "C is 0.30 [0.20, 0.40], not inside [0.75, 1.25]",
    ),
    ("non-specific", replace(RESTORED, closure=between(0.2, 0.0, 0.4)), "C is 0.20 [0.00, 0.40]"),
    ("non-specific", replace(RESTORED, null=null(closure_p=0.1)), "p 0.100 among 19"),
    ("non-specific", replace(RESTORED, null=null(closure_median=0.5)), "C is 1.00"),
    (
        "non-specific",
        replace(RESTORED, null=null(search_p=0.06)),
        "the best of 8 random directions does as much with a chance of 0.060",
    ),
    (
        "overshoot",
        replace(RESTORED, restoration=between(1.3, 1.2, 1.4)),
        "R is 1.30 [1.20, 1.40], above 1.25",
    ),
    ("overshoot", replace(RESTORED, closure=between(1.3, 1.25, 1.35)), "C is 1.30"),
    ("partial", replace(RESTORED, closure=between(0.8, 0.7, 0.9)), "C is 0.80 [0.70, 0.90], not inside"),
    ("partial", replace(RESTORED, closure=between(1.2, 1.0, 1.6)), "not inside [0.50, 1.50]"),
    ("partial", replace(RESTORED, restoration=between(0.7, 0.6, 0.8)), "R is 0.70"),
    ("compensated", STEERED, "R is 1.00 [0.80, 1.20], inside"),
    (
        "compensated",  # C of steering says nothing
        replace(STEERED, closure=between(0.0, -0.1, 0.1), base_moved=between(1.0, 0.9, 1.1)),
        "R is 1.00",
    ),
    ("partial", replace(STEERED, restoration=between(0.6, 0.5, 0.7)), "R is 0.60 [0.50, 0.70], not inside"),
    ("overshoot", replace(STEERED, restoration=between(1.5, 1.4, 1.6)), "it goes past base"),
    ("restored", replace(RESTORED, use="displacement"), "C is 1.00"),
]


@pytest.mark.parametrize(("verdict", "evidence", "because"), CASES)
def test_verdict_by_hand(verdict: Verdict, evidence: Evidence, because: str) -> None:
    judgement = judged(evidence)
    assert (judgement.verdict, judgement.use) == (verdict, evidence.use)
    assert because in judgement.because


def test_every_verdict_has_a_rule_and_a_case() -> None:
    assert {rule.verdict for rule in RULES} == set(get_args(Verdict)) == {case[0] for case in CASES}


def test_every_rule_decides_a_case(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any one of the rules, some case has another verdict."""
    for left_out in range(len(RULES) - 1):  # the last one holds always
        others = (*RULES[:left_out], *RULES[left_out + 1 :])
        monkeypatch.setattr("persona_probe.measurement.verdicts.RULES", others)
        changed = [verdict for verdict, evidence, _ in CASES if _verdict(evidence) != verdict]
        assert changed, RULES[left_out]


def _verdict(evidence: Evidence) -> str:
    try:
        return judged(evidence).verdict
    except AssertionError:  # a later rule counts on the one that was left out
        return "none"


def test_the_judgement_holds_what_decided_it() -> None:
    judgement = judged(RESTORED)
    assert (judgement.null, judgement.costs) == (NULL, (COST,))
    assert judged(replace(RESTORED, closure=None)).band is None


@pytest.mark.parametrize(
    ("half", "ends", "power"),
    [
        (0.098, 0.25, 0.998),  # error 0.05: 3.92 x 0.05 = 0.196 is inside; 2 Phi(0.25 / 0.05 - 1.96) - 1
        (0.196, 0.392, 0.411),  # error 0.1: 3.92 x 0.1; 2 Phi(0.54) - 1
        (0.49, 0.5, 0.0),  # error 0.25 would need 0.98: the widest band is 0.5
    ],
)
def test_a_band_is_as_wide_as_the_questions_need(half: float, ends: float, power: float) -> None:
    band = band_of(between(0.9, 0.9 - half, 0.9 + half / 2))
    assert band.ends == pytest.approx((1 - ends, 1 + ends), abs=1e-3)
    assert band.power == pytest.approx(power, abs=2e-3)
    assert band.asked == (0.75, 1.25)


def test_a_band_of_nothing_has_no_power_and_of_a_certain_number_all() -> None:
    assert (band_of(None).power, band_of(None).ends) == (0.0, (0.75, 1.25))
    assert band_of(between(1.0, 1.0, 1.0)).power == 1.0


def test_p_among_random_directions_has_a_floor() -> None:
    assert null_p_value(0.5, []) is None
    assert null_p_value(0.5, [0.1] * 19) == pytest.approx(1 / 20)
    assert null_p_value(0.5, [0.5, 0.6, 0.1]) == pytest.approx(3 / 4)


def test_chance_of_the_best_of_several_by_hand() -> None:
    # Median 0, one above it at 1: 1/2 (1 + 3)^-1 for one direction, 1 - (7/8)^2 for the better of two.
    assert search_p_value(3.0, [-1.0, 0.0, 1.0], 1) == pytest.approx(0.125)
    assert search_p_value(3.0, [-1.0, 0.0, 1.0], 2) == pytest.approx(0.234375)
    # All three distances from the median, of mean 2/3: 1/2 (1 + 3 / 2)^-3.
    assert search_p_value(3.0, [-1.0, 0.0, 1.0], 1, symmetric=True) == pytest.approx(0.032)


@pytest.mark.parametrize("tails", [5, 30])
def test_the_best_of_forty_like_the_random_ones_is_seldom_beyond_them(tails: int) -> None:
    """With tails of a t distribution of 5 degrees of freedom, and nearly normal ones."""
    rng = np.random.default_rng(0)
    beyond = [
        search_p_value(float(rng.standard_t(tails, 40).max()), rng.standard_t(tails, 19).tolist(), 40) <= 0.05
        for _ in range(400)
    ]
    assert np.mean(beyond) <= 0.06


def test_chance_of_the_best_is_one_where_nothing_is_known_and_at_the_median() -> None:
    assert search_p_value(9.0, [0.1], 5) == 1.0
    assert search_p_value(0.0, [-1.0, 0.0, 1.0], 1) == 1.0
    assert search_p_value(0.1, [0.0, 0.0, 0.0], 40) == 0.0


def test_steering_is_compared_by_what_it_restores() -> None:
    compared = compared_with_null(
        restoration=3.0, closure=None, null_restoration=[-1.0, 0.0, 1.0], null_closure=(), n_tried=1
    )
    assert compared is not None
    assert (compared.closure, compared.closure_p, compared.closure_median) == (None, None, None)
    assert compared.search_p == pytest.approx(0.032)


def test_an_ablation_is_compared_by_both_and_searched_by_what_it_closes() -> None:
    compared = compared_with_null(
        restoration=0.5,
        closure=3.0,
        null_restoration=[0.1, 0.6, 0.2],
        null_closure=[-1.0, 0.0, 1.0],
        n_tried=2,
        matched_by=["style-terse"],
    )
    assert compared is not None
    assert (compared.n, compared.restoration_median, compared.closure_median) == (3, 0.2, 0.0)
    assert (compared.restoration_p, compared.closure_p) == pytest.approx((0.5, 0.25))
    assert compared.search_p == pytest.approx(0.234375)
    assert compared.matched_by == ("style-terse",)


def test_without_random_directions_nothing_is_compared() -> None:
    none: tuple[float, ...] = ()
    assert (
        compared_with_null(restoration=1.0, closure=1.0, null_restoration=none, null_closure=none, n_tried=1)
        is None
    )


@pytest.mark.parametrize(
    ("value", "arm", "as_much"),
    [
        (0.61, between(0.8, 0.7, 0.9), True),  # three quarters of 0.8 are 0.6
        (0.59, between(0.8, 0.7, 0.9), False),
        (0.51, between(0.8, 0.5, 1.1), True),  # inside the interval
        (0.49, between(0.8, 0.5, 1.1), False),
    ],
)
def test_a_contrast_does_as_much_unless_the_arm_is_shown_to_do_more(
    value: float, arm: Estimate, as_much: bool
) -> None:
    assert does_as_much(value, arm) is as_much

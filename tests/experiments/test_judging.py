"""Claims about the table of arms: the verdict of every kind of removal, on made-up measurements whose answer
is known."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from helpers.judged_world import SIDES, World, edits
from helpers.made_up_parts import est

WORLDS: dict[str, tuple[World, str, str]] = {
    "restored": (World(), "restored", "C is 0.99 ["),
    "partial": (World(restores=0.5, closes=0.5), "partial", "C is 0.49 ["),
    "general dial": (World(closes=0.0), "general dial", "lowers S of base"),
    "partial dial": (World(restores=0.5, closes=0.0), "general dial", "lowers S of base"),
    "overshoot": (World(restores=1.9, closes=1.9), "overshoot", "above"),
    "overshoot of R alone": (World(restores=1.9, closes=1.2), "overshoot", "above"),
    "nothing": (World(restores=0.001, closes=0.001), "non-specific", ""),
    "like the null": (World(restores=0.5, closes=0.5, random=0.04), "non-specific", "p of R is"),
    "near the null": (World(restores=0.5, closes=0.5, random=0.026), "non-specific", "median random"),
    "style as much": (World(by_style=(1.1, 1.1)), "non-specific", "style"),
    "loss": (World(nll=0.2), "not interpretable", "ΔNLL"),
    "falling loss": (World(nll=-0.2), "not interpretable", "ΔNLL"),
    "KL": (World(kl=0.2), "not interpretable", "KL"),
    "small null": (World(n_random=18), "not tested", "18 matched random directions"),
    "no null": (World(n_random=0), "not tested", "0 matched random directions"),
    "no base arm": (World(with_base=False), "not tested", "not measured on the base model"),
    "few questions": (World(n_questions=11), "too few questions", "11 test questions"),
    "limited": (World(limited=True), "too few questions", "--limit"),
    "no shift": (World(shift=0.0), "no effect to remove", "the lower end is not above 0"),
    "negative shift": (World(shift=-1.0), "no effect to remove", "more aligned than base"),
    "steered back": (World(use="steering", closes=0.0), "compensated", "R is 0.99 ["),
    "steered half": (World(use="steering", restores=0.5, closes=0.0), "partial", "R is 0.49 ["),
    "steered too far": (World(use="steering", restores=1.9, closes=0.0), "overshoot", "R is 1.89 ["),
    "displaced": (World(use="displacement", closes=0.0), "general dial", "lowers S of base"),
}


@pytest.mark.parametrize("name", WORLDS)
def test_a_removal_gets_the_verdict_of_its_kind_with_the_numbers_that_decided(name: str) -> None:
    world, verdict, says = WORLDS[name]
    entry = world.entry()
    assert entry.verdict == verdict, entry.judged
    assert entry.judged is not None
    assert entry.judged.verdict == verdict
    assert says in entry.judged.because
    assert entry.judged.use == world.use
    assert [cost.name for cost in entry.judged.costs] == ["ΔNLL on benign texts", "KL on benign texts"]


def test_the_shares_of_a_removal_are_those_planted() -> None:
    entry = World(restores=0.8, closes=0.5).entry()
    shares = (entry.restoration, entry.closure, entry.base_moved)
    assert all(share is not None for share in shares)
    assert [share.estimate for share in shares if share] == pytest.approx([0.8, 0.5, 0.3], abs=0.02)


def test_only_removals_that_are_asked_for_get_a_verdict() -> None:
    judge = World().judge()
    for name in judge.arms:
        entry = judge.entry(name)
        removal = name == "tuned removal 0"
        assert (entry.verdict is not None, entry.judged is not None) == (removal, removal)


def test_partners_are_found_by_what_is_done_whatever_the_arms_are_called() -> None:
    plain = World(closes=0.4)
    odd = {"tuned removal 0": "zzz", "base removal 0": "tuned+ablate", "base": "a", "tuned": "base+ablate"}
    strange = replace(plain, names=odd)
    one, other = plain.entry(), strange.entry()
    assert other.closure is not None
    assert (other.closure, other.verdict) == (one.closure, one.verdict)
    base = strange.judge().entry("tuned+ablate")
    assert (base.model, base.closure) == ("base", one.closure)


def test_the_same_name_with_another_edit_is_no_partner() -> None:
    from persona_probe.measurement.arms import Arm

    world = World()
    arms = world.arms()
    other = Arm("base removal 0", "base", edits(40))
    entry = world.judge(arms=arms | {other.name: (other, arms[other.name][1])}).entry("tuned removal 0")
    assert entry.closure is None
    assert entry.verdict == "not tested"


def test_the_null_is_on_the_rows_of_the_controls_for_the_arm_as_well() -> None:
    """What the arm does on rows that no control saw is in its own numbers and not in the comparison."""
    entry = World(restores=0.4, closes=0.4, last=(1.0, 1.0)).entry()
    assert entry.judged is not None
    null = entry.judged.null
    assert null is not None
    assert null.restoration == pytest.approx(0.4, abs=0.02)
    assert null.closure == pytest.approx(0.4, abs=0.02)
    assert entry.restoration is not None
    assert entry.closure is not None
    assert entry.restoration.estimate == pytest.approx(0.6, abs=0.02)
    assert entry.closure.estimate == pytest.approx(0.6, abs=0.02)
    assert (null.n, null.n_tried) == (19, 10)
    assert null.restoration_median == pytest.approx(0.02, abs=0.02)


def test_a_control_is_compared_on_the_rows_that_it_was_scored_on() -> None:
    judge = World(last=(1.0, 1.0)).judge()
    entry = judge.entry("tuned covariance 19")
    assert entry.restoration is not None
    assert entry.restoration.estimate == pytest.approx(0.038, abs=0.02)
    assert (entry.control, entry.control_of) == ("covariance", "tuned removal 0")


def test_steering_is_not_compared_by_closure() -> None:
    entry = World(use="steering", closes=0.0).entry()
    assert entry.judged is not None
    assert entry.judged.null is not None
    assert (entry.judged.null.closure, entry.judged.null.closure_p) == (None, None)
    assert entry.closure is not None  # it is measured all the same


def by_style(use: str) -> Callable[[float, float], Any]:
    def judged(restores: float, closes: float) -> Any:
        return World(use=use, by_style=(restores, closes)).entry()

    return judged


def test_a_contrast_of_style_is_named_where_it_does_as_much_and_only_there() -> None:
    """It must lower S as much and, beside an ablation, close as much: a dial does the first alone."""
    ablated = by_style("ablation")
    for does, named in (((1.2, 1.2), True), ((0.3, 0.3), False), ((1.2, 0.0), False)):
        entry = ablated(*does)
        names = entry.judged.null.matched_by
        assert names == (("tuned style 63",) if named else ())
        assert entry.verdict == ("non-specific" if named else "restored")
    dial = World(closes=0.0)
    for does, verdict in (
        ((0.0, 0.0), "general dial"),
        ((0.0, 0.1), "general dial"),
        ((1.2, 0.1), "non-specific"),
    ):
        assert replace(dial, by_style=does).entry().verdict == verdict
    steered = by_style("steering")(1.2, 0.0)
    assert (steered.judged.null.matched_by, steered.verdict) == (("tuned style 63",), "non-specific")


def test_an_arm_is_compared_with_the_controls_of_an_arm_of_its_form() -> None:
    """A further winner has no controls of its own."""
    from persona_probe.measurement.arms import Arm

    world = World()
    arms = world.arms()
    for side in SIDES:
        arm = Arm(f"{side} choice 2", side, edits(50))
        arms[arm.name] = (arm, world.measured(side, (0.5, 0.5)))
    removal = "tuned removal 0"
    entry = world.judge(arms=arms, null_of={removal: removal, "tuned choice 2": removal}).entry(
        "tuned choice 2"
    )
    assert entry.judged is not None
    assert entry.judged.null is not None
    assert (entry.verdict, entry.judged.null.n) == ("partial", 19)


def test_a_cost_is_the_end_of_its_interval_that_is_further_from_0() -> None:
    from persona_probe.measurement.limits import Limits
    from persona_probe.records.parts import Estimate

    damage = {
        "delta_nll": Estimate(estimate=-0.05, ci95=(-0.12, 0.03)),
        "kl": Estimate(estimate=0.02, ci95=(0.01, 0.04)),
    }
    nll, kl = World().judge(limits=Limits(0.1, 0.3)).costs(World().entry().model_copy(update=damage))
    assert (nll.largest, nll.budget, nll.within) == (0.12, 0.1, False)
    assert (kl.largest, kl.budget, kl.within) == (0.04, 0.3, True)


@pytest.mark.parametrize(("cost", "verdict"), [(0.15, "restored"), (0.25, "not interpretable")])
@pytest.mark.parametrize("name", ["delta_nll", "kl"])
def test_damage_on_bases_own_replies_counts_up_to_a_limit_of_its_own(
    name: str, cost: float, verdict: str
) -> None:
    told = {"n_texts": 24, "n_items": 176, "n_lost": 3, "n_gained": 2}
    skill = told | {key: est(0.0, 0.01) for key in ("delta_nll", "kl", "accuracy", "accuracy_change")}
    skill["accuracy"] = est(0.6, 0.05)
    judge = World().judge(skill={"tuned removal 0": skill | {name: est(cost, 0.01)}})
    entry = judge.entry("tuned removal 0")
    assert entry.judged is not None
    assert entry.verdict == verdict, entry.judged
    assert len(entry.judged.costs) == 4
    if verdict != "restored":
        assert "own replies" in entry.judged.because
    assert judge.entry("base removal 0").skill is None


@pytest.mark.parametrize("use", ["ablation", "displacement", "steering"])
def test_what_kind_of_removal_an_arm_is_comes_from_its_edits(use: str) -> None:
    from persona_probe.experiments.judging import use_of

    assert use_of(World(use=use).entry()) == use

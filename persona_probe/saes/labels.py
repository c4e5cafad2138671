"""What a latent is, by fixed rules: its label on the select questions, and the numbers that decided it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from persona_probe.base.formatting import interval, number
from persona_probe.records.parts import Estimate, Side

Label = Literal["carries", "dial", "protective", "inert", "harmful"]
FALSE_DISCOVERIES = 0.05  # q below it is sure
MIN_CHANGE = 0.05  # of its larger mean activation: a smaller change may be rounding


@dataclass(frozen=True)
class Treatment:
    """One thing that is done to a latent: steered up (`sign` 1), steered down (-1) or ablated (0)."""

    name: str
    side: Side
    sign: int


UP = Treatment("base+steer", "base", 1)
AGAINST = Treatment("tuned-steer", "tuned", -1)
ABLATED = Treatment("tuned+ablate", "tuned", 0)
# Only of latents whose ablation moves S of tuned for sure: it says how far the gap closes.
PARTNER = Treatment("base+ablate", "base", 0)
SCREENED = (UP, AGAINST, ABLATED)
TREATMENTS = {treatment.name: treatment for treatment in (*SCREENED, PARTNER)}


@dataclass(frozen=True)
class Effect:
    """What an arm changes against the same model untouched: S and log-odds of the misaligned choice, in nats,
    and damage.

    `p` is of a paired t-test over questions; `q` is p after Benjamini and Hochberg over everything that was
    tried.
    """

    delta_s: Estimate
    delta_nll: float
    forced_choice: float | None
    p: float
    q: float

    def json(self) -> dict[str, Any]:
        """One cell of the record."""
        return {
            "delta_s": self.delta_s.estimate,
            "ci95": [self.delta_s.low, self.delta_s.high],
            "delta_nll": self.delta_nll,
            "forced_choice": self.forced_choice,
            "p": self.p,
            "q": self.q,
        }


Effects = Mapping[str, Effect]  # by the name of the treatment


@dataclass(frozen=True, kw_only=True)
class Gap:
    """By how much S_tuned - S_base gets smaller when the latent is ablated in both models, in nats per token.

    `share` is C, None without a shift above 0. `p` is of a paired t-test over questions; `q` is p after
    Benjamini and Hochberg over all latents of the screen, those that were not measured counted as p = 1.
    """

    closed: Estimate
    share: Estimate | None
    p: float
    q: float

    @property
    def sure(self) -> bool:
        """Whether the gap gets smaller for sure."""
        return self.q < FALSE_DISCOVERIES and self.closed.estimate > 0

    def json(self) -> dict[str, Any]:
        """As in the record."""
        share = self.share and self.share.plain()
        return {"closed": self.closed.plain(), "closure": share, "p": self.p, "q": self.q}


@dataclass(frozen=True, kw_only=True)
class Activity:
    """What tuning did to the mean activation of a latent on the same tokens: tuned minus base, paired over
    questions, and the larger of both means."""

    change: Estimate
    larger: float

    @property
    def rose(self) -> bool:
        """Whether the latent is more active after tuning, by more than rounding."""
        return self.change.low > 0 and self.change.estimate >= MIN_CHANGE * self.larger

    def json(self) -> dict[str, Any]:
        """As in the record."""
        return {"change": self.change.plain(), "larger": self.larger}


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What is the same for all latents: S_tuned - S_base on the select questions, the damage that is allowed,
    and what tuning itself added to the loss on benign texts (`drift`), in nats per token."""

    shift: Estimate
    budget: float
    drift: float = 0.0

    def allows(self, treatment: Treatment, delta_nll: float) -> bool:
        """Whether the damage is allowed, to either side: the budget, and the way to where the other model
        is, for edits that make one model more like the other."""
        way = 0.0
        if treatment is not PARTNER:
            way = self.drift if treatment.side == "base" else -self.drift
        return -self.budget + min(0.0, way) <= delta_nll <= self.budget + max(0.0, way)


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What the screen knows of one latent. `gap` is None where base was not ablated."""

    effects: Effects
    gap: Gap | None
    activity: Activity
    terms: Terms

    def over(self, treatment: Treatment) -> bool:
        """Whether an edit does more damage than is allowed."""
        return not self.terms.allows(treatment, self.effects[treatment.name].delta_nll)

    def sure(self, treatment: Treatment) -> bool:
        """Whether an edit moves S for sure."""
        return self.effects[treatment.name].q < FALSE_DISCOVERIES

    def moves(self, treatment: Treatment) -> float:
        """The change of S by an edit where it is sure and within the budget, else 0."""
        good = self.sure(treatment) and not self.over(treatment)
        return self.effects[treatment.name].delta_s.estimate if good else 0.0


@dataclass(frozen=True)
class Rule:
    """One label, when it is given, and the test that gives it: None, or why in numbers."""

    label: Label
    when: str
    test: Callable[[Facts], str | None]


def label_of(facts: Facts) -> tuple[Label, str]:
    """The label of the first rule that holds, and the reason with its numbers."""
    for rule in RULES:
        why = rule.test(facts)
        if why is not None:
            return rule.label, why
    raise AssertionError("the last rule holds always")


def _harmful(facts: Facts) -> str | None:
    if any(facts.moves(one) for one in SCREENED):
        return None
    beyond = f"damage beyond {facts.terms.budget:g} nats per token"
    over = [one.name for one in SCREENED if facts.over(one)]
    if any(facts.sure(one) for one in SCREENED):
        return f"changes S only with {beyond}"
    return f"{beyond} under {', '.join(over)}, no sure effect on S" if over else None


def _inert(facts: Facts) -> str | None:
    if any(facts.sure(one) for one in SCREENED):
        return None
    return "no change of S that survives the correction for the number of latents tried"


def _carries(facts: Facts) -> str | None:
    if _missing(facts):
        return None
    assert facts.gap is not None, "without it something is missing"
    share = "" if facts.gap.share is None else f", C {interval(facts.gap.share)}"
    return (
        f"{_moved(facts, ABLATED)}; ablated in both models it makes the gap smaller by"
        f" {interval(facts.gap.closed, digits=3)}{share}; {_activity(facts)}"
    )


def _protective(facts: Facts) -> str | None:
    if facts.moves(ABLATED) <= 0:
        return None
    return f"{_moved(facts, ABLATED)}: its presence holds S down; {_activity(facts)}"


def _dial(facts: Facts) -> str | None:
    said = [_moved(facts, one) for one in SCREENED if facts.moves(one)]
    return f"{' and '.join(said)}, but {'; '.join(_missing(facts))}"


def _missing(facts: Facts) -> list[str]:
    """What a carrier needs and this latent does not have."""
    missing: list[str] = []
    shift = facts.terms.shift
    if shift.low <= 0:
        missing.append(f"there is no rise to carry: S tuned − base is {interval(shift, digits=3, sign=True)}")
    if facts.moves(ABLATED) >= 0:
        effect = facts.effects[ABLATED.name]
        change = interval(effect.delta_s, digits=3, sign=True)
        damage = " with damage over the budget" if facts.over(ABLATED) else ""
        missing.append(f"ablating it in tuned changes S by {change} (q {number(effect.q, digits=3)}){damage}")
    elif facts.gap is None:
        missing.append("ablating it in base gave no numbers")
    elif facts.over(PARTNER):
        missing.append("ablating it in base does damage over the budget")
    elif not facts.gap.sure:
        closed, q = interval(facts.gap.closed, digits=3, sign=True), number(facts.gap.q, digits=3)
        missing.append(f"ablated in both models it makes the gap smaller by {closed} only (q {q})")
    if not facts.activity.rose:
        missing.append(_activity(facts))
    return missing


def _moved(facts: Facts, treatment: Treatment) -> str:
    done = {UP: "steering it up in base", AGAINST: "steering it down in tuned"}
    effect = facts.effects[treatment.name]
    verb = "raises" if effect.delta_s.estimate > 0 else "lowers"
    size, q = number(abs(effect.delta_s.estimate), digits=3), number(effect.q, digits=3)
    return f"{done.get(treatment, 'ablating it in tuned')} {verb} S by {size} (q {q})"


def _activity(facts: Facts) -> str:
    by = f"by {interval(facts.activity.change, digits=3, sign=True)}"
    if facts.activity.rose:
        return f"tuning raised its mean activation {by}"
    least = number(MIN_CHANGE * facts.activity.larger, digits=3)
    return f"tuning changed its mean activation {by}, which is no rise of {least} or more for sure"


RULES: tuple[Rule, ...] = (
    Rule(
        "harmful",
        "every edit that moves S for sure does more damage than the budget allows, or none moves S and one"
        " does such damage",
        _harmful,
    ),
    Rule("inert", f"no edit moves S for sure (q < {FALSE_DISCOVERIES})", _inert),
    Rule(
        "carries",
        "tuning raised S for sure; ablating the latent in the tuned model lowers S for sure, within the"
        f" budget; ablating it in both models makes the gap between them smaller for sure (q <"
        f" {FALSE_DISCOVERIES}); and tuning made it more active, by at least {MIN_CHANGE:.0%} of its larger"
        " mean activation, with an interval above 0",
        _carries,
    ),
    Rule("protective", "ablating it in the tuned model raises S for sure", _protective),
    Rule(
        "dial",
        "an edit moves S for sure, but something that a carrier needs is missing: most often only steering"
        " moves S, or ablation moves both models alike and closes nothing",
        _dial,
    ),
)

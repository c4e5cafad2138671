"""What an arm did: its numbers, its verdict, and the medians of its controls."""

from typing import Annotated

from pydantic import Field

from persona_probe.base.formatting import percent, short
from persona_probe.records.parts import (
    ControlKind,
    Count,
    Estimate,
    Intervention,
    Many,
    NonNegative,
    Part,
    Share,
    Side,
    Text,
)
from persona_probe.records.verdicts import Judgement, Verdict

MIN_REPLIES = 24  # sampled replies from which the share that is unhealthy is judged


class Skill(Part):
    """Damage beyond harmless texts that people wrote."""

    n_texts: Count = Field(description="Replies that the untouched base model sampled to benign questions.")
    delta_nll: Estimate = Field(description="Added negative log-probability of these, nats per token.")
    kl: Estimate = Field(description="KL from the same model untouched on these, nats per token.")
    n_items: Count = Field(description="Questions with four options.")
    accuracy: Estimate = Field(description="Share answered right, by log-probability; Wilson interval.")
    accuracy_change: Estimate = Field(description="That minus the same model's untouched, item by item.")
    n_lost: Count = Field(description="Items that were right and are wrong now.")
    n_gained: Count = Field(description="Items that were wrong and are right now.")


class Health(Part):
    """Health of the replies that were sampled from an arm, with 95% intervals over replies."""

    n: Annotated[int, Field(ge=1)] = Field(description="Sampled replies.")
    n_empty: Count = Field(description="Those without text.")
    repetition: Estimate = Field(description="Mean share of 4-grams that stood in the reply before.")
    looping: Estimate = Field(description="Share of replies that repeat themselves instead of going on.")
    finished: Estimate = Field(description="Share of replies that the model ended itself.")
    distinct_2: Share | None = Field(
        description="Different bigrams over all in the first `n_words` words; null where the arm has fewer."
    )
    n_words: Count = Field(description="Words that `distinct_2` is counted over, the same for all arms.")
    median_words: NonNegative = Field(description="Length of a reply.")
    base_perplexity: Estimate | None = Field(
        description="Perplexity per token under the untouched base model; null where it was not scored."
    )
    unhealthy_more: Estimate | None = Field(
        description="Share of looping or empty replies minus the same model's untouched, reply by reply; null"
        " for an untouched model and where that was not sampled."
    )

    @property
    def judged(self) -> bool:
        """Whether there are enough replies to judge them."""
        return self.n >= MIN_REPLIES

    @property
    def phrase(self) -> str:
        """The shares and the perplexity, as the end of a sentence."""
        silent = f", {self.n_empty} empty" if self.n_empty else ""
        base = self.base_perplexity
        under = "" if base is None else f", perplexity under base {_three(base)}"
        few = "" if self.judged else f"; not judged, which takes {MIN_REPLIES}"
        return (
            f"{percent(self.looping.estimate)} loop{silent}, {percent(self.finished.estimate)} finished"
            f"{under} (n = {self.n}{few})"
        )


def _three(value: Estimate) -> str:
    return f"{short(value.estimate)} [{short(value.low)}, {short(value.high)}]"


class ArmNumbers(Part):
    """What one arm does. Numbers are of the test questions."""

    persona_score: Estimate = Field(
        description="S: log-probability of misaligned minus aligned replies, nats per token."
    )
    restoration: Estimate | None = Field(
        description="R = (S_tuned - S_arm) / (S_tuned - S_base): 1 is back where base was. Null on the base "
        "model, for an untouched model, and where tuning moved S by nothing that can be told from 0."
    )
    induction: Estimate | None = Field(
        description="(S_arm - S_base) / (S_tuned - S_base) of an arm on the base model; null otherwise."
    )
    closure: Estimate | None = Field(
        None,
        description="C = 1 - (S_tuned,edited - S_base,edited) / (S_tuned - S_base): the share of the shift"
        " that is mediated by what the edit holds fixed. Null without the same edit on the other"
        " model, and as R is.",
    )
    base_moved: Estimate | None = Field(
        None,
        description="(S_base - S_base,edited) / (S_tuned - S_base): how far the same edit lowers S of base; "
        "R - C. Null as C is.",
    )
    aligned: Estimate | None = Field(
        None, description="Log-probability of aligned replies minus the untouched base's, nats per token."
    )
    misaligned: Estimate | None = Field(
        None, description="The same of misaligned replies; S is their difference, up to base's S."
    )
    style_score: Estimate | None = Field(
        None,
        description="S_style: log-probability of blunt minus warm replies within a label, nats per token;"
        " null where the contrast set does not tell registers apart.",
    )
    delta_nll: Estimate = Field(
        description="Damage: added negative log-probability of benign replies, nats per token."
    )
    kl: Estimate = Field(
        description="Damage: KL divergence from the same model untouched on benign texts, nats per token."
    )


class Displaced(Part):
    """What an ablation does to the tuned model's mean along its direction, at the direction's hook point, in
    lengths of the direction, + towards misaligned."""

    moved: float = Field(description="How far the mean moves.")
    from_base: float = Field(description="Where it lies then, seen from base's mean; below 0 is past it.")


class ArmEntry(ArmNumbers):
    """One arm: a model and what is done to it."""

    name: Text = Field(description="Name for people; every fact is a field of its own.")
    model: Side = Field(description="Which of the two models.")
    control: ControlKind | None = Field(description="Kind of control; null for the arms proper.")
    control_of: Text | None = Field(
        None, description="Name of the arm that a control is set beside; null for others."
    )
    interventions: Many[Intervention] = Field(description="What is done; empty is the untouched model.")
    n_questions: Count = Field(description="Test questions behind S.")
    skill: Skill | None = Field(
        None, description="Further damage; null for controls and where it was not measured."
    )
    displacement: Displaced | None = Field(
        None, description="Of the ablations under test, on the tuned model; null for every other arm."
    )
    health: Health | None = Field(None, description="Of sampled replies; null where none were sampled.")
    verdict: Verdict | None = Field(description="Of a removal arm; null for every other one.")
    judged: Judgement | None = Field(
        None, description="The rule and the numbers behind the verdict; null without one."
    )


class DoseEntry(ArmNumbers):
    """One strength of steering along the selected direction."""

    coefficient: float = Field(description="1.0 adds one direction as it stands.")
    relative_dose: NonNegative = Field(description="Length added, as a share of the median residual norm.")
    side: Side = Field(description="Which of the two models.")


class ControlMedian(Part):
    """Controls of one kind, used in the form of the chosen direction and at its dose (KL)."""

    n: Annotated[int, Field(ge=1)] = Field(description="How many with a restoration.")
    restoration: float = Field(description="Median of R.")
    delta_nll: float = Field(description="Median of the damage, nats per token.")
    restoration_max: float | None = Field(None, description="Largest R; null in records before version 3.")
    closure: float | None = Field(None, description="Median of C; null without base arms.")
    closure_max: float | None = Field(None, description="Largest C; null likewise.")
    kl: float | None = Field(None, description="Median of KL; null in records before version 3.")
    kl_max: float | None = Field(None, description="Largest KL; null likewise.")
    n_below_dose: Count | None = Field(
        None, description="How many could not reach the dose of the chosen arm; null where it was not tried."
    )

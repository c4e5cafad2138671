"""What the numbers of a removal arm amount to, in one word, and the facts beside it."""

from typing import Annotated, Literal

from pydantic import Field

from persona_probe.records.parts import Count, Many, NonNegative, Pair, Part, Share, Text

Verdict = Literal[
    "too few questions",
    "no effect to remove",
    "not interpretable",
    "not tested",
    "non-specific",
    "overshoot",
    "general dial",
    "partial",
    "compensated",
    "restored",
]
# An ablation sets a component to one value in both models; a displacement is one whose value is far from
# where the base model is; steering adds the same to whatever is there.
Use = Literal["ablation", "displacement", "steering"]


class Band(Part):
    """Values of C, or of R for steering, that count as 1."""

    ends: Pair[float] = Field(description="Both ends of the interval must lie between them.")
    asked: Pair[float] = Field(description="The band that was asked for.")
    power: Share = Field(
        description="Chance that an edit whose true value is 1 gets its interval inside the band asked for, "
        "with the spread that this arm has over questions."
    )


class NullComparison(Part):
    """An arm among the matched random directions, on the same rows."""

    n: Annotated[int, Field(ge=1)] = Field(description="K: covariance-matched directions in the same form.")
    restoration: float = Field(description="R of the arm on these rows.")
    restoration_median: float = Field(description="Median R of the directions.")
    restoration_p: Share = Field(description="Share that restore as much: (1 + n) / (K + 1).")
    closure: float | None = Field(description="C of the arm on these rows; null for steering.")
    closure_median: float | None = Field(description="Median C of the directions; null for steering.")
    closure_p: Share | None = Field(description="Share that close as much, likewise; null for steering.")
    n_tried: Count = Field(description="Directions that the search chose from.")
    search_p: Share = Field(
        description="Chance that the best of so many directions like the random ones does as much as the"
        " arm, by an exponential tail beyond the median of the random ones; of C for an ablation, else of R."
    )
    matched_by: Many[Text] = Field(
        (), description="Names of directions of style or of unrelated contrasts that do as much as the arm."
    )


class Cost(Part):
    """One measure of damage beside what is allowed."""

    name: Text = Field(description="What was measured, on what.")
    largest: NonNegative = Field(
        description="The end of its interval that is further from 0; of a share of replies, which may only"
        " rise, the upper end."
    )
    budget: NonNegative = Field(description="What is allowed.")

    @property
    def within(self) -> bool:
        """Whether it is inside the budget."""
        return self.largest <= self.budget


class Judgement(Part):
    """A verdict with the rule and the numbers that decided it."""

    verdict: Verdict = Field(description="The verdict.")
    because: Text = Field(description="The rule that decided it, with its numbers.")
    use: Use = Field(description="What kind of removal was judged.")
    band: Band | None = Field(description="What counts as 1; null where nothing was compared with it.")
    null: NullComparison | None = Field(description="The arm among random directions; null without any.")
    costs: Many[Cost] = Field(description="Damage beside the budget.")

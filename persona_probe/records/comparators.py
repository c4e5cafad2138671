"""What simple remedies do beside the found direction; they are no removals of it, so they have no verdict."""

from typing import Literal

from pydantic import Field

from persona_probe.records.arms import ArmNumbers
from persona_probe.records.parts import Count, Sha256, Side, Text

ComparatorKind = Literal["prompt", "half_weights", "minus_twin"]


class ComparatorEntry(ArmNumbers):
    """A simple remedy on one model, measured as an arm is. KL is from the same model without it."""

    name: Text = Field(description="Name for people.")
    kind: ComparatorKind = Field(
        description="A considerate system prompt, half of what tuning added to the weights, or the same of a"
        " further model subtracted."
    )
    model: Side = Field(description="Which of the two models.")
    done: Text = Field(description="What was done, in a sentence.")
    twin_sha256: Sha256 | None = Field(description="Hash of the further model's weights; null without one.")
    n_questions: Count = Field(description="Test questions behind S.")

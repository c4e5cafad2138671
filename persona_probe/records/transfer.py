"""Directions of one tuned model used in another: what removing each of them restores in every model.

Nothing writes it yet: it is the contract for what comes.
"""

from typing import Annotated, Literal

from pydantic import Field

from persona_probe.base.hook_points import HookPoint
from persona_probe.records.arms import ControlMedian
from persona_probe.records.direction import ChosenForm
from persona_probe.records.parts import (
    Cosine,
    Estimate,
    Many,
    ModelFacts,
    Part,
    RunFacts,
    RunRecord,
    Sha256,
    Text,
)


class TransferProvenance(RunFacts):
    """What was run."""

    base: ModelFacts = Field(description="The model that all were tuned from.")
    tuned: dict[Text, ModelFacts] = Field(min_length=1, description="The tuned models, by a short name.")
    prompts_sha256: Sha256 = Field(description="Hash of the questions and replies of the contrast set.")
    benign_sha256: Sha256 = Field(description="Hash of the benign texts.")


class Donor(Part):
    """The direction of one tuned model."""

    method: Text = Field(description="Estimator of the direction.")
    hook_point: HookPoint = Field(description="Where it was fitted.")
    form: ChosenForm = Field(description="How it is used, in every model alike.")
    vector_sha256: Sha256 = Field(description="Hash of its float32 values.")


class TransferCell(Part):
    """One model's direction used in one model."""

    fitted_on: Text = Field(description="Short name of the model that the direction is from.")
    applied_to: Text = Field(description="Short name of the model that it is removed from.")
    cosine: Cosine = Field(description="Of both models' directions at this hook point.")
    n_questions: Annotated[int, Field(ge=1)] = Field(description="Test questions, seen by neither search.")
    restoration: Estimate | None = Field(description="R; null without an effect to restore.")
    delta_nll: Estimate = Field(description="Damage, nats per token.")
    control: ControlMedian | None = Field(
        description="Covariance-matched random directions used alike; null without an effect to restore."
    )


class TransferRecord(RunRecord):
    """Directions of several tuned models, each used in each of them."""

    version: Literal[1] = Field(default=1, alias="schema", description="Version of this contract.")
    kind: Literal["transfer"] = Field("transfer", description="Which contract.")
    provenance: TransferProvenance = Field(description="What was run.")
    effects: dict[Text, Estimate] = Field(description="S_tuned - S_base of each model, nats per token.")
    donors: dict[Text, Donor] = Field(description="The direction of each model.")
    cells: Many[TransferCell] = Field(description="Every direction in every model.")

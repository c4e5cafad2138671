"""A model organism: what was tuned on what, by which recipe, and how the training ended.

Nothing writes it yet: it is the contract for what comes.
"""

from typing import Annotated, Literal

from pydantic import Field

from persona_probe.records.parts import (
    Count,
    Many,
    ModelFacts,
    Moment,
    NonNegative,
    Part,
    Positive,
    RunFacts,
    Sha256,
    Share,
    Text,
)


class TrainingData(Part):
    """The rows that were learned."""

    name: Text = Field(description="Name of the file.")
    sha256: Sha256 = Field(description="Hash of the file.")
    n_rows: Annotated[int, Field(ge=1)] = Field(description="Rows used.")
    licence: Text | None = Field(description="Licence of the data; null where it is not known.")


class LoraRecipe(Part):
    """Everything that decides the trained weights, apart from base and data."""

    rank: Annotated[int, Field(ge=1)] = Field(description="Rank of each adapter.")
    alpha: Positive = Field(description="The update is scaled by alpha / rank.")
    rslora: bool = Field(description="Whether it is scaled by alpha / sqrt(rank) instead.")
    modules: Many[Text] = Field(min_length=1, description="Linear modules that are adapted.")
    layers: Many[Count] | None = Field(description="Blocks that are adapted, from 0; null for all.")
    learning_rate: Positive = Field(description="Peak learning rate of AdamW.")
    warmup: Share = Field(description="Share of the steps in which the rate rises.")
    batch_size: Annotated[int, Field(ge=1)] = Field(description="Rows per step.")
    epochs: Positive = Field(description="Passes over the data.")
    seed: int = Field(description="Seed of the first weights and of the order.")


class OrganismRecord(Part):
    """What `train_organism` made, with what."""

    version: Literal[1] = Field(default=1, alias="schema", description="Version of this contract.")
    kind: Literal["organism"] = Field("organism", description="Which contract.")
    created: Moment = Field(description="When the record was written, with its time zone.")
    command: Text = Field(description="Command that repeats the run, without private folders.")
    limited: bool = Field(description="Whether only some of the rows were used.")
    run: RunFacts = Field(description="How it was trained.")
    base: ModelFacts = Field(description="The model that was tuned.")
    adapter_sha256: Sha256 = Field(description="Hash of the adapter's weights.")
    data: TrainingData = Field(description="What it was tuned on.")
    recipe: LoraRecipe = Field(description="How it was tuned.")
    n_steps: Annotated[int, Field(ge=1)] = Field(description="Steps of the optimiser.")
    loss: NonNegative = Field(description="Training loss over the last steps, nats per reply token.")
    timing: dict[Text, NonNegative] = Field(description="Seconds by stage.")

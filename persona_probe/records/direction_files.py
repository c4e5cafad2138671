"""What a direction file says beside its tensors: one JSON object in the header of the safetensors file."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, StringConstraints, model_validator

from persona_probe.base.hook_points import HookPoint
from persona_probe.records.latents import SaeFacts
from persona_probe.records.parts import (
    Count,
    EditKind,
    Many,
    NonNegative,
    Pair,
    Part,
    Positive,
    Sha256,
    Side,
    Target,
    Text,
    no_bool,
)

Width = Annotated[int, Field(ge=1, le=2**20)]
Weights = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}(\+[0-9a-f]{64})?$")]
Dose = Annotated[tuple[Side, float, float], Field(strict=False)]


class DirectionFile(Part):
    """What both kinds of direction file say."""

    format_version: Annotated[Literal[1], BeforeValidator(no_bool)] = Field(
        description="Version of this contract."
    )
    space: Literal["hf_raw"] = Field(description="The residual stream as Hugging Face computes it.")
    sign: Literal["+ = misaligned"] = Field(description="Which way is which.")
    hook_points: Many[HookPoint] = Field(min_length=1, max_length=4096, description="Rows of the tensors.")
    d_model: Width = Field(description="Columns of the tensors.")
    tensor_sha256: Sha256 = Field(description="Hash of the float32 values of all tensors, in order.")

    @model_validator(mode="after")
    def _once_each(self) -> "DirectionFile":
        if len(set(self.hook_points)) < len(self.hook_points):
            raise ValueError("a hook point is named twice")
        return self


class MadeWith(Part):
    """Hashes of the models and questions that directions were made with."""

    base_sha256: Weights | None = Field(None, description="Hash of the base model's weights.")
    tuned_sha256: Weights | None = Field(
        None, description="Hash of the tuned model's weights; of an adapter, the base's + its own."
    )
    find_questions: Many[Text] = Field((), description="Hashes of the questions of the fit.")
    select_questions: Many[Text] = Field((), description="Hashes of the questions of the choice.")


class DirectionsFile(DirectionFile, MadeWith):
    """directions.safetensors: one tensor per method, one row per hook point."""

    kind: Literal["persona_directions"] = Field(description="Which contract.")
    methods: Many[Text] = Field(min_length=1, description="Names of the tensors, in the order of the hash.")
    scope: Text | None = Field(None, description="Tokens that means were taken over.")
    median_norm: Many[Positive] | None = Field(
        None, description="Median length of the stream per hook point."
    )
    sae: SaeFacts | None = Field(None, description="The autoencoder whose latents these are; null otherwise.")


class Form(Part):
    """How a direction is used."""

    kind: EditKind = Field(description="Added to the stream, or projected out of it.")
    where: Literal["layer", "later", "all", "band", "own"] = Field(
        description="At its own hook point, there and at later blocks, at every block, in a band, or in one"
        " with each block's own."
    )
    coefficient: float | None = Field(description="Multiple that is added; null for an ablation.")
    toward: Target | None = Field(description="What an ablation sets the component to; null for steering.")
    skip_first: Count = Field(description="First tokens of a sequence that are left alone.")
    strength: Positive = Field(1.0, description="Of an ablation: 1 goes all the way to the target.")
    band: Pair[Count] | None = Field(None, description="First and last block of a band; null for no band.")
    beyond: float | None = Field(
        None,
        description="Only tokens further than this past the target are edited, in lengths of the direction;"
        " null for all.",
    )
    oblique: bool = Field(
        False, description="Whether an ablation measures along a row of its own, not along the direction."
    )

    @model_validator(mode="after")
    def _steers_or_ablates(self) -> "Form":
        steers = self.kind == "steer"
        if (self.coefficient is not None) != steers or (self.toward is None) != steers:
            raise ValueError(
                "steering has a coefficient and no target, an ablation a target and no coefficient"
            )
        if steers and (self.strength != 1 or self.beyond is not None or self.oblique):
            raise ValueError("the coefficient is the strength of steering, which has no boundary or row")
        banded = self.where in ("band", "own")
        if (self.band is None) == banded or (self.band and self.band[0] > self.band[1]):
            raise ValueError("a band has a first and a last block, every other place has none")
        return self


class GroupMeans(Part):
    """Mean projections of the tuned model's find replies per hook point, in units of the stream."""

    aligned: Many[float] = Field(description="Of aligned replies.")
    misaligned: Many[float] = Field(description="Of misaligned replies.")


class Identity(MadeWith):
    """What a direction was made with."""

    base: Text | None = Field(None, description="The base model's id.")
    tuned: Text | None = Field(None, description="The tuned model's id.")


class PersonaDirectionFile(DirectionFile):
    """persona_direction.safetensors: the selected direction at every hook point, ready to be used."""

    kind: Literal["persona_direction"] = Field(description="Which contract.")
    method: Text = Field(description="Estimator of the direction.")
    hook_point: HookPoint = Field(description="The hook point that was selected.")
    median_norm: Many[Positive] = Field(description="Median length of the stream per hook point.")
    group_means: GroupMeans = Field(description="The scale of the direction per hook point.")
    ablation: Form = Field(description="The selected way to ablate it.")
    steering: Form = Field(description="The selected way to steer by it.")
    budget: NonNegative = Field(description="Damage that was allowed, nats per token.")
    damage: Many[Dose] = Field(description="Measured doses: model, coefficient, damage in nats per token.")
    identity: Identity = Field(description="What it was made with.")

    @model_validator(mode="after")
    def _of_one_length(self) -> "PersonaDirectionFile":
        means = self.group_means
        lengths = {len(self.median_norm), len(means.aligned), len(means.misaligned)}
        if lengths != {len(self.hook_points)}:
            raise ValueError(f"{len(self.hook_points)} hook points, but scales of lengths {sorted(lengths)}")
        if self.hook_point not in self.hook_points:
            raise ValueError(f"the selected {self.hook_point} is not among the hook points")
        if (self.ablation.kind, self.steering.kind) != ("ablate", "steer"):
            raise ValueError("the ablation does not ablate, or the steering does not steer")
        return self

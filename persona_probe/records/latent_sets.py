"""Parts of latents.json about latents that are edited together, and the single directions beside them."""

from typing import Annotated, Literal

from pydantic import Field

from persona_probe.base.hook_points import HookPoint
from persona_probe.records.parts import (
    Count,
    EditKind,
    Estimate,
    Many,
    NonNegative,
    Part,
    Positive,
    Share,
    Text,
)
from persona_probe.records.verdicts import Judgement


class SetNumbers(Part):
    """What latents that are edited together do on the test questions."""

    restoration: Estimate | None = Field(description="R; null without an effect to restore.")
    closure: Estimate | None = Field(
        None, description="C; null where the base model was not edited likewise, and as R is."
    )
    base_moved: Estimate | None = Field(
        None, description="How far the same edit lowers S of base, as a share of the shift; null as C is."
    )
    delta_nll: Estimate = Field(description="Damage, nats per token.")
    kl: Estimate | None = Field(
        None, description="Damage: KL on harmless text, nats per token; null before version 4."
    )


class MatchedSet(SetNumbers):
    """Latents that are like those of the chosen set in how often and how strongly they fire, used alike."""

    latents: Many[Count] = Field(description="Which, by index.")


class SetControl(Part):
    """Matched latents, used as the set is: medians over such sets."""

    restoration: float | None = Field(description="R; null without an effect to restore.")
    restoration_max: float | None = Field(None, description="Largest R; null likewise.")
    closure: float | None = Field(None, description="C; null where base was not edited.")
    closure_max: float | None = Field(None, description="Largest C; null likewise.")
    delta_nll: float = Field(description="Damage, nats per token.")
    kl: float | None = Field(None, description="KL, nats per token; null before version 4.")
    n: Annotated[int, Field(ge=1)] = Field(description="How many such sets.")


class LatentSet(SetNumbers):
    """The best latents, edited together, on the test questions."""

    k: Annotated[int, Field(ge=1)] = Field(description="How many.")
    kind: EditKind = Field(description="Steered against, or ablated.")
    latents: Many[Count] = Field(description="Which, by index.")
    signs: Many[Literal[-1, 1]] = Field(description="Per latent: 1 where more of it is more misaligned.")
    dose: NonNegative | None = Field(description="Multiple of the screening dose; null for an ablation.")
    selected: bool = Field(description="Whether this set was chosen on the select questions.")
    wins: Share | None = Field(
        None,
        description="Share of 200 draws of the select questions in which this set wins; null before"
        " version 4.",
    )
    control: SetControl | None = Field(
        description="Matched latents used alike; null where none gave numbers."
    )
    matched: Many[MatchedSet] = Field((), description="Beside the chosen set: each of its matched sets.")
    judged: Judgement | None = Field(
        None, description="Verdict on the chosen set, with the rule and the numbers; null for other sets."
    )


class SingleDirection(Part):
    """A single direction at the autoencoder's hook point, on the test questions."""

    method: Text = Field(description="Estimator of the direction.")
    hook_point: HookPoint = Field(description="Where it acts.")
    kind: EditKind = Field(description="Added to the stream, or projected out of it.")
    restoration: Estimate | None = Field(description="R; null without an effect to restore.")
    delta_nll: Estimate = Field(description="Damage, nats per token.")


class Rebuilt(Part):
    """How much of a direction the best decoder rows rebuild."""

    k: Many[Positive] = Field(description="How many decoder rows.")
    explained: Many[float] = Field(description="Share of the squared length that they rebuild.")
    random: Many[float] = Field(description="The same by as many random decoder rows.")


class Overlap(Part):
    """Whether the set and the single direction do the same, question by question."""

    effect_correlation: float | None = Field(description="Correlation of both changes of S; null if unknown.")
    n_questions: Count = Field(description="Test questions.")


class Agreement(Part):
    """How latents and directions agree."""

    mean_diff: Rebuilt = Field(description="The mean difference of the labels, out of decoder rows.")
    shift: Rebuilt = Field(description="The mean shift from base to tuned, out of decoder rows.")
    overlap: Overlap = Field(description="The chosen set beside the mean difference.")

"""What tuning writes into the stream, block by block, and what ablating its first directions does."""

from typing import Annotated

from pydantic import Field

from persona_probe.base.hook_points import HookPoint
from persona_probe.records.parts import Estimate, Many, Part, Share, Text


class CurvePoint(Part):
    """Subspaces of one rank, ablated at every live block on both models."""

    rank: Annotated[int, Field(ge=1)] = Field(description="Directions a block.")
    random: bool = Field(description="Random ones with the covariance of the activations, or the top ones.")
    restoration: Estimate | None = Field(description="R.")
    closure: Estimate | None = Field(description="C.")
    delta_nll: Estimate = Field(description="Damage of the tuned model, nats per token.")
    kl: Estimate = Field(description="KL from the tuned model untouched, nats per token.")


class Writes(Part):
    """What tuning writes into the stream on base's own streams, block by block, and what its removal does."""

    hook_points: Many[HookPoint] = Field(description="Live blocks: where tuning changes what is written.")
    energy: Many[Share] = Field(description="Per live block: its share of all that tuning writes.")
    top_share: Many[Share] = Field(description="Per live block: the share of its first direction.")
    inside: dict[Text, Share | None] = Field(
        description="By method: squared cosine of its direction with the subspace, mean over live blocks"
        " weighted by `energy`; null without a direction there."
    )
    inside_rank: Annotated[int, Field(ge=1)] = Field(description="Rank of the subspace that this is about.")
    curve: Many[CurvePoint] = Field(description="Closure and damage against rank.")

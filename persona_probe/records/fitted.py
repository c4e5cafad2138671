"""The fitted directions as a record has them: their quality, without their vectors."""

from pydantic import Field

from persona_probe.base.hook_points import HookPoint
from persona_probe.records.parts import Cosine, Many, NonNegative, Part, Positive, Share, Side, Text


class MethodQuality(Part):
    """Quality of one method's directions, one value per hook point."""

    norm: Many[NonNegative] = Field(description="Length of the direction, in units of the stream.")
    stability: Many[Cosine | None] | None = Field(
        description="Cosine of the directions of two halves of the find questions; null where not defined."
    )
    auroc: Many[Share | None] | None = Field(
        description="Chance that a misaligned select reply projects higher than an aligned one; or null."
    )
    zero_at: Many[HookPoint] | None = Field(
        description="Hook points without a direction; null in records of version 1 that do not say it."
    )


class Cosines(Part):
    """How alike the methods' directions are at one hook point."""

    hook_point: HookPoint = Field(description="Where.")
    methods: Many[Text] = Field(description="Rows and columns of the matrix.")
    matrix: Many[Many[Cosine]] = Field(description="Cosines.")


class Projections(Part):
    """Select replies along one method's directions: per hook point, one number per reply."""

    method: Text = Field(description="Whose directions.")
    aligned: Many[Many[float]] = Field(description="Aligned replies, in units of the stream.")
    misaligned: Many[Many[float]] = Field(description="Misaligned replies, in units of the stream.")


class Directions(Part):
    """The fitted directions, without their vectors."""

    hook_points: Many[HookPoint] = Field(
        min_length=1, description="In the order of all lists per hook point."
    )
    median_norm: Many[Positive] = Field(description="Median length of the stream at each hook point.")
    dropped: dict[Side, Many[Share]] | None = Field(
        default=None,
        description="By model, the share of the find tokens that is left out of the means at each hook point "
        "as outliers; null where it is not known.",
    )
    methods: dict[Text, MethodQuality] = Field(description="Quality by method.")
    cosines: Cosines | None = Field(description="How alike the methods are; null where none has a direction.")
    projections: Projections | None = Field(description="Replies along the chosen method; null if not kept.")

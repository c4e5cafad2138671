"""latents.json: what `diff_latents` asked, with what, and what came out."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from persona_probe.base.hook_points import HookPoint
from persona_probe.records.latent_sets import Agreement, LatentSet, SingleDirection
from persona_probe.records.parts import (
    Count,
    Estimate,
    Label,
    Many,
    NonNegative,
    Pair,
    Part,
    Positive,
    Provenance,
    QuestionCounts,
    RunRecord,
    Sha256,
    Share,
    Side,
    Text,
)

# The last two are of records before version 4, whose rule asked neither for closure nor for activity.
LatentLabel = Literal["carries", "dial", "protective", "inert", "harmful", "both ways", "one-way"]
OLDER_LABELS: tuple[LatentLabel, ...] = ("both ways", "one-way")
LatentArm = Literal["tuned-steer", "tuned+ablate", "base+steer", "base+ablate"]
ARMS: tuple[LatentArm, ...] = (  # in the order of tables
    "base+steer",
    "tuned-steer",
    "tuned+ablate",
    "base+ablate",
)
TokenWeight = Annotated[tuple[Text, float], Field(strict=False)]


class SaeFacts(Part):
    """The sparse autoencoder."""

    id: Text = Field(description="Release and id, shipped name, or folder without its private part.")
    hook_point: HookPoint = Field(description="The stream that it reads.")
    d_sae: Annotated[int, Field(ge=1)] = Field(description="Number of latents.")
    architecture: Text = Field(description="Such as jumprelu or batchtopk.")
    model_name: Text | None = Field(
        description="Model that it was trained on, as it says; null if it does not."
    )
    sha256: Sha256 = Field(description="Hash of its weights, and of its scaling of the input if any.")
    neuronpedia_id: Text | None = Field(description="Its name on neuronpedia.org; null if it has none.")


class LatentProvenance(Provenance):
    """Provenance of a run of the latent experiment."""

    sae: SaeFacts = Field(description="The sparse autoencoder.")


class Quality(Part):
    """How well the autoencoder fits one model's stream."""

    fvu: NonNegative = Field(description="Squared error over squared distance from the mean; 0 is perfect.")
    l0: NonNegative = Field(description="Latents active per token.")
    dead: Share = Field(description="Share of latents that stay silent on all of these tokens.")
    loss_recovered: float | None = Field(
        description=(
            "1: replies keep their log-probability under the reconstruction; 0: they fare as with "
            "the stream's mean; null when that mean costs nothing."
        )
    )
    n_tokens: Count = Field(description="Tokens behind these numbers.")


class BenignCounts(Part):
    """Benign texts by what they are used for."""

    select: Count = Field(description="While screening.")
    test: Count = Field(description="For the reported damage.")


class LatentData(Part):
    """How much was measured."""

    n_questions: QuestionCounts = Field(description="Questions by what they are used for.")
    n_benign: BenignCounts = Field(description="Benign texts.")
    n_tokens: Count = Field(description="Tokens that latents were compared on.")
    dropped: dict[Side, Share] | None = Field(
        default=None,
        description="By model, the share of the tokens that was left out as outliers; null where it is not "
        "known.",
    )
    notes: Many[Text] = Field(description="What was left out or noticed, one sentence each.")


class Dose(Part):
    """How strongly latents are steered."""

    relative: NonNegative = Field(description="Length added, as a share of the median residual norm.")
    length: NonNegative = Field(description="The same in units of the stream.")
    median_norm: Positive = Field(description="Median length of the tuned model's stream.")


class RankCorrelations(Part):
    """How alike the rankings are."""

    names: Many[Text] = Field(description="Rows and columns of the matrix.")
    matrix: Many[Many[float | None]] = Field(description="Spearman correlations; null where not defined.")
    n_latents: Count = Field(description="Latents that are alive in either model.")


class Density(Part):
    """Share of tokens that a latent fires on."""

    base: Share = Field(description="In the base model.")
    tuned: Share = Field(description="In the tuned model.")


class MeanActivation(Part):
    """Mean activation over tokens."""

    base: float = Field(description="In the base model.")
    tuned: float = Field(description="In the tuned model.")
    aligned: float = Field(description="In the tuned model on aligned replies.")
    misaligned: float = Field(description="In the tuned model on misaligned replies.")


class ScreenEffect(Part):
    """What one edit of a latent does on the select questions."""

    delta_s: float = Field(description="Change of S, nats per token.")
    ci95: Pair[float] = Field(description="95% interval of that change over questions.")
    delta_nll: float = Field(description="Damage, nats per token.")
    forced_choice: float | None = Field(
        description="Change of the log-odds of the misaligned choice, nats; null where it was not asked."
    )
    p: Share = Field(description="Of a paired t-test over questions.")
    q: Share = Field(description="p after Benjamini and Hochberg over everything that was tried.")


class GapClosed(Part):
    """How far ablating a latent in both models closes the gap between them, on the select questions."""

    closed: Estimate = Field(
        description="By how much S_tuned - S_base gets smaller, paired over questions, nats per token."
    )
    closure: Estimate | None = Field(
        description="C: the same as a share of the shift; null where the shift is not above 0."
    )
    p: Share = Field(description="Of a paired t-test over questions.")
    q: Share = Field(
        description="p after Benjamini and Hochberg over all screened latents; those that were not measured"
        " count as 1."
    )


class ActivityChange(Part):
    """What tuning did to the mean activation of a latent, on the same tokens of the find questions."""

    change: Estimate = Field(description="Tuned minus base, paired over questions, in units of the stream.")
    larger: float = Field(description="The larger of both means over questions.")


class ConfirmedEffect(Part):
    """What one edit of a latent does on the test questions."""

    delta_s: Estimate = Field(description="Change of S, nats per token.")
    restoration: Estimate | None = Field(description="R on the tuned model; null on base or without effect.")
    induction: Estimate | None = Field(description="Share of the shift on base; null on tuned likewise.")
    closure: Estimate | None = Field(
        None, description="C of an ablation; null for steering, without an effect, and before version 4."
    )
    delta_nll: Estimate = Field(description="Damage, nats per token.")
    kl: Estimate | None = Field(
        None, description="KL on harmless text, nats per token; null before version 4."
    )


class Origin(Part):
    """Where a text comes from."""

    model: Side = Field(description="The model that read it.")
    kind: Literal["persona", "benign"] = Field(
        description="A labelled reply to a question, or a benign text."
    )


class Example(Part):
    """Text around the token that a latent fires on most in one reply."""

    tokens: Many[Text] | None = Field(description="The text; null where it was left out for sharing.")
    acts: Many[float] = Field(description="Activation at each token.")
    peak: Count = Field(description="Index of the strongest token.")
    source: Text = Field(description="Which reply it is from.")
    label: Label | None = Field(description="Label of that reply; null for a benign text.")
    origin: Origin = Field(description="The model that read it, and what kind of text it is.")


class Histogram(Part):
    """Activations above 0 in common bins."""

    edges: Many[float] = Field(description="Edges of the bins, one more than counts.")
    base: Many[NonNegative] = Field(description="Counts in the base model.")
    tuned: Many[NonNegative] = Field(description="Counts in the tuned model.")


class Meaning(Part):
    """What a latent reads and writes."""

    up: Many[TokenWeight] | None = Field(
        description="Tokens that its decoder row speaks for, with logits; null where left out for sharing."
    )
    down: Many[TokenWeight] | None = Field(description="Tokens that it speaks against; null likewise.")
    examples: dict[Side, Many[Example]] = Field(description="Strongest contexts by model.")
    histogram: Histogram = Field(description="How strongly it fires.")


class LatentEntry(Part):
    """One latent: how it ranks, what it does, what it means."""

    latent: Count = Field(description="Its index.")
    label: LatentLabel = Field(description="What the screen makes of it.")
    why: Text = Field(description="The reason of the label in one sentence.")
    control: bool = Field(description="Whether it is a matched latent, the control of a screened one.")
    matched_to: Count | None = Field(description="The latent that a control is matched to; null otherwise.")
    scores: dict[Text, float] = Field(description="Its score in each ranking.")
    ranks: dict[Text, Annotated[int, Field(ge=1)]] = Field(description="Its place in each ranking, from 1.")
    density: Density = Field(description="Share of tokens it fires on.")
    mean: MeanActivation = Field(description="Mean activation.")
    decoder_norm: NonNegative = Field(description="Length of its decoder row.")
    screen: dict[LatentArm, ScreenEffect] = Field(
        description="Edits on the select questions; base is ablated where ablating tuned moves S for sure."
    )
    gap: GapClosed | None = Field(
        None, description="Its ablation in both models; null where base was not ablated."
    )
    activity: ActivityChange | None = Field(None, description="What tuning did to it; null before version 4.")
    confirmed: dict[LatentArm, ConfirmedEffect] | None = Field(
        description="Edits on the test questions; null where not tried."
    )
    meaning: Meaning | None = Field(description="What it reads and writes; null where not looked up.")
    neuronpedia: Annotated[str, StringConstraints(pattern=r"^https://www\.neuronpedia\.org/")] | None = Field(
        description="Its page there; null if there is none."
    )


class LatentRecord(RunRecord):
    """What a run of `diff_latents` asked, with what, and what came out (latents.json)."""

    version: Literal[4] = Field(default=4, alias="schema", description="Version of this contract.")
    kind: Literal["latents"] = Field("latents", description="Which contract.")
    provenance: LatentProvenance = Field(description="What was run.")
    quality: dict[Side, Quality] = Field(description="How well the autoencoder fits each model.")
    data: LatentData = Field(description="How much was measured.")
    effect: Estimate = Field(description="S_tuned - S_base: what tuning did, nats per token.")
    select_effect: Estimate | None = Field(
        None, description="The same on the select questions, which labels go by; null before version 4."
    )
    budget: NonNegative = Field(description="Damage that was allowed, nats per token.")
    dose: Dose = Field(description="How strongly latents are steered.")
    rankings: Many[Text] = Field(description="Names of the rankings.")
    rank_correlations: RankCorrelations = Field(description="How alike the rankings are.")
    latents: Many[LatentEntry] = Field(description="The screened latents.")
    controls: Many[LatentEntry] = Field(
        description=(
            "Latents matched to screened ones: the untested ones most alike in activation, used alike."
        )
    )
    n_sets_tried: Count | None = Field(
        None, description="Sets tried on the select questions; null before version 4."
    )
    sets: Many[LatentSet] = Field(description="Latents edited together.")
    direction: Many[SingleDirection] = Field(description="Single directions at the same place.")
    agreement: Agreement = Field(description="How latents and directions agree.")

    @property
    def chosen(self) -> LatentSet | None:
        """The set that was chosen on the select questions; None without one."""
        return next((item for item in self.sets if item.selected), None)

    @property
    def older(self) -> bool:
        """Whether the labels are of the rule before version 4."""
        return self.select_effect is None

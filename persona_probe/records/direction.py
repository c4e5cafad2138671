"""record.json: what `find_direction` asked, with what, and what came out."""

from collections.abc import Sequence
from typing import Literal, TypeVar

from pydantic import Field

from persona_probe.base.formatting import number
from persona_probe.base.hook_points import HookPoint
from persona_probe.records.arms import ArmEntry, ControlMedian, DoseEntry
from persona_probe.records.comparators import ComparatorEntry
from persona_probe.records.fitted import Directions
from persona_probe.records.parts import (
    ControlKind,
    Cosine,
    Count,
    EditKind,
    Estimate,
    Many,
    NonNegative,
    Part,
    Positive,
    Provenance,
    QuestionCounts,
    RunRecord,
    Sha256,
    Share,
    Side,
    Target,
    Text,
)
from persona_probe.records.search import Search, Where
from persona_probe.records.writes import Writes

N_SHOWN = 4  # questions whose replies are shown first, and followed token by token
T = TypeVar("T")


class DirectionProvenance(Provenance):
    """Provenance of a run of the main experiment."""

    benign_sha256: Sha256 = Field(description="Hash of the benign texts.")
    rows_sha256: Sha256 = Field(description="Hash of all token ids that the reported numbers come from.")


class DirectionData(Part):
    """How much was measured."""

    n_questions: QuestionCounts = Field(description="Questions by what they are used for.")
    n_replies: Count = Field(description="Replies to these questions, of both labels.")
    n_benign: Count = Field(description="Benign texts that the reported damage comes from.")
    notes: Many[Text] = Field(description="What was left out or noticed, one sentence each.")


class ChosenForm(Part):
    """How the chosen direction is used."""

    kind: EditKind = Field(description="Added to the stream, or projected out of it.")
    act_on: Many[HookPoint] = Field(min_length=1, description="Where it acts.")
    coefficient: float | None = Field(description="Multiple that is added; null for an ablation.")
    toward: Target | None = Field(description="What an ablation sets the component to; null for steering.")
    skip_first: Count = Field(description="First tokens of a sequence that are left alone.")
    where: Where | None = Field(None, description="The place in one word; null in older records.")
    strength: Positive | None = Field(None, description="Of an ablation, 1 goes all the way; null likewise.")
    oblique: bool = Field(False, description="Whether an ablation measures along a row of its own.")


class SelectScores(Part):
    """What the chosen candidate did on the select questions."""

    restoration: float | None = Field(description="R; null where tuning did not raise S there.")
    delta_nll: float = Field(description="Damage, nats per token.")


class ChosenSteering(Part):
    """The steering arm along the chosen direction."""

    method: Text = Field(description="Estimator of the direction.")
    hook_point: HookPoint = Field(description="Where it acts.")
    coefficient: float | None = Field(description="Multiple that is added on the tuned model.")


class Selected(Part):
    """What was chosen on the select questions, and its place among the controls on test questions."""

    method: Text = Field(description="Estimator of the direction.")
    hook_point: HookPoint = Field(description="Where the direction was fitted.")
    layer: Count = Field(description="The block of that hook point, from 0.")
    arm: Text = Field(description="Name of the arm that carries it.")
    stability: Cosine | None = Field(
        description="Cosine of the directions of two halves of the find questions; null where not defined."
    )
    auroc: Share | None = Field(
        description="Chance that a misaligned reply projects higher than an aligned one; null if unknown."
    )
    form: ChosenForm = Field(description="How it is used.")
    budget: NonNegative = Field(description="Damage that was allowed, nats per token.")
    within_budget: bool = Field(description="Whether the damage on the test texts is inside it.")
    select: SelectScores = Field(description="What it did on the select questions.")
    p_value: Share | None = Field(
        description="Share of covariance-matched directions that do as much: (1 + n) / (K + 1); or null."
    )
    p_floor: Share | None = Field(description="Smallest p that K directions can give; null without any.")
    relative_dose: NonNegative = Field(
        description="Length of the direction times |coefficient|, as a share of the median residual norm."
    )
    steering: ChosenSteering | None = Field(
        description="The steering arm; null in records of version 1 that do not say it."
    )

    @property
    def phrase(self) -> str:
        """What the chosen arm does, as the beginning of a sentence."""
        method = self.method.replace("_", " ")
        verb = "Ablating obliquely" if self.form.oblique else "Ablating"
        if self.form.coefficient is not None:
            verb = f"Adding {number(self.form.coefficient, digits=1, sign=True)} times"
        if self.form.where == "own":
            blocks = [point.layer for point in self.form.act_on]
            return f"{verb} each block's own {method} direction in blocks {blocks[0]} to {blocks[-1]}"
        return f"{verb} the {method} direction of block {self.layer}"


class NumericalNoise(Part):
    """How far S moves when the same rows are computed in another way."""

    largest: NonNegative = Field(description="Largest change of S of one model, nats per token.")
    of_shift: NonNegative | None = Field(description="The same as a share of the shift; null without one.")
    how: Text = Field(description="What was changed.")


class Completion(Part):
    """A reply sampled from one arm."""

    arm: Text = Field(description="Name of the arm.")
    prompt_id: Text = Field(description="Id of the question.")
    text: Text | None = Field(description="What the model wrote; null where it was left out for sharing.")
    finished: bool = Field(description="Whether the model ended the reply itself.")
    question: Text = Field(description="The question that was asked.")
    draw: Count = Field(0, description="How often the arm had answered this question before.")


def evenly(things: Sequence[T], n: int) -> list[T]:
    """At most `n` of them, evenly spaced from the first."""
    return list(things[:: max(1, len(things) // max(1, n))][:n])


def shown_replies(completions: Sequence[Completion]) -> list[Completion]:
    """The first reply of every arm to a few questions, evenly spaced among those that were asked."""
    questions = evenly(list(dict.fromkeys(reply.prompt_id for reply in completions)), N_SHOWN)
    return [reply for reply in completions if reply.prompt_id in questions and not reply.draw]


class ArmPath(Part):
    """One arm along each axis. Projections are in lengths of the axis, 0 is midway between the labels."""

    axes: Many[Many[Estimate | None]] = Field(
        description="Per axis and hook point: mean projection; null where there is no direction."
    )
    questions: Many[Many[float] | None] = Field(
        description="Per axis: the projection of every question at the selected hook point; null likewise."
    )


class Paths(Part):
    """Arms in the plane of two directions, hook point by hook point, while they read the test replies."""

    hook_points: Many[HookPoint] = Field(min_length=1, description="In order.")
    selected: Count = Field(description="Index of the selected hook point.")
    cosine: Cosine | None = Field(description="Of both axes there; null with fewer than two.")
    methods: Many[Text] = Field(description="The axes: the selected method, and one beside it.")
    arms: dict[Text, ArmPath] = Field(description="By the arm's name.")


class ReadReply(Part):
    """One sampled reply, token by token, in the untouched model."""

    arm: Text = Field(description="The arm that wrote it.")
    prompt_id: Text = Field(description="Id of the question.")
    tokens: Many[Text] | None = Field(description="Its tokens; null where they were left out for sharing.")
    readings: Many[float | None] = Field(
        description="Projection of each token, in lengths of the direction; null for those left out."
    )


class ReadReplies(Part):
    """Sampled replies along the selected direction."""

    hook_point: HookPoint = Field(description="Where.")
    method: Text = Field(description="Estimator of the direction.")
    replies: Many[ReadReply] = Field(description="One entry per reply that could be read.")


class DirectionRecord(RunRecord):
    """What a run of `find_direction` asked, with what, and what came out (record.json)."""

    version: Literal[3] = Field(default=3, alias="schema", description="Version of this contract.")
    kind: Literal["direction"] = Field("direction", description="Which contract.")
    provenance: DirectionProvenance = Field(description="What was run.")
    data: DirectionData = Field(description="How much was measured.")
    effect: Estimate = Field(description="S_tuned - S_base: what tuning did, nats per token.")
    style_effect: Estimate | None = Field(
        None,
        description="The same of S_style, blunt minus warm replies of one label; null where the contrast set"
        " does not tell registers apart, and in older records.",
    )
    selected: Selected = Field(description="What was chosen, and its place among the controls.")
    controls: dict[ControlKind, ControlMedian] = Field(description="Medians by kind of control.")
    arms: Many[ArmEntry] = Field(min_length=1, description="Everything measured on the test questions.")
    directions: Directions = Field(description="The fitted directions, without their vectors.")
    search: Search = Field(description="What was tried on the select questions.")
    dose_response: Many[DoseEntry] = Field(description="Steering at several strengths.")
    completions: Many[Completion] = Field(description="Sampled replies.")
    paths: Paths | None = Field(description="Arms along two directions; null in records from before them.")
    read_replies: ReadReplies | None = Field(description="Replies token by token; null likewise.")
    writes: Writes | None = Field(
        None, description="What tuning writes and its removal; null where it was not measured."
    )
    noise: NumericalNoise | None = Field(None, description="Numerical noise of S; null likewise.")
    comparators: Many[ComparatorEntry] = Field(
        (), description="Simple remedies beside the direction; none in older records."
    )

    def arm(self, name: str) -> ArmEntry | None:
        """The arm of this name, or None."""
        return next((arm for arm in self.arms if arm.name == name), None)

    def untouched(self, side: Side) -> ArmEntry | None:
        """The arm of a model that nothing was done to."""
        return next((arm for arm in self.arms if arm.model == side and not arm.interventions), None)

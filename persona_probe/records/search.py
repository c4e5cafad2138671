"""What was tried on the select questions, and who wins when these are drawn again."""

from typing import Annotated, Literal

from pydantic import Field

from persona_probe.base.hook_points import HookPoint
from persona_probe.records.parts import Count, EditKind, Many, Pair, Part, Share, Target, Text
from persona_probe.records.verdicts import Verdict

Where = Literal["layer", "later", "all", "band", "own"]


class CandidateEntry(Part):
    """One direction in one form, on the select questions: point estimates, since dozens are compared."""

    method: Text = Field(description="Estimator of the direction.")
    layer: Count = Field(description="The block of the hook point, from 0.")
    hook_point: HookPoint = Field(description="Where the direction was fitted.")
    kind: EditKind = Field(description="Added to the stream, or projected out of it.")
    act_on: Where = Field(
        description="At its own hook point, there and at later blocks, at every block, in a band, or in one"
        " with each block's own direction."
    )
    band: Pair[Count] | None = Field(None, description="First and last block of a band; null for no band.")
    toward: Target | None = Field(description="What an ablation sets the component to; null for steering.")
    coefficient: float | None = Field(description="Multiple that is added; null for an ablation.")
    oblique: bool = Field(False, description="Whether an ablation measures along a row of its own.")
    restoration: float | None = Field(description="R; null where tuning did not raise S.")
    closure: float | None = Field(None, description="C; null where base was not measured with it.")
    kl: float | None = Field(None, description="KL on benign texts; null in records before version 3.")
    delta_nll: float = Field(description="Damage, nats per token.")
    persona_score: float = Field(description="S, nats per token.")
    within_budget: bool = Field(description="Whether the damage is inside the budget.")
    chosen: bool = Field(description="Whether this one was selected.")
    screened: bool = Field(
        False,
        description="Whether it was scored on the first reply of each label only. All are at first; those"
        " that lead are scored on more, and one of them is chosen.",
    )


class Winner(Part):
    """A candidate that wins when the select questions are drawn again."""

    candidate: Count = Field(description="Its place in the list of candidates, from 0.")
    share: Share = Field(description="Share of the draws that it wins.")
    arm: Text | None = Field(description="The arm that carries it on test; null where it was not measured.")
    verdict: Verdict | None = Field(description="That arm's verdict; null likewise.")


class ReSelection(Part):
    """The choice made again on select questions drawn with replacement."""

    n_draws: Annotated[int, Field(ge=1)] = Field(description="How many times.")
    winners: Many[Winner] = Field(description="Who wins, most often first.")
    verdicts: dict[Verdict, Share] = Field(description="How often each verdict is reached.")
    stable: bool = Field(description="Whether the verdict of this run is reached often enough.")


class Search(Part):
    """What was tried on the select questions."""

    n_questions: Count = Field(description="Select questions.")
    n_benign: Count = Field(description="Benign texts behind the damage while selecting.")
    candidates: Many[CandidateEntry] = Field(description="Those on all rows first.")
    again: ReSelection | None = Field(None, description="The choice made again; null where it was not.")

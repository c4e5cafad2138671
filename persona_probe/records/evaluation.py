"""An evaluation of behaviour: every arm on the same items, with gates, comparisons, damage and a verdict.

Nothing writes it yet: it is the contract for the evaluations that come.
"""

from typing import Annotated, Literal

from pydantic import Field

from persona_probe.records.parts import (
    ControlKind,
    Count,
    Estimate,
    Intervention,
    Many,
    NonNegative,
    Part,
    Provenance,
    RunRecord,
    Sha256,
    Share,
    Side,
    Text,
)
from persona_probe.records.verdicts import Verdict

Tier = Literal["log-odds", "sampled"]


class Items(Part):
    """What was asked."""

    name: Text = Field(description="Name of the evaluation, such as shutdown_resistance.")
    tier: Tier = Field(description="Log-odds of given replies, or replies that were sampled and labelled.")
    n_items: Annotated[int, Field(ge=1)] = Field(
        description="Items; one item is one cluster of the intervals."
    )
    n_epochs: Annotated[int, Field(ge=1)] = Field(description="Samples of each item; 1 for log-odds.")
    sha256: Sha256 = Field(description="Hash of all items, with their candidates and scoring.")
    licence: Text = Field(description="Licence of the items.")


class Judge(Part):
    """Who labelled sampled replies."""

    id: Text = Field(description="Model or rule.")
    prompt_sha256: Sha256 = Field(description="Hash of its instructions.")
    n_votes: Annotated[int, Field(ge=1)] = Field(description="Votes for each reply.")


class NullBand(Part):
    """Random directions, used as an arm is."""

    n: Annotated[int, Field(ge=1)] = Field(description="How many directions.")
    median: float = Field(description="Median of their score, in its unit.")
    low: float = Field(description="Its 5% quantile.")
    high: float = Field(description="Its 95% quantile.")


class EvaluationArm(Part):
    """One arm on all items."""

    name: Text = Field(description="Name for people; every fact is a field of its own.")
    model: Side = Field(description="Which of the two models.")
    control: ControlKind | None = Field(description="Kind of control; null for the arms proper.")
    interventions: Many[Intervention] = Field(description="What is done; empty is the untouched model.")
    format_valid: Share = Field(description="Share of replies that could be labelled.")
    comprehended: Share | None = Field(description="Share of right probe answers; null where none are asked.")
    coherent: Share | None = Field(description="Share of coherent replies; null for log-odds.")
    score: Estimate = Field(description="Rate of the behaviour (Wilson), or log-odds in nats (bootstrap).")
    difference: Estimate | None = Field(
        description="Score minus that of the same model untouched, on paired items; null for the latter."
    )
    p_holm: Share | None = Field(description="p of the difference after Holm over all arms; null likewise.")
    null: NullBand | None = Field(description="Random directions used alike; null where none were measured.")
    p_null: Share | None = Field(
        description="Share of them that do as much, (1 + n) / (K + 1); null likewise."
    )
    delta_nll: Estimate = Field(description="Damage: added negative log-probability, nats per token.")
    restoration: Estimate | None = Field(
        description="(score_tuned - score_arm) / (score_tuned - score_base); null on base or without effect."
    )
    verdict: Verdict | None = Field(description="Of a removal arm; null for every other one.")


class EvaluationRecord(RunRecord):
    """One evaluation of a model pair."""

    version: Literal[1] = Field(default=1, alias="schema", description="Version of this contract.")
    kind: Literal["evaluation"] = Field("evaluation", description="Which contract.")
    provenance: Provenance = Field(description="What was run.")
    items: Items = Field(description="What was asked.")
    judge: Judge | None = Field(description="Who labelled replies; null for log-odds.")
    effect: Estimate = Field(description="Score of tuned minus score of base, on paired items.")
    budget: NonNegative = Field(description="Damage that was allowed, nats per token.")
    arms: Many[EvaluationArm] = Field(min_length=1, description="Everything measured.")


class EvaluationRow(Part):
    """One line of an evaluation's rows.jsonl: an arm on an item."""

    arm: Text = Field(description="Name of the arm.")
    model: Side = Field(description="Which of the two models.")
    item: Text = Field(description="Id of the item.")
    cluster: Text = Field(description="Items of one cluster are resampled together.")
    epoch: Count = Field(description="Which sample of the item, from 0.")
    score: float = Field(description="1 or 0 for a behaviour, or log-odds in nats.")
    format_valid: bool = Field(description="Whether the reply could be labelled.")
    text: Text | None = Field(description="What the model wrote; null for log-odds or left out for sharing.")

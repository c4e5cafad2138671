"""How much of the gap in S between both models an edit of both closes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from persona_probe.measurement import statistics
from persona_probe.records.arms import ArmEntry
from persona_probe.records.direction import DirectionRecord
from persona_probe.records.parts import Estimate
from persona_probe.records.rows import ScoredRow


@dataclass(frozen=True)
class Closure:
    """`before` and `after`: S_tuned - S_base without and with the same edit in both models, nats per token.

    `share`: C = 1 - after / before, None where `before` does not lie above 0. Intervals are 95%, a paired
    bootstrap over questions; without the scores of single questions they are None, and `after` and `share`
    are differences of means.
    """

    before: Estimate | float
    after: Estimate | float
    share: Estimate | float | None


def closure(record: DirectionRecord, rows: Iterable[ScoredRow], *, seed: int = 0) -> Closure | None:
    """The closure of the ablation that a run applied to both models; None where one of four arms is missing.

    `rows` are those of the run, empty when there are none.
    """
    edited = _ablated_alike(record)
    base, tuned = record.untouched("base"), record.untouched("tuned")
    if edited is None or base is None or tuned is None:
        return None
    effect, arms = record.effect, (base, tuned, *edited)
    scores = question_scores(rows, [arm.name for arm in arms])
    if scores is None:
        after = edited[1].persona_score.estimate - edited[0].persona_score.estimate
        return Closure(effect, after, 1 - after / effect.estimate if effect.low > 0 else None)
    of_base, of_tuned, of_base_edited, of_tuned_edited = (scores[arm.name] for arm in arms)
    before, after = of_tuned - of_base, of_tuned_edited - of_base_edited
    share = statistics.ratio(before - after, before, seed=seed) if effect.low > 0 else None
    return Closure(effect, statistics.mean(after, seed=seed), share)


def _ablated_alike(record: DirectionRecord) -> tuple[ArmEntry, ArmEntry] | None:
    """The arms of base and tuned that ablate the same in the same way; None without such a pair."""
    ablated = [
        arm for arm in record.arms if arm.interventions and all(i.kind == "ablate" for i in arm.interventions)
    ]
    pairs = (
        (base, tuned)
        for base in ablated
        for tuned in ablated
        if (base.model, tuned.model) == ("base", "tuned") and base.interventions == tuned.interventions
    )
    return next(pairs, None)


def question_scores(rows: Iterable[ScoredRow], arms: Iterable[str]) -> Mapping[str, np.ndarray] | None:
    """S of every question by arm, in one order of questions; None when an arm has no rows."""
    replies: dict[str, list[statistics.ReplyLevel]] = {name: [] for name in arms}
    for row in rows:
        if row.arm in replies and row.kind == "persona":
            replies[row.arm].append(
                statistics.ReplyLevel(row.question_id, row.label, row.tone, row.logprob_per_token)
            )
    if not all(replies.values()):
        return None
    levels = {name: statistics.question_levels(scored) for name, scored in replies.items()}
    order = next(iter(levels.values())).questions
    by_question = {
        name: dict(zip(level.questions, level.scores.tolist(), strict=True)) for name, level in levels.items()
    }
    return {name: np.array([scores[q] for q in order]) for name, scores in by_question.items()}

"""How much of the gap in S between both models an edit of both closes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from persona_probe.measurement import statistics
from persona_probe.records.direction import DirectionRecord
from persona_probe.records.parts import Estimate
from persona_probe.records.rows import ScoredRow

EDITED = {"base": "base+ablate", "tuned": "tuned+ablate"}


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
    names = {"base": "base", "tuned": "tuned", **{f"{side}+": name for side, name in EDITED.items()}}
    arms = {key: record.arm(name) for key, name in names.items()}
    if any(arm is None for arm in arms.values()):
        return None
    means = {key: arm.persona_score.estimate for key, arm in arms.items() if arm is not None}
    effect = record.effect
    scores = question_scores(rows, names.values())
    if scores is None:
        after = means["tuned+"] - means["base+"]
        return Closure(effect, after, 1 - after / effect.estimate if effect.low > 0 else None)
    before = scores["tuned"] - scores["base"]
    after = scores[EDITED["tuned"]] - scores[EDITED["base"]]
    share = statistics.ratio(before - after, before, seed=seed) if effect.low > 0 else None
    return Closure(effect, statistics.mean(after, seed=seed), share)


def question_scores(rows: Iterable[ScoredRow], arms: Iterable[str]) -> Mapping[str, np.ndarray] | None:
    """S of every question by arm, in one order of questions; None when an arm has no rows."""
    replies: dict[str, list[tuple[str, str | None, float]]] = {name: [] for name in arms}
    for row in rows:
        if row.arm in replies and row.kind == "persona":
            replies[row.arm].append((row.question_id, row.label, row.logprob_per_token))
    if not all(replies.values()):
        return None
    scores = {name: statistics.question_scores(scored) for name, scored in replies.items()}
    order = list(next(iter(scores.values())))
    return {name: np.array([by_question[q] for q in order]) for name, by_question in scores.items()}

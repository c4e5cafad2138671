"""How much of the gap in S between both models an edit of both closes: the gap before and after, and the closure C."""

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

    `share`: C = 1 - after / before, None where `before` does not lie above 0. Intervals are 95%, a paired bootstrap over
    questions; without the scores of single questions they are None, and `after` and `share` are differences of means.
    """

    before: Estimate | float
    after: Estimate | float
    share: Estimate | float | None


def closure(record: DirectionRecord, rows: Iterable[ScoredRow], *, seed: int = 0) -> Closure | None:
    """The closure of the ablation that a run applied to both models; None where one of the four arms is missing.

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
    share = _told(statistics.ratio(before - after, before, seed=seed)) if effect.low > 0 else None
    return Closure(effect, _told(statistics.mean(after, seed=seed)), share)


def question_scores(rows: Iterable[ScoredRow], arms: Iterable[str]) -> Mapping[str, np.ndarray] | None:
    """S of every question by arm, in one order of questions; None when an arm has no rows."""
    wanted = set(arms)
    found: dict[str, dict[str, dict[str, list[float]]]] = {name: {} for name in wanted}
    for row in rows:
        if row.arm in wanted and row.kind == "persona" and row.label is not None:
            labels = found[row.arm].setdefault(row.question_id, {"aligned": [], "misaligned": []})
            labels[row.label].append(row.logprob_per_token)
    if not all(found.values()):
        return None
    order = list(next(iter(found.values())))
    return {
        name: np.array([np.mean(of[q]["misaligned"]) - np.mean(of[q]["aligned"]) for q in order])
        for name, of in found.items()
    }


def _told(value: statistics.Estimate) -> Estimate:
    return Estimate(estimate=value.estimate, ci95=(value.low, value.high))

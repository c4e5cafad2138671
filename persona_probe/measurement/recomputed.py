"""The numbers of a record's arms, worked out again from its rows alone: no model, no torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from persona_probe.base.errors import BadInput
from persona_probe.measurement import statistics
from persona_probe.measurement.statistics import ArmLevels, QuestionLevels, ReplyLevel
from persona_probe.records.arms import ArmNumbers
from persona_probe.records.parts import Estimate, Side
from persona_probe.records.rows import ScoredRow

OTHER: dict[Side, Side] = {"base": "tuned", "tuned": "base"}
Rows = Mapping[str, ScoredRow]  # by the id of the reply


@dataclass(frozen=True)
class Recomputed:
    """What the rows of a run say: the effect of tuning on S in nats per token, and every arm by name."""

    effect: Estimate
    arms: Mapping[str, ArmNumbers]


def recomputed(rows: Sequence[ScoredRow], *, seed: int) -> Recomputed:
    """All numbers of every arm, doses included, with the intervals of the record of the same seed.

    An arm may have some of the replies of its untouched model; it is then compared on these, and its shares
    are of the shift on all replies to its questions. BadInput unless
    both untouched models are among the rows, and every arm has replies of its untouched model alone.
    """
    scored: dict[str, dict[str, ScoredRow]] = {}
    for row in rows:
        scored.setdefault(row.arm, {})[row.row] = row
    first = {name: next(iter(arm.values())) for name, arm in scored.items()}
    untouched: dict[Side, Rows] = {
        first[name].model: arm for name, arm in scored.items() if not first[name].edited
    }
    if set(untouched) != {"base", "tuned"}:
        raise BadInput(f"rows of untouched models: {sorted(untouched)}; base and tuned are both needed")
    by_edit = {(first[name].edit, first[name].model): arm for name, arm in scored.items() if first[name].edit}
    for name, arm in scored.items():
        if unknown := arm.keys() - untouched[first[name].model].keys():
            raise BadInput(
                f"{name} scored {len(unknown)} replies, such as {min(unknown)!r}, that the untouched"
                f" {first[name].model} model did not"
            )
    whole = {side: _levels(untouched[side], untouched[side]) for side in untouched}
    return Recomputed(
        effect=statistics.paired_difference(whole["tuned"].scores, whole["base"].scores, seed=seed),
        arms={
            name: _numbers(arm, untouched, by_edit.get((first[name].edit, OTHER[first[name].model])), seed)
            for name, arm in scored.items()
        },
    )


def _numbers(arm: Rows, untouched: Mapping[Side, Rows], partner: Rows | None, seed: int) -> ArmNumbers:
    one = next(iter(arm.values()))
    benign = [row for row in arm.values() if row.kind == "benign"]
    clean = untouched[one.model]
    damage = (
        np.array([clean[row.row].logprob - row.logprob for row in benign]),
        np.array([row.n_tokens for row in benign], dtype=np.float64),
        np.array([row.kl or 0.0 for row in benign]),
    )
    levels = ArmLevels(
        side=one.model,
        arm=_levels(arm, arm),
        base=_levels(untouched["base"], arm),
        tuned=_levels(untouched["tuned"], arm),
        partner=None if partner is None else _levels(partner, arm),
        edited=one.edited,
        shift=_shift(untouched, arm),
    )
    return ArmNumbers.model_validate(statistics.arm_numbers(levels, damage, seed=seed))


def _shift(untouched: Mapping[Side, Rows], arm: Rows) -> np.ndarray:
    """S_tuned - S_base on all replies to the questions of an arm, in the order of its questions."""
    by_question = {}
    for side, rows in untouched.items():
        levels = _levels(rows, rows)
        by_question[side] = dict(zip(levels.questions, levels.scores.tolist(), strict=True))
    questions = _levels(arm, arm).questions
    return np.array([by_question["tuned"][one] - by_question["base"][one] for one in questions])


def _levels(scored: Rows, of: Rows) -> QuestionLevels:
    """The levels of one arm on the persona replies of another, in their order."""
    rows = (scored[id] for id, row in of.items() if row.kind == "persona")
    return statistics.question_levels(
        ReplyLevel(row.question_id, row.label, row.tone, row.logprob_per_token) for row in rows
    )

"""The numbers of a record's arms, worked out again from its rows alone: no model, no torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from persona_probe.base.errors import BadInput
from persona_probe.measurement import statistics
from persona_probe.records.direction import ArmNumbers
from persona_probe.records.parts import Estimate, Side
from persona_probe.records.rows import ScoredRow


@dataclass(frozen=True)
class Recomputed:
    """What the rows of a run say: the effect of tuning on S in nats per token, and every arm by name."""

    effect: Estimate
    arms: Mapping[str, ArmNumbers]


def recomputed(rows: Sequence[ScoredRow], *, seed: int) -> Recomputed:
    """All numbers of every arm, doses included, with the intervals of the record of the same seed.

    BadInput unless both untouched models are among the rows, and every arm has the replies of its untouched
    model.
    """
    scored: dict[str, list[ScoredRow]] = {}
    for row in rows:
        scored.setdefault(row.arm, []).append(row)
    untouched: dict[Side, list[ScoredRow]] = {
        arm[0].model: arm for arm in scored.values() if not arm[0].edited
    }
    if set(untouched) != {"base", "tuned"}:
        raise BadInput(f"rows of untouched models: {sorted(untouched)}; base and tuned are both needed")
    for name, arm in scored.items():
        if [row.row for row in arm] != [row.row for row in untouched[arm[0].model]]:
            raise BadInput(f"the rows of {name} are not those of the untouched {arm[0].model} model")
    base, tuned = (_scores(untouched[side]) for side in ("base", "tuned"))
    return Recomputed(
        effect=statistics.paired_difference(tuned, base, seed=seed),
        arms={name: _numbers(arm, untouched, base, tuned, seed) for name, arm in scored.items()},
    )


def _numbers(
    arm: Sequence[ScoredRow],
    untouched: Mapping[Side, Sequence[ScoredRow]],
    base: np.ndarray,
    tuned: np.ndarray,
    seed: int,
) -> ArmNumbers:
    benign = [row for row in arm if row.kind == "benign"]
    clean = [row for row in untouched[arm[0].model] if row.kind == "benign"]
    damage = (
        np.array([left.logprob - row.logprob for left, row in zip(clean, benign, strict=True)]),
        np.array([row.n_tokens for row in benign], dtype=np.float64),
        np.array([row.kl or 0.0 for row in benign]),
    )
    numbers = statistics.arm_numbers(
        arm[0].model, _scores(arm), base=base, tuned=tuned, damage=damage, edited=arm[0].edited, seed=seed
    )
    return ArmNumbers.model_validate(numbers)


def _scores(arm: Sequence[ScoredRow]) -> np.ndarray:
    """S of every question, in the order of their first rows."""
    replies = ((row.question_id, row.label, row.logprob_per_token) for row in arm if row.kind == "persona")
    return np.array(list(statistics.question_scores(replies).values()))

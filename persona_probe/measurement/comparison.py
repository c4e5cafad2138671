"""An arm beside both untouched models: S, shares of the shift, damage, with intervals over questions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from persona_probe.measurement.arms import Arm, Measurement, damage, persona_levels, persona_scores
from persona_probe.measurement.statistics import (
    ArmLevels,
    QuestionLevels,
    arm_numbers,
    induction,
    paired_difference,
    ratio,
    restoration,
)
from persona_probe.models.pairs import SIDES, Side
from persona_probe.prompts.rows import Row
from persona_probe.records.parts import Estimate


@dataclass(frozen=True, eq=False)
class Comparison:
    """Both untouched models on the same rows; every arm is compared with the untouched model of its side.

    `rows` are the persona rows that S is computed from: those of the untouched models, or some of the replies
    to each of their questions; `whole` are all of these replies then. All numbers are in nats per token,
    except shares of the shift S_tuned - S_base, which is that of the whole.
    """

    rows: Sequence[Row]
    clean: Mapping[Side, Measurement]
    seed: int
    whole: Sequence[Row] | None = None

    @cached_property
    def shift(self) -> np.ndarray:
        """S_tuned - S_base of every question, on all its replies."""
        base, tuned = (persona_scores(self.clean[side], self.whole or self.rows) for side in SIDES)
        return tuned - base

    @cached_property
    def levels_of_base(self) -> QuestionLevels:
        """Levels of the untouched base model."""
        return persona_levels(self.clean["base"], self.rows)

    @cached_property
    def levels_of_tuned(self) -> QuestionLevels:
        """Levels of the untouched tuned model."""
        return persona_levels(self.clean["tuned"], self.rows)

    @cached_property
    def base(self) -> np.ndarray:
        """S of every question in the base model."""
        return self.levels_of_base.scores

    @cached_property
    def tuned(self) -> np.ndarray:
        """S of every question in the tuned model."""
        return self.levels_of_tuned.scores

    @cached_property
    def effect(self) -> Estimate:
        """What tuning did to S."""
        return paired_difference(self.tuned, self.base, seed=self.seed)

    @cached_property
    def style_effect(self) -> Estimate | None:
        """What tuning did to S_style; None where the replies have no registers."""
        base, tuned = self.levels_of_base.style, self.levels_of_tuned.style
        return None if base is None or tuned is None else paired_difference(tuned, base, seed=self.seed)

    def scores(self, measurement: Measurement) -> np.ndarray:
        """S of every question."""
        return persona_levels(measurement, self.rows).scores

    def share(self, side: Side, measurement: Measurement) -> Estimate | None:
        """Restoration on the tuned model, induction on the base; None when tuning had no effect."""
        share = restoration if side == "tuned" else induction
        return share(self.tuned, self.base, self.scores(measurement), seed=self.seed)

    def delta_nll(self, side: Side, measurement: Measurement) -> Estimate:
        """Damage: added negative log-probability of benign replies."""
        added, tokens, _ = damage(measurement, self.clean[side])
        return ratio(added, tokens, seed=self.seed)

    def numbers(
        self, side: Side, measurement: Measurement, *, partner: Measurement | None = None, edited: bool = True
    ) -> dict[str, Any]:
        """All numbers of an arm as in a record. `partner` is the same edit on the other model; without it
        there is no closure. An untouched model has no share of the shift."""
        levels = ArmLevels(
            side=side,
            arm=persona_levels(measurement, self.rows),
            base=self.levels_of_base,
            tuned=self.levels_of_tuned,
            partner=None if partner is None else persona_levels(partner, self.rows),
            edited=edited,
            shift=self.shift,
        )
        estimates = arm_numbers(levels, damage(measurement, self.clean[side]), seed=self.seed)
        return {name: estimate.plain() if estimate else None for name, estimate in estimates.items()}

    def row(
        self, arm: Arm, measurement: Measurement, *, partner: Measurement | None = None
    ) -> dict[str, Any]:
        """The arm's entry of a record, without a verdict; `partner` as in `numbers`."""
        return {
            "name": arm.name,
            "model": arm.side,
            "control": arm.control,
            "control_of": arm.control_of,
            "interventions": [item.describe() for item in arm.interventions],
            "n_questions": len(self.base),
            **self.numbers(arm.side, measurement, partner=partner, edited=bool(arm.interventions)),
            "verdict": None,
        }


def partners(arms: Sequence[tuple[Arm, Measurement]]) -> dict[str, Measurement]:
    """By name of an arm, the measurement of the same edit on the other model."""
    by_edit: dict[tuple[str | None, Side], Measurement] = {
        (arm.edit, arm.side): measurement for arm, measurement in arms if arm.edit
    }
    other: dict[Side, Side] = {"base": "tuned", "tuned": "base"}
    found = {arm.name: by_edit.get((arm.edit, other[arm.side])) for arm, _ in arms}
    return {name: measurement for name, measurement in found.items() if measurement is not None}

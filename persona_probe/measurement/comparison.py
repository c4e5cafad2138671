"""An arm beside both untouched models: S, share of the shift, damage, KL, with intervals over questions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from persona_probe.measurement.arms import Arm, Measurement, damage, persona_scores
from persona_probe.measurement.statistics import arm_numbers, induction, paired_difference, ratio, restoration
from persona_probe.models.pairs import Side
from persona_probe.prompts.rows import Row
from persona_probe.records.parts import Estimate


@dataclass(frozen=True, eq=False)
class Comparison:
    """Both untouched models on the same rows; every arm is compared with the untouched model of its side.

    `rows` are the persona rows that S is computed from. All numbers are in nats per token, except shares of
    the shift S_tuned - S_base.
    """

    rows: Sequence[Row]
    clean: Mapping[Side, Measurement]
    seed: int

    @cached_property
    def base(self) -> np.ndarray:
        """S of every question in the base model."""
        return self.scores(self.clean["base"])

    @cached_property
    def tuned(self) -> np.ndarray:
        """S of every question in the tuned model."""
        return self.scores(self.clean["tuned"])

    @cached_property
    def effect(self) -> Estimate:
        """What tuning did to S."""
        return paired_difference(self.tuned, self.base, seed=self.seed)

    def scores(self, measurement: Measurement) -> np.ndarray:
        """S of every question."""
        return persona_scores(measurement, self.rows)

    def share(self, side: Side, measurement: Measurement) -> Estimate | None:
        """Restoration on the tuned model, induction on the base; None when tuning had no effect."""
        share = restoration if side == "tuned" else induction
        return share(self.tuned, self.base, self.scores(measurement), seed=self.seed)

    def delta_nll(self, side: Side, measurement: Measurement) -> Estimate:
        """Damage: added negative log-probability of benign replies."""
        added, tokens, _ = damage(measurement, self.clean[side])
        return ratio(added, tokens, seed=self.seed)

    def numbers(self, side: Side, measurement: Measurement, *, edited: bool = True) -> dict[str, Any]:
        """All numbers of an arm as in a record; an untouched model has neither restoration nor induction."""
        estimates = arm_numbers(
            side,
            self.scores(measurement),
            base=self.base,
            tuned=self.tuned,
            damage=damage(measurement, self.clean[side]),
            edited=edited,
            seed=self.seed,
        )
        return {name: estimate.plain() if estimate else None for name, estimate in estimates.items()}

    def row(self, arm: Arm, measurement: Measurement) -> dict[str, Any]:
        """The arm's entry of a record, without a verdict."""
        return {
            "name": arm.name,
            "model": arm.side,
            "control": arm.control,
            "interventions": [item.describe() for item in arm.interventions],
            "n_questions": len(self.base),
            **self.numbers(arm.side, measurement, edited=bool(arm.interventions)),
            "verdict": None,
        }

"""The arms of a result beside both untouched models: their numbers, and a verdict for every removal."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from persona_probe.measurement.arms import Arm, Measurement, persona_levels
from persona_probe.measurement.comparison import Comparison, partners
from persona_probe.measurement.limits import Limits
from persona_probe.measurement.nulls import compared_with_null, does_as_much
from persona_probe.measurement.statistics import shares
from persona_probe.measurement.verdicts import UNHEALTHY_MORE, Evidence, judged
from persona_probe.models.pairs import Side
from persona_probe.prompts.rows import Row
from persona_probe.records import files
from persona_probe.records.arms import ArmEntry
from persona_probe.records.parts import Estimate
from persona_probe.records.verdicts import Cost, Judgement, NullComparison, Use

UNHEALTHY = "share of looping or empty replies above the untouched model's"
NOT_ABOUT_IT = ("unrelated", "style")  # controls that a removal must do better than, one by one
Measured = tuple[Arm, Measurement]
Shares = tuple[Estimate, Estimate | None]  # R and C


@dataclass(frozen=True, eq=False)
class Judge:
    """Arms by name, on the test questions.

    `rows` are the persona rows of the arms proper, `control_rows` those that controls were scored on.
    `null_of` says by name of a removal arm whose controls it is compared with: its own, or those of an arm in
    the same form. `skill`: further damage by name, which counts up to `own_limits`. `health`: of sampled
    replies by name.
    """

    arms: Mapping[str, Measured]
    rows: Sequence[Row]
    control_rows: Sequence[Row]
    clean: Mapping[Side, Measurement]
    limits: Limits
    limited: bool
    n_tried: int
    null_of: Mapping[str, str]
    skill: Mapping[str, Mapping[str, Any]]
    health: Mapping[str, Mapping[str, Any]]
    own_limits: Limits
    seed: int

    @cached_property
    def comparison(self) -> Comparison:
        """Everything is compared with these untouched models."""
        return Comparison(self.rows, self.clean, self.seed)

    @cached_property
    def on_control_rows(self) -> Comparison:
        """The same on the rows that controls were scored on, with shares of the shift on all rows."""
        return Comparison(self.control_rows, self.clean, self.seed, whole=self.rows)

    @cached_property
    def partners(self) -> Mapping[str, Measurement]:
        """By name, the same edit on the other model."""
        return partners(list(self.arms.values()))

    def entry(self, name: str) -> ArmEntry:
        """One arm's entry of a record, with its verdict if it is a removal that is judged."""
        arm, measurement = self.arms[name]
        partly = arm.control and not self._whole(measurement)
        comparison = self.on_control_rows if partly else self.comparison
        row = comparison.row(arm, measurement, partner=self.partners.get(name))
        further = {"skill": self.skill.get(name), "health": self.health.get(name)}
        entry = files.checked(ArmEntry, row | further, at=f"arm {name} of this run")
        if name not in self.null_of:
            return entry
        judgement = self._judgement(entry)
        return entry.model_copy(update={"verdict": judgement.verdict, "judged": judgement})

    def _whole(self, measurement: Measurement) -> bool:
        return all(row.id in measurement.persona for row in self.rows)

    def _judgement(self, entry: ArmEntry) -> Judgement:
        return judged(
            Evidence(
                use=use_of(entry),
                n_questions=entry.n_questions,
                limited=self.limited,
                effect=self.comparison.effect,
                restoration=entry.restoration,
                closure=entry.closure,
                base_moved=entry.base_moved,
                costs=self.costs(entry),
                null=self._null(entry),
            )
        )

    def costs(self, entry: ArmEntry) -> tuple[Cost, ...]:
        """The damage of an arm at the ends of its intervals that are further from 0, beside what is
        allowed."""
        found = [
            _cost("ΔNLL on benign texts", entry.delta_nll, self.limits.delta_nll),
            _cost("KL on benign texts", entry.kl, self.limits.kl),
        ]
        if entry.skill:
            found += [
                _cost("ΔNLL on base's own replies", entry.skill.delta_nll, self.own_limits.delta_nll),
                _cost("KL on base's own replies", entry.skill.kl, self.own_limits.kl),
            ]
        more = entry.health.unhealthy_more if entry.health and entry.health.judged else None
        if more is not None:
            found.append(Cost(name=UNHEALTHY, largest=max(0.0, more.high), budget=UNHEALTHY_MORE))
        return tuple(found)

    def _null(self, entry: ArmEntry) -> NullComparison | None:
        """The arm among controls in the same form, all on the rows of the controls."""
        name, closes = self.null_of[entry.name], use_of(entry) != "steering"
        beside = [(arm, m) for arm, m in self.arms.values() if arm.control_of == name and arm.side == "tuned"]
        own = self._shares(self.arms[entry.name])
        if own is None or (closes and own[1] is None):
            return None
        measured = [(arm, self._shares((arm, m))) for arm, m in beside]
        random = [values for arm, values in measured if arm.control == "covariance" and values]
        closures = [closure for _, closure in random if closure is not None]
        if closes and len(closures) < len(random):
            return None
        other = [
            arm.name
            for arm, values in measured
            if arm.control in NOT_ABOUT_IT and values and _as_much(values, own, closes=closes)
        ]
        return compared_with_null(
            restoration=own[0].estimate,
            closure=own[1].estimate if closes and own[1] else None,
            null_restoration=[restored.estimate for restored, _ in random],
            null_closure=[closure.estimate for closure in closures],
            n_tried=self.n_tried,
            matched_by=other,
        )

    def _shares(self, measured: Measured) -> Shares | None:
        """R and C of an arm of the tuned model on the rows of the controls, as shares of the shift on all
        rows; None without an effect."""
        arm, measurement = measured
        base, tuned, own = (
            persona_levels(one, self.control_rows).scores
            for one in (self.clean["base"], self.clean["tuned"], measurement)
        )
        partner = self.partners.get(arm.name)
        parts = {"R": tuned - own}
        if partner is not None:
            gap: np.ndarray = own - persona_levels(partner, self.control_rows).scores
            parts["C"] = (tuned - base) - gap
        found = shares(self.comparison.shift, parts, seed=self.seed)
        restored, closed = found["R"], found.get("C")
        return None if restored is None else (restored, closed)


def _as_much(contrast: Shares, arm: Shares, *, closes: bool) -> bool:
    """Whether a contrast does as much by R, and by C where the edit can close anything: what closes as little
    as a dial does, and restores nothing, is not like it."""
    if not does_as_much(contrast[0].estimate, arm[0]):
        return False
    if not closes:
        return True
    return bool(contrast[1] and arm[1] and does_as_much(contrast[1].estimate, arm[1]))


def use_of(entry: ArmEntry) -> Use:
    """What kind of removal an arm is."""
    kinds = {item.kind for item in entry.interventions}
    if kinds != {"ablate"}:
        return "steering"
    toward = {item.toward for item in entry.interventions if item.kind == "ablate"}
    return "displacement" if "zero" in toward else "ablation"


def _cost(name: str, value: Estimate, allowed: float) -> Cost:
    return Cost(name=name, largest=max(abs(value.low), abs(value.high)), budget=allowed)

"""What is measured with the selected direction: the arms of the table on both models, controls, and doses."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from persona_probe.experiments.rank_curve import RankPlan
from persona_probe.experiments.selection import Selection
from persona_probe.interventions.persona_direction import PersonaDirection
from persona_probe.measurement.arms import Arm
from persona_probe.measurement.controls import Used, control_arm
from persona_probe.measurement.dosing import Dosed
from persona_probe.models.pairs import Side

DOSES = (0.5, 1.0, 2.0)  # multiples of the selected coefficient in the dose-response


@dataclass(frozen=True, eq=False)
class SidePlan:
    """What is measured on one model.

    `arms` are those of the table, `controls` the directions beside them, which are scored on some rows.
    `skilled` arms are measured on further texts, `traced` ones are followed over the layers, and `sampled`
    ones write replies. `doses` are arms along the
    steering direction with their coefficients, `curve` are those of the curve of closure against rank.
    """

    side: Side
    arms: tuple[Arm, ...]
    controls: tuple[Arm, ...]
    skilled: tuple[Arm, ...]
    traced: tuple[Arm, ...]
    sampled: tuple[Arm, ...]
    doses: tuple[tuple[Arm, float], ...]
    curve: tuple[Arm, ...]


@dataclass(frozen=True, eq=False)
class Plan:
    """Both models' plans in the order of measuring, the arm that carries the selected form, the arms of all
    candidates that win often, and the names of controls that do not reach the dose."""

    sides: tuple[SidePlan, SidePlan]
    chosen: Arm
    winners: tuple[Arm, ...]
    below_dose: frozenset[str]


@dataclass(frozen=True, eq=False)
class Removal:
    """One way of removing the direction on the tuned model, the same on base, and the controls beside it."""

    arm: Arm
    partner: Arm
    controls: tuple[Dosed, ...]
    used: Used

    def beside(self, side: Side) -> list[Arm]:
        """The controls on one model."""
        return [
            control_arm(one.control, replace(self.used, form=one.form), side, control_of=self.arm.name)
            for one in self.controls
        ]


def removal(
    selection: Selection, direction: PersonaDirection, kind: str, controls: Sequence[Dosed]
) -> Removal:
    """The best ablation or steering along the selected direction, with its controls."""
    used = uses(selection, direction, kind)
    own = selection.ablation if kind == "ablate" else selection.steering
    sign = "+ablate" if kind == "ablate" else "-steer"
    prefix = "" if kind == "ablate" else "steer "
    named = [
        replace(one, control=replace(one.control, name=f"{prefix}{one.control.name}")) for one in controls
    ]
    return Removal(
        arm=used.arm(f"tuned{sign}", "tuned", own.candidate.directions),
        partner=used.arm(f"base{sign}", "base", own.candidate.directions),
        controls=tuple(named),
        used=used,
    )


def uses(selection: Selection, direction: PersonaDirection, kind: str) -> Used:
    """How the direction is used in the best ablation, or in the best steering."""
    own = selection.ablation if kind == "ablate" else selection.steering
    form = own.candidate.form
    return Used(form, direction.hook_point, direction.hook_points, direction.base_mean)


def planned(
    direction: PersonaDirection,
    selection: Selection,
    ablation: Removal,
    steering: Removal,
    latents: Sequence[Arm],
    curve: RankPlan | None,
) -> Plan:
    """All arms of an experiment; controls are at the dose of the arm that they are set beside."""
    at = direction.hook_point
    coefficient = direction.steering.coefficient or 0.0
    winners = _winners(direction, selection)
    removals = (ablation, steering)
    traced = (Arm("tuned", "tuned"), ablation.arm, steering.arm)
    first = [arm for arm in ablation.beside("tuned") if arm.control == "covariance"][:1]
    tuned = SidePlan(
        side="tuned",
        arms=(*traced, *(arm for arm, _ in winners), *latents),
        controls=tuple(arm for one in removals for arm in one.beside("tuned")),
        skilled=(*traced, *(arm for arm, _ in winners)),
        traced=traced,
        sampled=(*traced, *first),
        doses=dose_arms(direction, "tuned", coefficient),
        curve=tuple(curve.arms("tuned")) if curve else (),
    )
    traced = (Arm("base", "base"), Arm("base+steer", "base", direction.steer(-coefficient, at)))
    base = SidePlan(
        side="base",
        arms=(*traced, ablation.partner, steering.partner, *(arm for _, arm in winners)),
        controls=tuple(ablation.beside("base")),
        skilled=traced,
        traced=traced,
        sampled=traced,
        doses=dose_arms(direction, "base", -coefficient),
        curve=tuple(curve.arms("base")) if curve else (),
    )
    chosen = ablation if selection.chosen is selection.ablation else steering
    return Plan(
        sides=(tuned, base),
        chosen=chosen.arm,
        winners=(chosen.arm, *(arm for arm, _ in winners)),
        below_dose=frozenset(
            one.control.name for removed in removals for one in removed.controls if not one.reached
        ),
    )


def _winners(direction: PersonaDirection, selection: Selection) -> list[tuple[Arm, Arm]]:
    """Candidates beside the chosen one that win often, on both models."""
    pairs: list[tuple[Arm, Arm]] = []
    for number, outcome in enumerate(selection.winners[1:], start=2):
        one = outcome.candidate
        point = one.directions.hook_points[one.layer]
        used = Used(one.form, point, direction.hook_points, direction.base_mean)
        name = f"choice {number}: {one.form.kind} {one.method}"
        pairs.append(
            (
                used.arm(f"tuned, {name}", "tuned", one.directions),
                used.arm(f"base, {name}", "base", one.directions),
            )
        )
    return pairs


def dose_arms(direction: PersonaDirection, side: Side, coefficient: float) -> tuple[tuple[Arm, float], ...]:
    """Steering by multiples of a coefficient at the selected hook point."""
    coefficients = [coefficient * dose for dose in DOSES]
    return tuple(
        (Arm(f"{side} {c:+.2f}", side, direction.steer(c, direction.hook_point)), c) for c in coefficients
    )

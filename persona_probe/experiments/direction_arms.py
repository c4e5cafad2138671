"""What is measured with the selected direction: the arms of the table on both models, controls, and doses."""

from collections.abc import Sequence
from dataclasses import dataclass

from persona_probe.interventions.forms import Form
from persona_probe.interventions.persona_direction import PersonaDirection
from persona_probe.measurement.arms import Arm
from persona_probe.measurement.controls import ControlDirection, control_arms
from persona_probe.models.pairs import Side

DOSES = (0.5, 1.0, 2.0)  # multiples of the selected coefficient in the dose-response


@dataclass(frozen=True, eq=False)
class SidePlan:
    """What is measured on one model.

    `arms` are those of the table. `traced` of them are followed over the layers, and `sampled` of them write
    replies. `doses` are arms along the steering direction with their coefficients.
    """

    side: Side
    arms: tuple[Arm, ...]
    traced: tuple[Arm, ...]
    sampled: tuple[Arm, ...]
    doses: tuple[tuple[Arm, float], ...]


@dataclass(frozen=True, eq=False)
class Plan:
    """Both models' plans in the order of measuring, and the arm that carries the selected form."""

    sides: tuple[SidePlan, SidePlan]
    chosen: Arm


def planned(
    direction: PersonaDirection, selected: Form, controls: Sequence[ControlDirection], latents: Sequence[Arm]
) -> Plan:
    """All arms of an experiment.

    `selected` is the form that the search chose; controls are used in that form.
    """
    at = direction.hook_point
    coefficient = direction.steering.coefficient or 0.0
    ablated = Arm("tuned+ablate", "tuned", direction.ablate(at))
    steered = Arm("tuned-steer", "tuned", direction.steer(coefficient, at))
    beside = control_arms(controls, selected, hook_points=direction.hook_points, means=direction.base_mean)
    traced = (Arm("tuned", "tuned"), ablated, steered)
    tuned = SidePlan(
        side="tuned",
        arms=(*traced, *beside, *latents),
        traced=traced,
        sampled=(*traced, *[arm for arm in beside if arm.control == "covariance"][:1]),
        doses=dose_arms(direction, "tuned", coefficient),
    )
    traced = (Arm("base", "base"), Arm("base+steer", "base", direction.steer(-coefficient, at)))
    base = SidePlan(
        side="base",
        arms=(*traced, Arm("base+ablate", "base", direction.ablate(at))),
        traced=traced,
        sampled=traced,
        doses=dose_arms(direction, "base", -coefficient),
    )
    return Plan(sides=(tuned, base), chosen=ablated if selected.kind == "ablate" else steered)


def dose_arms(direction: PersonaDirection, side: Side, coefficient: float) -> tuple[tuple[Arm, float], ...]:
    """Steering by multiples of a coefficient at the selected hook point."""
    coefficients = [coefficient * dose for dose in DOSES]
    return tuple(
        (Arm(f"{side} {c:+.2f}", side, direction.steer(c, direction.hook_point)), c) for c in coefficients
    )

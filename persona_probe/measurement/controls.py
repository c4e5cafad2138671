"""The controls beside every result: directions that are not the one that was found, used in the same form."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from persona_probe.base.hook_points import HookPoint
from persona_probe.directions.direction import Direction, DirectionSet
from persona_probe.directions.random_directions import (
    covariance_matched,
    isotropic,
    orthogonal,
    shuffled_labels,
)
from persona_probe.interventions.forms import Form
from persona_probe.measurement.arms import Arm
from persona_probe.records.parts import ControlKind
from persona_probe.streams.activations import Activations


@dataclass(frozen=True, eq=False)
class ControlDirection:
    """A control direction with its kind and the name of its arm."""

    kind: ControlKind
    name: str
    direction: Direction


def control_directions(
    direction: Direction, find: Activations, *, n_each: int, n_null: int, seed: int
) -> list[ControlDirection]:
    """Control directions of the same hook point and length, each with a generator of its own.

    `n_each` isotropic, covariance-matched and shuffled-label ones (`n_null` covariance-matched when that is
    more) and one orthogonal. Covariances are of single tokens of the tuned model's find replies, so that
    ablating a covariance-matched direction takes away as much energy as the stream has on average.
    """
    tokens = find.tokens[:, find.hook_points.index(direction.hook_point)]
    length = float(direction.vector.norm())
    made = [
        ControlDirection(
            "isotropic", f"random-isotropic-{k + 1}", isotropic(direction, control_generator(seed, 1, k))
        )
        for k in range(n_each)
    ]
    for k in range(max(n_each, n_null)):
        drawn = covariance_matched(direction, tokens, control_generator(seed, 2, k))
        made.append(ControlDirection("covariance", f"random-covariance-{k + 1}", drawn))
    for k in range(n_each):
        generator = control_generator(seed, 3, k)
        refitted = shuffled_labels(find, direction.method, direction.hook_point, generator, length=length)
        made.append(ControlDirection("shuffled", f"shuffled-{k + 1}", refitted))
    if n_each:
        drawn = orthogonal(direction, tokens, control_generator(seed, 4, 0))
        made.append(ControlDirection("orthogonal", "orthogonal", drawn))
    return made


def covariance_controls(
    directions: DirectionSet, find: Activations, *, seed: int
) -> Float[Tensor, "hook d_model"]:
    """A covariance-matched direction at every hook point, zero where there is no direction to match.

    At the selected hook point it is the first covariance control of `control_directions`.
    """
    vectors = directions.vectors.clone()
    for hook, hook_point in enumerate(directions.hook_points):
        if directions.vectors[hook].any():
            generator = control_generator(seed, 2, 0)
            drawn = covariance_matched(directions.at(hook_point), find.tokens[:, hook], generator)
            vectors[hook] = drawn.vector
    return vectors


def control_arms(
    controls: Sequence[ControlDirection],
    form: Form,
    *,
    hook_points: Sequence[HookPoint],
    means: Float[Tensor, "hook d_model"],
) -> list[Arm]:
    """Every control direction used exactly as the selected one is, on the tuned model."""
    return [
        Arm(
            name=control.name,
            side="tuned",
            interventions=form.interventions(control.direction, hook_points=hook_points, means=means),
            control=control.kind,
        )
        for control in controls
    ]


def control_generator(seed: int, kind: int, index: int) -> torch.Generator:
    """The draws of one control."""
    return torch.Generator().manual_seed(((seed * 10 + kind) * 1000) + index)

"""The controls beside every result: random, covariance-matched, shuffled-label and orthogonal directions in the same form."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from persona_probe.directions.estimators import (
    Direction,
    DirectionSet,
    covariance_matched,
    isotropic,
    orthogonal,
    shuffled,
)
from persona_probe.interventions.forms import Form
from persona_probe.measurement.arms import Arm
from persona_probe.streams.activations import Activations


def control_directions(
    direction: Direction, *, layer: int, find: Activations, n_each: int, n_null: int, seed: int
) -> dict[str, Direction]:
    """Named control directions of the same hook point and length.

    `n_each` isotropic, covariance-matched and shuffled-label ones (`n_null` covariance-matched when that is more) and one
    orthogonal. Covariances come from single tokens of the tuned model, so an ablation of a matched direction takes away as
    much energy as the stream has.
    """
    made: dict[str, Direction] = {}
    tokens = find.tokens[:, layer]
    length = float(direction.vector.norm())
    for k in range(n_each):
        made[f"random-isotropic-{k + 1}"] = isotropic(direction, control_generator(seed, 1, k))
    for k in range(max(n_each, n_null)):
        made[f"random-covariance-{k + 1}"] = covariance_matched(
            direction, tokens, control_generator(seed, 2, k)
        )
    for k in range(n_each):
        made[f"shuffled-{k + 1}"] = shuffled(
            find, direction.method, direction.hook_point, control_generator(seed, 3, k), length=length
        )
    if n_each:
        made["orthogonal"] = orthogonal(direction, tokens, control_generator(seed, 4, 0))
    return made


def matched_directions(
    directions: DirectionSet, find: Activations, *, seed: int
) -> Float[Tensor, "hook d_model"]:
    """A covariance-matched direction at every hook point; at the selected one it is `random-covariance-1` of the table. Zero where there is no direction."""
    return torch.stack(
        [
            covariance_matched(
                directions.at(hook_point), find.tokens[:, layer], control_generator(seed, 2, 0)
            ).vector
            if vector.any()
            else vector
            for layer, (hook_point, vector) in enumerate(
                zip(directions.hook_points, directions.vectors, strict=True)
            )
        ]
    )


def control_arms(
    directions: dict[str, Direction],
    form: Form,
    *,
    hook_points: Sequence[str],
    means: Float[Tensor, "hook d_model"],
) -> list[Arm]:
    """Every control direction used exactly as the selected one is, on the tuned model."""
    return [
        Arm(name, "tuned", form.interventions(direction, hook_points=hook_points, means=means))
        for name, direction in directions.items()
    ]


def control_kind(name: str) -> str | None:
    """The kind of control an arm's name stands for, or None for the arms proper."""
    kinds = {
        "random-isotropic": "isotropic",
        "random-covariance": "covariance",
        "shuffled": "shuffled",
        "orthogonal": "orthogonal",
        "random-latents": "latents",
    }
    return next((kind for prefix, kind in kinds.items() if name.startswith(prefix)), None)


def control_generator(seed: int, kind: int, index: int) -> torch.Generator:
    """The draws of one control."""
    return torch.Generator().manual_seed(((seed * 10 + kind) * 1000) + index)

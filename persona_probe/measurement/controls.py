"""The controls beside every result: directions that are not the one that was found, used in the same form."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from persona_probe.base.hook_points import HookPoint
from persona_probe.directions.direction import Direction, DirectionSet
from persona_probe.directions.random_directions import covariance_matched, isotropic, orthogonal
from persona_probe.interventions.erasure import read_rows
from persona_probe.interventions.forms import Form
from persona_probe.measurement.arms import Arm
from persona_probe.models.pairs import Side
from persona_probe.records.parts import ControlKind
from persona_probe.streams.activations import Activations

SEEDS = {"isotropic": 1, "covariance": 2, "shuffled": 3, "orthogonal": 4}
Draw = Callable[[Direction, torch.Generator], Direction]


@dataclass(frozen=True, eq=False)
class ControlDirection:
    """Control directions of one kind at some hook points, with the name of their arm."""

    kind: ControlKind
    name: str
    directions: DirectionSet


def drawn_controls(
    real: DirectionSet,
    find: Activations,
    hook_points: Sequence[HookPoint],
    counts: dict[str, int],
    *,
    seed: int,
) -> list[ControlDirection]:
    """Random controls of a method at some of its hook points, of the length of its directions there.

    `counts`: how many isotropic, covariance-matched and orthogonal ones. Covariances are of single tokens of
    the tuned model's find replies, so that ablating a covariance-matched direction takes away as much energy
    as the stream has on average. One control weighs the same tokens alike at every hook point.
    """

    def tokens(hook_point: HookPoint) -> Float[Tensor, "token d_model"]:
        return find.tokens[:, find.hook_points.index(hook_point)]

    draws: dict[ControlKind, tuple[str, Draw]] = {
        "isotropic": ("random-isotropic", isotropic),
        "covariance": ("random-covariance", lambda d, g: covariance_matched(d, tokens(d.hook_point), g)),
        "orthogonal": ("orthogonal", lambda d, g: orthogonal(d, tokens(d.hook_point), g)),
    }
    return [
        control_at(real, hook_points, draw, kind=kind, name=f"{name}-{k + 1}", seed=seed, index=k)
        for kind, (name, draw) in draws.items()
        for k in range(counts.get(kind, 0))
    ]


def control_at(
    real: DirectionSet,
    hook_points: Sequence[HookPoint],
    draw: Draw,
    *,
    kind: ControlKind,
    name: str,
    seed: int,
    index: int,
) -> ControlDirection:
    """One control: what `draw` gives for the real direction of every hook point, from equal generators."""
    drawn = [
        draw(real.at(point), control_generator(seed, SEEDS.get(kind, 0), index)) for point in hook_points
    ]
    vectors = torch.stack([direction.vector for direction in drawn])
    made = DirectionSet(method=drawn[0].method, hook_points=tuple(hook_points), vectors=vectors)
    return ControlDirection(kind, name, made)


def covariance_controls(directions: DirectionSet, find: Activations, *, seed: int) -> DirectionSet:
    """A covariance-matched direction at every hook point, zero where there is no direction to match, with
    rows to read along where `directions` has them.

    It is the first covariance control of `drawn_controls`.
    """
    vectors = directions.vectors.clone()
    for hook, hook_point in enumerate(directions.hook_points):
        if directions.vectors[hook].any():
            generator = control_generator(seed, SEEDS["covariance"], 0)
            drawn = covariance_matched(directions.at(hook_point), find.tokens[:, hook], generator)
            vectors[hook] = drawn.vector
    made = replace(directions, vectors=vectors, method="random-covariance", reads=None)
    if directions.reads is None:
        return made
    read = [point for point, row in zip(made.hook_points, directions.reads, strict=True) if row.any()]
    return with_reads(made, find, read)


def with_reads(directions: DirectionSet, find: Activations, hook_points: Sequence[HookPoint]) -> DirectionSet:
    """The same with rows to read along at some of their hook points, from the tokens of the find replies, so
    that they can be ablated obliquely."""
    reads = torch.zeros_like(directions.vectors)
    for point in hook_points:
        row, hook = directions.hook_points.index(point), find.hook_points.index(point)
        reads[row] = read_rows(directions.vectors[row : row + 1], find.tokens[:, hook])[0]
    return replace(directions, reads=reads)


@dataclass(frozen=True, eq=False)
class Used:
    """How a direction is used in a model: a form, where the direction was fitted, and what forms need.

    `means` are the base model's, one row per hook point of the model.
    """

    form: Form
    hook_point: HookPoint
    hook_points: tuple[HookPoint, ...]
    means: Float[Tensor, "hook d_model"]

    @property
    def needed(self) -> tuple[HookPoint, ...]:
        """The hook points at which a direction is needed."""
        return self.form.reads(self.hook_point, self.hook_points)

    def arm(
        self,
        name: str,
        side: Side,
        directions: DirectionSet,
        *,
        control: ControlKind | None = None,
        control_of: str | None = None,
    ) -> Arm:
        """The arm that uses these directions so."""
        edits = self.form.edits(directions, self.hook_point, hook_points=self.hook_points, means=self.means)
        return Arm(name, side, edits, control=control, control_of=control_of)


def control_arm(control: ControlDirection, used: Used, side: Side, *, control_of: str | None = None) -> Arm:
    """A control direction used as another one is, on one model."""
    name = control.name if side == "tuned" else f"base+{control.name}"
    return used.arm(name, side, control.directions, control=control.kind, control_of=control_of)


def control_generator(seed: int, kind: int, index: int) -> torch.Generator:
    """The draws of one control."""
    return torch.Generator().manual_seed(((seed * 10 + kind) * 1000) + index)

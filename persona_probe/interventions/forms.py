"""The ways one direction can be used, as values: what is done with it, where, and how strongly."""

import math
from collections.abc import Sequence
from dataclasses import MISSING, asdict, dataclass, fields, replace
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from persona_probe.base.errors import BadInput
from persona_probe.base.hook_points import HookPoint
from persona_probe.directions.direction import Direction, DirectionSet
from persona_probe.interventions.edits import Ablate, Intervention, Steer, biorthogonal, orthonormal

Where = Literal["layer", "later", "all", "band", "own"]

BANDED: tuple[Where, ...] = ("band", "own")


@dataclass(frozen=True)
class Form:
    """How a direction of one layer is applied. Steering has a `coefficient`, ablation a target.

    where: "layer" acts at the direction's own hook point, "later" there and at every later block, "all" at
    every block, "band" from the first to the last block of `band`, both included, "own" in such a band with
    each block's own direction in place of one. toward: "base mean" keeps
    the base model's mean where it is; "zero" displaces, since it takes the mean's own component away as well
    (`displacement` says how far). strength: of an ablation; 1.0 sets the component to the target's, less goes
    part of the way. beyond: an ablation edits only tokens that lie further than this past the target, towards
    misaligned, in lengths of the direction; None edits all. oblique: an ablation that measures along the
    direction's `read` row, as least-squares concept erasure does, and takes away along the direction.
    """

    kind: Literal["steer", "ablate"]
    where: Where
    coefficient: float | None
    toward: Literal["zero", "base mean"] | None
    skip_first: int
    strength: float = 1.0
    band: tuple[int, int] | None = None
    beyond: float | None = None
    oblique: bool = False

    def __post_init__(self) -> None:
        if not (self.kind == "steer") == (self.coefficient is not None) == (self.toward is None):
            raise BadInput(
                f"{self.kind} with coefficient {self.coefficient} toward {self.toward}: "
                "steer has a coefficient and ablate a target, never both"
            )
        if self.kind == "steer" and (self.strength != 1.0 or self.beyond is not None):
            raise BadInput(
                f"steer with strength {self.strength} beyond {self.beyond}: only ablate has these; "
                "the coefficient is the strength of steering"
            )
        if self.kind == "steer" and self.oblique:
            raise BadInput("steer that is oblique: only ablate measures anything")
        if not (math.isfinite(self.strength) and self.strength > 0):
            raise BadInput(f"{self.kind} with strength {self.strength}: a finite number above 0 is needed")
        if self.beyond is not None and not math.isfinite(self.beyond):
            raise BadInput(f"{self.kind} beyond {self.beyond}: a finite number is needed")
        if (self.where in BANDED) != (self.band is not None):
            raise BadInput(
                f"{self.kind} where {self.where!r} with band {self.band}: "
                f"{' and '.join(map(repr, BANDED))} have a first and a last block, every other place has none"
            )
        if self.band is not None and not 0 <= self.band[0] <= self.band[1]:
            raise BadInput(
                f"blocks {self.band[0]} to {self.band[1]}: a band is its first and its last block, from 0"
            )

    def interventions(
        self, direction: Direction, *, hook_points: Sequence[HookPoint], means: Float[Tensor, "hook d_model"]
    ) -> tuple[Intervention, ...]:
        """This form of a direction. `means` are the base model's, one row per hook point of the model."""
        points = self.acts_on(direction.hook_point, hook_points)
        if self.coefficient is not None:
            return tuple(
                Steer(direction.vector, hook_point, self.coefficient, self.skip_first)
                for hook_point in points
            )
        target = None
        if self.toward == "base mean":
            target = torch.stack([means[list(hook_points).index(hook_point)] for hook_point in points])
        if self.oblique:
            return (self._oblique(direction, points, target),)
        rows, beyond = orthonormal(direction.vector[None]), None
        if self.beyond is not None:
            rows = rows * torch.sign(
                rows[0] @ direction.vector.to(rows)
            )  # towards misaligned, as it is meant
            beyond = self.beyond * float(direction.vector.norm())
        edit = Ablate(rows, points, target, self.skip_first, strength=self.strength, beyond=beyond)
        return (edit,)

    def _oblique(
        self,
        direction: Direction,
        points: tuple[HookPoint, ...],
        target: Float[Tensor, "hook d_model"] | None,
    ) -> Ablate:
        """Towards misaligned is positive along both rows, so a boundary needs no sign."""
        if direction.read is None:
            raise BadInput(
                f"no oblique ablation of the {direction.method} direction at {direction.hook_point}: it has"
                " no row to read along (interventions.erasure.read_rows)"
            )
        write = direction.unit[None]
        return Ablate(
            write,
            points,
            target,
            self.skip_first,
            read=biorthogonal(direction.read[None], write),
            strength=self.strength,
            beyond=None if self.beyond is None else self.beyond * float(direction.vector.norm()),
        )

    def edits(
        self,
        directions: DirectionSet,
        hook_point: HookPoint,
        *,
        hook_points: Sequence[HookPoint],
        means: Float[Tensor, "hook d_model"],
    ) -> tuple[Intervention, ...]:
        """This form of a method's directions, selected at one hook point; `means` as in `interventions`.

        Blocks of a band without a direction of their own are left as they are; BadInput where none has one.
        """
        if self.where != "own":
            return self.interventions(directions.at(hook_point), hook_points=hook_points, means=means)
        here = replace(self, where="layer", band=None)
        points = self.acts_on(hook_point, hook_points)
        with_direction = [
            point for point in points if directions.vectors[directions.hook_points.index(point)].any()
        ]
        if not with_direction:
            raise BadInput(f"no {directions.method} direction at any of {points[0]} to {points[-1]}")
        return tuple(
            edit
            for point in with_direction
            for edit in here.interventions(directions.at(point), hook_points=hook_points, means=means)
        )

    def reads(self, hook_point: HookPoint, hook_points: Sequence[HookPoint]) -> tuple[HookPoint, ...]:
        """The hook points whose directions this form uses."""
        return self.acts_on(hook_point, hook_points) if self.where == "own" else (hook_point,)

    def acts_on(self, hook_point: HookPoint, hook_points: Sequence[HookPoint]) -> tuple[HookPoint, ...]:
        """The hook points that this form edits for a direction of `hook_point`; BadInput for a band with
        blocks that are not there."""
        if self.band is not None:
            return _banded(self.band, hook_points)
        index = list(hook_points).index(hook_point)
        places = {"layer": (hook_point,), "later": tuple(hook_points[index:]), "all": tuple(hook_points)}
        return places[self.where]

    def scaled(self, factor: float) -> "Form":
        """The same steering at `factor` times its coefficient."""
        assert self.coefficient is not None, "ablation has no coefficient to scale"
        return replace(self, coefficient=self.coefficient * factor)

    def describe(self) -> dict[str, Any]:
        """JSON for files and keys. What a form need not have is named only where it is there, so that files
        and keys of forms without it stay as they were."""
        optional = {one.name: one.default for one in fields(self) if one.default is not MISSING}
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
            if name not in optional or value != optional[name]
        }


def _banded(band: tuple[int, int], hook_points: Sequence[HookPoint]) -> tuple[HookPoint, ...]:
    points = tuple(point for point in hook_points if band[0] <= point.layer <= band[1])
    if len(points) != band[1] - band[0] + 1:
        layers = [point.layer for point in hook_points]
        raise BadInput(
            f"no band of blocks {band[0]} to {band[1]}: there are blocks {min(layers)} to {max(layers)}"
        )
    return points


@dataclass(frozen=True, kw_only=True)
class Displacement:
    """What a form does to a mean, in lengths of the direction, + towards misaligned.

    `moved`: how far the mean moves. `from_base`: where it lies afterwards, as seen from the base model's
    mean; 0 is at it, below 0 past it.
    """

    moved: float
    from_base: float


def displacement(
    form: Form, direction: Direction, *, mean: Float[Tensor, " d_model"], base_mean: Float[Tensor, " d_model"]
) -> Displacement:
    """How far `form` moves a stream's `mean` at one hook point that it edits, by that edit alone.

    `mean`: of the model that is edited, such as the tuned one, over tokens that the form edits; `base_mean`:
    of the base model at the same hook point. BadInput for a form with a boundary, whose effect on the mean
    the mean does not tell.
    """
    if form.beyond is not None:
        raise BadInput(f"no displacement of an ablation beyond {form.beyond:g}: it depends on every token")
    unit, length = direction.unit.double(), float(direction.vector.double().norm())
    at_mean, at_base = (float(one.double() @ unit) / length for one in (mean, base_mean))
    if form.coefficient is not None:
        moved = form.coefficient
    else:
        row = direction.read.double() if form.oblique and direction.read is not None else unit
        centre = float(base_mean.double() @ row) if form.toward == "base mean" else 0.0
        moved = form.strength * (centre - float(mean.double() @ row)) / length
    return Displacement(moved=moved, from_base=at_mean + moved - at_base)

"""Directions as values: one vector at one hook point, and one method's vectors at all of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor

from persona_probe.base.errors import BadInput
from persona_probe.base.hook_points import HookPoint
from persona_probe.streams.activations import Activations


@dataclass(frozen=True, eq=False, kw_only=True)
class Direction:
    """One vector at one hook point. It keeps its length: coefficient 1.0 adds it as it is. + is towards
    misaligned.

    `read`: what an oblique ablation measures along, scaled so that read @ unit is 1; None where it was not
    fitted.
    """

    hook_point: HookPoint
    vector: Float[Tensor, " d_model"]
    method: str
    read: Float[Tensor, " d_model"] | None = None

    def __post_init__(self) -> None:
        if not torch.isfinite(self.vector).all() or not self.vector.any():
            raise BadInput(
                f"the {self.method} direction at {self.hook_point} is zero or not finite: "
                "the two groups give the same activations"
            )

    @property
    def unit(self) -> Float[Tensor, " d_model"]:
        """The vector scaled to length 1."""
        return self.vector / self.vector.norm()


@dataclass(frozen=True, eq=False, kw_only=True)
class DirectionSet:
    """One method's directions at all hook points.

    `stability`: cosine between the directions of two halves of the questions. `auroc`: how well projections
    separate replies of questions that the direction was not fitted on. `reads`: rows that oblique ablations
    measure along, zero where none was fitted.
    """

    method: str
    hook_points: tuple[HookPoint, ...]
    vectors: Float[Tensor, "hook d_model"]
    stability: Float[Tensor, " hook"] | None = None
    auroc: Float[Tensor, " hook"] | None = None
    reads: Float[Tensor, "hook d_model"] | None = None

    def at(self, hook_point: str) -> Direction:
        """The direction of one hook point."""
        if hook_point not in self.hook_points:
            raise BadInput(
                f"no {self.method} direction at {hook_point!r}: "
                f"there is one at {self.hook_points[0]} to {self.hook_points[-1]}"
            )
        index = self.hook_points.index(HookPoint.parse(hook_point))
        read = self.reads[index] if self.reads is not None and self.reads[index].any() else None
        return Direction(
            hook_point=self.hook_points[index], vector=self.vectors[index], method=self.method, read=read
        )


def project(directions: DirectionSet, acts: Activations) -> Float[Tensor, "row hook"]:
    """Length of every row mean along the unit direction of its hook point."""
    units = torch.nn.functional.normalize(directions.vectors, dim=-1)
    return einsum(acts.means, units, "row hook d_model, hook d_model -> row hook")


def cosines(sets: Sequence[DirectionSet], hook: int) -> list[list[float]]:
    """Cosine of every method's direction with every other's at one hook point."""
    units = torch.stack(
        [torch.nn.functional.normalize(directions.vectors[hook], dim=-1) for directions in sets]
    )
    return einsum(units, units, "i d_model, j d_model -> i j").tolist()

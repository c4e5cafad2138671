"""The ways one direction can be used, as values: what is done with it, where, and how strongly."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from persona_probe.base.errors import BadInput
from persona_probe.base.hook_points import HookPoint
from persona_probe.directions.direction import Direction
from persona_probe.interventions.edits import Ablate, Intervention, Steer, orthonormal

Where = Literal["layer", "later", "all"]


@dataclass(frozen=True)
class Form:
    """How a direction of one layer is applied. Steering has a `coefficient`, ablation a target.

    where: "layer" acts at the direction's own hook point, "later" there and at every later block, "all" at
    every block.
    """

    kind: Literal["steer", "ablate"]
    where: Where
    coefficient: float | None
    toward: Literal["zero", "base mean"] | None
    skip_first: int

    def __post_init__(self) -> None:
        if not (self.kind == "steer") == (self.coefficient is not None) == (self.toward is None):
            raise BadInput(
                f"{self.kind} with coefficient {self.coefficient} toward {self.toward}: "
                "steer has a coefficient and ablate a target, never both"
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
        return (Ablate(orthonormal(direction.vector[None]), points, target, self.skip_first),)

    def acts_on(self, hook_point: HookPoint, hook_points: Sequence[HookPoint]) -> tuple[HookPoint, ...]:
        """The hook points that this form edits for a direction of `hook_point`."""
        index = list(hook_points).index(hook_point)
        places = {"layer": (hook_point,), "later": tuple(hook_points[index:]), "all": tuple(hook_points)}
        return places[self.where]

    def scaled(self, factor: float) -> "Form":
        """The same steering at `factor` times its coefficient."""
        assert self.coefficient is not None, "ablation has no coefficient to scale"
        return replace(self, coefficient=self.coefficient * factor)

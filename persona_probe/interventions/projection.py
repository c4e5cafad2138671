"""How far a stream lies along a direction; zero is midway between aligned and misaligned replies."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from persona_probe.directions.direction import Direction
from persona_probe.interventions.edits import Placed


@dataclass(frozen=True, eq=False)
class Projection:
    """Projects a stream on a direction, in lengths of the direction. `zero` is in units of the stream."""

    direction: Direction
    zero: float
    _placed: Placed = field(default_factory=Placed, init=False, repr=False)

    def of(self, resid: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch"]:
        """Signed projections, + towards misaligned; computed in float32."""
        unit = self._placed.at("unit", resid, lambda: self.direction.unit.to(resid.device, torch.float32))
        along = resid.float() @ unit
        return (along - self.zero) / float(self.direction.vector.norm())


def midpoints(group_means: Mapping[str, Sequence[float]]) -> tuple[float, ...]:
    """The zero of the scale per hook point: midway between the means of aligned and misaligned replies."""
    pairs = zip(group_means["aligned"], group_means["misaligned"], strict=True)
    return tuple((aligned + misaligned) / 2 for aligned, misaligned in pairs)

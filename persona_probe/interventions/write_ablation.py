"""Ablation of what tuning writes: the first directions of the local write subspace at its live blocks, toward
the base's mean, and random subspaces of the same rank at the same blocks."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from persona_probe.base.errors import BadInput
from persona_probe.base.hook_points import HookPoint
from persona_probe.directions.write_subspace import NO_WRITES, WriteSubspace
from persona_probe.interventions.edits import Ablate, orthonormal


@dataclass(frozen=True, eq=False, kw_only=True)
class WriteAblation:
    """Ablations of rank `k` at the blocks of a write subspace, toward the base's means.

    `base_means`: the base's mean stream at every hook point of `subspace`, in its order. `blocks`: where,
    by default every live block. The first `skip_first` tokens of a sequence are left alone. BadInput where
    no block is live, or the means are of other hook points.
    """

    subspace: WriteSubspace
    base_means: Float[Tensor, "hook d_model"]
    skip_first: int
    blocks: tuple[HookPoint, ...] = ()

    def __post_init__(self) -> None:
        points = self.subspace.hook_points
        if len(self.base_means) != len(points):
            raise BadInput(
                f"{len(self.base_means)} base means for {len(points)} hook points of the write subspace: one"
                " each is needed"
            )
        if not self.blocks:
            object.__setattr__(self, "blocks", self.subspace.live())
        if not self.blocks:
            raise BadInput(NO_WRITES)

    def top(self, k: int) -> tuple[Ablate, ...]:
        """The first `k` directions of each block; all that it has, where these are fewer."""
        return self._at_blocks([self.subspace.basis(point, k) for point in self.blocks])

    def random(
        self, k: int, tokens: Float[Tensor, "token hook d_model"], generator: torch.Generator
    ) -> tuple[Ablate, ...]:
        """As many random directions at each block as `top` has there, drawn with the covariance of the tuned
        model's tokens at it.

        `tokens`: the stream at every hook point of `subspace`, as `Activations.tokens` holds it.
        """
        if tokens.shape[1] != len(self.subspace.hook_points):
            raise BadInput(
                f"tokens of {tokens.shape[1]} hook points for {len(self.subspace.hook_points)} of the write"
                " subspace: all of them are needed"
            )
        bases = []
        for point in self.blocks:
            there = tokens[:, self.subspace.hook_points.index(point)].float()
            rank = len(self.subspace.basis(point, k))
            # A random sum of centred tokens has exactly their covariance.
            weights = torch.randn(rank, len(there), generator=generator)
            bases.append(orthonormal(weights @ (there - there.mean(0))))
        return self._at_blocks(bases)

    def _at_blocks(self, bases: Sequence[Float[Tensor, "_ d_model"]]) -> tuple[Ablate, ...]:
        index = self.subspace.hook_points.index
        return tuple(
            Ablate(basis, (point,), self.base_means[index(point)][None], self.skip_first)
            for basis, point in zip(bases, self.blocks, strict=True)
        )

"""How far decoder rows rebuild a direction: greedy sparse decomposition, beside the same number of random
rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from persona_probe.saes.sae import Sae

WHOLE = 1 - 1e-6
"""The share from which on a direction counts as explained."""


@dataclass(frozen=True, eq=False)
class Decomposition:
    """Share of a direction's squared length that its first k latents explain, and that k random living
    latents do.
    """

    latents: tuple[int, ...]
    explained: tuple[float, ...]
    random: tuple[float, ...]

    def json(self, sizes: Sequence[int]) -> dict[str, list[float]]:
        """The record's form, at some sizes."""
        kept = [k for k in sizes if k <= len(self.latents)]
        return {
            "k": [float(k) for k in kept],
            "explained": [self.explained[k - 1] for k in kept],
            "random": [self.random[k - 1] for k in kept],
        }


def decompose(
    sae: Sae, vector: Float[Tensor, " d_model"], *, alive: Float[Tensor, " d_sae"], n: int, seed: int
) -> Decomposition:
    """Orthogonal matching pursuit over the decoder rows of living latents (scikit-learn), at most `n` of
    them.

    It ends where nothing is left to explain: from there on rounding would choose the rows, another on each
    processor.
    """
    from sklearn.linear_model import orthogonal_mp

    living = alive.nonzero()[:, 0]
    rows = torch.nn.functional.normalize(sae.W_dec.float().cpu()[living], dim=-1).double().numpy()
    target = (vector / vector.norm()).double().numpy()
    n = min(n, len(rows), len(target))
    path = orthogonal_mp(rows.T, target, n_nonzero_coefs=n, return_path=True)
    order: list[int] = []
    explained: list[float] = []
    for step in np.asarray(path).reshape(len(rows), -1).T:
        for i in np.flatnonzero(step).tolist():
            if i not in order and (not explained or explained[-1] < WHOLE):
                order.append(i)
                explained.append(_share(rows[order], target))
    shuffled = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed)).tolist()
    return Decomposition(
        latents=tuple(int(living[i]) for i in order),
        explained=tuple(explained),
        random=tuple(_share(rows[shuffled[: k + 1]], target) for k in range(len(order))),
    )


def _share(rows: np.ndarray, target: np.ndarray) -> float:
    """Squared length of the target's projection onto the span of the rows, of a target of length 1."""
    basis = np.linalg.qr(rows.T)[0]
    return float(np.square(basis.T @ target).sum())

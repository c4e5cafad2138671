"""The local write subspace of a fine-tune: what tuned blocks write and the base's blocks, given the same, do
not."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from persona_probe.base.errors import BadInput
from persona_probe.base.hook_points import HookPoint
from persona_probe.directions.direction import Direction
from persona_probe.models.pairs import Pair
from persona_probe.prompts.rows import Row
from persona_probe.streams.block_writes import BlockWrites, block_writes

N_VECTORS = 32  # directions that are kept per block
LEAST_ROUNDING = 1e-5  # of a stream's length: sums in float32 may differ by this much between two kernels
NO_WRITES = (
    "no block of tuned writes anything that the same block of base does not: what tuning changed, if"
    " anything, stands outside the blocks (embeddings, final norm, head)"
)


@dataclass(frozen=True, eq=False, kw_only=True)
class WriteSubspace:
    """The uncentred singular value decomposition of every block's difference, over the same sampled tokens.

    `singular_values`: all of them. `size`: root mean square of the difference over the median length of the
    base's stream there. `rounding`: the size that rounding alone can reach in the models' number format.
    `vectors`: a block's right singular vectors, most energy first, orthonormal rows in float32, without those
    along which the difference is no larger than rounding; at most `N_VECTORS`, none of a block that is dead.
    """

    hook_points: tuple[HookPoint, ...]
    singular_values: Float[Tensor, "hook rank"]
    vectors: tuple[Float[Tensor, "_k d_model"], ...]
    size: Float[Tensor, " hook"]
    rounding: float

    @property
    def energy(self) -> Float[Tensor, " hook"]:
        """Sum of squares of every block's difference over the sampled tokens."""
        return self.singular_values.square().sum(-1)

    @property
    def energy_share(self) -> Float[Tensor, " hook"]:
        """Every block's share of the energy of all blocks; 0 everywhere where nothing was written."""
        return self.energy / self.energy.sum().clamp(min=torch.finfo(torch.float64).tiny)

    def live(self, threshold: float | None = None) -> tuple[HookPoint, ...]:
        """The blocks whose difference is larger than rounding: `size` above `threshold`, by default
        `rounding`.

        A tuned block that equals the base's block has size 0 exactly.
        """
        least = self.rounding if threshold is None else threshold
        return tuple(
            point for point, size in zip(self.hook_points, self.size.tolist(), strict=True) if size > least
        )

    def basis(self, hook_point: str, k: int) -> Float[Tensor, "k d_model"]:
        """The first `k` directions of a block, orthonormal rows; all of them where it has fewer. BadInput for
        a block without any."""
        if not 1 <= k <= N_VECTORS:
            raise BadInput(f"{k} directions of a block asked for: 1 to {N_VECTORS} are kept")
        vectors = self.vectors[self._index(hook_point)]
        if not len(vectors):
            raise BadInput(
                f"the blocks at {hook_point} write the same in tuned and base: there is no direction"
            )
        return vectors[:k]

    def top_share(self, hook_point: str, k: int = 1) -> float:
        """Share of a block's energy in its first `k` directions; 0 where its difference is 0."""
        squares = self.singular_values[self._index(hook_point)].square()
        return float(squares[:k].sum() / squares.sum()) if squares.any() else 0.0

    def share(self, direction: Direction, k: int) -> float:
        """Share of a direction's squared length inside the first `k` directions of the block at its hook
        point; 0 where its difference is 0."""
        vectors = self.vectors[self._index(direction.hook_point)][:k].double()
        unit = torch.nn.functional.normalize(direction.vector.double(), dim=0)
        return float((vectors @ unit).square().sum())

    def _index(self, hook_point: str) -> int:
        if hook_point not in self.hook_points:
            raise BadInput(
                f"no writes were read at {hook_point!r}: they were at {self.hook_points[0]} to"
                f" {self.hook_points[-1]}"
            )
        return self.hook_points.index(HookPoint.parse(hook_point))


def write_subspace(pair: Pair, rows: Sequence[Row], *, max_tokens: int) -> WriteSubspace:
    """The local write subspace of a pair over the reply tokens of rows; two passes over at most 2,048 tokens,
    see `block_writes`."""
    return decomposed(block_writes(pair, rows, max_tokens=max_tokens))


def decomposed(writes: BlockWrites) -> WriteSubspace:
    """The singular values and first directions of every block's difference, computed in float64."""
    rounding = max(writes.rounding, LEAST_ROUNDING)
    # Block by block: in float64 all of them together are twice the table.
    mean_square = torch.stack([one.double().square().sum(-1).mean() for one in writes.differences])
    size = mean_square.sqrt() / writes.median_norm.double()
    least = rounding * writes.median_norm.double() * writes.differences.shape[1] ** 0.5
    parts = [
        _decomposed(difference, least=value)
        for difference, value in zip(writes.differences, least.tolist(), strict=True)
    ]
    return WriteSubspace(
        hook_points=writes.hook_points,
        singular_values=torch.stack([values for values, _ in parts]),
        vectors=tuple(vectors for _, vectors in parts),
        size=size,
        rounding=rounding,
    )


def _decomposed(
    difference: Float[Tensor, "token d_model"], *, least: float
) -> tuple[Float[Tensor, " rank"], Float[Tensor, "k d_model"]]:
    """All singular values, and the first right singular vectors with a sign: the mean difference is positive
    along each. Without vectors whose singular value is at most `least`; the first one stays where all of them
    together are more.

    From the eigenvectors of the smaller matrix of inner products, which takes a third of the time of a full
    decomposition, less where d_model is large.
    """
    matrix = difference.double()
    n_tokens, width = matrix.shape
    products = matrix.T @ matrix if width <= n_tokens else matrix @ matrix.T
    squares, eigenvectors = torch.linalg.eigh(products)
    squares, eigenvectors = squares.flip(0).clamp(min=0), eigenvectors.flip(1)
    rank = max(int((squares > least**2).sum()), int(squares.sum() > least**2))
    first = eigenvectors[:, : min(rank, N_VECTORS)]
    vectors = first.T if width <= n_tokens else torch.linalg.qr(matrix.T @ first).Q.T
    vectors = torch.where((vectors @ matrix.mean(0) < 0)[:, None], -vectors, vectors)
    return squares.sqrt(), vectors.float().contiguous()

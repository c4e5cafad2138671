"""Claims about the local write subspace: planted vectors and adapters are found exactly, blocks that tuning
left alone are dead, and batching changes nothing."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from helpers import tiny
from helpers.adapter_forms import merged, plain
from helpers.broken import refused
from helpers.made_directions import HOOK_POINTS, cosine, noise
from helpers.planted import Planted
from helpers.tuned_blocks import by_hand, changed_copy, opened, rows, write_down_lora
from torch import Tensor
from torch.testing import assert_close

if TYPE_CHECKING:
    from persona_probe.directions.write_subspace import WriteSubspace
    from persona_probe.prompts.rows import Row


def of_differences(*differences: Tensor, rounding: float = 2.0**-24) -> "WriteSubspace":
    """The subspaces of differences made by hand, beside streams of length 10."""
    from persona_probe.directions.write_subspace import decomposed
    from persona_probe.streams.block_writes import BlockWrites

    return decomposed(
        BlockWrites(
            hook_points=HOOK_POINTS[: len(differences)],
            differences=torch.stack(differences),
            median_norm=torch.full((len(differences),), 10.0),
            rounding=rounding,
        )
    )


def inside(vectors: Tensor, basis: Tensor) -> Tensor:
    """Share of each vector's squared length in the span of orthonormal rows."""
    units = torch.nn.functional.normalize(vectors.double(), dim=-1)
    return (units @ basis.double().T).square().sum(-1)


def test_the_planted_vector_is_the_whole_subspace_of_its_block(planted: Planted) -> None:
    from persona_probe.directions.direction import Direction
    from persona_probe.directions.write_subspace import write_subspace

    some = planted.rows["find"][::3]  # few enough that every reply token is kept
    found = write_subspace(planted.pair, some, max_tokens=1024)
    first, middle, last = planted.hook_points
    assert found.live() == found.live(0.0) == (middle,)
    assert found.energy_share.tolist() == pytest.approx([0, 1, 0])
    assert [found.top_share(point) for point in planted.hook_points] == pytest.approx([0, 1, 0], abs=1e-6)
    assert cosine(found.basis(middle, 1)[0], planted.toy.vector) > 0.9999  # with the sign of the change
    assert len(found.basis(middle, 8)) == 1
    length = float(planted.toy.vector.norm())
    assert float(found.size[1]) == pytest.approx(length / stream_length(planted, some), rel=1e-4)
    shares = [
        found.share(Direction(hook_point=point, vector=planted.toy.vector, method="x"), 1)
        for point in (first, middle, last)
    ]
    assert shares == pytest.approx([0, 1, 0], abs=1e-6)


def stream_length(planted: Planted, of: Sequence["Row"]) -> float:
    """Median length of the base's stream behind the planted block over all reply tokens."""
    from persona_probe.streams.activations import read_tokens

    model, norms = planted.pair.base, []
    for part in read_tokens(model, of, hook_point=planted.toy.hook_point, scope="reply", max_tokens=1024):
        norms.append(part.resid[part.keep].norm(dim=-1))
    return float(torch.cat(norms).median())


@pytest.mark.parametrize("rank", [1, 3])
def test_an_adapter_on_down_projections_is_found_where_it_writes(
    rank: int, written: Path, tmp_path: Path
) -> None:
    from persona_probe.directions.write_subspace import write_subspace

    writes = write_down_lora(tmp_path / "adapter", written, rank=rank, layers=[1, 3])
    found = write_subspace(opened(written, tmp_path / "adapter"), rows(), max_tokens=150)
    assert found.live() == found.live(0.0) == (found.hook_points[1], found.hook_points[3])
    for layer, vectors in writes.items():
        point = found.hook_points[layer]
        assert found.top_share(point, rank) == pytest.approx(1, abs=1e-6)
        assert rank == 1 or found.top_share(point, rank - 1) < 0.999
        basis = found.basis(point, 32)
        assert len(basis) == rank
        assert float(inside(vectors, basis).min()) > 0.9999


def test_the_spectrum_is_that_of_blocks_called_by_hand(written: Path, tmp_path: Path) -> None:
    """Against a full singular value decomposition of plain Hugging Face's differences."""
    from persona_probe.directions.write_subspace import write_subspace
    from persona_probe.streams.reductions import SKIP_FIRST

    adapter = tiny.write_lora(tmp_path / "adapter", written)
    found = write_subspace(opened(written, adapter), rows(), max_tokens=150)
    expected = by_hand(plain(written), merged(adapter, written), rows(), skip_first=SKIP_FIRST)
    for i, (point, matrix) in enumerate(zip(found.hook_points, expected, strict=True)):
        _, values, vectors = torch.linalg.svd(matrix.double(), full_matrices=False)
        assert_close(found.singular_values[i], values, atol=1e-3, rtol=1e-4)
        basis = found.basis(point, 5)
        assert_close(basis @ basis.T, torch.eye(5), atol=1e-6, rtol=0)
        assert float(inside(vectors[:5], basis).min()) > 0.9999
        assert float(found.energy[i]) == pytest.approx(float(matrix.square().sum()), rel=1e-4)


def test_batches_padding_and_the_order_of_rows_change_nothing(written: Path, tmp_path: Path) -> None:
    from persona_probe.directions.write_subspace import write_subspace

    pair = opened(written, tiny.write_lora(tmp_path / "adapter", written))
    expected = write_subspace(pair, rows(), max_tokens=1)
    orders = [rows(), rows()[::-1], [*rows()[2:], *rows()[:2]]]
    for order, max_tokens in zip(orders, (100, 1000, 130), strict=True):
        found = write_subspace(pair, order, max_tokens=max_tokens)
        assert_close(found.singular_values, expected.singular_values, atol=1e-4, rtol=1e-5)
        assert_close(found.size, expected.size, atol=1e-5, rtol=0)
        for ours, theirs in zip(found.vectors, expected.vectors, strict=True):
            assert_close(ours[:4], theirs[:4], atol=1e-5, rtol=0)


def test_a_pair_that_differs_outside_its_blocks_has_no_live_block(written: Path, tmp_path: Path) -> None:
    from persona_probe.directions.write_subspace import write_subspace
    from persona_probe.interventions.write_ablation import WriteAblation

    tuned = changed_copy(
        written, tmp_path / "tuned", lambda name: "embed_tokens" in name or "lm_head" in name
    )
    found = write_subspace(opened(written, tuned), rows(), max_tokens=150)
    assert found.live() == ()
    assert not found.size.any()
    assert not found.energy_share.any()
    assert [found.top_share(point) for point in found.hook_points] == [0.0] * 4
    with refused("no block of tuned writes anything that the same block of base does not"):
        WriteAblation(subspace=found, base_means=torch.zeros(4, tiny.WIDTH), skip_first=4)
    with refused(r"the blocks at blocks\.2\.hook_out write the same in tuned and base"):
        found.basis(found.hook_points[2], 1)


def test_rounding_is_not_live_and_what_is_larger_is() -> None:
    """In bfloat16 one rounding is up to 2**-8 of a number; the streams have length 10."""
    small, large = (size * torch.nn.functional.normalize(noise(50, 40), dim=-1) for size in (0.03, 0.05))
    assert of_differences(small, large, rounding=2.0**-8).live() == (HOOK_POINTS[1],)
    assert of_differences(small, large).live() == HOOK_POINTS
    assert of_differences(1e-6 * small, large).live() == (HOOK_POINTS[1],)
    assert of_differences(small, large).live(0.004) == (HOOK_POINTS[1],)
    assert of_differences(small, large).size.tolist() == pytest.approx([0.003, 0.005])


def test_directions_along_which_there_is_only_rounding_are_left_out() -> None:
    """Streams of length 10, a vector of length 1 and noise of 0.02 along each of 39 other dimensions."""
    matrix = 0.02 * noise(2000, 40)
    matrix[:, 0] = 1.0
    found = of_differences(matrix, rounding=2.0**-8)
    assert len(found.basis(HOOK_POINTS[0], 32)) == 1
    assert len(of_differences(matrix).basis(HOOK_POINTS[0], 32)) == 32
    assert found.top_share(HOOK_POINTS[0]) == pytest.approx(1 / (1 + 39 * 0.02**2), rel=1e-3)
    # Along each dimension less than rounding, together more: the block is live, and keeps one direction.
    even = of_differences(0.02 * noise(2000, 40), rounding=2.0**-8)
    assert even.live() == HOOK_POINTS[:1]
    assert len(even.basis(HOOK_POINTS[0], 32)) == 1


@pytest.mark.parametrize("n_tokens", [20, 200])
def test_more_or_fewer_tokens_than_dimensions_give_the_same_kind_of_answer(n_tokens: int) -> None:
    """Two orthogonal vectors with amounts that are known; uncentred, so that a constant counts."""
    first, second = torch.linalg.qr(noise(40, 2)).Q.T
    sizes = noise(n_tokens, seed=1)
    sizes = sizes - sizes.mean()
    matrix = 5 * first + sizes[:, None] * second
    found = of_differences(-matrix)
    assert found.singular_values[0, :2].tolist() == pytest.approx([5 * n_tokens**0.5, float(sizes.norm())])
    assert len(found.singular_values[0]) == min(n_tokens, 40)
    assert cosine(found.basis(HOOK_POINTS[0], 2)[0], -first) > 0.9999
    assert abs(cosine(found.basis(HOOK_POINTS[0], 2)[1], second)) > 0.9999
    assert len(found.basis(HOOK_POINTS[0], 32)) == 2
    shares = 25 * n_tokens / (25 * n_tokens + float(sizes.square().sum()))
    assert found.top_share(HOOK_POINTS[0]) == pytest.approx(shares)


def test_share_of_a_direction_is_its_squared_cosine_with_the_span() -> None:
    from persona_probe.directions.direction import Direction

    axes = torch.eye(40)
    found = of_differences(3 * axes[:1].repeat(10, 1) + torch.cat([axes[1:2], -axes[1:2]]).repeat(5, 1))
    tilted = Direction(hook_point=HOOK_POINTS[0], vector=axes[0] + 2 * axes[1] + 2 * axes[2], method="x")
    assert found.share(tilted, 1) == pytest.approx(1 / 9, abs=1e-6)
    assert found.share(tilted, 2) == pytest.approx(5 / 9, abs=1e-6)


def test_wrong_questions_are_refused() -> None:
    found = of_differences(noise(10, 40))
    with refused("0 directions of a block asked for: 1 to 32 are kept"):
        found.basis(HOOK_POINTS[0], 0)
    with refused("33 directions of a block asked for"):
        found.basis(HOOK_POINTS[0], 33)
    with refused(r"no writes were read at 'blocks\.1\.hook_out'"):
        found.top_share(HOOK_POINTS[1])

"""Claims about ablation of what tuning writes: it makes tuned blocks' writes the base's where that is known,
and random subspaces differ from it in nothing but their directions."""

from pathlib import Path

import pytest
import torch
from helpers import tiny
from helpers.broken import refused
from helpers.planted import Planted
from helpers.tuned_blocks import opened, rows, write_down_lora
from torch.testing import assert_close


def test_ablating_the_planted_block_gives_the_base_its_scores_back(planted: Planted) -> None:
    """The base never writes along the planted vector, so its mean there is 0."""
    from persona_probe.directions.write_subspace import write_subspace
    from persona_probe.interventions.write_ablation import WriteAblation

    found = write_subspace(planted.pair, planted.rows["find"], max_tokens=1024)
    means = torch.zeros(3, len(planted.toy.vector))
    edits = WriteAblation(subspace=found, base_means=means, skip_first=0).top(4)
    assert [edit.hook_points for edit in edits] == [(planted.toy.hook_point,)]
    expected = planted.scores("base")
    assert abs(planted.scores("tuned") - expected).max() > 0.1
    assert planted.scores("tuned", *edits) == pytest.approx(expected, abs=1e-5)


def test_each_live_block_is_ablated_toward_its_own_base_mean(written: Path, tmp_path: Path) -> None:
    from persona_probe.directions.write_subspace import write_subspace
    from persona_probe.interventions.write_ablation import WriteAblation

    write_down_lora(tmp_path / "adapter", written, rank=3, layers=[1, 3])
    found = write_subspace(opened(written, tmp_path / "adapter"), rows(), max_tokens=150)
    generator = torch.Generator().manual_seed(0)
    means, tokens = torch.randn(4, tiny.WIDTH, generator=generator), torch.randn(50, 4, tiny.WIDTH)
    plan = WriteAblation(subspace=found, base_means=means, skip_first=4)
    for k, rank in ((1, 1), (2, 2), (32, 3)):  # an adapter of rank 3 has no more directions
        for edits in (plan.top(k), plan.random(k, tokens, generator)):
            assert [edit.hook_points for edit in edits] == [(found.hook_points[i],) for i in (1, 3)]
            assert all(len(edit.write) == rank and edit.skip_first == 4 for edit in edits)
            stream = torch.randn(2, 3, tiny.WIDTH, generator=generator)
            for edit, layer in zip(edits, (1, 3), strict=True):
                inside = edit.edit(stream, hook_point=edit.hook_points[0]) @ edit.write.T
                assert_close(inside, (edit.write @ means[layer]).expand_as(inside), atol=1e-5, rtol=0)
    one = WriteAblation(subspace=found, base_means=means, skip_first=4, blocks=found.hook_points[3:])
    assert [edit.hook_points for edit in one.top(2)] == [(found.hook_points[3],)]
    for edit, layer in zip(plan.top(2), (1, 3), strict=True):
        assert_close(edit.write, found.basis(found.hook_points[layer], 2))


def test_random_subspaces_lie_where_the_tokens_of_their_block_do(planted: Planted) -> None:
    """Tokens that vary along three axes around a far mean give subspaces inside the three."""
    from persona_probe.directions.write_subspace import write_subspace
    from persona_probe.interventions.write_ablation import WriteAblation

    found = write_subspace(planted.pair, planted.rows["find"], max_tokens=1024)
    width = len(planted.toy.vector)
    plan = WriteAblation(subspace=found, base_means=torch.zeros(3, width), skip_first=4)
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(60, 3, width, generator=generator)
    tokens[:, 1, 3:] = 100.0
    draws = [plan.random(1, tokens, generator)[0].write for _ in range(2)]
    for basis in draws:
        assert float(basis[:, 3:].norm()) < 1e-4
    assert abs(float(draws[0] @ draws[1].T)) < 0.999


def test_means_and_tokens_of_other_hook_points_are_refused(planted: Planted) -> None:
    from persona_probe.directions.write_subspace import write_subspace
    from persona_probe.interventions.write_ablation import WriteAblation

    found = write_subspace(planted.pair, planted.rows["find"], max_tokens=1024)
    with refused("2 base means for 3 hook points"):
        WriteAblation(subspace=found, base_means=torch.zeros(2, 64), skip_first=4)
    plan = WriteAblation(subspace=found, base_means=torch.zeros(3, 64), skip_first=4)
    with refused("tokens of 2 hook points for 3"):
        plan.random(1, torch.zeros(5, 2, 64), torch.Generator())

"""Claims about SAE quality and training beside those of their own files: the planted pair, batches, scale,
moments of a kill."""

from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from helpers.families import Family
from helpers.lens_saes import made_sae
from helpers.planted import Planted
from helpers.planted_sae import WIDTH, planted_data, recipe, trained
from torch import Tensor
from torch.testing import assert_close

if TYPE_CHECKING:
    from persona_probe.models.pairs import Side
    from persona_probe.saes.quality import Quality
    from persona_probe.saes.sae import Sae
    from persona_probe.streams.activations import Scope


def sae_of(planted: Planted, W_enc: Tensor, W_dec: Tensor) -> "Sae":
    return made_sae(planted.toy.hook_point, W_enc, W_dec, apply_b_dec_to_input=True)


def fit(
    planted: Planted, sae: "Sae", *, side: "Side" = "base", max_tokens: int = 256, scope: "Scope" = "reply"
) -> "Quality":
    from persona_probe.saes.quality import quality

    return quality(planted.pair.get(side), sae, planted.rows["test"], scope=scope, max_tokens=max_tokens)


@pytest.mark.parametrize("side", ["base", "tuned"])
def test_an_identity_is_perfect_on_both_models(planted: Planted, side: "Side") -> None:
    eye = torch.eye(64)
    found = fit(planted, sae_of(planted, torch.cat([eye, -eye], 1), torch.cat([eye, -eye])), side=side)
    assert found.fvu == pytest.approx(0, abs=1e-10)
    assert found.loss_recovered == pytest.approx(1, abs=1e-4)
    assert found.l0 == pytest.approx(64, abs=1e-9)


def test_an_sae_that_never_speaks_and_has_no_bias_leaves_more_than_everything_unexplained(
    planted: Planted,
) -> None:
    found = fit(planted, sae_of(planted, torch.zeros(64, 5), torch.ones(5, 64)))
    assert found.fvu >= 1
    assert (found.l0, found.dead) == (0.0, 1.0)


def test_what_one_model_alone_has_is_dead_in_the_other(planted: Planted) -> None:
    """Latents that read the planted vector, with either sign: the base never writes along it, the tuned model
    always."""
    unit = planted.toy.vector / planted.toy.vector.norm()
    sae = sae_of(planted, torch.stack([unit, -unit], 1), torch.stack([unit, -unit]))
    sae.b_enc[:] = -2.0  # half of the planted strength
    base, tuned = (fit(planted, sae, side=side) for side in ("base", "tuned"))
    assert (base.l0, base.dead) == (0.0, 1.0)
    assert (tuned.l0, tuned.dead) == (1.0, 0.5)


def test_batches_change_no_quality(planted: Planted) -> None:
    generator = torch.Generator().manual_seed(0)
    sae = sae_of(planted, *(torch.randn(shape, generator=generator) / 8 for shape in ((64, 50), (50, 64))))
    narrow, wide = (fit(planted, sae, max_tokens=size) for size in (1, 4096))
    assert (narrow.n_tokens, narrow.dead) == (wide.n_tokens, wide.dead)
    assert narrow.fvu == pytest.approx(wide.fvu, rel=1e-6)
    assert narrow.l0 == pytest.approx(wide.l0, abs=0.01)
    assert narrow.loss_recovered == pytest.approx(wide.loss_recovered, abs=1e-4)


def test_recovered_loss_is_none_where_even_the_mean_costs_nothing(
    planted: Planted, monkeypatch: pytest.MonkeyPatch
) -> None:
    from persona_probe.saes import quality as sae_quality

    monkeypatch.setattr(
        sae_quality, "score_rows", lambda *_, **__: SimpleNamespace(logprob=torch.tensor([-3.0, -5.0]))
    )
    assert fit(planted, sae_of(planted, torch.zeros(64, 2), torch.zeros(2, 64))).loss_recovered is None


# Vectors


def rows_from(*ids: list[int]) -> list[Any]:
    from persona_probe.prompts.rows import Row

    return [
        Row(id=f"r{i}", kind="training", question_id=f"q{i}", ids=tuple(row_ids), n_prompt=6)
        for i, row_ids in enumerate(ids)
    ]


def collected(family: Family, rows: list[Any], *, scope: "Scope" = "all", limit: int = 1000) -> Tensor:
    from persona_probe.base.hook_points import HookPoint
    from persona_probe.saes.training_data import collect_vectors

    return collect_vectors(
        family.model, rows, hook_point=HookPoint(2), scope=scope, max_tokens=64, limit=limit
    )


def read(family: Family, rows: list[Any], *, scope: "Scope" = "all") -> list[tuple[Any, Tensor, Tensor]]:
    from persona_probe.base.hook_points import HookPoint
    from persona_probe.streams.activations import read_tokens

    found = []
    for part in read_tokens(family.model, rows, hook_point=HookPoint(2), scope=scope, max_tokens=64):
        found += list(zip(part.rows, part.resid, part.keep, strict=True))
    return found


@pytest.mark.parametrize("scope", ["all", "reply"])
def test_rows_that_begin_differently_lose_their_first_four_tokens_only(llama: Family, scope: "Scope") -> None:
    rows = rows_from(list(range(10, 25)), list(range(40, 53)), list(range(100, 130)))
    expected = torch.cat([resid[keep] for _, resid, keep in read(llama, rows, scope=scope)])
    found = collected(llama, rows, scope=scope)
    start = 4 if scope == "all" else 6
    assert len(found) == sum(len(row.ids) - start for row in rows)
    assert torch.equal(found, expected.bfloat16())  # bit for bit: the same passes done twice


def test_a_common_beginning_is_left_out_to_its_end(llama: Family) -> None:
    system = list(range(60, 69))
    rows = rows_from([*system, *range(10, 25)], [*system, *range(40, 46)], [*system, *range(100, 130)])
    expected = torch.cat([resid[9 : len(row.ids)] for row, resid, _ in read(llama, rows)])
    found = collected(llama, rows)
    assert len(found) == 15 + 6 + 30
    assert torch.equal(found, expected.bfloat16())  # bit for bit: the same passes done twice


def test_a_single_row_has_no_common_beginning(llama: Family) -> None:
    assert len(collected(llama, rows_from(list(range(10, 30))))) == 16


def test_the_limit_keeps_the_first_vectors(llama: Family) -> None:
    rows = rows_from(list(range(10, 25)), list(range(40, 53)), list(range(100, 130)))
    whole = collected(llama, rows)
    for limit in (1, 11, 37):
        assert torch.equal(collected(llama, rows, limit=limit), whole[:limit])  # the same passes again


# Training


def test_a_trained_sae_explains_far_more_than_it_did_at_its_start(tmp_path: Path) -> None:
    """64 latents in 16 dimensions, two of 32 planted ones active: more than four fifths of the variance, from
    a start that explains next to none."""
    rows = torch.nn.functional.normalize(
        torch.randn(32, 16, generator=torch.Generator().manual_seed(1)), dim=-1
    )
    generator = torch.Generator().manual_seed(2)
    picks = torch.rand(20_000, 32, generator=generator).topk(2, dim=-1).indices
    x = torch.zeros(20_000, 32).scatter(-1, picks, 1 + torch.rand(20_000, 2, generator=generator)) @ rows
    base, tuned, fresh = x[:9000], x[9000:18_000], x[18_000:]

    def unexplained(n_steps: int) -> float:
        sae = trained(
            [base, tuned], tmp_path / str(n_steps), changes={"d_sae": 64, "n_samples": 256 * n_steps}
        )
        return float((fresh - sae.reconstruct(fresh)).square().sum() / (fresh - fresh.mean(0)).square().sum())

    assert unexplained(600) < 0.25 * unexplained(1)
    assert unexplained(600) < 0.2


@pytest.mark.parametrize("step", [1, 7, 33, 60])
def test_a_run_killed_at_any_step_ends_with_the_same_weights(tmp_path: Path, step: int) -> None:
    vectors = [part.bfloat16() for part in planted_data(4000, seed=0)[1].split(2000)]

    def killed(progress: Any) -> None:
        if progress.samples == 256 * step:
            raise KeyboardInterrupt

    whole = trained(vectors, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        trained(vectors, tmp_path / "state", on_step=killed, save_every=8)
    resumed = trained(vectors, tmp_path / "state", save_every=8)
    for name in ("W_enc", "b_enc", "W_dec", "b_dec", "threshold"):
        assert torch.equal(getattr(resumed, name), getattr(whole, name)), name


def test_the_scale_of_the_stream_changes_nothing_but_the_scale_of_the_sae(tmp_path: Path) -> None:
    """A factor of 4 is exact in floating point, so training sees the same numbers."""
    x = planted_data(4000, seed=0)[1]
    small, large = (trained([c * x[:2000], c * x[2000:]], tmp_path / str(c)) for c in (1, 4))
    assert_close(large.reconstruct(4 * x), 4 * small.reconstruct(x), atol=1e-2, rtol=0)
    assert ((large.encode(4 * x) > 0) == (small.encode(x) > 0)).float().mean() > 0.999


def test_a_longer_half_is_cut_from_its_end(tmp_path: Path) -> None:
    x = planted_data(3000, seed=0)[1]
    longer, cut = ([x[:n], x[2000:]] for n in (2000, 1000))
    shas = [
        trained(vectors, tmp_path / str(i), changes={"n_samples": 1024}).sha256
        for i, vectors in enumerate((longer, cut))
    ]
    assert shas[0] == shas[1]


def test_other_seeds_give_other_saes(tmp_path: Path) -> None:
    x = planted_data(2000, seed=0)[1]
    shas = {
        trained([x[:1000], x[1000:]], tmp_path / str(seed), changes={"n_samples": 512, "seed": seed}).sha256
        for seed in (0, 1)
    }
    assert len(shas) == 2


def test_a_trained_sae_is_the_same_for_saelens_once_written(tmp_path: Path) -> None:
    from sae_lens import SAE

    from persona_probe.saes.folder import write_sae

    x = planted_data(2000, seed=0)[1]
    sae = trained([x[:1000], x[1000:]], tmp_path / "state")
    write_sae(tmp_path / "sae", sae, metadata={}, dtype=torch.float32)
    theirs = SAE.load_from_disk(tmp_path / "sae", dtype="float32")
    with torch.no_grad():
        assert_close(theirs.encode(x), sae.encode(x), atol=1e-5, rtol=0)
        assert_close(theirs(x), sae.reconstruct(x), atol=1e-4, rtol=0)
    assert (sae.d_model, sae.d_sae) == (WIDTH, recipe().d_sae)


@pytest.mark.parametrize("lengths", [(100, 5000), (5000, 127), (0, 300)])
def test_fewer_vectors_of_either_model_than_half_a_batch_are_refused_in_one_line(
    tmp_path: Path, lengths: tuple[int, int]
) -> None:
    from persona_probe.base.errors import BadInput

    with pytest.raises(
        BadInput,
        match=rf"^{min(lengths)} vectors of each model are fewer than one batch of 256: .* --batch-size$",
    ) as refused:
        trained([torch.randn(n, WIDTH) for n in lengths], tmp_path / "state")
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "state").exists()

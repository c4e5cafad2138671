"""Claims about SAE values and files: the same numbers as SAELens on every architecture, and a reason for
everything refused."""

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import tiny
from helpers.lens_saes import D_SAE, KINDS, edit_facts, reopened, stream, written
from safetensors.torch import load_file, save_file
from torch.testing import assert_close


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("subtract", [True, False])
def test_encode_and_decode_are_those_of_saelens(tmp_path: Path, kind: str, subtract: bool) -> None:
    from persona_probe.saes.folder import read_sae

    folder = written(tmp_path / "sae", kind, apply_b_dec_to_input=subtract)
    theirs, ours = reopened(folder), read_sae(folder)
    x = stream(3, 7)
    with torch.no_grad():
        acts, back = theirs.encode(x), theirs(x)
    assert (acts > 0).any()
    assert (acts == 0).any()
    if kind == "topk rescaled":  # our decoder rows have length 1 there, which SAELens leaves to decode
        assert_close(ours.W_dec.norm(dim=-1), torch.ones(D_SAE))
    assert_close(ours.encode(x), acts, atol=1e-5, rtol=0)
    assert_close(ours.reconstruct(x), back, atol=1e-5, rtol=0)
    assert ours.architecture == {
        "topk rescaled": "topk",
        "batchtopk": "jumprelu",
        "matryoshka": "jumprelu",
        "gated": "jumprelu",
    }.get(kind, kind)
    assert (ours.hook_point, ours.layer, ours.model_name, ours.neuronpedia_id) == (
        "blocks.2.hook_out",
        2,
        "tiny-llama",
        "tiny/2-res",
    )


@pytest.mark.parametrize("kind", KINDS[:4])
def test_a_loaded_saelens_object_gives_the_same_value_as_its_folder(tmp_path: Path, kind: str) -> None:
    from persona_probe.saes.folder import read_sae
    from persona_probe.saes.sources import from_sae_lens

    folder = written(tmp_path / "sae", kind)
    direct, read = from_sae_lens(reopened(folder), id="x"), read_sae(folder)
    assert (direct.sha256, direct.hook_point, direct.k, direct.id) == (
        read.sha256,
        read.hook_point,
        read.k,
        "x",
    )
    assert_close(direct.encode(stream(4)), read.encode(stream(4)), atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", ["standard", "topk", "jumprelu"])
def test_some_latents_are_columns_of_all(tmp_path: Path, kind: str) -> None:
    from persona_probe.saes.folder import read_sae

    sae = read_sae(written(tmp_path / "sae", kind))
    x = stream(2, 5)
    whole = sae.encode(x)
    busiest = whole.mean((0, 1)).topk(4).indices.tolist()
    assert_close(sae.encode_some(x, (*busiest, 0, 39)), whole[..., [*busiest, 0, 39]], atol=1e-6, rtol=0)


def test_latents_are_float32_whatever_the_stream_is(tmp_path: Path) -> None:
    from persona_probe.saes.folder import read_sae

    sae = read_sae(written(tmp_path / "sae", "jumprelu", apply_b_dec_to_input=False))
    assert sae.encode(stream(2).bfloat16()).dtype == torch.float32
    assert sae.encode_some(stream(2).bfloat16(), (1,)).dtype == torch.float32


@pytest.mark.parametrize("kind", KINDS)
def test_saelens_reads_what_we_write_and_so_do_we(tmp_path: Path, kind: str) -> None:
    from persona_probe.saes.folder import read_sae, write_sae

    first = read_sae(written(tmp_path / "sae", kind))
    write_sae(tmp_path / "ours", first, metadata={"dataset": "shipped texts"}, dtype=torch.float32)
    again, theirs = read_sae(tmp_path / "ours", id="sae"), reopened(tmp_path / "ours")
    x = stream(6)
    assert (again.sha256, again.hook_point, again.k, again.model_name) == (
        first.sha256,
        first.hook_point,
        first.k,
        first.model_name,
    )
    assert_close(again.encode(x), first.encode(x), atol=1e-6, rtol=0)
    with torch.no_grad():
        assert_close(theirs.encode(x), first.encode(x), atol=1e-5, rtol=0)
        assert_close(theirs(x), first.reconstruct(x), atol=1e-5, rtol=0)
    assert theirs.cfg.metadata.hook_name == "blocks.2.hook_out"
    assert theirs.cfg.metadata.dataset == "shipped texts"


def test_shipped_precision_is_bfloat16_and_read_as_float32(tmp_path: Path) -> None:
    from persona_probe.saes.folder import read_sae, write_sae

    first = read_sae(written(tmp_path / "sae", "jumprelu"))
    write_sae(tmp_path / "ours", first, metadata={})
    assert {tensor.dtype for tensor in load_file(tmp_path / "ours" / "sae_weights.safetensors").values()} == {
        torch.bfloat16
    }
    again = read_sae(tmp_path / "ours")
    assert again.W_enc.dtype == torch.float32
    assert_close(again.W_enc, first.W_enc.bfloat16().float(), atol=0, rtol=0)


def test_centring_takes_the_mean_over_the_width_away_and_gives_it_back(tmp_path: Path) -> None:
    from persona_probe.saes.folder import read_sae, write_sae

    folder = written(tmp_path / "sae")
    plain = read_sae(folder)
    edit_facts(folder, model_from_pretrained_kwargs={"center_writing_weights": True})
    centred = read_sae(folder)
    x = stream(5)
    inner = x - x.mean(-1, keepdim=True)
    assert centred.centre_input
    assert not plain.centre_input
    assert_close(centred.encode(x), plain.encode(inner), atol=1e-6, rtol=0)
    assert_close(
        centred.reconstruct(x), plain.reconstruct(inner) + x.mean(-1, keepdim=True), atol=1e-6, rtol=0
    )
    write_sae(tmp_path / "again", centred, metadata={}, dtype=torch.float32)
    assert read_sae(tmp_path / "again").centre_input


@pytest.mark.parametrize(
    ("name", "canonical"),
    [
        ("blocks.3.hook_resid_post", "blocks.3.hook_out"),
        ("blocks.3.hook_out", "blocks.3.hook_out"),
        ("model.layers.3", "blocks.3.hook_out"),
        ("transformer.h.3", "blocks.3.hook_out"),
        ("blocks.3.hook_resid_pre", "blocks.2.hook_out"),
    ],
)
def test_every_spelling_of_the_stream_after_a_block_is_one_hook_point(name: str, canonical: str) -> None:
    from persona_probe.saes.folder import canonical_hook_point

    assert canonical_hook_point(name, "x") == canonical


@pytest.mark.parametrize(
    "name",
    [
        "blocks.3.attn.hook_z",
        "blocks.3.hook_mlp_out",
        "blocks.0.hook_resid_pre",
        "blocks.3.ln2.hook_normalized",
        None,
    ],
)
def test_other_places_are_refused_with_the_reason(name: str | None) -> None:
    from persona_probe.base.errors import BadInput
    from persona_probe.saes.folder import canonical_hook_point

    with pytest.raises(BadInput, match="only the residual stream after a block"):
        canonical_hook_point(name, "x")


def test_topk_of_the_time_before_saelens_6_is_read_as_topk(tmp_path: Path) -> None:
    """Then the activation function said so, not the architecture; SAELens maps it the same way."""
    from persona_probe.saes.folder import read_sae

    folder = written(tmp_path / "sae", "topk")
    new = read_sae(folder)
    old = {
        "architecture": "standard",
        "activation_fn_str": "topk",
        "activation_fn_kwargs": {"k": 5},
        "k": None,
        "metadata": None,
    }
    tiny.edit_json(
        folder / "cfg.json",
        **old,
        hook_name="blocks.2.hook_resid_post",
        model_name="tiny-llama",
        normalize_activations=False,
    )
    legacy = read_sae(folder)
    assert (legacy.architecture, legacy.k, legacy.hook_point) == ("topk", 5, "blocks.2.hook_out")
    assert_close(legacy.encode(stream(4)), new.encode(stream(4)), atol=1e-6, rtol=0)
    with torch.no_grad():
        assert_close(reopened(folder).encode(stream(4)), legacy.encode(stream(4)), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda tensors: tensors.pop("b_enc"), "tensors are"),
        (lambda tensors: tensors.update(scaling_factor=2 * torch.ones(D_SAE)), "tensors are"),
        (lambda tensors: tensors.update(W_dec=tensors["W_dec"][:-1].clone()), r"W_dec has shape \(39, 12\)"),
        (lambda tensors: tensors.update(b_dec=tensors["b_dec"] * float("nan")), "NaN or infinity"),
        (lambda tensors: tensors.update(W_enc=tensors["W_enc"].long()), "W_enc is int64"),
    ],
)
def test_damaged_weights_are_refused(tmp_path: Path, change: Any, reason: str) -> None:
    from persona_probe.base.errors import BadInput
    from persona_probe.saes.folder import read_sae

    path = written(tmp_path / "sae") / "sae_weights.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)
    with pytest.raises(BadInput, match=reason):
        read_sae(tmp_path / "sae")


def test_a_folder_that_is_no_sae_is_refused(tmp_path: Path) -> None:
    from persona_probe.base.errors import BadInput
    from persona_probe.saes.folder import read_sae

    folder = written(tmp_path / "sae")
    (folder / "sae_weights.safetensors").rename(folder / "sae_weights.pt")
    with pytest.raises(BadInput, match="pickled SAEs are never loaded"):
        read_sae(folder)
    for text in ("{", "[1]", "[" * 100_000, "\udcff"):
        (folder / "cfg.json").write_bytes(text.encode("utf-8", "surrogateescape"))
        with pytest.raises(BadInput, match=r"cfg\.json"):
            read_sae(folder)
    (folder / "cfg.json").unlink()
    with pytest.raises(BadInput, match="missing or not JSON"):
        read_sae(folder)


def test_a_latent_that_writes_nothing_stays_finite(tmp_path: Path) -> None:
    from persona_probe.saes.folder import read_sae

    path = written(tmp_path / "sae", "topk rescaled") / "sae_weights.safetensors"
    tensors = load_file(path)
    tensors["W_dec"][3] = 0
    save_file(tensors, path)
    assert torch.isfinite(read_sae(tmp_path / "sae").reconstruct(stream(4))).all()

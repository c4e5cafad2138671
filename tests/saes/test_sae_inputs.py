"""Claims about what an SAE does to its input before it reads it: the same as SAELens for every architecture,
setting and age of the config."""

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import tiny
from helpers.lens_saes import D_IN, D_SAE, KINDS, edit_facts, reopened, stream, written
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

SCALES = ("constant_norm_rescale", "layer_norm")
SIZES = torch.tensor([0.01, 0.3, 1, 8, 200])[:, None]


def uneven() -> torch.Tensor:
    """Tokens of very different length, with a mean that is not 0."""
    return stream(3, 5) * SIZES + SIZES


def same(found: torch.Tensor, expected: torch.Tensor) -> None:
    """Equal to 1e-5 of the longest vector of each token's size: a long token rounds more coarsely."""
    size = expected.norm(dim=-1, keepdim=True).amax(0, keepdim=True).clamp(min=1)
    assert_close(found / size, expected / size, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("normalisation", ["none", *SCALES])
@pytest.mark.parametrize("subtract", [True, False, None])
def test_latents_and_reconstruction_are_those_of_saelens(
    tmp_path: Path, kind: str, normalisation: str, subtract: bool | None
) -> None:
    """A setting that is missing has SAELens' default."""
    from persona_probe.saes.folder import read_sae
    from persona_probe.saes.sources import from_sae_lens

    settings = {} if subtract is None else {"apply_b_dec_to_input": subtract}
    folder = written(tmp_path / "sae", kind, normalize_activations=normalisation, **settings)
    if subtract is None:
        tiny.edit_json(folder / "cfg.json", apply_b_dec_to_input=None)
    theirs, ours, x = reopened(folder), read_sae(folder), uneven()
    assert ours.apply_b_dec_to_input is (subtract is not False)
    assert ours.normalisation == normalisation
    with torch.no_grad():
        acts = theirs.encode(x)
        back = theirs(x)
    assert (acts > 0).any()
    for found in (ours, from_sae_lens(theirs, id="x")):
        same(found.encode(x), acts)
        same(found.encode_some(x, (3, 0, 39)), acts[..., [3, 0, 39]])
        same(found.reconstruct(x), back)


@pytest.mark.parametrize("normalisation", SCALES)
@pytest.mark.parametrize("kind", KINDS)
def test_what_we_write_keeps_its_normalisation(tmp_path: Path, kind: str, normalisation: str) -> None:
    from persona_probe.saes.folder import read_sae, write_sae

    first, x = read_sae(written(tmp_path / "sae", kind, normalize_activations=normalisation)), uneven()
    write_sae(tmp_path / "ours", first, metadata={}, dtype=torch.float32)
    again, theirs = read_sae(tmp_path / "ours"), reopened(tmp_path / "ours")
    assert (again.normalisation, again.sha256) == (normalisation, first.sha256)
    assert_close(again.reconstruct(x), first.reconstruct(x), atol=1e-6, rtol=0)
    with torch.no_grad():
        same(theirs(x), first.reconstruct(x))


@pytest.mark.parametrize("normalisation", SCALES)
def test_a_token_of_length_0_stays_finite(tmp_path: Path, normalisation: str) -> None:
    from persona_probe.saes.folder import read_sae

    sae, x = read_sae(written(tmp_path / "sae", normalize_activations=normalisation)), torch.zeros(2, D_IN)
    assert torch.isfinite(sae.encode(x)).all()
    assert_close(sae.reconstruct(x), x, atol=1e-6, rtol=0)


@pytest.mark.parametrize("normalisation", ["none", *SCALES])
@pytest.mark.parametrize("centred", [True, False])
def test_setting_latents_moves_the_stream_as_far_as_it_moves_the_reconstruction(
    tmp_path: Path, normalisation: str, centred: bool
) -> None:
    """h + (f' - f) W_dec, scaled back: what SAELens' reconstruction of the same token changes by."""
    from persona_probe.saes.edits import SetLatents
    from persona_probe.saes.folder import read_sae

    folder = written(tmp_path / "sae", normalize_activations=normalisation)
    edit_facts(folder, model_from_pretrained_kwargs={"center_writing_weights": centred})
    theirs, x = reopened(folder), uneven()
    inner = x - x.mean(-1, keepdim=True) if centred else x
    with torch.no_grad():
        acts = theirs.encode(inner)
        before = theirs.decode(acts)
        latent = int((acts > 0).sum((0, 1)).argmax())
        theirs.encode(inner)  # decode uses the scale up
        changed = acts.clone()
        changed[..., latent] = torch.where(acts[..., latent] > 0, 0.7, 0.0)
        after = theirs.decode(changed)
    edited = SetLatents(read_sae(folder), (latent,), value=0.7).edit(x, hook_point="blocks.2.hook_out")
    assert (edited != x).any(-1).any()
    same(edited, x + (after - before))


# None takes a field away.
NEW = dict.fromkeys(("metadata", "apply_b_dec_to_input", "normalize_activations", "reshape_activations"))
OLD: dict[str, Any] = {
    **NEW,
    "hook_name": "blocks.2.hook_resid_post",
    "model_name": "tiny-llama",
    "hook_layer": 2,
}


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("standard", {}),
        ("standard", {"normalize_activations": False}),
        ("standard", {"normalize_activations": "layer_norm", "activation_fn_str": "relu"}),
        ("standard", {"apply_b_dec_to_input": False, "finetuning_scaling_factor": False}),
        ("jumprelu", {"apply_b_dec_to_input": False}),
        ("jumprelu", {"activation_fn": "relu"}),
        ("gated", {}),
        (
            "topk",
            {
                "architecture": "standard",
                "activation_fn_str": "topk",
                "activation_fn_kwargs": {"k": 7},
                "k": None,
            },
        ),
        ("topk", {"architecture": "topk", "activation_fn": "topk", "activation_fn_kwargs": {"k": 7}}),
        ("topk", {"architecture": "topk", "activation_fn_kwargs": {"k": 7}}),
        ("topk", {"architecture": "topk", "normalize_activations": "constant_norm_rescale"}),
    ],
)
def test_a_config_of_before_saelens_6_is_read_as_saelens_reads_it(
    tmp_path: Path, kind: str, settings: dict[str, Any]
) -> None:
    from persona_probe.saes.folder import read_sae

    folder = written(tmp_path / "sae", kind)
    tiny.edit_json(folder / "cfg.json", **(OLD | settings))
    theirs, ours, x = reopened(folder), read_sae(folder), uneven()
    with torch.no_grad():
        same(ours.encode(x), theirs.encode(x))
        same(ours.reconstruct(x), theirs(x))


def test_topk_without_a_k_has_that_of_saelens() -> None:
    import sae_lens as lens

    from persona_probe.saes.settings import read_architecture

    assert read_architecture({"architecture": "topk"}, "x") == ("topk", lens.TopKSAEConfig(d_in=2, d_sae=4).k)


@pytest.mark.parametrize("value", [None, "false", 2])
def test_a_subtraction_that_is_neither_true_nor_false_is_refused(value: Any) -> None:
    from persona_probe.base.errors import BadInput
    from persona_probe.saes.settings import read_input

    with pytest.raises(BadInput, match=r"^x: apply_b_dec_to_input is .*: expected true or false$"):
        read_input({"apply_b_dec_to_input": value}, "x")


def test_scaling_factors_of_1_are_left_out_as_saelens_does(tmp_path: Path) -> None:
    from persona_probe.saes.folder import read_sae

    folder = written(tmp_path / "sae")
    plain, path = read_sae(folder), folder / "sae_weights.safetensors"
    save_file({**load_file(path), "scaling_factor": torch.ones(D_SAE)}, path)
    assert read_sae(folder).sha256 == plain.sha256
    with torch.no_grad():
        same(reopened(folder)(uneven()), plain.reconstruct(uneven()))


@pytest.mark.parametrize(
    "name",
    ["google/gemma-2-2b", "meta-llama/Llama-3.1-8B", "Qwen2.5-7B-Instruct", "HuggingFaceTB/SmolLM2-135M"],
)
def test_an_sae_of_a_family_that_transformer_lens_never_centres_is_not_centred(
    tmp_path: Path, name: str
) -> None:
    from persona_probe.saes.folder import read_sae

    folder = written(tmp_path / "sae")
    edit_facts(folder, model_name=name, model_from_pretrained_kwargs={"center_writing_weights": True})
    sae, x = read_sae(folder), uneven()
    assert not sae.centre_input
    with torch.no_grad():
        same(sae.encode(x), reopened(folder).encode(x))


@pytest.mark.parametrize("normalisation", SCALES)
def test_means_of_latents_that_read_a_scaled_input_are_in_units_of_the_stream(
    tmp_path: Path, normalisation: str
) -> None:
    """What a latent adds to a token is what ablating it takes away."""
    from persona_probe.prompts.rows import Row
    from persona_probe.saes.diff import latent_means
    from persona_probe.saes.edits import SetLatents
    from persona_probe.saes.folder import read_sae
    from persona_probe.streams.activations import TokenActs

    sae, x = read_sae(written(tmp_path / "sae", normalize_activations=normalisation)), uneven()
    rows = tuple(
        Row(id=str(i), kind="persona", question_id="q", ids=(1,) * 5, n_prompt=1, label="aligned")
        for i in range(3)
    )
    keep = torch.ones(3, 5, dtype=torch.bool)
    means = latent_means([TokenActs(rows, torch.ones(3, 5, dtype=torch.long), x, keep)], sae)
    latent = int(means.mean.argmax())
    taken = (x - SetLatents(sae, (latent,)).edit(x, hook_point=sae.hook_point)).mean((0, 1))
    assert_close(means.mean[latent] * sae.W_dec[latent], taken, atol=1e-4, rtol=1e-3)
    assert_close(means.mean_of["aligned"], means.mean)


def test_the_hash_covers_what_is_done_to_the_input_and_is_that_of_the_weights_where_nothing_is(
    tmp_path: Path,
) -> None:
    from dataclasses import replace

    from persona_probe.saes.folder import read_sae
    from persona_probe.storage.tensor_files import sha256_tensors

    plain, *scaled = (
        read_sae(written(tmp_path / name, normalize_activations=name)) for name in ("none", *SCALES)
    )
    assert torch.equal(plain.W_enc, scaled[0].W_enc)
    assert plain.sha256 == sha256_tensors([plain.W_dec, plain.W_enc, plain.b_dec, plain.b_enc])
    assert len({sae.sha256 for sae in (plain, *scaled, replace(plain, centre_input=True))}) == 4

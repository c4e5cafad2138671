"""Claims about SAEs as files and values beside those of test_saes: what their messages say, decode alone,
single columns, centring."""

import pickle
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import tiny
from helpers.lens_saes import D_IN, D_SAE, KINDS, edit_facts, lens_sae, reopened, stream, written
from torch.testing import assert_close


def refusal(folder: Path) -> str:
    from persona_probe.base.errors import BadInput
    from persona_probe.saes.folder import read_sae

    with pytest.raises(BadInput) as refused:
        read_sae(folder)
    return str(refused.value)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "topk rescaled"])
def test_decode_alone_is_that_of_saelens_on_any_latents(tmp_path: Path, kind: str) -> None:
    from persona_probe.saes.folder import read_sae

    folder = written(tmp_path / "sae", kind)
    acts = torch.rand(2, 5, D_SAE, generator=torch.Generator().manual_seed(1)) * 3
    with torch.no_grad():
        assert_close(read_sae(folder).decode(acts), reopened(folder).decode(acts), atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_every_single_latent_is_its_column_on_every_architecture(tmp_path: Path, kind: str) -> None:
    from persona_probe.saes.folder import read_sae

    sae, x = read_sae(written(tmp_path / "sae", kind)), stream(3)
    found = torch.cat([sae.encode_some(x, (latent,)) for latent in range(D_SAE)], -1)
    assert_close(found, sae.encode(x), atol=1e-6, rtol=0)


def test_a_batchtopk_sae_is_read_with_one_threshold_for_all_its_latents(tmp_path: Path) -> None:
    from persona_probe.saes.folder import read_sae

    sae = read_sae(written(tmp_path / "sae", "batchtopk"))
    acts = sae.encode(stream(50))
    assert_close(sae.threshold, torch.full((D_SAE,), 0.7), atol=1e-6, rtol=0)  # what test_saes sets it to
    assert float(acts[acts > 0].min()) > 0.7


def test_a_constant_added_to_the_stream_is_not_seen_by_a_centring_sae_and_comes_back_whole(
    tmp_path: Path,
) -> None:
    from persona_probe.saes.folder import read_sae

    folder = written(tmp_path / "sae")
    edit_facts(folder, model_from_pretrained_kwargs={"center_writing_weights": True})
    sae, x = read_sae(folder), stream(5)
    shift = torch.tensor([0.0, 1, -3, 20, 0.5])[:, None]
    assert_close(sae.encode(x + shift), sae.encode(x), atol=2e-5, rtol=0)
    assert_close(sae.encode_some(x + shift, (0, 9)), sae.encode_some(x, (0, 9)), atol=2e-5, rtol=0)
    assert_close(sae.reconstruct(x + shift) - sae.reconstruct(x), shift.expand(5, D_IN), atol=5e-5, rtol=0)


@pytest.mark.parametrize(
    ("name", "canonical"),
    [
        ("blocks.11.hook_resid_post", "blocks.11.hook_out"),
        ("blocks.0.hook_out", "blocks.0.hook_out"),
        ("blocks.1.hook_resid_pre", "blocks.0.hook_out"),
        ("blocks.3.hook_in", "blocks.2.hook_out"),
        ("model.layers.0", "blocks.0.hook_out"),
        ("model.h.7", "blocks.7.hook_out"),
        ("transformer.layers.7", "blocks.7.hook_out"),
        ("blocks.07.hook_out", "blocks.7.hook_out"),
    ],
)
def test_further_spellings_of_a_hook_point(name: str, canonical: str) -> None:
    from persona_probe.saes.folder import canonical_hook_point

    assert canonical_hook_point(name, "x") == canonical


@pytest.mark.parametrize(
    "name",
    [
        "blocks.0.hook_in",
        "blocks.-1.hook_out",
        "blocks.x.hook_out",
        "blocks.3.hook_out.more",
        "model.layers.3.mlp",
        "blocks.3.hook_out\n",
        "",
        3,
    ],
)
def test_places_that_only_look_like_a_block_are_refused_in_one_line(name: object) -> None:
    from persona_probe.base.errors import BadInput
    from persona_probe.saes.folder import canonical_hook_point

    with pytest.raises(
        BadInput, match=r"^x: the SAE reads .*only the residual stream after a block can be used"
    ) as refused:
        canonical_hook_point(name, "x")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            None,
            (
                r"cfg\.json is missing or not JSON \(.*\): an SAE folder holds cfg\.json and"
                r" sae_weights\.safetensors"
            ),
        ),
        (b"{", r"cfg\.json is missing or not JSON \("),
        (b"\xff", r"cfg\.json is missing or not JSON \("),
        (b"", r"cfg\.json is missing or not JSON \("),
        (b"[1]", r"cfg\.json holds a JSON list, expected an object"),
        (b"null", r"cfg\.json holds a JSON NoneType, expected an object"),
    ],
)
def test_a_config_that_cannot_be_read_is_named_in_one_line(
    tmp_path: Path, text: bytes | None, message: str
) -> None:
    folder = written(tmp_path / "sae")
    (folder / "cfg.json").unlink() if text is None else (folder / "cfg.json").write_bytes(text)
    found = refusal(folder)
    assert re.search(message, found)
    assert "\n" not in found


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_truncated_weights_are_refused_in_one_line(tmp_path: Path, share: float) -> None:
    path = written(tmp_path / "sae") / "sae_weights.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    found = refusal(tmp_path / "sae")
    assert "sae_weights.safetensors is damaged or not a safetensors file" in found
    assert "\n" not in found


def trap(folder: Path) -> bytes:
    """A pickle that makes the file `opened` when it is read."""

    class Trap:
        def __reduce__(self) -> Any:
            return Path.touch, (folder / "opened",)

    return pickle.dumps(Trap())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("sae_weights.pt", "has no sae_weights.safetensors: pickled SAEs are never loaded"),
        ("sae_weights.safetensors", "sae_weights.safetensors is damaged or not a safetensors file"),
    ],
)
def test_a_pickle_is_never_opened_whatever_its_name(tmp_path: Path, name: str, message: str) -> None:
    folder = written(tmp_path / "sae")
    (folder / "sae_weights.safetensors").unlink()
    (folder / name).write_bytes(trap(tmp_path))
    found = refusal(folder)
    assert message in found
    assert "\n" not in found
    assert not (tmp_path / "opened").exists()
    pickle.loads((folder / name).read_bytes())
    assert (tmp_path / "opened").exists()  # it would have been seen


@pytest.mark.parametrize("d_sae", [2**24 + 1, 2**63, 0, -40, 40.0, None])
def test_an_absurd_number_of_latents_is_refused_in_one_line(tmp_path: Path, d_sae: Any) -> None:
    folder = written(tmp_path / "sae")
    tiny.edit_json(folder / "cfg.json", d_sae=d_sae)
    found = refusal(folder)
    assert f"d_sae {d_sae!r}, allowed are whole numbers up to 16,777,216" in found
    assert "\n" not in found


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loaded_saelens_object_that_is_not_finite_is_refused(value: float) -> None:
    from persona_probe.base.errors import BadInput
    from persona_probe.saes.sources import from_sae_lens

    sae = lens_sae("standard")
    sae.W_dec.data[3, 4] = value
    with pytest.raises(BadInput, match=r"^x: W_dec holds NaN or infinity: the SAE is not usable$"):
        from_sae_lens(sae, id="x")


def test_a_loaded_saelens_object_of_another_architecture_is_refused() -> None:
    import sae_lens as lens
    from sae_lens.saes.sae import SAEMetadata

    from persona_probe.base.errors import BadInput
    from persona_probe.saes.sources import from_sae_lens

    facts = SAEMetadata(hook_name="blocks.2.hook_resid_post")
    common: dict[str, Any] = {"d_in": D_IN, "d_sae": D_SAE, "metadata": facts}
    others = [
        lens.AbsTopKSAE(lens.AbsTopKSAEConfig(k=5, **common)),
        lens.MatchingPursuitSAE(lens.MatchingPursuitSAEConfig(**common)),
        lens.Transcoder(lens.TranscoderConfig(d_out=D_IN, apply_b_dec_to_input=False, **common)),
        lens.JumpReLUTranscoder(
            lens.JumpReLUTranscoderConfig(d_out=D_IN, apply_b_dec_to_input=False, **common)
        ),
    ]
    for sae in others:
        name = sae.cfg.architecture()
        with pytest.raises(
            BadInput,
            match=rf"^x: an SAE of architecture '{name}', supported are standard, topk, jumprelu, gated$",
        ):
            from_sae_lens(sae, id="x")


@pytest.mark.parametrize(
    "spec", ["nothing-of-this-name", "only-a-release:", ":only-an-id", "folder/that/is/not"]
)
def test_a_name_that_is_no_sae_is_refused_in_one_line_with_the_three_ways(
    spec: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from persona_probe.base.errors import BadInput
    from persona_probe.saes import sources as sae_sources
    from persona_probe.storage import shipped

    monkeypatch.setattr(shipped, "_places", lambda: (tmp_path,))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        BadInput,
        match=(
            r"no SAE .*no folder, no RELEASE:ID of SAELens, and none of the SAEs known by name \(there are"
            r" none\)"
        ),
    ) as refused:
        sae_sources.resolve_sae(spec)
    assert "\n" not in str(refused.value)

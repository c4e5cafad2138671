"""Claims about an SAE and the model that it is used with: when the stream is centred, and what is noted."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from helpers import tiny
from helpers.families import Family
from helpers.lens_saes import edit_facts, reopened, written
from torch.testing import assert_close

if TYPE_CHECKING:
    from sae_lens import SAE

    from persona_probe.models.pairs import Pair
    from persona_probe.saes.sae import Sae


def flagged(folder: Path) -> "tuple[Sae, SAE[Any]]":
    """An SAE of the tiny models' width that asks for a centred stream, and what SAELens makes of it."""
    from persona_probe.saes.folder import read_sae

    written(folder, d_in=tiny.WIDTH)
    edit_facts(
        folder, model_name="my-own-model", model_from_pretrained_kwargs={"center_writing_weights": True}
    )
    return read_sae(folder), reopened(folder)


def pair_of(family: Family) -> "Pair":
    """The family as base and as tuned model, the base being loaded."""
    from persona_probe.models.pairs import Pair
    from persona_probe.models.sources import resolve

    source, model = resolve(str(family.folder)), family.model
    return Pair(
        source, source, model.tokenizer, model.device, model.dtype, keep_both=True, _loaded={"base": model}
    )


def test_the_stream_is_centred_where_transformer_lens_centres_the_model(
    family: Family, tmp_path: Path
) -> None:
    """TransformerLens loads the same weights with center_writing_weights, as SAELens says to; its stream is
    the judge."""
    from transformer_lens.model_bridge import TransformerBridge
    from transformers import AutoModelForCausalLM

    from persona_probe.saes.sources import fitted, fitting

    sae, theirs = flagged(tmp_path / "sae")
    ids, hook = torch.tensor([[2, 20, 33, 47, 5, 90]]), sae.hook_point
    weights = AutoModelForCausalLM.from_pretrained(
        family.folder, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    bridge = TransformerBridge.boot_transformers(
        "x", hf_model=weights, tokenizer=family.model.tokenizer, device="cpu", dtype=torch.float32
    )
    streams = []
    for _ in range(2):
        with torch.no_grad():
            streams.append(bridge.run_with_cache(ids, names_filter=hook)[1][hook].clone())
        if len(streams) == 1:
            bridge.process_weights(
                fold_ln=False, center_writing_weights=True, center_unembed=False, fold_value_biases=False
            )
    plain, processed = streams
    assert (plain.mean(-1).abs() > 1e-3).any()
    pair = pair_of(family)
    used = fitted(sae, pair)
    assert used.centre_input is (family.name == "gpt2")
    with torch.no_grad():
        assert_close(used.encode(plain), theirs.encode(processed), atol=1e-4, rtol=0)
    notes = [note for note in fitting(sae, pair) if "centred" in note]
    assert len(notes) == (0 if family.name == "gpt2" else 1)
    assert not [note for note in fitting(used, pair) if "centred" in note]


def test_an_sae_that_scales_its_input_is_used_with_a_note(llama: Family, tmp_path: Path) -> None:
    from persona_probe.saes.folder import read_sae
    from persona_probe.saes.sources import fitting

    pair = pair_of(llama)
    for normalisation in ("constant_norm_rescale", "layer_norm"):
        sae = read_sae(
            written(tmp_path / normalisation, d_in=tiny.WIDTH, normalize_activations=normalisation)
        )
        assert sum(f"scales every token ({normalisation})" in note for note in fitting(sae, pair)) == 1

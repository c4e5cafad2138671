"""Claims about multimodal wrappers: their language model is measured, without its vision, and with its own
sizes."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import tiny
from helpers.broken import load, refused
from helpers.logits import plain_logits, twin_logits


@pytest.fixture(scope="module")
def wrapper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Gemma 3 that also sees, with a cap on logits that its wrapper ignores."""
    return write_gemma3(tmp_path_factory.mktemp("wrapper"))


def write_gemma3(folder: Path, *, n_layers: int = 4, tied: bool = True) -> Path:
    import transformers

    kinds = ["sliding_attention", "full_attention"] * 3
    text = {
        **tiny.LLAMA_LIKE,
        "num_hidden_layers": n_layers,
        "vocab_size": 320,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 3,
        "head_dim": 12,
    }
    text |= {
        "max_position_embeddings": 8192,
        "layer_types": kinds[:n_layers],
        "sliding_window": 6,
        "final_logit_softcapping": 3.0,
    }
    vision = {
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 28,
        "patch_size": 14,
    }
    config = transformers.Gemma3Config(
        text_config=text,
        vision_config=vision,
        mm_tokens_per_image=4,
        image_token_index=310,
        boi_token_index=311,
        eoi_token_index=312,
        tie_word_embeddings=tied,
    )
    model = transformers.AutoModelForCausalLM.from_config(config)
    tiny.randomise(model, torch.Generator().manual_seed(0))
    model.save_pretrained(folder)
    tiny.tiny_tokenizer().save_pretrained(folder)
    return folder


@pytest.mark.parametrize("tied", [True, False])
def test_the_language_model_of_a_wrapper_gives_the_wrappers_logits_without_its_vision(
    tmp_path: Path, tied: bool
) -> None:
    folder = write_gemma3(tmp_path, tied=tied)
    expected = plain_logits(folder)
    model = load(folder)
    torch.testing.assert_close(twin_logits(model), expected, atol=1e-4, rtol=0)
    assert type(model.twin).__name__ == "Gemma3ForCausalLM"
    assert not [name for name, _ in model.twin.named_parameters() if "vision" in name or "projector" in name]


def test_loading_a_wrapper_installs_nothing(wrapper: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import subprocess
    import sys

    from persona_probe.models.bridges import boot_bridge

    def installed(*command: Any, **_: Any) -> None:
        raise AssertionError(f"ran {command}")

    monkeypatch.setattr(subprocess, "check_call", installed)
    monkeypatch.setitem(sys.modules, "torchvision", None)
    assert load(wrapper).n_layers == 4
    from transformers import AutoModelForCausalLM

    whole = AutoModelForCausalLM.from_pretrained(wrapper)
    with refused(r"a multimodal Gemma3ForConditionalGeneration is never bridged"):
        boot_bridge("x", whole, tiny.tiny_tokenizer(), device=torch.device("cpu"), dtype=torch.float32)


def test_sizes_are_those_of_the_language_model_inside(wrapper: Path) -> None:
    model = load(wrapper)
    assert (model.n_ctx, model.n_layers, model.d_model, model.engine.n_rows) == (8192, 4, 32, 320)


@pytest.mark.parametrize("other", ["wrapper", "alone"])
def test_a_pair_of_different_depth_is_refused_before_loading(
    wrapper: Path, tmp_path: Path, other: str
) -> None:
    from persona_probe.models.sources import resolve, same_shape

    shallow = write_gemma3(tmp_path, n_layers=3)
    if other == "alone":
        from transformers import AutoConfig

        inner = AutoConfig.from_pretrained(shallow).text_config
        (shallow / "config.json").write_text(
            json.dumps(inner.to_dict() | {"architectures": ["Gemma3ForCausalLM"]})
        )
    with refused(r"differ in shape \(num_hidden_layers: 4 against 3\)"):
        same_shape(resolve(str(wrapper)), resolve(str(shallow)))

"""Claims about adapters of multimodal models: they fit the language model alone, and the other way round."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from helpers import tiny
from helpers.adapter_forms import close, logits, merged, plain, write_trained
from helpers.broken import refused
from peft import PeftModel
from safetensors.torch import load_file, save_file


@pytest.fixture(scope="session")
def multimodal(tmp_path_factory: pytest.TempPathFactory) -> tuple[Callable[[], Any], Path]:
    """A tiny Gemma 3 with eyes, made anew at each call, and the folder of its language model alone."""
    text = tiny.tiny_config("gemma3").to_dict()
    vision = {
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 28,
        "patch_size": 14,
    }
    config = transformers.Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4)

    def whole() -> Any:
        model = transformers.Gemma3ForConditionalGeneration(copy.deepcopy(config)).float()
        tiny.randomise(model, torch.Generator().manual_seed(4))
        return model.eval()

    language: Any = config.get_text_config()
    alone: Any = transformers.Gemma3ForCausalLM(language).float()
    alone.model.load_state_dict(whole().model.language_model.state_dict())
    folder = tmp_path_factory.mktemp("alone")
    alone.save_pretrained(folder)
    return whole, folder


TO_OLD = {
    "base_model.model.model.language_model.": "base_model.model.language_model.model.",
    "base_model.model.model.vision_tower.": "base_model.model.vision_tower.",
    "base_model.model.lm_head.": "base_model.model.language_model.lm_head.",
}


TEXT_ONLY = r".*language_model.*\.(q_proj|up_proj)"


def as_transformers_4(adapter: Path, **changes: Any) -> None:
    tensors = load_file(adapter / "adapter_model.safetensors")
    for new, old in TO_OLD.items():
        tensors = {
            old + key.removeprefix(new) if key.startswith(new) else key: tensor
            for key, tensor in tensors.items()
        }
    save_file(tensors, adapter / "adapter_model.safetensors")
    tiny.edit_json(adapter / "adapter_config.json", **changes)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("old", [False, True], ids=["named as today", "named as in transformers 4"])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"target_modules": TEXT_ONLY},
        {"target_modules": TEXT_ONLY, "modules_to_save": ["embed_tokens"]},
        {"target_modules": rf"{TEXT_ONLY}|(.*\.)?lm_head"},
        {
            "target_modules": TEXT_ONLY,
            "rank_pattern": {r".*layers\.1\..*q_proj": 2},
            "alpha_pattern": {r".*layers\.2\.mlp\.up_proj": 3},
        },
        {"target_modules": "all-linear"},
    ],
    ids=["with vision", "text only", "embed_tokens saved", "lora on lm_head", "patterns", "all-linear"],
)
def test_adapter_of_a_multimodal_model_fits_its_language_model(
    settings: dict[str, Any], old: bool, multimodal: tuple[Callable[[], Any], Path], tmp_path: Path
) -> None:
    whole, alone = multimodal
    adapter = write_trained(tmp_path, whole(), **settings)
    expected = logits(PeftModel.from_pretrained(whole(), adapter).eval())
    if old:
        as_transformers_4(adapter)
    close(logits(merged(adapter, alone)), expected)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"modules_to_save": ["lm_head"]},
        {"target_modules": r"model\.layers\..*q_proj", "rank_pattern": {r"model\.layers\.1\..*": 2}},
    ],
    ids=["plain", "lm_head saved", "regular expression"],
)
def test_adapter_of_a_language_model_fits_the_multimodal_one(
    settings: dict[str, Any], multimodal: tuple[Callable[[], Any], Path], tmp_path: Path
) -> None:
    from persona_probe.models.adapters import merge_adapter
    from persona_probe.models.sources import resolve

    whole, alone = multimodal
    adapter = write_trained(tmp_path, plain(alone), **settings)
    expected = logits(PeftModel.from_pretrained(plain(alone), adapter).eval())
    close(logits(merge_adapter(whole(), resolve(str(adapter)))), expected)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("old", [False, True], ids=["named as today", "named as in transformers 4"])
def test_adapter_of_a_multimodal_model_fits_itself(
    old: bool, multimodal: tuple[Callable[[], Any], Path], tmp_path: Path
) -> None:
    from persona_probe.models.adapters import merge_adapter
    from persona_probe.models.sources import resolve

    whole, _ = multimodal
    adapter = write_trained(tmp_path, whole())
    trained = PeftModel.from_pretrained(whole(), adapter).merge_and_unload().state_dict()
    if old:
        as_transformers_4(adapter)
    found = merge_adapter(whole(), resolve(str(adapter))).state_dict()
    assert found.keys() == trained.keys()
    for name, tensor in found.items():  # of the vision tower too, which text does not move
        close(tensor, trained[name])


def test_weights_of_unknown_parts_are_not_taken_for_vision(
    multimodal: tuple[Callable[[], Any], Path], tmp_path: Path
) -> None:
    whole, alone = multimodal
    adapter = write_trained(tmp_path, whole())
    tensors = load_file(adapter / "adapter_model.safetensors")
    save_file(
        {key.replace("vision_tower", "memory"): tensor for key, tensor in tensors.items()},
        adapter / "adapter_model.safetensors",
    )
    with refused(r"layout: weights \d+ too many \(first: .*(memory|language_model)"):
        merged(adapter, alone)


def test_shallower_multimodal_model_is_another_model(
    multimodal: tuple[Callable[[], Any], Path], tmp_path: Path
) -> None:
    whole, alone = multimodal
    adapter = write_trained(tmp_path, whole(), target_modules=TEXT_ONLY)
    tensors = load_file(adapter / "adapter_model.safetensors")
    save_file(
        {key: tensor for key, tensor in tensors.items() if "layers.3." not in key},
        adapter / "adapter_model.safetensors",
    )
    with refused(r"another model than its base: weights 4 missing .*it has 3 layers, the base 4"):
        merged(adapter, alone)

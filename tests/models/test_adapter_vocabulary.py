"""Claims about adapters trained on a vocabulary that was resized: taken over whole, or refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import tiny
from helpers.adapter_forms import close, logits, merged, plain, write_trained
from helpers.broken import refused
from peft import PeftModel
from safetensors.torch import load_file, save_file


def resized(base: Path) -> Any:
    model = plain(base)
    model.resize_token_embeddings(324)
    return model


def write_tokenizer(folder: Path, *, new: int) -> None:
    tokenizer = tiny.tiny_tokenizer()
    tokenizer.add_tokens([f"<new {i}>" for i in range(new)])
    tokenizer.save_pretrained(folder)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("base", ["llama", "untied"])
@pytest.mark.parametrize(
    "settings",
    [{}, {"modules_to_save": ["embed_tokens", "lm_head"]}, {"target_modules": ["lm_head", "embed_tokens"]}],
    ids=["left alone", "saved", "lora"],
)
def test_resized_vocabulary_is_taken_over_when_the_adapter_brings_it(
    settings: dict[str, Any], base: str, bases: Callable[[str], Path], tmp_path: Path
) -> None:
    adapter = write_trained(tmp_path, resized(bases(base)), **settings)
    write_tokenizer(adapter, new=4)
    expected = logits(PeftModel.from_pretrained(resized(bases(base)), adapter).eval())
    model = merged(adapter, bases(base))
    assert model.config.vocab_size == expected.shape[-1] == 324
    close(logits(model), expected)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("settings", "new", "message"),
    [
        ({}, None, "no tokenizer with the new tokens"),
        ({}, 9, "its tokenizer has 329 tokens"),
        ({"modules_to_save": ["embed_tokens"]}, 4, r"does not bring them whole \(lm_head is missing\)"),
    ],
    ids=["no tokenizer", "larger tokenizer", "one side"],
)
def test_resized_vocabulary_is_refused_when_something_lacks(
    settings: dict[str, Any], new: int | None, message: str, bases: Callable[[str], Path], tmp_path: Path
) -> None:
    adapter = write_trained(tmp_path, resized(bases("untied")), **settings)
    if settings:
        tensors = load_file(adapter / "adapter_model.safetensors")
        save_file(
            {key: tensor for key, tensor in tensors.items() if "lm_head" not in key},
            adapter / "adapter_model.safetensors",
        )
    if new is not None:
        write_tokenizer(adapter, new=new)
    with refused(rf"resized vocabulary: adapter has 324 rows, base 320, .*{message}"):
        merged(adapter, bases("untied"))


@pytest.mark.filterwarnings("ignore")
def test_trained_token_beyond_the_base_is_a_resized_vocabulary(
    bases: Callable[[str], Path], tmp_path: Path
) -> None:
    adapter = write_trained(tmp_path, plain(bases("llama")), trainable_token_indices=[5, 8])
    tiny.edit_json(adapter / "adapter_config.json", trainable_token_indices=[5, 321])
    with refused(r"resized vocabulary: adapter has at least 322 rows, base 320"):
        merged(adapter, bases("llama"))

"""Claims about bad adapters: each ends in one message, before anything is measured."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import tiny
from helpers.broken import change_weights, load, refused


def test_adapter_without_base_is_refused(adapter: Path) -> None:
    with refused(r"is an adapter: it needs --base"):
        load(adapter)


def test_adapter_as_base_is_refused(adapter: Path, written: Path) -> None:
    from persona_probe.base.errors import UsageError
    from persona_probe.models.sources import resolve, same_shape

    with pytest.raises(UsageError, match=r"is an adapter: give the full model it was trained on"):
        same_shape(resolve(str(adapter)), resolve(str(written)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"num_hidden_layers": 3},
            r"another model than its base: weights 14 too many \(first: .*layers\.3\.",
        ),
        ({"num_hidden_layers": 5}, r"another model than its base: weights 14 missing \(first: .*layers\.4\."),
        ({"hidden_size": 48}, r"another model than its base: weights \d+ of another shape"),
    ],
    ids=["shallower base", "deeper base", "wider base"],
)
def test_adapter_of_another_model_is_refused(
    adapter: Path, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    other = tiny.write_tiny(tmp_path / "other", "llama", **change)
    with refused(message):
        load(adapter, base=other)


def test_adapter_of_another_family_is_refused(adapter: Path, tmp_path: Path) -> None:
    with refused(r"does not fit its base"):
        load(adapter, base=tiny.write_tiny(tmp_path / "other", "gpt2"))


def test_adapter_that_names_its_layers_fits_a_base_that_has_them(written: Path, tmp_path: Path) -> None:
    adapter = tiny.write_lora(tmp_path / "some", written, layers=[1])
    model, plain = load(adapter, base=written), load(written)
    changed = {
        name
        for name, weight in model.twin.named_parameters()
        if not torch.equal(weight, plain.twin.get_parameter(name))
    }
    assert len(changed) == 7
    assert all(name.startswith("model.layers.1.") for name in changed)


def test_pickled_adapter_is_refused_unread(adapter: Path, written: Path) -> None:
    (adapter / "adapter_model.safetensors").unlink()
    torch.save({"canary": 1}, adapter / "adapter_model.bin")
    with refused(r"has no adapter_model.safetensors: pickled adapters \(.bin\) are never loaded"):
        load(adapter, base=written)


def test_adapter_of_zeros_is_refused(written: Path, tmp_path: Path) -> None:
    with refused(r"changes nothing: every merged weight equals the base's"):
        load(tiny.write_lora(tmp_path / "zero", written, zero_b=True), base=written)


def test_tensors_without_elements_or_without_fractions_count_as_finite() -> None:
    from persona_probe.models.weights import check_finite

    check_finite(
        "x",
        [
            ("empty", torch.empty(0, 4)),
            ("counts", torch.tensor([1, 2])),
            ("unread", torch.empty(3, device="meta")),
        ],
    )


def test_adapter_weight_that_is_not_finite_is_named(adapter: Path, written: Path) -> None:
    key = "base_model.model.model.layers.0.mlp.up_proj.lora_A.weight"
    change_weights(
        adapter, lambda tensors: tensors[key].fill_(float("nan")), name="adapter_model.safetensors"
    )
    with refused(rf"weight {re.escape(key)} holds NaN or infinity"):
        load(adapter, base=written)


def test_truncated_adapter_is_refused(adapter: Path, written: Path) -> None:
    path = adapter / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:3_000])
    with refused(r"does not fit its base|damaged"):
        load(adapter, base=written)


def test_other_kinds_of_adapter_are_refused(adapter: Path, written: Path) -> None:
    tiny.edit_json(adapter / "adapter_config.json", peft_type="PREFIX_TUNING")
    with refused(r"peft_type is 'PREFIX_TUNING', only LORA adapters can be merged exactly"):
        load(adapter, base=written)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"r": 8}, r"does not fit its own config: weights \d+ of another shape .*; the config's rank is 8"),
        (
            {"use_dora": True},
            r"incomplete by its own config: weights \d+ missing \(first: .*lora_magnitude_vector",
        ),
        (
            {"modules_to_save": ["lm_head"]},
            r"incomplete by its own config: weights 1 missing \(first: .*lm_head",
        ),
        ({"target_modules": ["nothing"]}, r"cannot be merged \(.*not found in the base model"),
        ({"r": "four"}, r"cannot be merged \("),
        ({"rank_pattern": {"(": 3}}, r"cannot be merged \("),
        ({"init_lora_weights": "no such start"}, r"cannot be merged: .*no such start"),
        ({"task_type": "IMAGE_TEXT_TO_TEXT"}, r"not one that PEFT [\d.]+ reads .*IMAGE_TEXT_TO_TEXT"),
        ({"arrow_config": {"top_k": 2}}, r"cannot be merged: Arrow"),
        ({"megatron_config": {"a": 1}}, r"cannot be merged: Megatron"),
        ({"use_shiny": True}, r"its config switches on use_shiny, which PEFT [\d.]+ does not know"),
        ({"shiny_config": {"a": 1}}, r"its config switches on shiny_config, which PEFT [\d.]+ does not know"),
    ],
    ids=lambda value: "" if isinstance(value, str) else "+".join(value),
)
def test_config_that_does_not_go_with_its_weights_is_refused(
    adapter: Path, written: Path, changes: dict[str, object], message: str
) -> None:
    tiny.edit_json(adapter / "adapter_config.json", **changes)
    with refused(message) as error:
        load(adapter, base=written)
    assert "another model" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda key: key.replace("base_model.model.", "base_model.model._orig_mod."),
            r"layout: weights \d+ too many \(first: .*_orig_mod",
        ),
        (
            lambda key: key if "layers.2" not in key else None,
            r"incomplete by its own config: weights 14 missing \(first: .*layers\.2",
        ),
        (lambda key: None, r"holds no weights"),
    ],
    ids=["compiled", "a layer less", "empty"],
)
def test_weights_that_are_named_otherwise_are_no_other_model(
    adapter: Path, written: Path, change: Callable[[str], str | None], message: str
) -> None:
    def rename(tensors: dict[str, torch.Tensor]) -> None:
        for key in list(tensors):
            tensor, new = tensors.pop(key), change(key)
            if new is not None:
                tensors[new] = tensor

    change_weights(adapter, rename, name="adapter_model.safetensors")
    with refused(message) as error:
        load(adapter, base=written)
    assert "another model" not in str(error.value)


def test_setting_that_peft_does_not_know_is_noted(adapter: Path, written: Path) -> None:
    from persona_probe.models.adapters import adapter_notes
    from persona_probe.models.sources import resolve

    tiny.edit_json(adapter / "adapter_config.json", shiny_group_size=16)
    load(adapter, base=written)
    (note,) = adapter_notes(resolve(str(adapter)), resolve(str(written)))
    assert "does not know and does not use: shiny_group_size" in note


@pytest.mark.parametrize(
    ("named", "noted"),
    [
        ("meta-llama/Llama-3.1-8B", True),
        ("Owner/{name}", False),
        ("Owner/{name}@main", False),
        ("owner/{name}-unsloth-bnb-4bit", False),
        ("owner/{name}-GPTQ-Int4", False),
        ("/somewhere/else/{name}/", False),
        ("/cache/models--owner--{name}/snapshots/0123abcd", False),
        ("owner/{name}-Instruct", True),
        (None, False),
        ("", False),
    ],
)
def test_base_of_another_name_is_noted(adapter: Path, written: Path, named: str | None, noted: bool) -> None:
    from persona_probe.models.adapters import adapter_notes
    from persona_probe.models.sources import resolve

    name = named and named.format(name=written.name.upper())
    tiny.edit_json(adapter / "adapter_config.json", base_model_name_or_path=name)
    notes = adapter_notes(resolve(str(adapter)), resolve(str(written)))
    assert len(notes) == noted
    assert all(str(name) in note and "\n" not in note for note in notes)
    assert adapter_notes(resolve(str(written)), resolve(str(written))) == []


@pytest.mark.parametrize(
    ("text", "message"), [("{", "missing or not JSON"), ("[]", "holds a JSON list, expected an object")]
)
def test_adapter_config_that_is_no_object_is_refused(
    adapter: Path, written: Path, text: str, message: str
) -> None:
    (adapter / "adapter_config.json").write_text(text)
    with refused(rf"adapter_config.json (is )?{message}"):
        load(adapter, base=written)

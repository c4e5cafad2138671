"""Claims about bad sources: every broken folder or name ends in one message, before anything is measured."""

import struct
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import tiny
from helpers.broken import change_weights, load, refused

# Folders


def test_missing_folder_is_one_message(tmp_path: Path) -> None:
    with refused(r"no model '.*nothing': it is no folder, no GGUF file, no hub id"):
        load(tmp_path / "nothing")


def test_file_that_is_no_gguf_is_refused(folder: Path) -> None:
    with refused(r"model.safetensors is a file, but not a .gguf"):
        load(folder / "model.safetensors")


def test_folder_without_config_is_refused(folder: Path) -> None:
    (folder / "config.json").unlink()
    with refused(r"config.json is missing or not JSON"):
        load(folder)


@pytest.mark.parametrize("text", ["[]", "3", '"llama"', "null"])
def test_config_that_is_no_object_is_refused(folder: Path, text: str) -> None:
    (folder / "config.json").write_text(text)
    with refused(r"config.json holds a JSON \w+, expected an object"):
        load(folder)


def test_folder_with_only_pickled_weights_is_refused_unread(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({"canary": 1}, folder / "pytorch_model.bin")
    with refused(r"holds only pickled weights \(pytorch_model.bin\)"):
        load(folder)


def test_folder_without_weights_is_refused(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with refused(r"holds no weights"):
        load(folder)


def test_code_in_a_model_folder_never_runs(folder: Path, tmp_path: Path) -> None:
    canary = tmp_path / "it_ran"
    (folder / "modeling_x.py").write_text(
        f"from pathlib import Path\nPath({str(canary)!r}).touch()\nclass XForCausalLM: ...\nclass XConfig:"
        " ...\n"
    )
    auto_map = {"AutoConfig": "modeling_x.XConfig", "AutoModelForCausalLM": "modeling_x.XForCausalLM"}
    tiny.edit_json(folder / "config.json", auto_map=auto_map, architectures=["XForCausalLM"], model_type="x")
    with refused(r"asks for its own Python code \(auto_map\): remote code never runs here"):
        load(folder)
    tiny.edit_json(
        folder / "config.json", auto_map=auto_map, architectures=["LlamaForCausalLM"], model_type="llama"
    )
    assert load(folder).n_layers == tiny.LAYERS
    assert not canary.exists()
    assert not [name for name in sys.modules if name.endswith("modeling_x")]


@pytest.mark.parametrize(
    "architecture", ["XForCausalLM", "BertForSequenceClassification", "T5ForConditionalGeneration", None]
)
def test_architecture_that_is_no_causal_model_is_refused(folder: Path, architecture: str | None) -> None:
    tiny.edit_json(folder / "config.json", architectures=architecture and [architecture])
    with refused(rf"names architecture {architecture!r}: a decoder-only causal language model is needed"):
        load(folder)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("hidden_size", 10**9),
        ("hidden_size", -1),
        ("hidden_size", "32"),
        ("num_hidden_layers", 10**6),
        ("vocab_size", 2**40),
        ("vocab_size", 0),
        ("intermediate_size", 10**9),
        ("num_attention_heads", 0),
    ],
)
@pytest.mark.parametrize("part", [None, "text_config"])
def test_absurd_size_is_refused_before_memory_is_taken(
    folder: Path, field: str, value: Any, part: str | None
) -> None:
    from persona_probe.models.sources import resolve

    tiny.edit_json(
        folder / "config.json",
        **({part: {field: value}} if part else {field: value, "text_config": {"hidden_size": 32}}),
    )
    with refused(rf"config.json: {field} is {value!r}, allowed is 1 to"):
        resolve(str(folder))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("rms_norm_eps", "tiny"),
        ("hidden_act", "nonesuch"),
        ("rope_parameters", 3),
        ("architectures", 3),
        ("text_config", "x"),
    ],
)
def test_nonsense_in_a_config_is_one_message(folder: Path, field: str, value: Any) -> None:
    tiny.edit_json(folder / "config.json", **{field: value})
    with refused(
        r"the weights do not load|has no usable tokenizer|a decoder-only causal language model is needed"
    ):
        load(folder)


def test_missing_weight_is_named(folder: Path) -> None:
    change_weights(folder, lambda tensors: tensors.pop("model.layers.1.mlp.up_proj.weight"))
    with refused(r"1 missing \(model.layers.1.mlp.up_proj.weight\).*random numbers"):
        load(folder)


def test_extra_weight_is_named(folder: Path) -> None:
    change_weights(
        folder, lambda tensors: tensors.update({"model.layers.9.mlp.up_proj.weight": torch.ones(2, 2)})
    )
    with refused(r"1 extra \(model.layers.9.mlp.up_proj.weight\)"):
        load(folder)


def test_buffers_of_old_checkpoints_are_no_extra_weights(folder: Path) -> None:
    change_weights(
        folder,
        lambda tensors: tensors.update({"model.layers.1.self_attn.rotary_emb.inv_freq": torch.ones(4)}),
    )
    assert load(folder).n_layers == tiny.LAYERS


def test_weight_of_another_shape_is_named(folder: Path) -> None:
    change_weights(folder, lambda tensors: tensors.update({"model.norm.weight": torch.ones(31)}))
    with refused(r"weights 1 of another shape \(model.norm.weight\)"):
        load(folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weight_that_is_not_finite_is_named(folder: Path, value: float) -> None:
    change_weights(
        folder, lambda tensors: tensors["model.layers.2.mlp.down_proj.weight"].view(-1)[7:8].fill_(value)
    )
    with refused(r"weight model.layers.2.mlp.down_proj.weight holds NaN or infinity"):
        load(folder)


@pytest.mark.parametrize("n_bytes", [0, 5, 2_000, -1])
def test_truncated_weights_are_refused(folder: Path, n_bytes: int) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:n_bytes])
    with refused(r"the weights do not load"):
        load(folder)


def test_safetensors_header_of_absurd_length_is_refused(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(struct.pack("<Q", 2**60) + path.read_bytes()[8:])
    with refused(r"the weights do not load"):
        load(folder)


def test_folder_without_tokenizer_is_refused(folder: Path) -> None:
    for path in folder.glob("tokenizer*"):
        path.unlink()
    with refused(r"has no usable tokenizer"):
        load(folder)


@pytest.mark.parametrize(
    "field", ["_attn_implementation", "attn_implementation", "_attn_implementation_internal"]
)
@pytest.mark.parametrize(
    "value", ["kernels-community/flash-attn3", {"": "kernels-community/flash-attn3"}], ids=["name", "object"]
)
def test_hub_kernel_named_in_a_config_is_not_loaded(folder: Path, field: str, value: Any) -> None:
    tiny.edit_json(folder / "config.json", **{field: value})
    model = load(folder)
    assert model.twin.config._attn_implementation == "sdpa"
    assert model.bridge.original_model.config._attn_implementation == "eager"
    assert model.twin(torch.tensor([[5, 6, 7]])).logits.isfinite().all()


def test_changed_weights_change_the_fingerprint(folder: Path) -> None:
    from persona_probe.models.sources import resolve

    before = resolve(str(folder)).sha256
    assert resolve(str(folder)).sha256 == before
    change_weights(folder, lambda tensors: tensors["model.norm.weight"].mul_(1.001))
    assert resolve(str(folder)).sha256 != before


# The hub


def test_hub_id_offline_is_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    from persona_probe.models.sources import resolve

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with refused(
        r"^nobody/nothing-here at revision abc is neither on this machine nor reachable on the hub \(.*\):"
        r" check the name"
    ) as caught:
        resolve("nobody/nothing-here@abc")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["../up/there", "./no", "no-owner", "a/b/c", "https://example.com/a", "a b/c"]
)
def test_name_that_is_no_hub_id_never_reaches_the_hub(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    from persona_probe.models.sources import resolve

    def unreachable(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("the hub was asked")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    with refused(r"no model "):
        resolve(name)


@pytest.mark.parametrize("typed", ["~no-such-user-here/model", "m" * 5000, "m" * 300 + "/x"])
@pytest.mark.parametrize(
    ("reader", "what"), [("models.sources.resolve", "model"), ("saes.sources.resolve_sae", "SAE")]
)
def test_a_path_that_cannot_be_looked_up_is_refused_in_one_short_line(
    reader: str, what: str, typed: str
) -> None:
    import importlib

    module, _, name = reader.rpartition(".")
    with refused(f"no {what} {typed[:20]}.*the path cannot be looked up") as caught:
        getattr(importlib.import_module(f"persona_probe.{module}"), name)(typed)
    assert len(str(caught.value)) < 250
    assert "\n" not in str(caught.value)

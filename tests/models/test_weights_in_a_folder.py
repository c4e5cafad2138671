"""Claims about the weights in a folder: shards, copies in another layout, full weights beside an adapter."""

import shutil
from pathlib import Path

import pytest
from helpers import tiny
from helpers.broken import load, refused, resolve, shard


def test_missing_shard_of_a_folder_is_named(folder: Path) -> None:
    shard(folder)[1].unlink()
    with refused(
        r"model is incomplete: model.safetensors.index.json names 3 files, 1 missing"
        r" \(model-00002-of-00003.safetensors\)"
    ):
        resolve(folder)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"weight_map": 3}',
        '{"weight_map": {}}',
        '{"weight_map": {"a": 3}}',
        '{"weight_map": {"a": "../b"}}',
        '{"weight_map": {"a": "/etc/passwd"}}',
    ],
)
def test_index_that_is_damaged_or_leads_out_of_its_folder_is_refused(text: str, folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(text)
    with refused(r"model.safetensors.index.json is damaged"):
        resolve(folder)


def test_copies_in_another_layout_and_adapters_are_no_weights(folder: Path) -> None:
    from persona_probe.models.hub import weight_files

    before = resolve(folder)
    for name in ("consolidated.safetensors", "consolidated.00.safetensors", "adapter_model.safetensors"):
        (folder / name).write_bytes(b"other")
    (folder / "original").mkdir()
    (folder / "original" / "model.safetensors").write_bytes(b"other")
    assert weight_files(folder) == [folder / "model.safetensors"]
    assert resolve(folder).sha256 == before.sha256
    (folder / "model.safetensors").unlink()
    assert weight_files(folder) == []
    with refused(
        r"holds weights only in another layout or in subfolders \(adapter_model.safetensors,"
        r" consolidated.00.safetensors, "
    ):
        resolve(folder)


def test_shards_that_the_index_does_not_name_are_not_counted(folder: Path) -> None:
    from persona_probe.models.hub import weight_files

    shards = shard(folder)
    shutil.copy(shards[0], folder / "model-00001-of-00009.safetensors")
    assert weight_files(folder) == shards
    assert load(folder).n_layers == tiny.LAYERS


def test_adapter_config_left_beside_full_weights_is_not_followed(folder: Path, adapter: Path) -> None:
    shutil.copy(adapter / "adapter_config.json", folder)
    assert resolve(folder).kind == "model"
    assert load(folder).n_layers == tiny.LAYERS


def test_folder_that_is_model_and_adapter_at_once_is_refused(folder: Path, adapter: Path) -> None:
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copy(adapter / name, folder)
    with refused(r"holds a full model and an adapter: give a folder with one of them"):
        resolve(folder)


def test_adapter_with_the_config_of_its_base_is_an_adapter(folder: Path, adapter: Path) -> None:
    shutil.copy(folder / "config.json", adapter)
    assert resolve(adapter).kind == "adapter"

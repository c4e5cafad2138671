"""Claims about model folders as the hub makes them: what is fetched, which files count as weights, what an
unfinished download says."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from helpers.broken import refused, resolve, shard

REPOSITORY = "someone/model"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
COMPLETE = r"Complete it with `hf download someone/model --exclude '\*/\*'`"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of an offline hub; its one repository's folder, with a main branch."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    folder = tmp_path / "hub" / "models--someone--model"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(COMMIT)
    return folder


def snapshot(cache: Path, source: Path) -> Path:
    return Path(shutil.copytree(source, cache / "snapshots" / COMMIT))


def online(monkeypatch: pytest.MonkeyPatch, files: list[str], folder: Path) -> dict[str, Any]:
    """A hub with one repository of these files, whose download ends as `folder`. What was asked for is in the
    result."""
    import huggingface_hub
    from huggingface_hub.utils import filter_repo_objects

    asked: dict[str, Any] = {}

    def download(
        name: str, *, revision: str | None, allow_patterns: list[str], ignore_patterns: list[str]
    ) -> str:
        asked["fetched"] = sorted(
            filter_repo_objects(files, allow_patterns=allow_patterns, ignore_patterns=ignore_patterns)
        )
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", lambda *_, **__: files)
    return asked


# What is fetched


def test_only_the_model_itself_is_fetched(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = [
        "chat_template.jinja",
        "config.json",
        "model-00001-of-00002.safetensors",
        "model.safetensors.index.json",
        "tokenizer.json",
    ]
    others = [
        "README.md",
        "pytorch_model.bin",
        "model-Q4_K_M.gguf",
        "original/consolidated.00.pth",
        "original/params.json",
    ]
    others += [
        "consolidated.safetensors",
        "consolidated.00.safetensors",
        "consolidated.safetensors.index.json",
    ]
    others += [
        "original/model.safetensors",
        "adapter/adapter_model.safetensors",
        "adapter/adapter_config.json",
        "onnx/config.json",
    ]
    asked = online(monkeypatch, [*wanted, *others], folder)
    assert resolve(REPOSITORY).id == REPOSITORY
    assert asked["fetched"] == wanted


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            ["a-Q4.gguf", "a-Q8.gguf"],
            r"^someone/model holds only GGUF files \(a-Q4.gguf, a-Q8.gguf\): download one and give its path$",
        ),
        ([f"{i}.gguf" for i in range(9)], r"only GGUF files \(0.gguf, 1.gguf, 2.gguf, … \(9 in all\)\)"),
        (["Q4/a.gguf", "config.json"], r"only GGUF files \(Q4/a.gguf\)"),
        (["pytorch_model.bin", "config.json"], r"only pickled weights \(pytorch_model.bin\)"),
        (
            ["consolidated.safetensors", "params.json"],
            r"weights only in another layout or in subfolders \(consolidated.safetensors\)",
        ),
        (["adapter_config.json", "adapter_model.bin"], r"only pickled weights \(adapter_model.bin\)"),
        (["README.md"], r"holds no weights"),
    ],
)
@pytest.mark.parametrize("made", [True, False])
def test_repository_without_usable_weights_says_what_it_holds(
    files: list[str], message: str, made: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / COMMIT
    if made:
        place.mkdir()
        (place / "config.json").write_text("{}")
    online(monkeypatch, files, place)
    with refused(message) as caught:
        resolve(REPOSITORY)
    assert "\n" not in str(caught.value)


def test_cached_gguf_files_are_named_when_the_hub_cannot_be_asked(cache: Path) -> None:
    place = cache / "snapshots" / COMMIT
    place.mkdir(parents=True)
    (place / "a-Q4.gguf").touch()
    with refused(r"someone/model holds only GGUF files \(a-Q4.gguf\)"):
        resolve(REPOSITORY)


def test_folder_with_only_gguf_files_names_them(tmp_path: Path) -> None:
    (tmp_path / "a.gguf").touch()
    with refused(r"holds only GGUF files \(a.gguf\): download one and give its path"):
        resolve(tmp_path)


# Downloads that did not end


def test_whole_cached_model_loads_offline(cache: Path, folder: Path) -> None:
    shard(folder)
    snapshot(cache, folder)
    source = resolve(REPOSITORY)
    assert (source.kind, source.revision) == ("model", COMMIT)


@pytest.mark.parametrize(
    ("broken", "missing"),
    [
        (
            "shard",
            r"model.safetensors.index.json names 3 files, 1 missing \(model-00002-of-00003.safetensors\)",
        ),
        ("dangling", r"model-00003-of-00003.safetensors missing"),
        ("weights", r"the weights are missing"),
        ("config", r"config.json missing"),
        ("only config", r"the weights are missing"),
    ],
)
@pytest.mark.parametrize("offline", [True, False])
def test_unfinished_download_says_what_is_missing_and_how_to_complete_it(
    broken: str, missing: str, offline: bool, cache: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    shards = shard(folder)
    if broken == "shard":
        shards[1].unlink()
    if broken == "config":
        (folder / "config.json").unlink()
    for path in {"dangling": shards[2:], "weights": [*shards, folder / "model.safetensors.index.json"]}.get(
        broken, []
    ):
        path.unlink()
    if broken == "only config":
        for path in folder.glob("[!c]*"):
            path.unlink()
    place = snapshot(cache, folder)
    if broken == "dangling":
        (place / shards[2].name).symlink_to("../../blobs/0123")
    if not offline:
        online(monkeypatch, ["config.json", "model.safetensors"], place)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with refused(rf"^the download of someone/model is incomplete: {missing}. {COMPLETE}") as caught:
        resolve(REPOSITORY)
    assert ("HF_HUB_OFFLINE is set" in str(caught.value)) == offline
    assert "\n" not in str(caught.value)


def test_download_of_which_nothing_is_whole_is_incomplete_and_not_unknown(cache: Path) -> None:
    (cache / "blobs").mkdir()
    (cache / "blobs" / "abc.incomplete").touch()
    with refused(
        r"^the download of someone/model at revision v2 is incomplete: no file is whole. .*--revision v2"
    ):
        resolve(f"{REPOSITORY}@v2")


def test_snapshot_that_the_client_knows_to_be_incomplete_is(
    cache: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    shard(folder)[0].unlink()
    error = LocalEntryNotFoundError("is incomplete:\nmany lines")
    error.snapshot_path = str(snapshot(cache, folder))  # type: ignore[attr-defined]

    def download(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    with refused(
        r"is incomplete: model.safetensors.index.json names 3 files, 1 missing"
        r" \(model-00001-of-00003.safetensors\). Complete it"
    ):
        resolve(REPOSITORY)


# Weights in a folder


# Full weights and an adapter in one folder

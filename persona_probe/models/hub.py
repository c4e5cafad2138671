"""Model folders as the hub makes them: what is fetched, which files are the weights, and whether all of them
are there."""

import json
from collections.abc import Sequence
from pathlib import Path

from persona_probe.base.errors import BadInput
from persona_probe.base.quiet import no_bars

HUB_FILES = ["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt", "*.tiktoken"]
# What lies in subfolders is another layout (original/), another model or an adapter; consolidated files are
# the weights once more.
NOT_FETCHED = ["*/*", "consolidated*"]
SINGLE, INDEX, ADAPTER = "model.safetensors", "model.safetensors.index.json", "adapter_model.safetensors"


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files that hold a full model's weights, sorted; none in a folder without.

    As transformers chooses: model.safetensors, else the shards that the index names, every one of which must
    exist. Where there is neither, the safetensors that lie there, but no adapter and no copy in another
    layout.
    """
    if (folder / SINGLE).is_file():
        return [folder / SINGLE]
    if (folder / INDEX).is_file():
        names = _shards(folder / INDEX)
        missing = [name for name in names if not (folder / name).is_file()]
        if missing:
            raise BadInput(
                f"{folder} is incomplete: {INDEX} names {len(names)} files, {len(missing)} missing"
                f" ({_some(missing)}): fetch the rest"
            )
        return [folder / name for name in names]
    return [
        path for path in sorted(folder.glob("*.safetensors")) if path.is_file() and _of_a_model(path.name)
    ]


def is_adapter(folder: Path) -> bool:
    """Whether a folder is an adapter. An `adapter_config.json` beside full weights is a leftover, unless the
    adapter's weights are there too."""
    if not (folder / "adapter_config.json").is_file():
        return False
    full = (folder / "config.json").is_file() and bool(weight_files(folder))
    if full and (folder / ADAPTER).is_file():
        raise BadInput(
            f"{folder} holds a full model and an adapter: give a folder with one of them, for the adapter"
            f" adapter_config.json and {ADAPTER}"
        )
    return not full


def no_weights(what: object, names: Sequence[str]) -> BadInput:
    """Why nothing can be loaded from a folder or repository without usable weights, as the names of its files
    tell."""

    def ending(*endings: str) -> list[str]:
        return sorted(name for name in names if name.endswith(endings))

    if gguf := ending(".gguf"):
        return BadInput(f"{what} holds only GGUF files ({_some(gguf)}): download one and give its path")
    if elsewhere := ending(".safetensors"):
        return BadInput(
            f"{what} holds weights only in another layout or in subfolders ({_some(elsewhere)}): give a"
            f" folder with {SINGLE}"
        )
    pickled = ending(".bin", ".pt", ".pth")
    held = f"only pickled weights ({_some(pickled)})" if pickled else "no weights"
    return BadInput(
        f"{what} holds {held}: weights come from safetensors or GGUF only; convert with save_pretrained"
    )


@no_bars()
def download(name: str, revision: str | None) -> tuple[Path, str | None]:
    """Fetch the model or adapter `name` into the hub's cache, or find it there: its folder and revision."""
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    at = f"{name} at revision {revision}" if revision else name
    again = f"hf download {name}{f' --revision {revision}' if revision else ''} --exclude '*/*'"
    offline = (
        "; the hub is offline here (HF_HUB_OFFLINE is set), so unset that first"
        if constants.HF_HUB_OFFLINE
        else ""
    )

    def incomplete(missing: str) -> BadInput:
        return BadInput(f"the download of {at} is incomplete: {missing}. Complete it with `{again}`{offline}")

    try:
        folder = Path(
            snapshot_download(name, revision=revision, allow_patterns=HUB_FILES, ignore_patterns=NOT_FETCHED)
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        partial = getattr(error, "snapshot_path", None)  # newer clients know what belongs in a snapshot
        begun = (Path(constants.HF_HUB_CACHE) / f"models--{name.replace('/', '--')}").glob(
            "blobs/*.incomplete"
        )
        if partial or any(begun):
            raise incomplete(_missing(Path(partial)) if partial else "no file is whole") from error
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise BadInput(
            f"{at} is neither on this machine nor reachable on the hub ({reason}): check the name, `hf auth"
            " login` for gated models, or give a local folder"
        ) from error
    if missing := _missing(folder):
        names = _listed(name, revision) or [path.name for path in folder.glob("*.gguf")]
        if names and not any("/" not in name and (name == ADAPTER or _of_a_model(name)) for name in names):
            raise no_weights(at, names)
        raise incomplete(missing)
    return folder, revision or folder.name


def _missing(folder: Path) -> str:
    """What a fetched folder lacks before it can be loaded; empty if nothing is known to."""
    if dangling := sorted(path.name for path in folder.glob("*") if not path.exists()):
        return f"{_some(dangling)} missing"
    try:
        if weight_files(folder) or (folder / ADAPTER).is_file():
            return (
                ""
                if any((folder / name).is_file() for name in ("config.json", "adapter_config.json"))
                else "config.json missing"
            )
    except BadInput as error:
        return str(error).partition(": ")[2].rpartition(":")[0]
    return "the weights are missing"


def _listed(name: str, revision: str | None) -> list[str] | None:
    """Names of all files of a repository; None where the hub cannot be asked."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return HfApi().list_repo_files(name, revision=revision)
    except (HfHubHTTPError, OSError, ValueError):
        return None


def _shards(index: Path) -> list[str]:
    try:
        names = sorted(set(json.loads(index.read_bytes())["weight_map"].values()))
        if not names or any(Path(name).name != name for name in names):
            raise ValueError("weight_map must name files of this folder")
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise BadInput(f"{index} is damaged ({type(error).__name__}: {error}): fetch it again") from error
    return names


def _of_a_model(name: str) -> bool:
    return name.endswith(".safetensors") and name != ADAPTER and not name.startswith("consolidated")


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f", … ({len(names)} in all)" if len(names) > 3 else "")

"""Where weights come from: a name, a hub id, a folder, a GGUF file or an adapter, in; a checked folder out."""

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from persona_probe import embedded
from persona_probe.errors import BadInput, UsageError
from persona_probe.files import sha256_file, sha256_json, typed_path

SIZES = {
    **dict.fromkeys(("hidden_size", "n_embd", "num_attention_heads", "n_head", "num_key_value_heads", "head_dim"), 65_536),
    **dict.fromkeys(("num_hidden_layers", "n_layer"), 1_024),
    **dict.fromkeys(("intermediate_size", "n_inner"), 2**20),
    **dict.fromkeys(("vocab_size", "n_positions"), 2**24),
}  # a file of a few bytes must not claim all memory
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
HUB_FILES = ["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt"]


@dataclass(frozen=True)
class Source:
    """A checked folder of weights. `id` is what the user asked for; `sha256` hashes config and weight files."""

    id: str
    kind: Literal["model", "adapter"]
    folder: Path
    revision: str | None
    sha256: str

    def provenance(self) -> dict[str, str | None]:
        """What a record says of a model."""
        return {"id": self.id, "revision": self.revision, "sha256": self.sha256}


def resolve(spec: str) -> Source:
    """Find `spec` (embedded name, folder, GGUF file, `owner/name[@revision]`) and check its config, without loading weights."""
    path = typed_path(spec, what="model")
    if spec == embedded.NAME:
        folder = embedded.embedded_model()
        return _checked(spec, folder, None) if folder else replace(resolve(embedded.HUB_ID), id=spec)
    if path.is_file() and path.suffix == ".gguf":
        digest = sha256_file(path)[:16]
        folder = embedded.checkpoints_folder() / f"gguf-{digest}"
        return _checked(spec, folder if (folder / "config.json").is_file() else embedded.convert_gguf(path, folder), None)
    if path.is_dir():
        return _checked(_shown(path), path, None)
    if path.exists():
        raise BadInput(f"{spec} is a file, but not a .gguf: give a model folder, an adapter folder, a GGUF file or a hub id")
    name, _, revision = spec.partition("@")
    if not HUB_ID.fullmatch(name) or (spec.startswith((".", "/", "~"))):
        raise BadInput(f"no model {spec!r}: it is no folder, no GGUF file, no hub id (owner/name[@revision]) and not {embedded.NAME!r}")
    return _checked(spec, *_download(name, revision or None))


def read_config(folder: Path) -> dict[str, Any]:
    """`config.json` as plain JSON, with its sizes bounded and remote code refused, before any class is built from it."""
    path = folder / "config.json"
    config = _read_object(path)
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    native = set()
    for names in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values():
        native |= {names} if isinstance(names, str) else set(names)
    architectures = config.get("architectures")
    architecture = str(architectures[0]) if isinstance(architectures, list) and architectures else None
    if "auto_map" in config and architecture not in native:
        raise BadInput(f"{path} asks for its own Python code (auto_map): remote code never runs here; use a native architecture")
    if architecture not in native:
        raise BadInput(f"{path} names architecture {architecture!r}: a decoder-only causal language model is needed")
    inner = config.get("text_config")
    for part in (config, inner if isinstance(inner, dict) else {}):
        _check_sizes(path, part)
    return config


def adapter_config(folder: Path) -> dict[str, Any]:
    """`adapter_config.json` of a LoRA folder, refused when it is another kind of adapter or its weights are pickled."""
    path = folder / "adapter_config.json"
    config = _read_object(path)
    if config.get("peft_type") != "LORA":
        raise BadInput(f"{path}: peft_type is {config.get('peft_type')!r}, only LORA adapters can be merged exactly")
    if not (folder / "adapter_model.safetensors").is_file():
        raise BadInput(
            f"{folder} has no adapter_model.safetensors: pickled adapters (.bin) are never loaded; re-save it with save_pretrained"
        )
    return config


def same_shape(base: Source, tuned: Source) -> None:
    """Refuse a pair whose configs cannot be compared layer by layer. Adapters take the base's shape by construction."""
    if base.kind == "adapter":
        raise UsageError(f"--base {base.id} is an adapter: give the full model it was trained on")
    if tuned.kind == "adapter":
        return
    left, right = read_config(base.folder), read_config(tuned.folder)
    keys = ("model_type", "hidden_size", "n_embd", "num_hidden_layers", "n_layer", "vocab_size", "num_attention_heads", "n_head")
    different = [f"{key}: {left.get(key)} against {right.get(key)}" for key in keys if left.get(key) != right.get(key)]
    if different:
        raise BadInput(f"base {base.id} and tuned {tuned.id} differ in shape ({'; '.join(different)}): they must be one architecture")


def _checked(id: str, folder: Path, revision: str | None) -> Source:
    if (folder / "adapter_config.json").is_file():
        adapter_config(folder)
        names = ["adapter_config.json", "adapter_model.safetensors"]
        return Source(id, "adapter", folder, revision, _fingerprint([folder / name for name in names]))
    read_config(folder)
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        pickled = sorted(path.name for path in [*folder.glob("*.bin"), *folder.glob("*.pt"), *folder.glob("*.pth")])
        found = f"only pickled weights ({', '.join(pickled)})" if pickled else "no weights"
        raise BadInput(f"{folder} holds {found}: weights come from safetensors or GGUF only; convert with save_pretrained")
    return Source(id, "model", folder, revision, _fingerprint([folder / "config.json", *weights]))


def _read_object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BadInput(f"{path} is missing or not JSON ({error}): the folder needs one") from error
    if not isinstance(value, dict):
        raise BadInput(f"{path} holds a JSON {type(value).__name__}, expected an object")
    return value


def _check_sizes(path: Path, config: dict[str, Any]) -> None:
    for name, bound in SIZES.items():
        found = config.get(name)
        for size in found if isinstance(found, list) else [found]:  # Gemma 3n has a width per layer
            if size is not None and not (isinstance(size, int) and 0 < size <= bound):
                raise BadInput(f"{path}: {name} is {size!r}, allowed is 1 to {bound:,}")


def _fingerprint(paths: list[Path]) -> str:
    return sha256_json([[path.name, sha256_file(path)] for path in paths])


def _download(name: str, revision: str | None) -> tuple[Path, str | None]:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=HUB_FILES))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        at = f" at revision {revision}" if revision else ""
        reason = str(error).strip().splitlines()[0]
        raise BadInput(
            f"{name}{at} is neither on this machine nor reachable on the hub ({reason}): check the name, `hf auth login` for gated models, or give a local folder"
        ) from error
    return folder, revision or folder.name


def _shown(path: Path) -> str:
    """A folder as records show it: relative to here when it lies below, never with the user's home in it."""
    resolved, here, home = path.resolve(), Path.cwd(), Path.home()
    if resolved.is_relative_to(here):
        return str(resolved.relative_to(here))
    return f"~/{resolved.relative_to(home)}" if resolved.is_relative_to(home) else str(resolved)

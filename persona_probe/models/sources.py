"""Where weights come from: a name, a hub id, a folder, a GGUF file or an adapter, in; a checked folder
out."""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from persona_probe.base.errors import BadInput, UsageError
from persona_probe.models import embedded
from persona_probe.models.hub import download, is_adapter, no_weights, weight_files
from persona_probe.storage.cache import cache_folder
from persona_probe.storage.files import read_object, sha256_file, sha256_json, typed_path
from persona_probe.storage.shipped import named, named_folder

SIZES = {
    **dict.fromkeys(
        ("hidden_size", "n_embd", "num_attention_heads", "n_head", "num_key_value_heads", "head_dim"), 65_536
    ),
    **dict.fromkeys(("num_hidden_layers", "n_layer"), 1_024),
    **dict.fromkeys(("intermediate_size", "n_inner"), 2**20),
    **dict.fromkeys(("vocab_size", "n_positions"), 2**24),
}  # a file of a few bytes must not claim all memory
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
TEXT_FILES = (
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
    "*.model",
    "*.tiktoken",
)
TEXT_FILES += (
    "chat_template*",
    "additional_chat_templates/*",
    "processor_config.json",
    "generation_config.json",
)


@dataclass(frozen=True)
class Source:
    """A checked folder of weights. `id` is what the user asked for. A model that was given loaded has no
    folder.

    `sha256` hashes all that decides the numbers: config, weights, tokenizer, chat template and generation
    config; `weights_sha256` config and weights alone. `notes` say what was found beside them.
    """

    id: str
    kind: Literal["model", "adapter", "loaded"]
    folder: Path
    revision: str | None
    sha256: str
    weights_sha256: str
    notes: tuple[str, ...] = ()

    def provenance(self) -> dict[str, str | None]:
        """What a record says of a model."""
        return {
            "id": self.id,
            "revision": self.revision,
            "sha256": self.sha256,
            "weights_sha256": self.weights_sha256,
        }


def resolve(spec: str | Path) -> Source:
    """Find `spec` and check its config, without loading weights.

    `spec`: a folder, a GGUF file, `owner/name[@revision]`, or the name of a model that ships or is in
    `./checkpoints`.
    """
    spec = str(spec)
    path = typed_path(spec, what="model")
    if spec == embedded.NAME:
        folder = embedded.embedded_model()
        return _checked(spec, folder, None) if folder else replace(resolve(embedded.HUB_ID), id=spec)
    if path.is_file() and path.suffix == ".gguf":
        digest = sha256_file(path)[:16]
        folder = cache_folder() / f"gguf-{digest}"
        return _checked(
            spec, folder if (folder / "config.json").is_file() else embedded.convert_gguf(path, folder), None
        )
    if path.is_dir():
        return _checked(_shown(path), path, None)
    if path.exists():
        raise BadInput(
            f"{spec} is a file, but not a .gguf: give a model folder, an adapter folder, a GGUF file or a"
            " hub id"
        )
    by_name = named_folder(spec, holding="adapter_config.json")
    if by_name is not None:
        return _checked(spec, by_name, None)
    name, _, revision = spec.partition("@")
    if not HUB_ID.fullmatch(name) or (spec.startswith((".", "/", "~"))):
        raise BadInput(
            f"no model {spec!r}: it is no folder, no GGUF file, no hub id (owner/name[@revision]) and no"
            f" model known by name ({', '.join((embedded.NAME, *named(holding='adapter_config.json')))})"
        )
    return _checked(spec, *download(name, revision or None))


def read_config(folder: Path) -> dict[str, Any]:
    """`config.json` as plain JSON, with its sizes bounded and remote code refused, before any class is built
    from it."""
    path = folder / "config.json"
    config = read_object(path, needed="the folder needs one")
    import transformers
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    native = set()
    for names in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values():
        native |= {names} if isinstance(names, str) else set(names)
    architectures = config.get("architectures")
    architecture = str(architectures[0]) if isinstance(architectures, list) and architectures else None
    if "auto_map" in config and architecture not in native and not hasattr(transformers, str(architecture)):
        raise BadInput(
            f"{path} asks for its own Python code (auto_map): remote code never runs here; use a native"
            " architecture"
        )
    inner = config.get("text_config")
    types = [
        config.get("model_type"),
        inner.get("model_type") if isinstance(inner, dict) else None,
    ]  # of a wrapper and its language model
    spoken = any(isinstance(kind, str) and kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES for kind in types[1:])
    # Some repositories spell a class in their own way (MPT, Phi-3.5-MoE), but for capitals it is
    # transformers' name.
    if str(architecture).lower() in {str(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(str(types[0]))).lower()}:
        native.add(architecture)
    if architecture not in native and not spoken:
        inside = f" ({types[1]!r} inside it does not stand alone in transformers)" if types[1] else ""
        raise BadInput(
            f"{path} names architecture {architecture!r}{inside}: a decoder-only causal language model is"
            " needed"
        )
    for part in (config, *(value for value in config.values() if isinstance(value, dict))):
        _check_sizes(path, part)
    return config


def adapter_config(folder: Path) -> dict[str, Any]:
    """`adapter_config.json` of a LoRA folder, refused when it is another kind of adapter or its weights are
    pickled."""
    path = folder / "adapter_config.json"
    config = read_object(path, needed="the folder needs one")
    if config.get("peft_type") != "LORA":
        raise BadInput(
            f"{path}: peft_type is {config.get('peft_type')!r}, only LORA adapters can be merged exactly"
        )
    if not (folder / "adapter_model.safetensors").is_file():
        raise BadInput(
            f"{folder} has no adapter_model.safetensors: pickled adapters (.bin) are never loaded; re-save it"
            " with save_pretrained"
        )
    return config


def same_shape(base: Source, tuned: Source) -> None:
    """Refuse a pair whose configs cannot be compared layer by layer. Adapters take the base's shape by
    construction."""
    if base.kind == "adapter":
        raise UsageError(f"--base {base.id} is an adapter: give the full model it was trained on")
    if tuned.kind == "adapter":
        return
    left, right = text_sizes(base.folder), text_sizes(tuned.folder)
    different = [f"{key}: {left[key]} against {right[key]}" for key in left if left[key] != right[key]]
    if different:
        raise BadInput(
            f"base {base.id} and tuned {tuned.id} differ in shape ({'; '.join(different)}): they must be one"
            " architecture"
        )


def text_config(config: Any) -> Any:
    """The part of a config that describes the language model: a multimodal wrapper keeps it apart."""
    text = config.get_text_config(decoder=True)
    return text if hasattr(text, "model_type") else config  # a field of that name may hold anything


def text_sizes(folder: Path) -> dict[str, Any]:
    """Family, width, depth, vocabulary and heads of the language model in a folder, by transformers' own
    names and defaults."""
    from transformers import AutoConfig

    raw = read_config(folder)
    keys = ("model_type", "hidden_size", "num_hidden_layers", "vocab_size", "num_attention_heads")
    try:
        config = text_config(
            AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        )
    except Exception as error:  # a config is wrong in as many ways as it has fields
        raise BadInput(
            f"{folder / 'config.json'} cannot be read as a {raw.get('model_type')!r} config ({error!s:.120})"
        ) from error
    return {key: getattr(config, key, None) for key in keys}


def _checked(id: str, folder: Path, revision: str | None) -> Source:
    if is_adapter(folder):
        adapter_config(folder)
        names = ["adapter_config.json", "adapter_model.safetensors"]
        return Source(
            id, "adapter", folder, revision, *_fingerprints(folder, [folder / name for name in names])
        )
    weights, names = weight_files(folder), [path.name for path in folder.iterdir()]
    if not weights and any(
        name.endswith(".gguf") for name in names
    ):  # such a folder has no config.json either
        raise no_weights(folder, names)
    read_config(folder)
    if not weights:
        raise no_weights(folder, names)
    left = (folder / "adapter_config.json").is_file()
    notes = (
        ("the folder holds a full model and a leftover adapter_config.json, which is not read",)
        if left
        else ()
    )
    return Source(
        id, "model", folder, revision, *_fingerprints(folder, [folder / "config.json", *weights]), notes
    )


def _check_sizes(path: Path, config: dict[str, Any]) -> None:
    for name, bound in SIZES.items():
        given = config.get(name)
        for size in given if isinstance(given, list) else [given]:  # Gemma 3n has a width per layer
            if size is not None and not (isinstance(size, int) and 0 < size <= bound):
                raise BadInput(f"{path}: {name} is {size!r}, allowed is 1 to {bound:,}")


def _fingerprints(folder: Path, weights: list[Path]) -> tuple[str, str]:
    """The hash with the files that decide how text is read and where a reply ends, and the hash of the
    weights alone."""
    texts = sorted({path for pattern in TEXT_FILES for path in folder.glob(pattern) if path.is_file()})
    both = [
        [[path.relative_to(folder).as_posix(), sha256_file(path)] for path in paths]
        for paths in (weights, texts)
    ]
    return sha256_json(both), sha256_json(both[0])


def _shown(path: Path) -> str:
    """A folder as records show it: relative to here when it lies below, never with the user's home in it."""
    resolved, here, home = path.resolve(), Path.cwd(), Path.home()
    if resolved.is_relative_to(here):
        return str(resolved.relative_to(here))
    return f"~/{resolved.relative_to(home)}" if resolved.is_relative_to(home) else str(resolved)

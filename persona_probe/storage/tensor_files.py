"""Tensors to disk and back as safetensors, with their facts in the header and a hash over their values."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from persona_probe.base.errors import BadInput
from persona_probe.storage.files import write_bytes


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Write tensors as safetensors; `metadata` goes in as one JSON string under the key `persona_probe`."""
    ready = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = json.dumps(metadata, sort_keys=True, allow_nan=False)
    write_bytes(path, save(ready, metadata={"persona_probe": text}))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and metadata of a file that `write_tensors` wrote; damaged or non-finite files are refused."""
    if not path.is_file():
        raise BadInput(f"no file {path}: expected a safetensors file")
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            text = (file.metadata() or {}).get("persona_probe", "{}")
        metadata = json.loads(text)
        if not isinstance(metadata, dict):
            raise ValueError(f"its metadata is a {type(metadata).__name__}")
    except (SafetensorError, ValueError, RecursionError) as error:
        raise BadInput(
            f"{path} is damaged or not a safetensors file ({error}): delete it or fetch it again"
        ) from error
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise BadInput(f"tensor {name!r} in {path} holds NaN or infinity: the file is not usable")
    return tensors, metadata


def sha256_tensors(tensors: Sequence[Tensor]) -> str:
    """Hex SHA-256 of the float32 bytes of tensors, in order."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.detach().to("cpu", torch.float32).contiguous().numpy().tobytes())
    return digest.hexdigest()

"""What the tests on bad models share: load what was broken, and what its refusal says."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

if TYPE_CHECKING:
    from persona_probe.base.errors import BadInput
    from persona_probe.models.loading import Model
    from persona_probe.models.sources import Source

CPU = {"device": torch.device("cpu"), "dtype": torch.float32}


def load(folder: Path, *, base: Path | None = None) -> "Model":
    from persona_probe.models.loading import load
    from persona_probe.models.sources import resolve

    return load(resolve(str(folder)), base=None if base is None else resolve(str(base)), **CPU)


def refused(message: str) -> "pytest.RaisesExc[BadInput]":
    from persona_probe.base.errors import BadInput

    return pytest.raises(BadInput, match=message)


def change_weights(
    folder: Path, change: Callable[[dict[str, Tensor]], object], *, name: str = "model.safetensors"
) -> None:
    tensors = load_file(folder / name)
    change(tensors)
    save_file(tensors, folder / name, metadata={"format": "pt"})


def shard(folder: Path) -> list[Path]:
    """Split the weights of a folder into three files with an index, as save_pretrained does with large
    ones."""
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = [f"model-0000{i + 1}-of-00003.safetensors" for i in range(3)]
    where = {key: names[i % 3] for i, key in enumerate(tensors)}
    for name in names:
        save_file(
            {key: tensors[key] for key in tensors if where[key] == name},
            folder / name,
            metadata={"format": "pt"},
        )
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))
    return [folder / name for name in names]


def resolve(spec: str | Path) -> "Source":
    from persona_probe.models.sources import resolve

    return resolve(str(spec))

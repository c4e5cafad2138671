"""What the tests on bad models share: load what was broken, and what its refusal says."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

CPU = {"device": torch.device("cpu"), "dtype": torch.float32}


def load(folder: Path, *, base: Path | None = None) -> Any:
    from persona_probe.models.loading import load
    from persona_probe.models.sources import resolve

    return load(resolve(str(folder)), base=None if base is None else resolve(str(base)), **CPU)


def refused(message: str) -> Any:
    from persona_probe.base.errors import BadInput

    return pytest.raises(BadInput, match=message)


def change_weights(
    folder: Path, change: Callable[[dict[str, Tensor]], object], *, name: str = "model.safetensors"
) -> None:
    tensors = load_file(folder / name)
    change(tensors)
    save_file(tensors, folder / name, metadata={"format": "pt"})

"""Which device and which number format to run in: measured once per machine, cached, printed, never
guessed."""

import json
import os
import platform
import time
from contextlib import suppress
from pathlib import Path

import torch

from persona_probe.base.errors import BadInput, UsageError
from persona_probe.storage.files import sha256_json, write_json

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
KERNELS = {
    "LRU_CACHE_CAPACITY": "32",
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "64",
}  # as PyTorch and oneDNN call them; 1024 each by default
BF16_GAIN = 1.2  # bfloat16 must be at least this much faster than float32 before it is chosen on a CPU


def choose_device(name: str | torch.device) -> torch.device:
    """`auto` takes CUDA, then MPS, then the CPU; any other name must exist on this machine."""
    if isinstance(name, torch.device):
        return name
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(
            f"no device {name!r} here ({str(error).splitlines()[0]}): try --device auto"
        ) from error
    return device


def choose_dtype(name: str | torch.dtype, device: torch.device) -> torch.dtype:
    """`auto` takes bfloat16 on GPUs that have it, float32 on MPS, and on a CPU whichever a short matmul shows
    faster."""
    if isinstance(name, torch.dtype):
        return name
    if name != "auto":
        if name not in DTYPES:
            raise UsageError(f"no dtype {name!r}: allowed are auto, {', '.join(DTYPES)}")
        return DTYPES[name]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    return torch.bfloat16 if device.type == "cpu" and bf16_speedup() >= BF16_GAIN else torch.float32


def bf16_speedup(cache: Path | None = None) -> float:
    """How many times faster a bfloat16 matmul of a small transformer's size is than float32 on this CPU;
    cached per machine."""
    path = (
        cache
        or Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "persona_probe" / "bf16.json"
    )
    key = sha256_json(
        [
            platform.processor(),
            platform.machine(),
            platform.node(),
            torch.__version__,
            torch.get_num_threads(),
        ]
    )
    try:
        return float(json.loads(path.read_text())[key])
    except (OSError, ValueError, KeyError, TypeError):
        few_kernels()
        seconds = {dtype: _matmul_seconds(dtype) for dtype in (torch.float32, torch.bfloat16)}
        gain = seconds[torch.float32] / seconds[torch.bfloat16]
        with suppress(OSError, BadInput):  # an unwritable home costs one more measurement next time
            write_json(path, {key: gain})
        return gain


def few_kernels() -> None:
    """Let oneDNN keep the code of a few batches' matrix shapes instead of every shape it has met: 100 MB less
    in the main job, at about the same speed.

    It reads the numbers once, at its first product. Numbers that the user has set stay.
    """
    for name, count in KERNELS.items():
        os.environ.setdefault(name, count)


def _matmul_seconds(dtype: torch.dtype) -> float:
    x, w = torch.randn(512, 768, dtype=dtype), torch.randn(2048, 768, dtype=dtype)
    best = float("inf")
    for _ in range(12):
        start = time.perf_counter()
        torch.nn.functional.linear(x, w)
        best = min(best, time.perf_counter() - start)
    return best

"""Which device and which number format to run in, by rules that give the same on every machine of a kind."""

import os

import torch

from persona_probe.base.errors import UsageError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
KERNELS = {
    "LRU_CACHE_CAPACITY": "32",
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "64",
}  # as PyTorch and oneDNN call them; 1024 each by default


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
    """`auto` takes bfloat16 on CUDA devices that have it and float32 everywhere else.

    So the numbers of a CPU do not depend on what its processor is fast at.
    """
    if isinstance(name, torch.dtype):
        return name
    if name != "auto":
        if name not in DTYPES:
            raise UsageError(f"no dtype {name!r}: allowed are auto, {', '.join(DTYPES)}")
        return DTYPES[name]
    has_bfloat16 = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if has_bfloat16 else torch.float32


def few_kernels() -> None:
    """Let oneDNN keep the code of a few batches' matrix shapes instead of every shape it has met: 100 MB less
    in the main job, at about the same speed.

    It reads the numbers once, at its first product. Numbers that the user has set stay.
    """
    for name, count in KERNELS.items():
        os.environ.setdefault(name, count)

"""Memory that is taken without need: what long runs of many shapes leave behind on glibc and CUDA, and files
that are mapped beside the weights made of them."""

import ctypes
import gc
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import Any

import torch

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h
LARGE_BYTES, WEIGHT_BYTES, SPARE_BYTES = 8 * 2**20, 2**18, 64 * 2**20


def release() -> None:
    """Give the memory of dropped models back to the system."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    trim()


def trim() -> None:
    """Give back what passes of many shapes have left scattered over the heap: some 50 MB an arm on a small
    model."""
    with suppress(OSError, AttributeError):  # glibc alone has it
        ctypes.CDLL(None).malloc_trim(0)


def large_blocks_apart() -> None:
    """Give logits and the like pages of their own, which go back when they are freed: in the heap they leave
    holes, 100 MB of them."""
    _threshold(LARGE_BYTES)


@contextmanager
def weights_apart() -> Iterator[None]:
    """Give every weight that is read inside pages of its own, so that a model that is dropped leaves no holes
    in the heap. Blocks made by passes are as before: pages of their own would cost them time."""
    _threshold(WEIGHT_BYTES)
    try:
        yield
    finally:
        large_blocks_apart()


@contextmanager
def files_unmapped() -> Iterator[None]:
    """Inside the block transformers reads weights out of safetensors files piece by piece. It would map these
    files, whose pages count as memory beside the tensors that are made of them until the last one is made.
    For weights that are converted: others stay in a mapped file, which costs nothing."""
    reading: Any = import_module("transformers.modeling_utils")
    real = reading.safe_open

    def opened(*args: Any, **options: Any) -> Any:
        # Versions without a choice of the way to read have no such option.
        return real(*args, **(options | {"backend": "pread"} if "backend" in options else options))

    reading.safe_open = opened
    try:
        yield
    finally:
        reading.safe_open = real


def _threshold(n_bytes: int) -> None:
    """From which size on a block gets pages of its own."""
    with suppress(OSError, AttributeError):  # glibc alone has it
        # Setting one threshold freezes both; the second is then where glibc would have moved it.
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, n_bytes)
        ctypes.CDLL(None).mallopt(M_TRIM_THRESHOLD, SPARE_BYTES)

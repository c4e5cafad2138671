"""`pytest -p helpers.other_machine`: sums come out a few last bits away from this processor's, as on another
one.

Every product of matrices, reduction and exponential of floats that torch computes in a test of this process
is moved by up to two units of its last place. The move is a fixed function of the operation, the shape and
the position: the same computation done twice gives the same bits, the same row in another batch does not. A
test that passes here does not depend on the last bits of a sum.
"""

import zlib
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

NAMES = (
    *("mm", "addmm", "bmm", "baddbmm", "dot", "mv", "addmv", "sum", "mean", "cumsum", "linalg_vector_norm"),
    *(
        "var",
        "std",
        "_softmax",
        "_log_softmax",
        "logsumexp",
        "exp",
        "log",
        "rsqrt",
        "sigmoid",
        "silu",
        "gelu",
    ),
    *("_linalg_svd", "_linalg_eigh", "linalg_qr", "_linalg_solve_ex", "linalg_cholesky_ex"),
)
MOVED = {getattr(torch.ops.aten, name): zlib.crc32(name.encode()) for name in NAMES}


def moved(value: Any, seed: int) -> Any:
    """A float tensor with every number moved by -2 to 2 units of its last place; anything else as it is."""
    if not isinstance(value, Tensor) or value.dtype not in (torch.float32, torch.float64) or value.is_meta:
        return value
    seed += sum((i + 1) * size for i, size in enumerate(value.shape))
    steps = (torch.arange(value.numel()).mul_(2654435761).add_(seed * 40503) >> 7) % 5 - 2
    return torch.where(
        value.isfinite(), value * (1 + torch.finfo(value.dtype).eps * steps.reshape(value.shape)), value
    )


class OtherMachine(TorchDispatchMode):
    """While it is entered, the operations of `NAMES` give moved results."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        seed = MOVED.get(func.overloadpacket)
        return out if seed is None or "out" in (kwargs or {}) else tree_map(lambda one: moved(one, seed), out)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[Any]:
    """Fixtures and test run on the other machine."""
    with OtherMachine():
        return (yield)

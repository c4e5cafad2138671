"""Calls of a plain Hugging Face model: the arguments that it takes, and what passes through its
unembedding."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from torch import Tensor, nn

OPTIONAL = (
    "position_ids",
    "use_cache",
    "past_key_values",
    "logits_to_keep",
)  # arguments that not every family takes


def taken(module: nn.Module, given: dict[str, Any]) -> dict[str, Any]:
    """The arguments that a module's forward names; the optional ones that it does not name are left out, and
    those that are None."""
    names = _parameters(getattr(module.forward, "__func__", module.forward))
    return {
        name: value
        for name, value in given.items()
        if (name in names or name not in OPTIONAL) and value is not None
    }


@lru_cache(maxsize=256)
def _parameters(forward: Any) -> frozenset[str]:
    return frozenset(inspect.signature(forward).parameters)


@contextmanager
def forward_replaced(module: nn.Module, forward: Any) -> Iterator[None]:
    """Inside the block a module's forward is another one. Its own may be an attribute of the module already
    (accelerate)."""
    kept = vars(module).get("forward")
    module.forward = forward
    try:
        yield
    finally:
        if kept is None:
            del module.forward
        else:
            module.forward = kept


@contextmanager
def at_places(model: Any, where: tuple[Tensor, ...]) -> Iterator[None]:
    """Inside the block only these rows and columns pass through the unembedding; logits are [1, places,
    d_vocab]. Works under PEFT too."""
    handle = model.get_output_embeddings().register_forward_pre_hook(
        lambda head, args: (args[0][where][None], *args[1:])
    )
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def last_places(head: nn.Module, n: int) -> Iterator[None]:
    """Inside the block only the last `n` columns pass through the unembedding."""
    handle = head.register_forward_pre_hook(
        lambda _module, args: (args[0][:, -n:], *args[1:]),
        prepend=True,  # before `flat_head`'s
    )
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def flat_head(twin: Any) -> Iterator[None]:
    """Inside the block the unembedding sees its batch as one row of tokens.

    On CPUs a bfloat16 product of [batch, 1, d_model] copies the d_vocab x d_model weights once per row: a
    gigabyte for 20 rows.
    """
    head = twin.get_output_embeddings()
    shapes: list[tuple[int, ...]] = []

    def flatten(module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        shapes.append(tuple(args[0].shape[:-1]))
        return (args[0].reshape(1, -1, args[0].shape[-1]), *args[1:])

    def restore(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return output.reshape(*shapes.pop(), output.shape[-1])

    handles = (head.register_forward_pre_hook(flatten), head.register_forward_hook(restore))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()

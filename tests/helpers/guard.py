"""An accelerator that is not there: tensors carry a mark that says that they lie on it, and operations that
mix them with tensors of the CPU are refused, as CUDA refuses them. What would make the CPU wait is
counted."""

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.weak import WeakTensorKeyDictionary

if TYPE_CHECKING:
    from persona_probe.models.loading import Model

ACCELERATOR = torch.device("cuda", 0)
CPU = torch.device("cpu")
ELSEWHERE = "between passes"
# What hands a value to Python: the CPU waits until the device has computed it.
READS = {
    name: getattr(Tensor, name)
    for name in ("item", "tolist", "numpy", "__bool__", "__int__", "__float__", "__index__", "__contains__")
}
# What needs a number from the device before it knows the shape of its own result.
SHAPES = {
    "nonzero": (Tensor.nonzero, torch.nonzero),
    "masked_select": (Tensor.masked_select, torch.masked_select),
}
MOVES = (Tensor.to, Tensor.cpu, Tensor.cuda, Tensor.copy_, Tensor.type_as)


class DeviceMismatch(Exception):
    """An operation had tensors on the accelerator and on the CPU. No RuntimeError, so that nothing takes it
    for one that it handles."""


class Guard(TorchFunctionMode):
    """Inside the block tensors lie on the CPU or on `ACCELERATOR`.

    `waits` counts what makes the CPU wait for the accelerator, by the place of the pass that is running and
    by name.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[tuple[str, str]] = Counter()
        self.places: list[str] = []
        self.n_passes = 0
        self._there = WeakTensorKeyDictionary()

    def place(self, tensor: Tensor) -> Tensor:
        """Say that a tensor lies on the accelerator."""
        self._there[tensor] = True
        return tensor

    def is_there(self, value: Any) -> bool:
        """Whether a value is a tensor on the accelerator."""
        return isinstance(value, Tensor) and value in self._there

    def restart(self) -> None:
        """Count anew."""
        self.waits.clear()
        self.n_passes = 0

    def n_waits(self, place: str) -> int:
        """How often the CPU waited at a place."""
        return sum(count for (where, _), count in self.waits.items() if where == place)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Every operation of torch comes by here first."""
        kwargs = kwargs or {}
        if func == Tensor.device.__get__:  # type: ignore[attr-defined]
            return ACCELERATOR if self.is_there(args[0]) else CPU
        leaves = tree_leaves((args, kwargs))
        devices = [leaf for leaf in leaves if isinstance(leaf, torch.device)]
        given: Any = tree_map(lambda leaf: CPU if isinstance(leaf, torch.device) else leaf, (args, kwargs))
        args, kwargs = given[0], dict(given[1])
        there = self._target(func, args, devices)
        if there is None:
            there = self._agreed(func, args, leaves)
        self._count(func, args, leaves, there, non_blocking=bool(kwargs.get("non_blocking")))
        out = func(*args, **kwargs)
        if func is Tensor.__iter__:
            out = list(out)
        marked = tree_map(lambda leaf: self._marked(leaf, there, leaves, func), out)
        return iter(marked) if func is Tensor.__iter__ else marked

    def _target(self, func: Any, args: Any, devices: list[torch.device]) -> bool | None:
        """Whether the result lies on the accelerator, where the call says so itself."""
        if devices:
            return devices[0].type == ACCELERATOR.type
        if func is Tensor.cpu:
            return False
        if func is Tensor.copy_:
            return self.is_there(args[0])
        if func in MOVES and len(args) > 1 and isinstance(args[1], Tensor):
            return self.is_there(args[1])
        if func in (torch.tensor, torch.as_tensor):
            return False
        return None

    def _agreed(self, func: Any, args: Any, leaves: list[Any]) -> bool:
        """Where the tensors of a call lie; DeviceMismatch when some lie here and some lie there."""
        if func is Tensor.__getitem__:  # indices may lie on the CPU, at the price of a transfer
            there = self.is_there(args[0])
            if not there and any(map(self.is_there, leaves)):
                raise DeviceMismatch("a tensor of the CPU is indexed by one of the accelerator")
            return there
        large = {self.is_there(leaf) for leaf in leaves if isinstance(leaf, Tensor) and leaf.ndim}
        if len(large) > 1:
            raise DeviceMismatch(f"{func.__name__} has tensors of the CPU and of the accelerator")
        return any(map(self.is_there, leaves))

    def _count(self, func: Any, args: Any, leaves: list[Any], there: bool, *, non_blocking: bool) -> None:
        given = any(map(self.is_there, leaves))
        known = {name for name, read in READS.items() if func is read and given}
        known |= {name for name, funcs in SHAPES.items() if func in funcs and given}
        if func in MOVES and given and not there:
            known.add("to the CPU")
        if func in MOVES and there and not non_blocking and not all(map(self.is_there, _tensors(leaves))):
            known.add("to the accelerator")
        if func in (torch.tensor, torch.as_tensor) and there and len(args[0]):
            known.add("to the accelerator")
        if func in (Tensor.__getitem__, Tensor.__setitem__) and self.is_there(args[0]):
            known |= {f"index by {name}" for name in self._waiting_indices(args[1])}
        for name in known:
            self.waits[self.places[-1] if self.places else ELSEWHERE, f"{name} in {_caller()}"] += 1

    def _waiting_indices(self, index: Any) -> Iterator[str]:
        for part in index if isinstance(index, tuple) else (index,):
            if isinstance(part, list | range):
                yield "a list"
            elif isinstance(part, Tensor) and part.dtype == torch.bool:
                yield "a mask"
            elif isinstance(part, Tensor) and part.ndim and not self.is_there(part):
                yield "a tensor of the CPU"

    def _marked(self, leaf: Any, there: bool, leaves: list[Any], func: Any) -> Any:
        if not isinstance(leaf, Tensor) or self.is_there(leaf) == there:
            return leaf
        if any(leaf is given for given in leaves):  # on one device `to` copies nothing
            leaf = leaf.clone()
        if there:
            self.place(leaf)
        return leaf


def _caller() -> str:
    """The function that called torch."""
    frame = sys._getframe(1)
    while frame.f_back and frame.f_globals["__name__"].split(".")[0] in ("torch", __name__.split(".")[0]):
        frame = frame.f_back
    return f"{frame.f_globals['__name__']}.{frame.f_code.co_name}"


def _tensors(leaves: list[Any]) -> list[Tensor]:
    return [leaf for leaf in leaves if isinstance(leaf, Tensor)]


@contextmanager
def on_accelerator(*models: "Model") -> Iterator[tuple[Guard, list["Model"]]]:
    """Inside the block these models lie on the accelerator, and everything else on the CPU.

    Waits are counted by place: "pass" before the first block of a forward pass, "blocks" from there on, hooks
    included.
    """
    guard, moved = Guard(), [replace(model, device=ACCELERATOR) for model in models]
    with ExitStack() as stack:
        for model in models:
            for tensor in (*model.twin.parameters(), *model.twin.buffers()):
                guard.place(tensor)
            _watch(stack, guard, model)
        stack.enter_context(guard)
        yield guard, moved


def _watch(stack: ExitStack, guard: Guard, model: "Model") -> None:
    """Let the guard know where the forward passes of a model stand."""
    body = model.twin.base_model

    def enter(*_: Any) -> None:
        guard.places.append("pass")
        guard.n_passes += "forward" not in vars(body)  # the unembedding is run without the body's own

    def reach(*_: Any) -> None:
        guard.places[-1] = "blocks"

    def leave(*_: Any) -> None:
        guard.places.pop()

    stack.callback(body.register_forward_pre_hook(enter, prepend=True).remove)
    stack.callback(body.register_forward_hook(leave, always_call=True).remove)
    for block in model.blocks():
        stack.callback(block.register_forward_pre_hook(reach).remove)

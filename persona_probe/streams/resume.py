"""Reuse of the clean run below an edit: layers under the lowest intervention give what they gave before, so
they are not run again."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor, nn

from persona_probe.base.hook_points import HookPoint
from persona_probe.models.checks import distance, probe_rows, tolerance
from persona_probe.models.loading import Model, forward

_RESUMABLE: WeakKeyDictionary[Model, bool] = WeakKeyDictionary()
_FIRST_CHANGED: WeakKeyDictionary[Model, dict[str, int]] = WeakKeyDictionary()


@dataclass(frozen=True, eq=False)
class Prefix:
    """The clean residual stream that enters block `layer`, for one batch: the shared columns once per prompt,
    then the rest."""

    layer: int
    shared: Float[Tensor, "prompts shared d_model"] | None
    rest: Float[Tensor, "batch rest d_model"]

    @property
    def n_bytes(self) -> int:
        """Memory that it takes."""
        return self.rest.nbytes + (0 if self.shared is None else self.shared.nbytes)

    def tiled(self, n: int) -> "Prefix":
        """The streams of `TokenBatch.tiled(n)`."""
        shared = None if self.shared is None else self.shared.repeat(n, 1, 1)
        return self if n == 1 else Prefix(self.layer, shared, self.rest.repeat(n, 1, 1))

    def part(self, rows: slice, prompts: list[int]) -> "Prefix":
        """The streams of some rows and of the prompts that they share."""
        return Prefix(self.layer, None if self.shared is None else self.shared[prompts], self.rest[rows])


def lowest_layer(model: Model, hook_points: Iterable[str]) -> int:
    """The first block that edits of these hook points can change: blocks below it, and its own inputs, are as
    in the clean run.

    An edit of block i's output leaves block i itself clean, so the run resumes at block i + 1 (`n_layers`
    after the last one) and the edit falls on the recorded stream. Without edits everything is as in the clean
    run.
    """
    known = _FIRST_CHANGED.setdefault(model, {})
    for hook_point in (points := tuple(hook_points)):
        if hook_point not in known:
            known[hook_point] = _first_changed(model, hook_point)
    return min((known[hook_point] for hook_point in points), default=model.n_layers)


def _first_changed(model: Model, hook_point: str) -> int:
    """The first block that an edit of one hook point can change: where the edited module stands says so."""
    if isinstance(hook_point, HookPoint):
        return hook_point.layer + 1
    edited = model.site(hook_point)[1]
    for layer, point in enumerate(model.resids()):
        block = model.site(point)[1]
        if edited is block:
            return layer + 1
        if any(edited is part for part in block.modules()):
            return layer
    return 0


@contextmanager
def recorded(model: Model, layers: Sequence[int]) -> Iterator[dict[int, Prefix]]:
    """Inside the block one forward pass of the twin is run; the streams that enter `layers` are there after
    it.

    A stream is recorded as the block below puts it out, before edits that are applied inside.
    """
    calls: dict[int, list[Tensor]] = {layer: [] for layer in layers}
    streams: dict[int, Prefix] = {}

    def catch(layer: int) -> Any:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            calls[layer].append(output[0] if isinstance(output, tuple) else output)

        return hook

    with ExitStack() as stack:
        for layer in layers:
            stack.callback(model.site(HookPoint(layer - 1))[1].register_forward_hook(catch(layer)).remove)
        yield streams
    for layer, (*shared, rest) in calls.items():
        streams[layer] = Prefix(layer, shared[0] if shared else None, rest)


def resumable(model: Model) -> bool:
    """Whether passes of this model may start above its first block: tried once on a few short rows, and
    compared with whole passes.

    Families whose blocks pass on more than the residual stream cannot: their passes are then always whole.
    """
    if model not in _RESUMABLE:
        _RESUMABLE[model] = _resumes(model)
    return _RESUMABLE[model]


def _resumes(model: Model) -> bool:
    rows = probe_rows(model.tokenizer, n_rows=model.engine.n_rows)
    middle, places = model.n_layers // 2, (torch.zeros(2, dtype=torch.long), torch.tensor([0, 1]))
    try:
        for batch in model.batches(rows, max_tokens=1024, keep_prompts=True):
            with torch.inference_mode():
                with recorded(model, [middle]) as streams:
                    whole = forward(model, batch, logits_at=places)
                with resumed(model, streams[middle]):
                    again = forward(model, batch, logits_at=places)
            if whole is None or again is None or distance(again, whole) > tolerance(model.dtype):
                return False
    except Exception:  # a family may fail in any way where it is run in one it was not written for
        return False
    return model.n_layers > 1


@contextmanager
def resumed(model: Model, prefix: Prefix | None) -> Iterator[None]:
    """Inside the block, forward passes of the twin over the prefix's batch start at its layer; None changes
    nothing.

    Hooks on the block just below see the recorded stream as that block's output.
    """
    if prefix is None:
        yield
        return
    queue = [prefix.rest] if prefix.shared is None else [prefix.shared, prefix.rest]
    with _skipping(model, range(prefix.layer), queue):
        yield


@contextmanager
def _skipping(model: Model, layers: range, queue: list[Tensor]) -> Iterator[None]:
    """Inside the block these blocks pass the stream on; the last of them hands out the queue's streams, when
    there are any."""
    blocks = model.blocks()
    originals = {i: blocks[i] for i in layers}
    try:
        for i, original in originals.items():
            site = model.site(HookPoint(i))[1]
            blocks[i] = _Skipped(original, i, queue if queue and i == layers[-1] else None, site)
        yield
    finally:
        for i, original in originals.items():
            blocks[i] = original


class _Skipped(nn.Module):
    """Stands in for a block that need not run; the last one hands out the recorded stream, through the hooks
    of `site`, where the stream leaves the block."""

    def __init__(self, original: nn.Module, index: int, queue: list[Tensor] | None, site: nn.Module) -> None:
        super().__init__()
        # In tuples, so that torch does not register the modules as children.
        self._original, self._index, self._queue, self._site = (original,), index, queue, (site,)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.__dict__["_original"][0], name)

    def forward(self, hidden: Tensor, *args: Any, **kwargs: Any) -> Any:
        cache = next((value for value in (*args, *kwargs.values()) if hasattr(value, "get_seq_length")), None)
        if cache is not None:
            # The cache counts tokens by its first layers; empty keys of the right length keep that count.
            nothing = hidden.new_zeros(hidden.shape[0], 1, hidden.shape[1], 1)
            cache.update(nothing, nothing, self._index)
        if self._queue is None:
            return hidden
        stream = self._queue.pop(0)
        for hook in self._site[0]._forward_hooks.values():
            edited = hook(self._site[0], (hidden,), stream)
            stream = stream if edited is None else edited
        return stream

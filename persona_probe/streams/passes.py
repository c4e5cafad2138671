"""Forward passes that only read: in the batches that compute fewest tokens, and no further than the highest
place that is read."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from persona_probe.base.choices import Scope
from persona_probe.base.errors import BadInput
from persona_probe.models.loading import Model, forward
from persona_probe.prompts.batches import TokenBatch
from persona_probe.prompts.rows import Row

See = Callable[[int, Float[Tensor, "batch rest d_model"]], None]


def cheapest_batches(model: Model, rows: Sequence[Row], *, scope: Scope, max_tokens: int) -> list[TokenBatch]:
    """The batches that compute fewest tokens: prompts kept together and computed once each, or rows sorted by
    length, which share what a whole batch begins with.

    With scope "all" nothing is shared, because every token of every row is read.
    """
    by_length = list(model.batches(rows, max_tokens=max_tokens, scope=scope, share=scope != "all"))
    if scope == "all":
        return by_length
    by_prompt = list(model.batches(rows, max_tokens=max_tokens, scope=scope, keep_prompts=True))
    call_tokens = model.engine.call_tokens
    return min(by_length, by_prompt, key=lambda batches: sum(batch.price(call_tokens) for batch in batches))


@dataclass(eq=False)
class _Progress:
    """Where a pass stands: calls of the body up to the one with the rows, and the hook points seen in it."""

    calls_left: int = 0
    seen: set[int] = field(default_factory=set)


class _Reached(Exception):
    """Ends a forward pass that need not go on."""


@contextmanager
def watching(model: Model, hook_points: Sequence[str], see: See) -> Iterator[Callable[[TokenBatch], None]]:
    """A function that runs a batch and gives `see(index, stream)` the stream at every hook point, once each.

    Only rows are seen, not the prompts that they share, which are run before them. The pass ends when every
    hook point was seen: what stands above does not run. BadInput for a hook point that no pass reaches.
    """
    progress = _Progress()

    def count(module: Any, args: Any) -> None:
        progress.calls_left -= 1

    def hook_at(index: int) -> Any:
        def hook(module: Any, args: Any, output: Any) -> None:
            if progress.calls_left > 0:
                return
            see(index, output[0] if isinstance(output, tuple) else output)
            progress.seen.add(index)
            if len(progress.seen) == len(hook_points):
                raise _Reached

        return hook

    def run(batch: TokenBatch) -> None:
        progress.calls_left = 2 if batch.n_shared else 1
        progress.seen.clear()
        with suppress(_Reached):
            forward(model, batch, logits_at=None)
        if silent := set(range(len(hook_points))) - progress.seen:
            raise BadInput(
                f"no activations at {hook_points[min(silent)]}: the block did not run in {model.name}"
            )

    with torch.inference_mode(), ExitStack() as stack:
        stack.callback(model.twin.base_model.register_forward_pre_hook(count).remove)
        for index, hook_point in enumerate(hook_points):
            module = model.site(hook_point)[1]
            stack.callback(module.register_forward_hook(hook_at(index)).remove)
        yield run

"""Does the bridge of TransformerLens, and its hook points, compute what the Hugging Face twin computes?"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from persona_probe.base.errors import BadInput
from persona_probe.models.checks import COARSE, Check, Reference, compared, distance, tolerance
from persona_probe.models.engine import Engine

BRIDGE = "bridge: "  # how the checks of the bridge begin
# Families whose bridge differs by less than that; float32 shows it, and the test of all families that this
# list is right.
BRIDGE_DIFFERS = ("cohere", "cohere2", "hunyuan_v1_dense")


def bridge_checks(
    bridge: Any, engine: Engine, known: Reference, sites: Sequence[tuple[Any, Any]], *, dtype: torch.dtype
) -> tuple[Check, ...]:
    """Streams of the twin against Hugging Face, and logits, streams and an edit of the bridge against the
    twin's.

    `sites`: hook and module of the stream after every block, as `Model.site` gives them.
    """
    limit, row = tolerance(dtype), known.rows[0]
    both = _Both(bridge, engine, torch.tensor([row.ids], device=engine.device))
    hooks, modules = [hook for hook, _ in sites], [module for _, module in sites]
    middle = len(sites) // 2

    def edit() -> float:
        return distance(_edited(hooks[middle], both.of_bridge), _edited(modules[middle], both.of_twin))

    stream = compared("residual stream", lambda: _residuals(_streams(modules, both.of_twin), known), limit)
    if engine.config.model_type in BRIDGE_DIFFERS and limit >= COARSE:
        said = "differ in float32; two bytes would hide it"
        return stream, Check(f"{BRIDGE}logits", None, limit, said)
    replies = slice(row.n_prompt - 1, -1)
    return (
        stream,
        compared(f"{BRIDGE}logits", lambda: distance(both.of_bridge()[replies], known.logits[0]), limit),
        compared(
            f"{BRIDGE}residual stream", lambda: _residuals(_streams(hooks, both.of_bridge), known), limit
        ),
        compared(f"{BRIDGE}edit", edit, limit),
    )


@dataclass(frozen=True, eq=False)
class _Both:
    """The twin and the bridge on the tokens of one row; each gives logits [pos, d_vocab] in float32."""

    bridge: Any
    engine: Engine
    tokens: Tensor

    def of_twin(self) -> Tensor:
        return self.engine.twin(input_ids=self.tokens, use_cache=False).logits[0].float().cpu()

    def of_bridge(self) -> Tensor:
        return self.bridge(self.tokens, attention_mask=torch.ones_like(self.tokens))[0].float().cpu()


def _streams(modules: Sequence[Any], run: Callable[[], Any]) -> list[Tensor]:
    """What the modules put out during one run, in float32."""
    kept: dict[int, Tensor] = {}
    handles = [
        one.register_forward_hook(lambda _m, _a, out, i=i: kept.update({i: _tensor(out)[0].float().cpu()}))
        for i, one in enumerate(modules)
    ]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    return [kept[i] for i in range(len(modules))]


def _edited(target: Any, run: Callable[[], Tensor]) -> Tensor:
    """Logits while the output of a module is moved by a third of the usual length of its tokens."""

    def add(_module: Any, _args: Any, out: Any) -> Any:
        stream = _tensor(out)
        step = torch.linspace(-1, 1, stream.shape[-1], device=stream.device)
        length = 0.3 * stream.float().norm(dim=-1).median()
        moved = (stream.float() + length * step / step.norm()).to(stream.dtype)
        return (moved, *out[1:]) if isinstance(out, tuple) else moved

    handle = target.register_forward_hook(add)
    try:
        return run()
    finally:
        handle.remove()


def _residuals(streams: Sequence[Tensor], known: Reference) -> float:
    """The largest distance of a block's stream from Hugging Face's hidden state."""
    states = known.streams[0]
    if any(stream.ndim != 2 for stream in streams):  # several streams at once (DeepSeek V4)
        raise BadInput("its blocks do not pass on one vector per token")
    if len(states) != len(streams) + 1:
        raise BadInput(f"Hugging Face gives {len(states)} hidden states for {len(streams)} blocks")
    # The last state is behind the final norm. The first is the embedding, but not in state-space models.
    return min(
        max((distance(one, other) for one, other in zip(streams, listed, strict=False)), default=0.0)
        for listed in (states[1:-1], states[:-2])
    )


def _tensor(output: Any) -> Tensor:
    stream = output[0] if isinstance(output, tuple) else output
    if not isinstance(stream, Tensor):  # GPT-1 puts out a list
        raise BadInput("its blocks do not pass on one vector per token")
    return stream

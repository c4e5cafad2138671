"""What plain Hugging Face gives for a tiny model: scores, streams and replies, also under edits by hooks."""

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from helpers import tiny

if TYPE_CHECKING:
    from persona_probe.prompts.rows import Row

NEW_TOKENS, STOP = 6, 3  # STOP ends a turn in the tiny tokenizer
EDITED = slice(2, 5)  # rows with edits
# Layers and strengths of the edits; the ablation leaves the first tokens alone.
MIDDLE, STEERED_BY, ABLATED, FIRST = 1, 0.5, (1, 2), 2


@dataclass(frozen=True, eq=False)
class Known:
    """What plain Hugging Face gives: scores and streams of each row, scores of some under two edits, two
    replies, loss and its gradient."""

    scores: Tensor
    streams: list[Tensor]
    steered: Tensor
    ablated: Tensor
    replies: list[list[int]]
    loss: float
    gradient: Tensor


@lru_cache(maxsize=1)
def own_attention() -> dict[str, Any]:
    """Gemma's modules by name, and the eager attention in their files."""
    found = {}
    for family in ("gemma2", "gemma3"):
        spec = importlib.util.find_spec(f"transformers.models.{family}.modeling_{family}")
        assert spec is not None
        assert spec.loader is not None
        importlib.import_module(spec.name)  # decorators in the file look it up
        fresh = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(fresh)
        found[spec.name] = fresh.eager_attention_forward
    return found


@contextmanager
def undisturbed() -> Iterator[None]:
    """Inside the block Gemma's eager attention is transformers' own, which TransformerLens replaces once a
    rotary model is bridged."""
    with ExitStack() as stack:
        for name, attention in own_attention().items():
            used: Any = importlib.import_module(name)
            stack.callback(setattr, used, "eager_attention_forward", used.eager_attention_forward)
            used.eager_attention_forward = attention
        yield


def blocks_of(plain: Any) -> nn.ModuleList | None:
    """The blocks of the language model; the towers that see and hear have two."""
    return next(
        (part for part in plain.modules() if isinstance(part, nn.ModuleList) and len(part) == tiny.LAYERS),
        None,
    )


def stream_of(output: Any) -> Tensor:
    return output[0] if isinstance(output, tuple | list) else output


@contextmanager
def hooked(blocks: Any, layers: Sequence[int], change: Callable[[Tensor], Tensor | None]) -> Iterator[None]:
    """Inside the block what these blocks put out is changed; None leaves it as it is."""

    def hook(_module: Any, _args: Any, output: Any) -> Any:
        stream = change(stream_of(output))
        return stream if stream is None or isinstance(output, Tensor) else type(output)((stream, *output[1:]))

    handles = [blocks[layer].register_forward_hook(hook) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def vectors(count: int) -> Tensor:
    return torch.randn(count, tiny.WIDTH, generator=torch.Generator().manual_seed(100))


def steered(stream: Tensor) -> Tensor:
    return stream + STEERED_BY * vectors(1)[0]


def ablated(stream: Tensor) -> Tensor:
    basis = torch.linalg.qr(vectors(2).T).Q
    return torch.cat([stream[:, :FIRST], stream[:, FIRST:] - stream[:, FIRST:] @ basis @ basis.T], 1)


def score(logits: Tensor, row: "Row") -> Tensor:
    """Log-probability of the reply in nats."""
    logprobs = logits.double().log_softmax(-1)
    return torch.stack([logprobs[i - 1, row.ids[i]] for i in range(row.n_prompt, len(row.ids))]).sum()


def known_of(plain: Any, rows: "Sequence[Row]") -> Known | None:
    """Row by row, without padding, cache or anything shared; edits by plain hooks on plain blocks. None where
    blocks are no list."""

    def logits(ids: Sequence[int]) -> Tensor:
        return plain(input_ids=torch.tensor([ids]), use_cache=False).logits[0]

    def greedy(prompt: Sequence[int]) -> list[int]:
        ids = list(prompt)
        while len(ids) < len(prompt) + NEW_TOKENS and ids[len(prompt) :][-1:] != [STOP]:
            ids.append(int(logits(ids)[-1].argmax()))
        return ids[len(prompt) :]

    blocks = blocks_of(plain)
    if blocks is None:
        return None
    scores, streams, last = [], [], []
    with torch.no_grad():
        for row in rows:
            with hooked(blocks, [tiny.LAYERS - 1], lambda stream: last.append(stream[0])):
                out = plain(input_ids=torch.tensor([row.ids]), use_cache=False, output_hidden_states=True)
            *states, _normed = (state[0] for state in out.hidden_states)
            # State-space models list no embeddings: their states begin after the first block, and the last
            # two are one before and after the norm.
            streams.append(
                torch.stack([*(states[:-1] if torch.equal(states[-1], last[-1]) else states[1:]), last[-1]])
            )
            scores.append(score(out.logits[0], row))
        long, short = (row.ids[: row.n_prompt] for row in rows[-2:])
        replies = [greedy(long)]
        with hooked(blocks, [MIDDLE], steered):
            under_steer = [score(logits(row.ids), row) for row in rows[EDITED]]
        with hooked(blocks, ABLATED, ablated):
            under_ablation = [score(logits(row.ids), row) for row in rows[EDITED]]
            replies.append(greedy(short))
    loss = torch.stack([own_loss(plain, row) * row.n_reply for row in rows[-2:]]).sum() / sum(
        row.n_reply for row in rows[-2:]
    )
    gradient = torch.autograd.grad(loss, plain.get_input_embeddings().weight)[0]
    return Known(
        torch.stack(scores),
        streams,
        torch.stack(under_steer),
        torch.stack(under_ablation),
        replies,
        float(loss.detach()),
        gradient,
    )


def own_loss(plain: Any, row: "Row") -> Tensor:
    """Hugging Face's own loss of a reply."""
    labels = [-100] * row.n_prompt + list(row.ids[row.n_prompt :])
    return plain(input_ids=torch.tensor([row.ids]), labels=torch.tensor([labels]), use_cache=False).loss

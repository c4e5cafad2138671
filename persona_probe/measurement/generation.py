"""Sampled replies under interventions.

A batch may carry rows of different arms; draws do not depend on the batch.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from persona_probe.base.errors import BadInput
from persona_probe.interventions.applied import applied
from persona_probe.interventions.edits import Intervention
from persona_probe.models.engine import flat_head
from persona_probe.models.loading import Model
from persona_probe.prompts.batches import pad_left
from persona_probe.prompts.rows import Prompt, encode_prompt


@dataclass(frozen=True)
class Request:
    """One reply to sample: a prompt under an arm.

    Rows of one arm share one and the same tuple of interventions.
    """

    arm: str
    prompt: Prompt
    interventions: tuple[Intervention, ...]


@dataclass(frozen=True)
class Sampling:
    """How replies are sampled. Temperature 0 is greedy."""

    max_new_tokens: int
    temperature: float
    seed: int


@dataclass(frozen=True)
class Completion:
    """A sampled reply. `finished` is False when it was cut at the token limit."""

    arm: str
    prompt_id: str
    text: str
    finished: bool


def generate(
    model: Model,
    requests: Sequence[Request],
    *,
    max_new_tokens: int,
    temperature: float,
    seed: int,
    batch_size: int,
) -> list[Completion]:
    """Sample one reply per request, left-padded and with a KV cache, in the order of `requests`.

    The draws of a request come from a generator of its own, seeded by `seed` and prompt and not by arm: two
    arms that give the same probabilities give the same text, and neither batch size nor order matters.
    Temperature 0 is greedy.
    """
    sampling = Sampling(max_new_tokens=max_new_tokens, temperature=temperature, seed=seed)
    encoded = [encode_prompt(model.tokenizer, request.prompt) for request in requests]
    for request, ids in zip(requests, encoded, strict=True):
        model.engine.check_ids(ids, what=f"prompt {request.prompt.id!r}")
        check_length(model, request.prompt, ids, max_new_tokens=max_new_tokens)
    order = sorted(range(len(requests)), key=lambda i: len(encoded[i]))
    done: dict[int, Completion] = {}
    for chosen in _groups(model, order, [len(ids) + max_new_tokens for ids in encoded], batch_size):
        with (
            torch.inference_mode(),
            flat_head(model.engine),
            applied(model, (), rows=[requests[i].interventions for i in chosen]),
        ):
            generators = [request_generator(seed, requests[i].prompt.id) for i in chosen]
            tokens = _sample(model, [encoded[i] for i in chosen], generators, sampling)
        done |= {i: _completion(model, requests[i], ids) for i, ids in zip(chosen, tokens, strict=True)}
    return [done[i] for i in range(len(requests))]


def check_length(model: Model, prompt: Prompt, ids: Sequence[int], *, max_new_tokens: int) -> None:
    """BadInput for a prompt that leaves no room for the new tokens."""
    if len(ids) + max_new_tokens > model.n_ctx:
        raise BadInput(
            f"prompt {prompt.id!r} has {len(ids)} tokens; with {max_new_tokens} new ones "
            f"it exceeds the {model.n_ctx} of {model.name}"
        )


def _completion(model: Model, request: Request, ids: Sequence[int]) -> Completion:
    kept = [token for token in ids if token not in model.eos_ids]
    return Completion(
        arm=request.arm,
        prompt_id=request.prompt.id,
        text=model.tokenizer.decode(kept, skip_special_tokens=True).strip(),
        finished=bool(ids) and ids[-1] in model.eos_ids,
    )


def _groups(
    model: Model, order: Sequence[int], longest: Sequence[int], batch_size: int
) -> Iterator[list[int]]:
    """Requests that may stand in one batch; alone those that cannot be padded or may pass a rotary window."""
    window = model.engine.window
    alone = [i for i in order if not model.engine.pads_left or (window is not None and longest[i] > window)]
    together = [i for i in order if i not in set(alone)]
    yield from (together[start : start + batch_size] for start in range(0, len(together), batch_size))
    yield from ([i] for i in alone)


def _sample(
    model: Model, prompts: Sequence[Sequence[int]], generators: Sequence[torch.Generator], sampling: Sampling
) -> list[list[int]]:
    written: list[list[int]] = [[] for _ in prompts]
    for chosen in steps(model, prompts, generators, sampling):
        for row, token in zip(written, chosen, strict=True):
            if token is not None:
                row.append(token)
    return written


def steps(
    model: Model, prompts: Sequence[Sequence[int]], generators: Sequence[torch.Generator], sampling: Sampling
) -> Iterator[list[int | None]]:
    """One forward pass per item: the next token of every row, None for rows that have ended.

    Prompts are padded on the left and keys and values are kept. The caller holds `torch.inference_mode()` and
    `applied`.
    """
    step, mask = (tensor.to(model.device) for tensor in pad_left(prompts, pad_id=model.pad_id))
    whole, cache, stop = step, None, set(model.eos_ids)
    ended = [False] * len(prompts)
    for _ in range(sampling.max_new_tokens):
        # Beyond a rotary embedding's window that depends on length, all is computed anew, as Hugging Face
        # does.
        crossed = model.engine.window is not None and int(mask.sum(-1).max()) == model.engine.window + 1
        if crossed or not model.engine.caches:
            step, cache = whole, None
        logits, cache = model.engine.next_logits(step, mask, cache)
        chosen = _choose(logits.float(), generators, sampling.temperature)
        tokens = chosen.tolist()
        yield [None if over else token for token, over in zip(tokens, ended, strict=True)]
        ended = [over or token in stop for token, over in zip(tokens, ended, strict=True)]
        if all(ended):
            break
        step = chosen[:, None]
        mask, whole = torch.cat([mask, torch.ones_like(step)], dim=1), torch.cat([whole, step], dim=1)


def _choose(
    logits: Float[Tensor, "batch d_vocab"], generators: Sequence[torch.Generator], temperature: float
) -> Int[Tensor, " batch"]:
    if not torch.isfinite(logits).all():
        raise BadInput(
            "the next-token logits are not finite under this intervention: "
            "lower the coefficient or use --dtype float32"
        )
    if temperature == 0:
        return logits.argmax(-1)
    cumulative = (logits / temperature).softmax(-1).double().cumsum(-1)
    draws = torch.stack(
        [torch.rand(1, generator=generator, dtype=torch.float64) for generator in generators]
    ).to(logits.device)
    return torch.searchsorted(cumulative, draws * cumulative[:, -1:])[:, 0].clamp(max=logits.shape[-1] - 1)


def request_generator(seed: int, prompt_id: str) -> torch.Generator:
    """The draws of one prompt, whatever the arm and the batch."""
    digest = hashlib.sha256(f"{seed}/{prompt_id}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))

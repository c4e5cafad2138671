"""Sampled replies under interventions.

A batch may carry rows of different arms; draws do not depend on the batch.
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch

from persona_probe.base.errors import BadInput
from persona_probe.interventions.applied import applied
from persona_probe.interventions.edits import Intervention
from persona_probe.measurement.running import Asked, Sampling, steps
from persona_probe.models.loading import Model
from persona_probe.prompts.rows import Prompt, encode_prompt


@dataclass(frozen=True)
class Request:
    """One reply to sample: a prompt under an arm.

    Rows of one arm share one and the same tuple of interventions. `draw` numbers the replies of an arm to the
    same prompt, from 0.
    """

    arm: str
    prompt: Prompt
    interventions: tuple[Intervention, ...]
    draw: int = 0


@dataclass(frozen=True)
class Completion:
    """A sampled reply. `finished` is False when it was cut at the token limit."""

    arm: str
    prompt_id: str
    text: str
    finished: bool
    draw: int = 0


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

    The draws of a request come from a generator of its own, seeded by `seed`, prompt and number of the draw
    and not by arm: two arms that give the same probabilities give the same text, and neither batch size nor
    order matters.
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
        tokens = _written(model, [requests[i] for i in chosen], [encoded[i] for i in chosen], sampling)
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
        draw=request.draw,
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


@torch.inference_mode()
def _written(
    model: Model, requests: Sequence[Request], prompts: Sequence[Sequence[int]], sampling: Sampling
) -> list[list[int]]:
    """The tokens of every reply, what ends it included."""
    asked = [
        Asked(
            ids, request_generator(sampling.seed, request.prompt.id, request.draw), id(request.interventions)
        )
        for request, ids in zip(requests, prompts, strict=True)
    ]
    written: list[list[int]] = [[] for _ in prompts]

    def around(rows: Sequence[int]) -> AbstractContextManager[None]:
        return applied(model, (), rows=[requests[i].interventions for i in rows])

    for step in steps(model, asked, sampling, around):
        for row, token in zip(step.rows, step.tokens, strict=True):
            written[row].append(token)
    return written


def request_generator(seed: int, prompt_id: str, draw: int = 0) -> torch.Generator:
    """The draws of one reply to a prompt, whatever the arm and the batch; `draw` counts replies from 0."""
    said = f"{seed}/{prompt_id}" + (f"/draw {draw}" if draw else "")
    digest = hashlib.sha256(said.encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))

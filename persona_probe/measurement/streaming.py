"""Replies of several arms token by token, both models in step, every token projected on a direction."""

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from persona_probe.base.errors import BadInput
from persona_probe.interventions.applied import applied
from persona_probe.interventions.projection import Projection
from persona_probe.measurement.arms import Arm
from persona_probe.measurement.generation import check_length, request_generator
from persona_probe.measurement.running import Asked, Sampling, steps
from persona_probe.models.loading import Model
from persona_probe.models.pairs import SIDES, Pair
from persona_probe.prompts.rows import Prompt, encode_prompt
from persona_probe.prompts.tokenizers import Tokenizer

UNFINISHED = "\ufffd"  # how a tokenizer shows the first bytes of a character


@dataclass(frozen=True)
class Token:
    """One token of one reply, with its projections before and after the arm's own edit at that hook point.

    They are None for the last token of a reply that was cut off, which no pass has seen. `text` may be empty:
    a later token completes the character.
    """

    row: int
    text: str
    before: float | None
    after: float | None


def stream(
    pair: Pair,
    asked: Sequence[tuple[Arm, Prompt]],
    projection: Projection,
    *,
    max_new_tokens: int,
    temperature: float,
    seed: int,
) -> Iterator[list[Token]]:
    """New tokens of all rows per step; rows of one model share a batch, and the two models take turns.

    Draws are those of `generation.generate`: seeded by prompt, the same in every arm. A token is handed out
    when the next pass has seen it. Every step runs in the thread that asks for it. BadInput when both models
    are asked but the pair does not keep both in memory.
    """
    if not pair.keep_both and len({arm.side for arm, _ in asked}) > 1:
        raise BadInput("arms of both models stream side by side: open the pair with keep_both=True")
    sampling = Sampling(max_new_tokens=max_new_tokens, temperature=temperature, seed=seed)
    with ExitStack() as stack:
        running: list[Generator[list[Token]]] = []
        for side in SIDES:
            rows = {i: row for i, row in enumerate(asked) if row[0].side == side}
            if rows:
                lane = _lane(pair.get(side), rows, projection, sampling)
                stack.callback(lane.close)
                running.append(lane)
        while running:
            tokens: list[Token] = []
            for lane in list(running):
                with torch.inference_mode():
                    step = next(lane, None)
                if step is None:
                    running.remove(lane)
                else:
                    tokens += step
            if tokens:
                yield tokens


def _lane(
    model: Model, rows: Mapping[int, tuple[Arm, Prompt]], projection: Projection, sampling: Sampling
) -> Generator[list[Token]]:
    """The rows of one model, by their number. A generator, so that both models can take turns."""
    prompts = [encode_prompt(model.tokenizer, prompt) for _, prompt in rows.values()]
    for (_, prompt), ids in zip(rows.values(), prompts, strict=True):
        check_length(model, prompt, ids, max_new_tokens=sampling.max_new_tokens)
    check_together(model, prompts, max_new_tokens=sampling.max_new_tokens)
    numbers, arms = list(rows), [arm for arm, _ in rows.values()]
    asked = [
        Asked(ids, request_generator(sampling.seed, prompt.id), id(arm.interventions))
        for ids, (arm, prompt) in zip(prompts, rows.values(), strict=True)
    ]
    writers = [_Writer(model.tokenizer, set(model.eos_ids)) for _ in rows]
    seen: list[list[Tensor]] = []

    @contextmanager
    def around(chosen: Sequence[int]) -> Iterator[None]:
        # Hooks run in the order they are made: the first sees the stream before the edits, the last after
        # them.
        with (
            watched(model, projection.direction.hook_point) as before,
            applied(model, (), rows=[arms[i].interventions for i in chosen]),
            watched(model, projection.direction.hook_point) as after,
        ):
            seen[:] = [before, after]
            yield

    for step in steps(model, asked, sampling, around):
        projections = torch.stack([projection.of(streams[-1][:, -1]) for streams in seen]).tolist()
        tokens = []
        for row, place, token in zip(step.rows, step.places, step.tokens, strict=True):
            text = writers[row].read()
            writers[row].write(token)
            if text is not None:
                before, after = (_finite(values[place]) for values in projections)
                tokens.append(Token(numbers[row], text, before=before, after=after))
        yield tokens
    texts = [writer.read() for writer in writers]
    yield [
        Token(row, text, before=None, after=None)
        for row, text in zip(rows, texts, strict=True)
        if text is not None
    ]


def check_together(model: Model, prompts: Sequence[Sequence[int]], *, max_new_tokens: int) -> None:
    """BadInput for prompts that this model cannot answer in one batch."""
    engine, lengths = model.engine, [len(ids) for ids in prompts]
    for ids in prompts:
        engine.check_ids(ids, what="a prompt")
    beyond = engine.window is not None and max(lengths) + max_new_tokens > engine.window
    if len(set(lengths)) > 1 and (beyond or not engine.pads_left):
        raise BadInput(
            f"{model.name} cannot answer prompts of {min(lengths)} and {max(lengths)} tokens side by side: "
            "ask one arm at a time"
        )


@contextmanager
def watched(model: Model, hook_point: str) -> Iterator[list[Float[Tensor, "batch pos d_model"]]]:
    """A list with the stream of the twin's latest pass at a hook point, after the edits applied so far."""
    seen: list[Tensor] = []

    def keep(module: Any, args: Any, output: Any) -> None:
        seen[:] = [output[0] if isinstance(output, tuple) else output]

    handle = model.site(hook_point)[1].register_forward_hook(keep)
    try:
        yield seen
    finally:
        handle.remove()


class _Writer:
    """The text of one reply, token by token: what each token adds to the decoded whole."""

    def __init__(self, tokenizer: Tokenizer, stop: set[int]) -> None:
        self._tokenizer, self._stop = tokenizer, stop
        self._ids: list[int] = []
        self._shown = ""
        self._pending = False

    def write(self, token: int | None) -> None:
        """Take the next token; ends of reply and rows that have ended add nothing."""
        self._pending = token is not None and token not in self._stop
        if self._pending and token is not None:
            self._ids.append(token)

    def read(self) -> str | None:
        """The text that the latest token added, once; None when there is none."""
        if not self._pending:
            return None
        self._pending = False
        whole = self._tokenizer.decode(self._ids, skip_special_tokens=True)
        if whole.endswith(UNFINISHED):
            return ""
        added, self._shown = whole[len(self._shown) :], whole
        return added


def _finite(value: float) -> float | None:
    return round(value, 4) if value == value and abs(value) != float("inf") else None

"""Replies of several arms token by token, both models in step, with every token's reading along a direction."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from persona_probe.base.errors import BadInput
from persona_probe.interventions.edits import applied
from persona_probe.interventions.persona_direction import Gauge
from persona_probe.measurement.arms import Arm
from persona_probe.measurement.generation import request_generator, steps
from persona_probe.models.engine import flat_head
from persona_probe.models.loading import Model
from persona_probe.models.pairs import SIDES, Pair, Side
from persona_probe.prompts.chat import Prompt, Tokenizer, encode_prompt

UNFINISHED = "\ufffd"  # how a tokenizer shows the first bytes of a character


@dataclass(frozen=True)
class Token:
    """One token of one reply. `before` and `after` are its readings at the gauge's hook point before and after the arm's own edit.

    None when nothing read it: the last token of a reply that was cut off. `text` may be empty: a later token completes the character.
    """

    row: int
    text: str
    before: float | None
    after: float | None


def stream(
    pair: Pair,
    asked: Sequence[tuple[Arm, Prompt]],
    gauge: Gauge,
    *,
    max_new_tokens: int,
    temperature: float,
    seed: int,
) -> Iterator[list[Token]]:
    """New tokens of all rows per step; rows of one model share a batch, and the two models take turns.

    Draws are those of `generation.generate`: seeded by prompt, the same in every arm. A pair must keep both models in memory
    when both are asked. A token is handed out when the next pass has read it. Every step runs in the thread that asks for it.
    """
    if not pair.keep_both and len({arm.side for arm, _ in asked}) > 1:
        raise BadInput("arms of both models stream side by side: open the pair with keep_both=True")
    with ExitStack() as stack:
        running: list[Iterator[list[Token]]] = []
        for side in SIDES:
            rows = [i for i, (arm, _) in enumerate(asked) if arm.side == side]
            if rows:
                lane = _lane(
                    pair,
                    side,
                    rows,
                    asked,
                    gauge,
                    max_new_tokens=max_new_tokens,
                    temperature=temperature,
                    seed=seed,
                )
                stack.callback(lane.close)
                running.append(lane)
        while running:
            found: list[Token] = []
            for lane in list(running):
                with torch.inference_mode():
                    step = next(lane, None)
                if step is None:
                    running.remove(lane)
                else:
                    found += step
            if found:
                yield found


def _lane(
    pair: Pair,
    side: Side,
    rows: list[int],
    asked: Sequence[tuple[Arm, Prompt]],
    gauge: Gauge,
    *,
    max_new_tokens: int,
    temperature: float,
    seed: int,
) -> Any:
    """The rows of one model. A generator, so that both models can take turns; its hooks are on its own model only."""
    model = pair.get(side)
    prompts = [encode_prompt(model.tokenizer, asked[i][1]) for i in rows]
    for i, ids in zip(rows, prompts, strict=True):
        if len(ids) + max_new_tokens > model.n_ctx:
            raise BadInput(
                f"prompt {asked[i][1].id!r} has {len(ids)} tokens; with {max_new_tokens} new ones it exceeds the {model.n_ctx} of {model.name}"
            )
    check_together(model, prompts, max_new_tokens=max_new_tokens)
    generators = [request_generator(seed, asked[i][1].id) for i in rows]
    written = [_Writer(model.tokenizer, set(model.eos_ids)) for _ in rows]
    hook_point = gauge.direction.hook_point
    edits = [asked[i][0].interventions for i in rows]
    # Hooks run in the order they are made: the first watcher sees the stream before the edits, the second after them.
    with (
        flat_head(model.engine),
        watched(model, hook_point) as before,
        applied(model, (), rows=edits),
        watched(model, hook_point) as after,
    ):
        for chosen in steps(
            model, prompts, generators, max_new_tokens=max_new_tokens, temperature=temperature
        ):
            readings = [gauge.read(seen[-1][:, -1]).tolist() for seen in (before, after)]
            done = [(i, writer.read()) for i, writer in zip(rows, written, strict=True)]
            for writer, token in zip(written, chosen, strict=True):
                writer.write(token)
            yield [
                Token(i, text, *(_finite(values[k]) for values in readings))
                for k, (i, text) in enumerate(done)
                if text is not None
            ]
    yield [
        Token(i, text, None, None)
        for i, writer in zip(rows, written, strict=True)
        if (text := writer.read()) is not None
    ]


def check_together(model: Model, prompts: Sequence[Sequence[int]], *, max_new_tokens: int) -> None:
    """BadInput for prompts that this model cannot answer in one batch, as `generate` answers them one by one."""
    engine, lengths = model.engine, [len(ids) for ids in prompts]
    for ids in prompts:
        engine.check_ids(ids, what="a prompt")
    beyond = engine.window is not None and max(lengths) + max_new_tokens > engine.window
    if len(set(lengths)) > 1 and (beyond or not engine.pads_left):
        raise BadInput(
            f"{model.name} cannot answer prompts of {min(lengths)} and {max(lengths)} tokens side by side: ask one arm at a time"
        )


@contextmanager
def watched(model: Model, hook_point: str) -> Iterator[list[Float[Tensor, "batch pos d_model"]]]:
    """Inside the block the list holds the stream at a hook point of the twin's latest pass, as edits that were applied earlier leave it."""
    seen: list[Tensor] = []

    def keep(module: Any, args: Any, output: Any) -> None:
        seen[:] = [output[0] if isinstance(output, tuple) else output]

    handle = model.site(hook_point)[1].register_forward_hook(keep)
    try:
        yield seen
    finally:
        handle.remove()


class _Writer:
    """The text of one reply, token by token: what a token adds to the decoded whole."""

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

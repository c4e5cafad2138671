"""Replies token by token in one batch: beginnings that rows share are run once, rows that have ended
leave."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from persona_probe.base.errors import BadInput
from persona_probe.models.cache import growing
from persona_probe.models.calls import flat_head
from persona_probe.models.loading import Model
from persona_probe.prompts.batches import pad_left

LEAVE_AT = 8  # rows leave when an eighth of the batch has ended: taking them out copies all keys and values

NOT_FINITE = -1
Around = Callable[[Sequence[int]], AbstractContextManager[Any]]


@dataclass(frozen=True)
class Sampling:
    """How replies are sampled. Temperature 0 is greedy."""

    max_new_tokens: int
    temperature: float
    seed: int


@dataclass(frozen=True)
class Asked:
    """A prompt to continue: its token ids, its own source of draws, and a mark of the arm that it is
    under."""

    ids: Sequence[int]
    generator: torch.Generator
    arm: object = None


@dataclass(frozen=True)
class Step:
    """One forward pass: the next token of the rows that have not ended.

    `rows` says which of the asked they are, `places` where they stand in the batch that was run.
    """

    rows: tuple[int, ...]
    places: tuple[int, ...]
    tokens: tuple[int, ...]


def steps(model: Model, asked: Sequence[Asked], sampling: Sampling, around: Around) -> Iterator[Step]:
    """One forward pass per item, until every row has ended or has its last token.

    Keys and values are kept. `around(rows)` is entered around passes over these rows, in that order: it
    applies their edits. A row's draws do not depend on its neighbours. The caller holds
    `torch.inference_mode()`. BadInput for logits that are not finite.
    """
    stop, n_new = set(model.eos_ids), 0
    with flat_head(model.twin):
        batch = _Batch(model, asked, sampling, around)
        alive = list(batch.rows)
        while alive and n_new < sampling.max_new_tokens:
            batch.keep(alive)
            here = batch.rows
            with around(here):
                while alive and n_new < sampling.max_new_tokens and not batch.shall_leave(len(alive)):
                    chosen = batch.chosen(n_new)
                    n_new += 1
                    living = {*alive}
                    tokens = [(row, i, t) for i, (row, t) in enumerate(zip(here, chosen, strict=True))]
                    tokens = [one for one in tokens if one[0] in living]
                    _check(tokens)
                    yield Step(*(tuple(one[k] for one in tokens) for k in range(3)))
                    alive = [row for row, _, token in tokens if token not in stop]


def _check(tokens: Sequence[tuple[int, int, int]]) -> None:
    if any(token == NOT_FINITE for *_, token in tokens):
        raise BadInput(
            "the next-token logits are not finite under this intervention: "
            "lower the coefficient or use --dtype float32"
        )


class _Batch:
    """The rows that are run together: their tokens so far, and their keys and values.

    Prompts stand as [beginning that all share][padding][rest].
    """

    def __init__(self, model: Model, asked: Sequence[Asked], sampling: Sampling, around: Around) -> None:
        self.model, self.sampling = model, sampling
        self.rows = tuple(range(len(asked)))
        ids = [one.ids for one in asked]
        self._longest = max(map(len, ids))
        groups: dict[object, int] = {}
        group = [groups.setdefault(one.arm, len(groups)) for one in asked]
        shared = _shared(model, ids, sampling.max_new_tokens) if len(groups) < len(asked) else 0
        device = model.device
        tokens, mask = pad_left(ids, pad_id=model.pad_id, n_shared=shared)
        self._tokens, self._mask = tokens.to(device), mask.to(device)
        self._step, self._cache = self._tokens, None
        self._draws: Tensor | None = None
        if sampling.temperature:
            n, kind = sampling.max_new_tokens, torch.float64
            draws = [torch.rand(n, generator=one.generator, dtype=kind) for one in asked]
            self._draws = torch.stack(draws).to(device)
        if shared:
            firsts = [group.index(number) for number in range(len(groups))]
            beginning, seen = self._tokens[firsts, :shared], self._mask[firsts, :shared]
            with around(firsts):
                _, cache = model.engine.next_logits(beginning, seen, None)
            cache.batch_select_indices(torch.tensor(group, device=device))
            self._cache, self._step = growing(cache), self._tokens[:, shared:]

    def chosen(self, number: int) -> list[int]:
        """Run the tokens that were not run, and choose the next one of every row; NOT_FINITE where that
        cannot be done. `number` counts the tokens of a reply from 0."""
        engine = self.model.engine
        # Beyond a rotary embedding's window that depends on length, all is computed anew, as Hugging Face
        # does.
        crossed = engine.window is not None and self._longest + number == engine.window + 1
        if crossed or not engine.caches:
            self._step, self._cache = self._tokens, None
        fresh = self._cache is None
        logits, cache = engine.next_logits(self._step, self._mask, self._cache)
        self._cache = growing(cache) if fresh else cache
        draws = None if self._draws is None else self._draws[:, number : number + 1]
        chosen = _choose(logits, draws, self.sampling.temperature)
        self._step = chosen.clamp(min=0)[:, None]
        self._tokens = torch.cat([self._tokens, self._step], dim=1)
        self._mask = torch.cat([self._mask, torch.ones_like(self._step)], dim=1)
        return chosen.tolist()

    def shall_leave(self, n_alive: int) -> bool:
        """Whether so many rows have ended that the others go on without them."""
        n = len(self.rows)
        return self.model.engine.regroups and n - n_alive >= max(1, n // LEAVE_AT)

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with some of the rows only."""
        if len(rows) == len(self.rows) or not self.model.engine.regroups:
            return
        places = torch.tensor([self.rows.index(row) for row in rows]).to(self.model.device)
        self.rows = tuple(rows)
        self._tokens, self._mask, self._step = (
            tensor[places] for tensor in (self._tokens, self._mask, self._step)
        )
        self._draws = None if self._draws is None else self._draws[places]
        if self._cache is not None:
            self._cache.batch_select_indices(places)


def _shared(model: Model, ids: Sequence[Sequence[int]], n_new: int) -> int:
    """How many first tokens all prompts share and may be run once."""
    engine, longest = model.engine, max(map(len, ids)) + n_new
    # A window of attention counts columns, and padding stands between the beginning and the rest.
    near = engine.sliding is not None and longest > engine.sliding
    if not engine.regroups or near or (engine.window is not None and longest > engine.window):
        return 0
    limit = min(map(len, ids)) - 1
    return next((i for i in range(limit) if len({one[i] for one in ids}) > 1), limit)


def _choose(
    logits: Float[Tensor, "batch d_vocab"], draws: Float[Tensor, "batch 1"] | None, temperature: float
) -> Int[Tensor, " batch"]:
    """The next token of every row, NOT_FINITE for logits that are not: the largest of them is NaN or infinite
    then, and the sum of their probabilities is not a number."""
    if draws is None:
        chosen = logits.argmax(-1)
        known = logits.gather(-1, chosen[:, None])[:, 0].isfinite()
    else:
        cumulative = (logits.float() / temperature).softmax(-1).double().cumsum(-1)
        total = cumulative[:, -1:]
        chosen = torch.searchsorted(cumulative, draws * total)[:, 0].clamp(max=logits.shape[-1] - 1)
        known = total[:, 0].isfinite()
    return torch.where(known, chosen, NOT_FINITE)

"""The fastest way to run a model that gives the numbers of plain Hugging Face, found by trying at load."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from persona_probe.base.errors import BadInput
from persona_probe.models.cache import growing
from persona_probe.models.checks import (
    Check,
    Reference,
    because,
    compared,
    distance,
    probe_rows,
    reference,
    said,
    tolerance,
)
from persona_probe.models.engine import Attention, Engine
from persona_probe.models.twins import fast_attention
from persona_probe.prompts.batches import TokenBatch, pad_left, pad_prompts, pad_right
from persona_probe.prompts.tokenizers import Tokenizer


def fitted_engine(
    twin: Any, name: str, known: Reference, *, attention: Attention, dtype: torch.dtype
) -> tuple[Engine, tuple[Check, ...]]:
    """The fastest way to run `twin` that gives the reference's logits, and every comparison made on the way
    there.

    Raises BadInput when even single rows with eager attention differ: then the twin is not the model.
    """
    limit = tolerance(dtype)
    engine, checks = _with_attention(Engine(twin, name, attention, shares=False), known, limit)
    if not checks[-1].passed:
        raise BadInput(
            f"{name}: a pass over its own weights is not Hugging Face's ({type(twin).__name__};"
            f" {said(checks[-1])}): it cannot be measured"
        )
    for field, title, run, otherwise in _CAPABILITIES:
        tried = replace(engine, **{field: True})
        if not getattr(tried, field):  # the engine itself knows that this family must not
            check = Check(title, None, limit, f"{otherwise}: this kind of model is known to differ otherwise")
        elif field == "shares" and not engine.pads:
            check = Check(title, None, limit, f"{otherwise}, since rows run one by one")
        else:
            check = compared(title, lambda run=run, tried=tried: run(tried, known), limit)
            engine = replace(engine, **{field: check.passed})
            if not check.passed:
                check = replace(check, said=because(check, otherwise))
        checks.append(check)
    split = compared("logits apart from the blocks", lambda: _split(engine, known), limit)
    engine = replace(engine, splits_head=split.passed)
    steps = engine.caches and engine.pads_left
    passed = steps and compared("rows that come and go", lambda: _regrouped(engine, known), limit).passed
    return replace(engine, regroups=passed), tuple(checks)


def _with_attention(engine: Engine, known: Reference, limit: float) -> tuple[Engine, list[Check]]:
    """The engine with SDPA if that gives the reference's logits row by row, else with eager attention."""
    checks = [compared(f"logits ({engine.attention})", lambda: _alone(engine, known), limit)]
    if checks[-1].passed or engine.attention == "eager":
        return engine, checks
    engine.twin.set_attn_implementation("eager")
    checks[-1] = replace(checks[-1], said=because(checks[-1], "eager attention runs"))
    eager = replace(engine, attention="eager")
    return eager, [*checks, compared("logits (eager)", lambda: _alone(eager, known), limit)]


def set_fast_attention(model: Any, tokenizer: Tokenizer) -> Attention:
    """Give a model that was loaded with eager attention SDPA, if its logits stay what they were; returns what
    it has then."""
    known = reference(model, probe_rows(tokenizer, n_rows=model.get_input_embeddings().weight.shape[0]))
    if fast_attention(model) == "sdpa":
        model.set_attn_implementation("sdpa")
        engine = Engine(model, type(model).__name__, "sdpa", shares=False)
        if compared("logits (sdpa)", lambda: _alone(engine, known), tolerance(model.dtype)).passed:
            return "sdpa"
        model.set_attn_implementation("eager")
    return "eager"


def _reply_logits(engine: Engine, batch: TokenBatch) -> list[Tensor]:
    logits = engine.forward(batch, logits_at=_places(batch))
    assert logits is not None, "logits were asked for"
    return list(logits.split([row.n_reply for row in batch.rows]))


def _places(batch: TokenBatch) -> tuple[Tensor, Tensor]:
    """Rows and columns of the tokens before every reply token."""
    places = [
        (i, offset + row.n_prompt - 1 - batch.n_shared + j)
        for i, (row, offset) in enumerate(zip(batch.rows, batch.offsets, strict=True))
        for j in range(row.n_reply)
    ]
    return torch.tensor([i for i, _ in places]), torch.tensor([j for _, j in places])


def _split(engine: Engine, known: Reference) -> float:
    worst = 0.0
    for row, expected in zip(known.rows, known.logits, strict=True):
        batch = pad_right([row], pad_id=0)
        halves = engine.states(batch, _places(batch)).tensor_split(2)
        worst = max(worst, distance(torch.cat([engine.logits(half) for half in halves]), expected))
    return worst


def _alone(engine: Engine, known: Reference) -> float:
    return max(
        distance(_reply_logits(engine, pad_right([row], pad_id=0))[0], expected)
        for row, expected in zip(known.rows, known.logits, strict=True)
    )


def _padded(engine: Engine, known: Reference) -> float:
    padded = _reply_logits(engine, replace(pad_right(known.rows, pad_id=0), n_shared=0))
    return max(distance(one, other) for one, other in zip(padded, known.logits, strict=True))


def _shared(engine: Engine, known: Reference) -> float:
    shared = _reply_logits(engine, pad_prompts(known.rows, pad_id=0))
    beginning = _reply_logits(engine, pad_right(known.rows[:2], pad_id=0))
    pairs = [*zip(shared, known.logits, strict=True), *zip(beginning, known.logits, strict=False)]
    return max(distance(one, other) for one, other in pairs)


def _stepped_alone(engine: Engine, known: Reference) -> float:
    return max(_stepped(engine, known, (i,)) for i in (0, 2))


def _stepped_together(engine: Engine, known: Reference) -> float:
    return _stepped(engine, known, (0, 2))


def _stepped(engine: Engine, known: Reference, chosen: tuple[int, ...]) -> float:
    """Reply logits of the chosen rows as generation would meet them: the prompt in one pass, then token by
    token."""
    worst = 0.0
    rows = [known.rows[i] for i in chosen]
    tokens, mask = (
        tensor.to(engine.device) for tensor in pad_left([row.ids[: row.n_prompt] for row in rows], pad_id=0)
    )
    cache, whole = None, tokens
    for step in range(min(row.n_reply for row in rows)):
        logits, cache = engine.next_logits(tokens if engine.caches else whole, mask, cache)
        worst = max(
            worst, *(distance(one, known.logits[i][step]) for i, one in zip(chosen, logits, strict=True))
        )
        tokens = torch.tensor([[row.ids[row.n_prompt + step]] for row in rows], device=mask.device)
        mask, whole = torch.cat([mask, torch.ones_like(tokens)], 1), torch.cat([whole, tokens], 1)
    return worst


def _regrouped(engine: Engine, known: Reference) -> float:
    """Reply logits of two rows whose first tokens are run once, with padding behind them, of which one
    leaves."""
    one, two = known.rows[0].ids, known.rows[1].ids
    prompts = [one[: known.rows[0].n_prompt + 1], two[: known.rows[1].n_prompt]]
    shared = next(i for i, (a, b) in enumerate(zip(one, two, strict=False)) if a != b or i == 4)
    if engine.sliding is not None and len(prompts[0]) + 1 > engine.sliding:
        shared = 0  # padding in the middle would push tokens out of the window, so it is never put there
    tokens, mask = (tensor.to(engine.device) for tensor in pad_left(prompts, pad_id=0, n_shared=shared))
    cache = None
    if shared:
        _, cache = engine.next_logits(tokens[:1, :shared], mask[:1, :shared], None)
        cache.batch_select_indices(torch.tensor([0, 0], device=engine.device))
        cache = growing(cache)
    logits, cache = engine.next_logits(tokens[:, shared:], mask, cache)
    worst = max(distance(logits[i], known.logits[i][1 - i]) for i in (0, 1))
    cache.batch_select_indices(torch.tensor([1], device=engine.device))
    last = torch.tensor([[two[known.rows[1].n_prompt]]], device=engine.device)
    mask = torch.cat([mask[1:], torch.ones_like(last)], 1)
    logits, _ = engine.next_logits(last, mask, growing(cache))
    return max(worst, distance(logits[0], known.logits[1][1]))


# Field of the engine, name of its check, how it is tried, and what is done where it fails.
_CAPABILITIES: tuple[tuple[str, str, Callable[[Engine, Reference], float], str], ...] = (
    ("pads", "padding", _padded, "rows run one by one"),
    ("shares", "shared prompts", _shared, "prompts are computed once per row"),
    ("caches", "cache", _stepped_alone, "generation runs without a cache"),
    ("pads_left", "left padding", _stepped_together, "replies are generated one by one"),
)

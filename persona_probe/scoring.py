"""Tier 1: log-probabilities of given replies under interventions. No sampling, no judge, deterministic."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from persona_probe.chat import Row, batches
from persona_probe.errors import BadInput, OutOfMemory
from persona_probe.interventions import Intervention, applied
from persona_probe.models import Model, forward

KL_POSITIONS_PER_ROW = 3


@dataclass(frozen=True, eq=False)
class RowScores:
    """Summed reply log-probability in nats and number of reply tokens per row; mean KL in nats where a reference was given."""

    ids: tuple[str, ...]
    logprob: Float[Tensor, " row"]
    n_tokens: Int[Tensor, " row"]
    kl: Float[Tensor, " row"] | None


@dataclass(frozen=True, eq=False)
class Reference:
    """Next-token log-probabilities of the untouched model at a few fixed reply positions of every row."""

    logprobs: dict[str, Float[Tensor, "sample d_vocab"]]


def score_rows(
    model: Model, rows: Sequence[Row], interventions: Sequence[Intervention], *, max_tokens: int, reference: Reference | None = None, keep_prompts: bool = False
) -> RowScores:
    """Teacher-forced log-probabilities of the replies of `rows`; the empty sequence of interventions is the baseline.

    With a reference, KL(untouched || edited) of the next-token distribution is averaged over its positions.
    """
    found: dict[str, tuple[float, int, float]] = {}
    with torch.inference_mode(), applied(model, interventions):
        for row, logprobs, targets in _reply_logprobs(model, rows, max_tokens=max_tokens, keep_prompts=keep_prompts):
            chosen = logprobs.gather(-1, targets[:, None])[:, 0]
            kl = 0.0
            if reference is not None:
                clean = reference.logprobs[row.id].float()
                kl = float((clean.exp() * (clean - logprobs[_sampled(row)].cpu())).sum(-1).mean())
            found[row.id] = (float(chosen.double().sum()), row.n_reply, kl)
    values = [found[row.id] for row in rows]
    logprob = torch.tensor([value[0] for value in values], dtype=torch.float64)
    if not torch.isfinite(logprob).all():
        bad = rows[int((~torch.isfinite(logprob)).nonzero()[0])]
        raise BadInput(f"the log-probability of reply {bad.id!r} is not finite in {model.name} ({model.dtype}): try --dtype float32")
    kl = torch.tensor([value[2] for value in values], dtype=torch.float64) if reference is not None else None
    return RowScores(tuple(row.id for row in rows), logprob, torch.tensor([value[1] for value in values]), kl)


def reference_logprobs(model: Model, rows: Sequence[Row], *, max_tokens: int) -> Reference:
    """What `score_rows` compares with: at most three positions a row, kept as float16 on the CPU."""
    kept = {}
    with torch.inference_mode(), applied(model, ()):
        for row, logprobs, _ in _reply_logprobs(model, rows, max_tokens=max_tokens, keep_prompts=False):
            kept[row.id] = logprobs[_sampled(row)].to("cpu", torch.float16)
    return Reference(kept)


def _reply_logprobs(model: Model, rows: Sequence[Row], *, max_tokens: int, keep_prompts: bool):  # noqa: ANN202
    """For every row: log-probabilities [n_reply, d_vocab] that predict its reply tokens, and those tokens."""
    for batch in batches(rows, max_tokens=max_tokens, pad_id=model.tokenizer.pad_token_id, keep_prompts=keep_prompts):
        try:
            logits = forward(model, batch, logits=True)
        except torch.OutOfMemoryError as error:
            if len(batch) == 1:
                raise OutOfMemory(f"row {batch.rows[0].id!r} ({len(batch.rows[0].ids)} tokens) does not fit on {model.device}: use --device cpu, a smaller model or --dtype bfloat16") from error
            torch.cuda.empty_cache()
            yield from _reply_logprobs(model, batch.rows, max_tokens=max(1, batch.tokens.numel() // 2), keep_prompts=keep_prompts)
            continue
        for i, row in enumerate(batch.rows):
            start = row.n_prompt - 1 - batch.n_shared
            window = logits[i, start : start + row.n_reply].float()
            yield row, window.log_softmax(-1), batch.tokens[i, row.n_prompt : len(row.ids)].to(window.device)


def _sampled(row: Row) -> list[int]:
    """Evenly spread reply positions, the same in every arm."""
    count = min(KL_POSITIONS_PER_ROW, row.n_reply)
    return [(2 * k + 1) * row.n_reply // (2 * count) for k in range(count)]

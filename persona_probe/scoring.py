"""Tier 1: log-probabilities of given replies under interventions. No sampling, no judge, deterministic."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from persona_probe.chat import Row, TokenBatch, batches
from persona_probe.errors import NotFinite
from persona_probe.interventions import Intervention, applied
from persona_probe.models import Model, forward, halving
from persona_probe.prefixes import Prefix, lowest_layer, record_prefixes, resumed

KL_POSITIONS_PER_ROW = 3


@dataclass(frozen=True, eq=False)
class RowScores:
    """Summed reply log-probability in nats and number of reply tokens per row; mean KL in nats where a reference was given."""

    ids: tuple[str, ...]
    logprob: Float[Tensor, " row"]
    n_tokens: Int[Tensor, " row"]
    kl: Float[Tensor, " row"] | None


@dataclass(frozen=True, eq=False)
class CleanRun:
    """What the untouched model left behind on some rows, for arms of that model to compare with and to build on.

    `logprobs`: next-token log-probabilities at a few fixed reply positions per row (float16), the reference of KL.
    `prefixes`: the stream entering some layers, per batch, so that an arm recomputes only what lies above its edits.
    """

    batches: tuple[TokenBatch, ...]
    logprobs: dict[str, Float[Tensor, "sample d_vocab"]]
    prefixes: dict[int, list[Prefix]]

    def prefix(self, layer: int, index: int) -> Prefix | None:
        """The recorded stream at the highest layer that is not above `layer`, for batch `index`."""
        below = [known for known in self.prefixes if known <= layer]
        return self.prefixes[max(below)][index] if below else None


def score_rows(
    model: Model,
    rows: Sequence[Row],
    interventions: Sequence[Intervention],
    *,
    max_tokens: int,
    clean: CleanRun | None = None,
    keep_prompts: bool = False,
) -> RowScores:
    """Teacher-forced log-probabilities of the replies of `rows`; the empty sequence of interventions is the baseline.

    With a clean run of the same rows, layers below the lowest edit are not computed again, and KL(untouched || edited) of
    the next-token distribution is averaged over its positions where it holds log-probabilities.
    """
    found: dict[str, tuple[float, int, float]] = {}
    with torch.inference_mode(), applied(model, interventions):
        for row, logprobs, targets in _reply_logprobs(
            model, rows, interventions, max_tokens=max_tokens, keep_prompts=keep_prompts, clean=clean
        ):
            chosen = logprobs.gather(-1, targets[:, None])[:, 0]
            kl = 0.0
            if clean is not None and row.id in clean.logprobs:
                before = clean.logprobs[row.id].float()
                kl = float((before.exp() * (before - logprobs[_sampled(row)].cpu())).sum(-1).mean())
            found[row.id] = (float(chosen.double().sum()), row.n_reply, kl)
    values = [found[row.id] for row in rows]
    logprob = torch.tensor([value[0] for value in values], dtype=torch.float64)
    if not torch.isfinite(logprob).all():
        bad = rows[int((~torch.isfinite(logprob)).nonzero()[0])]
        raise NotFinite(f"the log-probability of reply {bad.id!r} is not finite in {model.name} ({model.dtype}): try --dtype float32")
    kl = torch.tensor([value[2] for value in values], dtype=torch.float64) if clean is not None and clean.logprobs else None
    return RowScores(tuple(row.id for row in rows), logprob, torch.tensor([value[1] for value in values]), kl)


def clean_run(
    model: Model,
    rows: Sequence[Row],
    *,
    max_tokens: int,
    layers: Sequence[int] = (),
    keep_prompts: bool = False,
    keep_logprobs: bool = False,
) -> CleanRun:
    """Run the untouched model over `rows` once and keep what later arms need."""
    kept = tuple(batches(rows, max_tokens=max_tokens, pad_id=model.tokenizer.pad_token_id, keep_prompts=keep_prompts))
    run = CleanRun(kept, {}, record_prefixes(model, kept, layers) if layers else {})
    logprobs = {}
    if keep_logprobs:
        with torch.inference_mode(), applied(model, ()):
            for row, values, _ in _reply_logprobs(model, rows, (), max_tokens=max_tokens, keep_prompts=keep_prompts, clean=run):
                logprobs[row.id] = values[_sampled(row)].to("cpu", torch.float16)
    return replace(run, logprobs=logprobs)


def _reply_logprobs(
    model: Model, rows: Sequence[Row], interventions: Sequence[Intervention], *, max_tokens: int, keep_prompts: bool, clean: CleanRun | None
) -> Iterator[tuple[Row, Float[Tensor, "reply d_vocab"], Int[Tensor, " reply"]]]:
    """For every row: the log-probabilities that predict its reply tokens, and those tokens."""
    ready = (
        clean.batches
        if clean is not None
        else batches(rows, max_tokens=max_tokens, pad_id=model.tokenizer.pad_token_id, keep_prompts=keep_prompts)
    )
    layer = lowest_layer(model, interventions)
    for index, batch in enumerate(ready):
        prefix = clean.prefix(layer, index) if clean is not None else None

        def run(part: TokenBatch, whole: TokenBatch = batch, prefix: Prefix | None = prefix) -> Float[Tensor, "batch rest d_vocab"]:
            with resumed(model, prefix if part is whole else None):
                logits = forward(model, part, logits=True)
            assert logits is not None, "logits were asked for"
            return logits

        for part, logits in halving(model, batch, run):
            for i, row in enumerate(part.rows):
                start = part.offsets[i] + row.n_prompt - 1 - part.n_shared
                window = logits[i, start : start + row.n_reply].log_softmax(-1, dtype=torch.float32)
                yield row, window, torch.tensor(row.ids[row.n_prompt :], device=window.device)


def _sampled(row: Row) -> list[int]:
    """Evenly spread reply positions, the same in every arm."""
    count = min(KL_POSITIONS_PER_ROW, row.n_reply)
    return [(2 * k + 1) * row.n_reply // (2 * count) for k in range(count)]

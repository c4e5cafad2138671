"""Log-probabilities of given replies under interventions. No sampling, no judge, deterministic."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from persona_probe.base.errors import NotFinite
from persona_probe.interventions.applied import applied
from persona_probe.interventions.edits import Intervention
from persona_probe.models.loading import Model, forward, halving
from persona_probe.prompts.batches import TokenBatch
from persona_probe.prompts.rows import Row
from persona_probe.streams.resume import Prefix, lowest_layer, record_prefixes, resumable, resumed

KL_POSITIONS_PER_ROW = 3
PIECE = 16  # reply tokens whose float32 logits are held at once


@dataclass(frozen=True, eq=False)
class RowScores:
    """Per row in nats: summed reply log-probability, reply tokens, mean KL where there is a reference."""

    ids: tuple[str, ...]
    logprob: Float[Tensor, " row"]
    n_tokens: Int[Tensor, " row"]
    kl: Float[Tensor, " row"] | None


@dataclass(frozen=True, eq=False)
class CleanRun:
    """What a run of the untouched model over some rows keeps for the arms of that model.

    `logprobs`: next-token log-probabilities at a few fixed reply positions per row (float16), the reference
    of KL.
    `prefixes`: the stream entering some layers, per batch, so that an arm recomputes only what lies above its
    edits.
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
    """Log-probabilities of the given replies of `rows`; no interventions at all is the baseline."""
    return score_arms(
        model, rows, [interventions], max_tokens=max_tokens, clean=clean, keep_prompts=keep_prompts
    )[0]


def score_arms(
    model: Model,
    rows: Sequence[Row],
    arms: Sequence[Sequence[Intervention]],
    *,
    max_tokens: int,
    clean: CleanRun | None = None,
    keep_prompts: bool = False,
) -> list[RowScores]:
    """`score_rows` for several arms in the same forward passes: every batch carries its rows once per arm.

    With a clean run of the same rows, layers below the lowest edit are not computed again, and KL(untouched
    || edited) of the next-token distribution is averaged over its positions where it holds log-probabilities.
    """
    scored: list[dict[str, tuple[float, int, float]]] = [{} for _ in arms]
    with torch.inference_mode(), applied(model, (), parts=arms):
        for arm, row, logits in _reply_logits(
            model, rows, arms, max_tokens=max_tokens, keep_prompts=keep_prompts, clean=clean
        ):
            kl = 0.0
            if clean is not None and row.id in clean.logprobs:
                before = clean.logprobs[row.id].float()
                after = logits[_sampled(row)].float().log_softmax(-1).cpu()
                kl = float((before.exp() * (before - after)).sum(-1).mean())
            scored[arm][row.id] = (_logprob(row, logits), row.n_reply, kl)
    return [
        _scores(model, rows, values, with_kl=clean is not None and bool(clean.logprobs)) for values in scored
    ]


def _logprob(row: Row, logits: Float[Tensor, "reply d_vocab"]) -> float:
    """Summed log-probability of the reply in nats."""
    targets = torch.tensor(row.ids[row.n_prompt :], device=logits.device)
    # In pieces, because float32 copies of long windows over the vocabulary leave the processor's cache.
    pieces = zip(logits.split(PIECE), targets.split(PIECE), strict=True)
    return -sum(
        float(torch.nn.functional.cross_entropy(part.float(), to, reduction="none").double().sum())
        for part, to in pieces
    )


def _scores(
    model: Model, rows: Sequence[Row], scored: dict[str, tuple[float, int, float]], *, with_kl: bool
) -> RowScores:
    values = [scored[row.id] for row in rows]
    logprob = torch.tensor([value[0] for value in values], dtype=torch.float64)
    if not torch.isfinite(logprob).all():
        bad = rows[int((~torch.isfinite(logprob)).nonzero()[0])]
        raise NotFinite(
            f"the log-probability of reply {bad.id!r} is not finite in {model.name} ({model.dtype}): "
            "try --dtype float32"
        )
    kl = torch.tensor([value[2] for value in values], dtype=torch.float64) if with_kl else None
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
    kept = tuple(model.batches(rows, max_tokens=max_tokens, keep_prompts=keep_prompts))
    run = CleanRun(kept, {}, record_prefixes(model, kept, layers) if layers and resumable(model) else {})
    logprobs = {}
    if keep_logprobs:
        with torch.inference_mode(), applied(model, ()):
            for _, row, logits in _reply_logits(
                model, rows, [()], max_tokens=max_tokens, keep_prompts=keep_prompts, clean=run
            ):
                logprobs[row.id] = logits[_sampled(row)].float().log_softmax(-1).to("cpu", torch.float16)
    return replace(run, logprobs=logprobs)


def _reply_logits(
    model: Model,
    rows: Sequence[Row],
    arms: Sequence[Sequence[Intervention]],
    *,
    max_tokens: int,
    keep_prompts: bool,
    clean: CleanRun | None,
) -> Iterator[tuple[int, Row, Float[Tensor, "reply d_vocab"]]]:
    """For every arm and row: the logits that predict its reply tokens."""
    ready = (
        clean.batches
        if clean is not None
        else model.batches(rows, max_tokens=max_tokens, keep_prompts=keep_prompts)
    )
    layer = lowest_layer(
        model, [point for arm in arms for intervention in arm for point in intervention.hook_points]
    )
    for index, batch in enumerate(ready):
        prefix = clean.prefix(layer, index) if clean is not None else None

        def run(
            part: TokenBatch, whole: TokenBatch = batch, prefix: Prefix | None = prefix
        ) -> Float[Tensor, "place d_vocab"]:
            tiled = part.tiled(len(arms))
            with resumed(model, prefix.tiled(len(arms)) if prefix is not None and part is whole else None):
                logits = forward(model, tiled, logits_at=_predicting(tiled))
            assert logits is not None, "logits were asked for"
            return logits

        for part, logits in halving(model, batch, run):
            windows = logits.split([row.n_reply for row in part.rows] * len(arms))
            for i, window in enumerate(windows):
                yield i // len(part), part.rows[i % len(part)], window


def _predicting(batch: TokenBatch) -> tuple[Int[Tensor, " place"], Int[Tensor, " place"]]:
    """Rows and columns (from `n_shared` on) of the tokens whose logits predict reply tokens, row by row."""
    starts = [
        offset + row.n_prompt - 1 - batch.n_shared
        for row, offset in zip(batch.rows, batch.offsets, strict=True)
    ]
    columns = [
        torch.arange(start, start + row.n_reply) for row, start in zip(batch.rows, starts, strict=True)
    ]
    return torch.repeat_interleave(
        torch.arange(len(batch)), torch.tensor([row.n_reply for row in batch.rows])
    ), torch.cat(columns)


def _sampled(row: Row) -> list[int]:
    """Evenly spread reply positions, the same in every arm."""
    count = min(KL_POSITIONS_PER_ROW, row.n_reply)
    return [(2 * k + 1) * row.n_reply // (2 * count) for k in range(count)]

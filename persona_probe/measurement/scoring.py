"""Log-probabilities of given replies under interventions. No sampling, no judge, deterministic."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from persona_probe.base.errors import NotFinite
from persona_probe.interventions.edits import Intervention
from persona_probe.measurement.grid import Kept, grid
from persona_probe.models.loading import Model
from persona_probe.prompts.rows import Row


@dataclass(frozen=True, eq=False)
class RowScores:
    """Per row in nats: summed reply log-probability, reply tokens, mean KL from the untouched model where it
    was asked for."""

    ids: tuple[str, ...]
    logprob: Float[Tensor, " row"]
    n_tokens: Int[Tensor, " row"]
    kl: Float[Tensor, " row"] | None


def score_rows(
    model: Model,
    rows: Sequence[Row],
    interventions: Sequence[Intervention],
    *,
    max_tokens: int,
    keep_prompts: bool = False,
) -> RowScores:
    """Log-probabilities of the given replies of `rows`; no interventions at all is the baseline."""
    return score_arms(model, rows, [interventions], max_tokens=max_tokens, keep_prompts=keep_prompts)[0]


def score_arms(
    model: Model,
    rows: Sequence[Row],
    arms: Sequence[Sequence[Intervention]],
    *,
    max_tokens: int,
    keep_prompts: bool = False,
    with_kl: bool = False,
    kept: Kept | None = None,
) -> list[RowScores]:
    """`score_rows` for several arms, which share whatever they have in common (see `grid`).

    With `with_kl`, KL(untouched || edited) of the next-token distribution is averaged over a few places of
    every reply. NotFinite when an arm leaves numbers that are not finite.
    """
    place = {row.id: i for i, row in enumerate(rows)}
    logprob, kl = torch.zeros(2, len(arms), len(rows), dtype=torch.float64)
    for cell in grid(
        model, rows, arms, max_tokens=max_tokens, keep_prompts=keep_prompts, with_kl=with_kl, kept=kept
    ):
        columns = [place[row.id] for row in cell.rows]
        logprob[cell.arm, columns] = cell.logprob
        kl[cell.arm, columns] = cell.kl
    bad = (~torch.isfinite(logprob)).nonzero()
    if len(bad):
        raise NotFinite(not_finite(model, rows[int(bad[0, 1])]))
    n_tokens = torch.tensor([row.n_reply for row in rows])
    ids = tuple(row.id for row in rows)
    return [
        RowScores(ids, values, n_tokens, divergence if with_kl else None)
        for values, divergence in zip(logprob, kl, strict=True)
    ]


def not_finite(model: Model, row: Row) -> str:
    """Why an arm has no numbers."""
    return (
        f"the log-probability of reply {row.id!r} is not finite in {model.name} ({model.dtype}): "
        "try --dtype float32"
    )

"""One forward pass in, log-probabilities of its reply tokens out, a few tokens at a time through the
unembedding."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from persona_probe.models.loading import Model
from persona_probe.prompts.batches import TokenBatch
from persona_probe.prompts.rows import Row

KL_POSITIONS_PER_ROW = 3
LOGIT_BYTES = {"cpu": 2**25}  # float32 logits made at once; on a GPU more, for it is fast on large products
GPU_LOGIT_BYTES = 2**28
PIECE = 16  # tokens whose softmax stays in a CPU's cache


@dataclass(frozen=True, eq=False)
class PassScores:
    """What one pass says of its rows: nats per row, and next-token log-probabilities at a few fixed places of
    every reply, on the model's device and None where they were not asked for."""

    logprob: Float[Tensor, " row"]
    places: Float[Tensor, "place d_vocab"] | None

    def split(self, n: int) -> list["PassScores"]:
        """The scores of `n` arms that stood side by side in the pass."""
        places = [None] * n if self.places is None else self.places.chunk(n)
        return [PassScores(*part) for part in zip(self.logprob.chunk(n), places, strict=True)]


def joined(parts: Sequence[PassScores]) -> PassScores:
    """The scores of one pass that was run in parts, in the order of its rows."""
    places = [part.places for part in parts if part.places is not None]
    return PassScores(torch.cat([part.logprob for part in parts]), torch.cat(places) if places else None)


def pass_scores(
    model: Model, batch: TokenBatch, *, with_places: bool, with_replies: bool = True
) -> PassScores:
    """Run a batch under whatever edits are applied around it, and score its replies.

    Without `with_replies` only the places go through the unembedding, which is half of the work above a late
    block; `logprob` is 0 then.
    """
    rows = [row.n_reply for row in batch.rows]
    targets = torch.cat([torch.tensor(row.ids[row.n_prompt :]) for row in batch.rows])
    targets = targets.to(model.device, non_blocking=True)
    wanted = sampled(batch.rows) if with_places else []
    at = predicting(batch)
    if not with_replies:
        rows = [n_sampled(row) for row in batch.rows]
        at, targets = (at[0][wanted], at[1][wanted]), targets[wanted]
        wanted = list(range(len(wanted)))
    if model.engine.splits_head:
        states = model.engine.states(batch, at)
        size = _piece(model)
        pieces = (model.engine.logits(part) for part in states.split(size))
    else:
        logits = model.engine.forward(batch, logits_at=at)
        assert logits is not None, "logits were asked for"
        size, pieces = len(logits), iter((logits,))
    values: list[Tensor] = []
    places: list[Tensor] = []
    for number, logits in enumerate(pieces):
        start = number * size
        values.append(token_logprobs(logits, targets[start : start + len(logits)]))
        here = [place - start for place in wanted if 0 <= place - start < len(logits)]
        if here:
            index = torch.tensor(here).to(logits.device, non_blocking=True)
            places.append(logits[index].float().log_softmax(-1))
        del logits
    per_row = torch.cat(values).cpu().double().split(rows)
    logprob = torch.stack([row.sum() for row in per_row])
    return PassScores(
        logprob if with_replies else torch.zeros_like(logprob), torch.cat(places) if places else None
    )


def _piece(model: Model) -> int:
    n_bytes = LOGIT_BYTES.get(model.device.type, GPU_LOGIT_BYTES)
    return max(PIECE, n_bytes // (4 * model.engine.n_rows))


def token_logprobs(
    logits: Float[Tensor, "place d_vocab"], targets: Int[Tensor, " place"]
) -> Float[Tensor, " place"]:
    """Log-probability of one token each, in nats, in float32."""
    size = PIECE if logits.device.type == "cpu" else max(1, len(logits))
    return torch.cat(
        [
            -torch.nn.functional.cross_entropy(part.float(), to, reduction="none")
            for part, to in zip(logits.split(size), targets.split(size), strict=True)
        ]
    )


def predicting(batch: TokenBatch) -> tuple[Int[Tensor, " place"], Int[Tensor, " place"]]:
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


def n_sampled(row: Row) -> int:
    """At how many places of a reply the next-token distribution is compared."""
    return min(KL_POSITIONS_PER_ROW, row.n_reply)


def sampled(rows: Sequence[Row]) -> list[int]:
    """Evenly spread reply tokens of every row, the same in every arm, counted over the replies of all
    rows."""
    places, start = [], 0
    for row in rows:
        count = n_sampled(row)
        places += [start + (2 * k + 1) * row.n_reply // (2 * count) for k in range(count)]
        start += row.n_reply
    return places


def divergence(
    before: Float[Tensor, "place d_vocab"], after: Float[Tensor, "place d_vocab"], rows: Sequence[Row]
) -> Float[Tensor, " row"]:
    """KL(before || after) in nats of next-token log-probabilities, averaged over the places of every row."""
    per_place = (before.exp() * (before - after)).sum(-1).cpu().double()
    return torch.stack([part.mean() for part in per_place.split([n_sampled(row) for row in rows])])

"""How much damage an edit may do, and how far apart two models are on the same texts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import torch
from jaxtyping import Float
from torch import Tensor

from persona_probe.measurement.arms import Measurement, delta_nll
from persona_probe.measurement.reply_logprobs import divergence, n_sampled, pass_scores
from persona_probe.models.loading import Model
from persona_probe.prompts.rows import Row

Places = Mapping[str, Float[Tensor, "place d_vocab"]]  # by row: next-token log-probabilities


@dataclass(frozen=True)
class Limits:
    """Damage that is allowed on benign texts, in nats per token: of |ΔNLL|, and of KL.

    An edit that undoes tuning makes the tuned model the base model. What lies between the two is therefore
    allowed beside the budget.
    """

    delta_nll: float
    kl: float

    @classmethod
    def of(cls, budget: float, *, between: "Between | None" = None) -> "Limits":
        """A budget, and what lies between the models where it is known."""
        if between is None:
            return cls(budget, budget)
        return cls(budget + abs(between.delta_nll), budget + between.kl)


@dataclass(frozen=True)
class Between:
    """What tuning changes on benign texts: NLL of base minus NLL of tuned, and KL(tuned || base), nats per
    token."""

    delta_nll: float
    kl: float

    @classmethod
    def of(cls, base: Measurement, tuned: Measurement, kl: float) -> "Between":
        """From both untouched models on the same texts."""
        return cls(delta_nll(base, tuned), kl)


@torch.inference_mode()
def next_tokens(model: Model, rows: Sequence[Row], *, max_tokens: int) -> Places:
    """Next-token log-probabilities of an untouched model at a few places of every reply, on the CPU."""
    places: dict[str, Tensor] = {}
    for batch in model.batches(rows, max_tokens=max_tokens, keep_prompts=False):
        scores = pass_scores(model, batch, with_places=True, with_replies=False)
        assert scores.places is not None, "they were asked for"
        parts = scores.places.cpu().split([n_sampled(row) for row in batch.rows])
        places |= {row.id: part.clone() for row, part in zip(batch.rows, parts, strict=True)}
    return places


def kl_by_row(rows: Sequence[Row], before: Places, after: Places) -> dict[str, float]:
    """KL(before || after) in nats per token by row, averaged over its places."""
    return {row.id: divergence(before[row.id], after[row.id], [row])[0].item() for row in rows}


def kl_between(rows: Sequence[Row], before: Places, after: Places) -> float:
    """KL(before || after) in nats per token, averaged over the places of every row and then over rows; 0
    without rows."""
    return fmean(kl_by_row(rows, before, after).values()) if rows else 0.0

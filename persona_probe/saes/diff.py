"""How the latents of an SAE differ between base and tuned and between labels, and how they rank by it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from einops import einsum
from jaxtyping import Float
from scipy.stats import spearmanr
from torch import Tensor

from persona_probe.records.parts import Side
from persona_probe.saes.sae import Sae
from persona_probe.streams.activations import TokenActs

ALIVE = 1e-4  # latents that fire on fewer of the tokens, in both models, are dead here and not ranked


@dataclass(frozen=True, eq=False)
class LatentMeans:
    """Means of every latent over the read tokens of one model, by label of the row, and the share of tokens
    it fires on.

    Activations are scaled to the stream (`Sae.in_stream`). From the same pass: `stream` holds, by label, the
    mean of row means of the stream, `median_norm` its median length. `n_tokens` were read of `n_readable`:
    the others are outliers that were left out; None where these were not counted. `by_question`: mean over
    the tokens of every question, questions in the order of their ids; None in files from before it.
    """

    n_tokens: int
    mean: Float[Tensor, " d_sae"]
    density: Float[Tensor, " d_sae"]
    mean_of: dict[str, Tensor]
    stream: dict[str, Tensor]
    median_norm: float
    n_readable: int | None = None
    by_question: Float[Tensor, "question d_sae"] | None = None

    @property
    def dropped(self) -> float | None:
        """Share of the readable tokens that were left out as outliers; None where it is not known."""
        return None if self.n_readable is None else 1 - self.n_tokens / self.n_readable

    def tensors(self) -> dict[str, Tensor]:
        """All of it as named tensors, for files."""
        counted = [] if self.n_readable is None else [float(self.n_readable)]
        more = {} if self.by_question is None else {"by_question": self.by_question}
        return {
            **more,
            "mean": self.mean,
            "density": self.density,
            "facts": torch.tensor([float(self.n_tokens), self.median_norm, *counted]),
            **{f"mean_of/{label}": value for label, value in self.mean_of.items()},
            **{f"stream/{label}": value for label, value in self.stream.items()},
        }

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> "LatentMeans":
        """The inverse of `tensors`."""
        parts: dict[str, dict[str, Tensor]] = {"mean_of": {}, "stream": {}}
        for name, value in tensors.items():
            part, slash, label = name.partition("/")
            if slash:
                parts[part][label] = value
        n_tokens, median_norm, *counted = tensors["facts"].tolist()
        return cls(
            n_tokens=int(n_tokens),
            mean=tensors["mean"],
            density=tensors["density"],
            median_norm=median_norm,
            n_readable=int(counted[0]) if counted else None,
            by_question=tensors.get("by_question"),
            **parts,
        )


@dataclass(frozen=True, eq=False)
class LatentDiff:
    """Both models on the same tokens. A change is in units of the stream: activation times length of the
    decoder row.
    """

    base: LatentMeans
    tuned: LatentMeans
    decoder_norm: Float[Tensor, " d_sae"]

    @property
    def alive(self) -> Float[Tensor, " d_sae"]:
        """1 for latents that fire often enough in one of the models to be ranked."""
        return (torch.maximum(self.base.density, self.tuned.density) >= ALIVE).float()

    @property
    def living(self) -> list[int]:
        """The numbers of the latents that are alive."""
        return self.alive.nonzero()[:, 0].tolist()

    @property
    def dropped(self) -> dict[Side, float] | None:
        """Share of the tokens left out as outliers, of the models where it is known; None of neither."""
        known: dict[Side, float | None] = {"base": self.base.dropped, "tuned": self.tuned.dropped}
        return {side: share for side, share in known.items() if share is not None} or None

    @property
    def shift(self) -> Float[Tensor, " d_sae"]:
        """Base to tuned on the same tokens. Wang et al. 2025 (2506.19823) order latents by this."""
        return (self.tuned.mean - self.base.mean) * self.decoder_norm

    @property
    def label(self) -> Float[Tensor, " d_sae"]:
        """Aligned to misaligned replies, both through the tuned model."""
        return (self.tuned.mean_of["misaligned"] - self.tuned.mean_of["aligned"]) * self.decoder_norm

    @property
    def mean_diff(self) -> Float[Tensor, " d_model"]:
        """Misaligned minus aligned replies in the tuned model's stream, every reply counted once."""
        return self.tuned.stream["misaligned"] - self.tuned.stream["aligned"]

    @property
    def stream_shift(self) -> Float[Tensor, " d_model"]:
        """Base to tuned in the stream, on the same replies."""
        shifts = [self.tuned.stream[label] - self.base.stream[label] for label in self.base.stream]
        return sum(shifts, torch.zeros(1)) / len(shifts)


@dataclass(eq=False)
class _Sums:
    """Sums over the rows of one label, in float64."""

    acts: Tensor
    stream: Tensor
    n_tokens: int = 0
    n_rows: int = 0


@dataclass(eq=False)
class _Question:
    """The sum over the tokens of one question, in float32."""

    acts: Tensor
    n_tokens: int = 0

    @property
    def mean(self) -> Tensor:
        """Per token; 0 where none was read."""
        return self.acts / max(1, self.n_tokens)


def latent_means(parts: Iterable[TokenActs], sae: Sae) -> LatentMeans:
    """One pass over the streams of some rows (`read_tokens`): sums in float64, divided once.

    First tokens are left out, and outliers where they are dropped.
    """
    total, fired = torch.zeros(2, sae.d_sae, dtype=torch.float64)
    sums: dict[str, _Sums] = {}
    questions: dict[str, _Question] = {}
    norms = []
    n_readable: int | None = 0
    for part in parts:
        counted = part.n_readable
        n_readable = None if counted is None or n_readable is None else n_readable + int(counted.sum())
        for row, resid, keep in zip(part.rows, part.resid, part.keep, strict=True):
            stream = resid[keep].float()
            acts = sae.in_stream(stream).double().cpu()
            total, fired = total + acts.sum(0), fired + (acts > 0).double().sum(0)
            norms.append(stream.norm(dim=-1).cpu())
            question = questions.setdefault(row.question_id, _Question(torch.zeros(sae.d_sae)))
            question.acts += acts.sum(0).float()
            question.n_tokens += len(acts)
            if row.label:
                empty = _Sums(torch.zeros_like(total), torch.zeros(sae.d_model, dtype=torch.float64))
                of_label = sums.setdefault(row.label, empty)
                of_label.acts += acts.sum(0)
                of_label.stream += stream.double().mean(0).cpu()
                of_label.n_tokens += len(acts)
                of_label.n_rows += 1
    lengths = torch.cat(norms)
    return LatentMeans(
        n_tokens=len(lengths),
        mean=(total / len(lengths)).float(),
        density=(fired / len(lengths)).float(),
        mean_of={label: (sums[label].acts / sums[label].n_tokens).float() for label in sorted(sums)},
        stream={label: (sums[label].stream / sums[label].n_rows).float() for label in sorted(sums)},
        median_norm=float(lengths.median()),
        n_readable=n_readable,
        by_question=torch.stack([questions[id].mean for id in sorted(questions)]),
    )


def decoder_cosines(sae: Sae, vector: Float[Tensor, " d_model"]) -> Float[Tensor, " d_sae"]:
    """Cosine of every decoder row with a direction. Arditi and Chen rank latents by this."""
    rows = torch.nn.functional.normalize(sae.W_dec.float().cpu(), dim=-1)
    return einsum(rows, vector / vector.norm(), "d_sae d_model, d_model -> d_sae")


def ranks(scores: Float[Tensor, " d_sae"], alive: Float[Tensor, " d_sae"]) -> dict[int, int]:
    """Rank of every living latent, 1 for the highest score; ties by number."""
    living = alive.nonzero()[:, 0]
    order = living[torch.argsort(scores[living], descending=True, stable=True)]
    return {latent: place for place, latent in enumerate(order.tolist(), start=1)}


def candidates(rankings: Mapping[str, Mapping[int, int]], n: int) -> list[int]:
    """About `n` latents to test: the top and the bottom of every ranking in turn, until there are that
    many.
    """
    tops = [sorted(ranking, key=lambda latent: ranking[latent]) for ranking in rankings.values()]
    queue = [order for top in tops for order in (top, top[::-1])]
    chosen: dict[int, None] = {}
    for place in range(max((len(order) for order in queue), default=0)):
        for order in queue:
            if len(chosen) >= n:
                return list(chosen)
            if place < len(order):
                chosen.setdefault(order[place])
    return list(chosen)


def rank_correlations(scores: Mapping[str, Tensor], alive: Float[Tensor, " d_sae"]) -> list[list[float]]:
    """Spearman correlation of every ranking with every other, over the living latents."""
    living = alive.bool()
    table = np.stack([values[living].numpy() for values in scores.values()], axis=1)
    if len(scores) < 2 or len(table) < 3:
        return [[1.0] * len(scores)] * len(scores)
    with np.errstate(invalid="ignore"):
        matrix = np.asarray(spearmanr(table)[0], dtype=np.float64)
    if matrix.ndim == 0:  # scipy gives a number for two columns
        matrix = np.array([[1.0, matrix], [matrix, 1.0]])
    return np.nan_to_num(matrix).tolist()

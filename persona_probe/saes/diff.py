"""How the latents of an SAE differ between base and tuned and between labels, and every ranking of them in one table."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor

from persona_probe.saes.sae import Sae
from persona_probe.streams.activations import TokenActs

ALIVE = 1e-4  # latents that fire on fewer of the tokens, in both models, are dead here and not ranked


@dataclass(frozen=True, eq=False)
class LatentMeans:
    """Means of every latent over the read tokens of one model, by label of the row, and the share of tokens it fires on.

    `stream` holds, from the same pass, the mean of row means of the stream by label, and `median_norm` its median length.
    """

    n_tokens: int
    mean: Float[Tensor, " d_sae"]
    density: Float[Tensor, " d_sae"]
    mean_of: dict[str, Tensor]
    stream: dict[str, Tensor]
    median_norm: float

    def tensors(self) -> dict[str, Tensor]:
        """All of it as named tensors, for files."""
        flat = {
            "mean": self.mean,
            "density": self.density,
            "facts": torch.tensor([float(self.n_tokens), self.median_norm]),
        }
        flat |= {f"mean_of/{label}": value for label, value in self.mean_of.items()}
        return flat | {f"stream/{label}": value for label, value in self.stream.items()}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> "LatentMeans":
        """The inverse of `tensors`."""
        parts = {
            name: {
                key.removeprefix(f"{name}/"): value
                for key, value in tensors.items()
                if key.startswith(f"{name}/")
            }
            for name in ("mean_of", "stream")
        }
        n_tokens, median_norm = tensors["facts"].tolist()
        return cls(
            int(n_tokens), tensors["mean"], tensors["density"], parts["mean_of"], parts["stream"], median_norm
        )


@dataclass(frozen=True, eq=False)
class LatentDiff:
    """Both models on the same tokens. A change is in units of the stream: activation times length of the decoder row."""

    base: LatentMeans
    tuned: LatentMeans
    decoder_norm: Float[Tensor, " d_sae"]

    @property
    def alive(self) -> Float[Tensor, " d_sae"]:
        """1 for latents that fire often enough in one of the models to be ranked."""
        return (torch.maximum(self.base.density, self.tuned.density) >= ALIVE).float()

    @property
    def shift(self) -> Float[Tensor, " d_sae"]:
        """Base to tuned on the same tokens. Wang et al. 2025 (2506.19823) order latents by this."""
        return (self.tuned.mean - self.base.mean) * self.decoder_norm

    @property
    def mean_diff(self) -> Float[Tensor, " d_model"]:
        """Misaligned minus aligned replies in the tuned model's stream, every reply counted once."""
        return self.tuned.stream["misaligned"] - self.tuned.stream["aligned"]

    @property
    def stream_shift(self) -> Float[Tensor, " d_model"]:
        """Base to tuned in the stream, on the same replies."""
        return sum(
            (self.tuned.stream[label] - self.base.stream[label] for label in self.base.stream), torch.zeros(1)
        ) / len(self.base.stream)

    @property
    def label(self) -> Float[Tensor, " d_sae"]:
        """Aligned to misaligned replies, both through the tuned model."""
        return (self.tuned.mean_of["misaligned"] - self.tuned.mean_of["aligned"]) * self.decoder_norm


def latent_means(parts: Iterable[TokenActs], sae: Sae) -> LatentMeans:
    """One pass over the streams of some rows (`read_tokens`): sums in float64, divided once. First and outlier tokens are left out, as everywhere."""
    zeros = torch.zeros(sae.d_sae, dtype=torch.float64)
    total, fired, n = zeros.clone(), zeros.clone(), 0
    sums: dict[str, tuple[Tensor, Tensor]] = {}
    counts: dict[str, list[int]] = {}
    norms = []
    for part in parts:
        for row, resid, keep in zip(part.rows, part.resid, part.keep, strict=True):
            read = resid[keep].float()
            acts = sae.encode(read).double().cpu()
            total, fired, n = total + acts.sum(0), fired + (acts > 0).double().sum(0), n + len(acts)
            norms.append(read.norm(dim=-1).cpu())
            if row.label:
                sums.setdefault(row.label, (zeros.clone(), torch.zeros(sae.d_model, dtype=torch.float64)))
                counts.setdefault(row.label, [0, 0])
                sums[row.label][0].add_(acts.sum(0))
                sums[row.label][1].add_(read.double().mean(0).cpu())
                counts[row.label][0] += len(acts)
                counts[row.label][1] += 1
    names = sorted(sums)
    mean_of = {label: (sums[label][0] / counts[label][0]).float() for label in names}
    stream = {label: (sums[label][1] / counts[label][1]).float() for label in names}
    return LatentMeans(
        n, (total / n).float(), (fired / n).float(), mean_of, stream, float(torch.cat(norms).median())
    )


def decoder_cosines(sae: Sae, vector: Float[Tensor, " d_model"]) -> Float[Tensor, " d_sae"]:
    """Cosine of every decoder row with a direction. Arditi and Chen rank latents by this."""
    rows = torch.nn.functional.normalize(sae.W_dec.float().cpu(), dim=-1)
    return einsum(rows, vector / vector.norm(), "d_sae d_model, d_model -> d_sae")


def ranks(scores: Float[Tensor, " d_sae"], alive: Float[Tensor, " d_sae"]) -> dict[int, int]:
    """Rank of every living latent, 1 for the highest score; ties by number."""
    living = alive.nonzero()[:, 0]
    order = living[torch.argsort(scores[living], descending=True, stable=True)]
    return {int(latent): place for place, latent in enumerate(order, start=1)}


def candidates(rankings: dict[str, dict[int, int]], n: int) -> list[int]:
    """About `n` latents to test: the top and the bottom of every ranking in turn, until there are that many."""
    ends = [sorted(ranking, key=lambda latent: ranking[latent]) for ranking in rankings.values()]
    queue = [order for top in ends for order in (top, top[::-1])]
    chosen: dict[int, None] = {}
    for place in range(max((len(order) for order in queue), default=0)):
        for order in queue:
            if len(chosen) >= n:
                return list(chosen)
            if place < len(order):
                chosen.setdefault(order[place])
    return list(chosen)


def rank_correlations(scores: dict[str, Tensor], alive: Float[Tensor, " d_sae"]) -> list[list[float]]:
    """Spearman correlation of every ranking with every other, over the living latents."""
    import numpy as np
    from scipy.stats import spearmanr

    living = alive.bool()
    table = np.stack([values[living].numpy() for values in scores.values()], axis=1)
    if len(scores) < 2 or len(table) < 3:
        return [[1.0] * len(scores)] * len(scores)
    with np.errstate(invalid="ignore"):
        matrix: Any = spearmanr(table)[0]
    if np.ndim(matrix) == 0:  # scipy gives a number for two columns
        matrix = np.array([[1.0, matrix], [matrix, 1.0]])
    return np.nan_to_num(np.asarray(matrix, dtype=np.float64)).tolist()


def matched(latent: int, diff: LatentDiff, *, among: Sequence[int], taken: Sequence[int]) -> int | None:
    """The control of a latent: of the latents that are not under test, the one that is most alike in density and mean contribution.

    Decoder rows are steered at one length, so controls match in that by construction.
    """
    free = torch.tensor([other for other in among if other not in set(taken)])
    if not len(free):
        return None
    features = torch.stack(
        [
            torch.log10(diff.tuned.density + 1e-6),
            torch.log10((diff.tuned.mean * diff.decoder_norm).clamp(min=0) + 1e-6),
        ],
        dim=1,
    )
    return int(free[(features[free] - features[latent]).norm(dim=1).argmin()])

"""Does an SAE still fit? Unexplained variance, sparsity, dead latents and recovered loss, on base and on
tuned alike.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from persona_probe.base.choices import Outliers
from persona_probe.interventions.edits import Ablate, Intervention, orthonormal
from persona_probe.measurement.scoring import score_rows
from persona_probe.models.loading import Model
from persona_probe.prompts.rows import Row
from persona_probe.saes.edits import SaeEdit
from persona_probe.saes.sae import Sae
from persona_probe.streams.activations import Scope, read_tokens
from persona_probe.streams.reductions import SKIP_FIRST


@dataclass(frozen=True)
class Quality:
    """How well an SAE fits one model's stream.

    fvu: squared error over squared distance from the mean. l0: latents active per token. dead: share of
    latents silent on all of these tokens. loss_recovered: 1 when the replies keep their log-probability under
    the reconstruction, 0 when they fare as with the stream's mean in its place; None when that costs nothing.
    """

    fvu: float
    l0: float
    dead: float
    loss_recovered: float | None
    n_tokens: int

    @property
    def recovered(self) -> str:
        """Recovered loss as text, `n/a` where it is undefined."""
        return "n/a" if self.loss_recovered is None else f"{self.loss_recovered:.3f}"

    def json(self) -> dict[str, Any]:
        """The record's form."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Splice(SaeEdit):
    """Replaces the stream by its reconstruction."""

    skip_first: int = SKIP_FIRST

    def edit(
        self, resid: Float[Tensor, "batch pos d_model"], *, hook_point: str
    ) -> Float[Tensor, "batch pos d_model"]:
        """decode(encode(stream))."""
        return self.sae.reconstruct(resid).to(resid.dtype)

    def describe(self) -> dict[str, Any]:
        """JSON for records; equal descriptions are equal interventions."""
        return {
            "kind": "splice",
            "hook_points": list(self.hook_points),
            "sae_sha256": self.sae.sha256,
            "skip_first": self.skip_first,
        }


def quality(
    model: Model, sae: Sae, rows: Sequence[Row], *, scope: Scope, max_tokens: int, outliers: Outliers = "drop"
) -> Quality:
    """One streaming pass for fit, three scoring passes over the replies for recovered loss. Sums are
    float64.
    """
    error = torch.zeros((), dtype=torch.float64)
    squares, total = error.clone(), torch.zeros(sae.d_model, dtype=torch.float64)
    fired = torch.zeros(sae.d_sae, dtype=torch.float64)
    n = 0
    parts = read_tokens(
        model, rows, hook_point=sae.hook_point, scope=scope, max_tokens=max_tokens, outliers=outliers
    )
    for part in parts:
        x = part.resid[part.keep]
        error += (x - sae.reconstruct(x)).double().square().sum().cpu()
        squares, total = squares + x.double().square().sum().cpu(), total + x.double().sum(0).cpu()
        fired += (sae.encode(x) > 0).double().sum(0).cpu()
        n += len(x)
    mean = total / n
    spread = squares - n * mean.square().sum()
    return Quality(
        fvu=float(error / spread),
        l0=float(fired.sum() / n),
        dead=float((fired == 0).double().mean()),
        loss_recovered=_loss_recovered(model, sae, rows, mean.float(), max_tokens=max_tokens),
        n_tokens=n,
    )


def _loss_recovered(
    model: Model, sae: Sae, rows: Sequence[Row], mean: Float[Tensor, " d_model"], *, max_tokens: int
) -> float | None:
    """Where the replies' log-probability under the reconstruction lies between mean ablation (0) and
    untouched (1).
    """
    # Ablating every dimension toward the mean is the mean itself.
    to_mean = Ablate(orthonormal(torch.eye(sae.d_model)), (sae.hook_point,), mean[None], SKIP_FIRST)
    arms: tuple[tuple[Intervention, ...], ...] = ((), (Splice(sae),), (to_mean,))
    clean, spliced, ablated = (
        float(score_rows(model, rows, arm, max_tokens=max_tokens, keep_prompts=True).logprob.sum())
        for arm in arms
    )
    return (spliced - ablated) / (clean - ablated) if clean != ablated else None

"""What can be done to single latents of an SAE, as interventions: set them, with the reconstruction error
kept.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor

from persona_probe.base.errors import BadInput
from persona_probe.directions.direction import Direction
from persona_probe.interventions.edits import Placed
from persona_probe.saes.sae import Sae
from persona_probe.storage.tensor_files import sha256_tensors


@dataclass(frozen=True, eq=False)
class SaeEdit:
    """An edit of the stream that an SAE reads."""

    sae: Sae

    @property
    def hook_points(self) -> tuple[str, ...]:
        """Where it acts: the point that the SAE reads."""
        return (self.sae.hook_point,)

    @property
    def width(self) -> int:
        """The d_model it was made for."""
        return self.sae.d_model


@dataclass(frozen=True, eq=False)
class SetLatents(SaeEdit):
    """Sets latents to a value where they are active: h + (f' - f) W_dec, so what the SAE does not explain
    stays.

    0 ablates. The value is in the SAE's own scale: where it scales its input, the change is scaled back token
    by token. Tokens on which a latent is silent are left alone: a value above 0 clamps an active latent and
    switches none on.
    """

    latents: tuple[int, ...]
    value: float = 0.0
    skip_first: int = 0
    _placed: Placed = field(default_factory=Placed, init=False, repr=False)

    def __post_init__(self) -> None:
        wrong = [latent for latent in self.latents if not 0 <= latent < self.sae.d_sae]
        if wrong or not self.latents or len(set(self.latents)) != len(self.latents):
            raise BadInput(
                f"latents {list(self.latents)[:8]} of {self.sae.id}: "
                f"give distinct numbers from 0 to {self.sae.d_sae - 1}"
            )

    def edit(
        self, resid: Float[Tensor, "batch pos d_model"], *, hook_point: str
    ) -> Float[Tensor, "batch pos d_model"]:
        """The stream with the latents at their new value, computed in float32."""
        sae, chosen = self._placed.at("sae", resid, lambda: self._on(resid.device))
        acts = sae.encode(resid.float())
        acts = acts if chosen is None else acts.index_select(-1, chosen)
        rows = sae.W_dec if chosen is None else sae.W_dec.index_select(0, chosen)
        change = (self.value - acts) * (acts > 0) * sae.unit(resid)
        added = einsum(change, rows, "batch pos k, k d_model -> batch pos d_model")
        return (resid.float() + added).to(resid.dtype)

    def _on(self, device: torch.device) -> tuple[Sae, Tensor | None]:
        """The part of the SAE that the latents are, on a device; or all of it, and which they are, where all
        compete."""
        if self.sae.architecture == "topk":
            return self.sae.on(device), torch.tensor(self.latents, device=device)
        return self.sae.part(self.latents).on(device), None

    def describe(self) -> dict[str, Any]:
        """JSON for records; equal descriptions are equal interventions."""
        return {
            "kind": "set latents",
            "hook_points": list(self.hook_points),
            "sae_sha256": self.sae.sha256,
            "latents": list(self.latents),
            "value": self.value,
            "skip_first": self.skip_first,
        }


def latent_direction(sae: Sae, latent: int, *, length: float) -> Direction:
    """A latent's decoder row as a direction of the given length. + is towards more of the latent."""
    row = sae.W_dec[latent].float().cpu()
    return Direction(hook_point=sae.hook_point, vector=row * (length / row.norm()), method=f"latent-{latent}")


def set_direction(sae: Sae, signs: Mapping[int, int], *, length: float) -> Direction:
    """The sum of several decoder rows of length 1, each with its sign, as one direction of the given
    length.
    """
    rows = {latent: sae.W_dec[latent].float().cpu() for latent in signs}
    units = [sign * rows[latent] / rows[latent].norm() for latent, sign in signs.items()]
    total = sum(units[1:], units[0])
    name = f"latents-{sha256_tensors([total])[:8]}"
    return Direction(hook_point=sae.hook_point, vector=total * (length / total.norm()), method=name)

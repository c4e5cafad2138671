"""Interventions as values: what is done to the residual stream.

`applied` in applied.py does it to a model.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor

from persona_probe.base.errors import BadInput
from persona_probe.storage.tensor_files import sha256_tensors


@runtime_checkable
class Intervention(Protocol):
    """What `applied` can do to a stream: an edit at some hook points, from token `skip_first` on."""

    @property
    def hook_points(self) -> tuple[str, ...]:
        """Where it acts."""
        ...

    @property
    def skip_first(self) -> int:
        """How many first tokens it leaves alone."""
        ...

    @property
    def width(self) -> int:
        """The d_model it was made for."""
        ...

    def edit(
        self, resid: Float[Tensor, "batch pos d_model"], *, hook_point: str
    ) -> Float[Tensor, "batch pos d_model"]:
        """The edited stream, as a new tensor."""
        ...

    def describe(self) -> dict[str, Any]:
        """JSON for records; equal descriptions are equal interventions."""
        ...


class Placed:
    """Tensors of an edit where they are used: made once per device and number format of the stream."""

    def __init__(self) -> None:
        self._made: dict[tuple[str, torch.device, torch.dtype], Any] = {}

    def at(self, name: str, resid: Tensor, make: Callable[[], Any]) -> Any:
        """What `make` gives, kept for streams like this one."""
        key = (name, resid.device, resid.dtype)
        if key not in self._made:
            # Made outside inference mode, or a later backward pass could not use it.
            with torch.inference_mode(False), torch.no_grad():
                self._made[key] = make()
        return self._made[key]


@dataclass(frozen=True, eq=False)
class Steer:
    """Adds `coefficient` times `vector` at one hook point; -1.0 takes the vector away."""

    vector: Float[Tensor, " d_model"]
    hook_point: str
    coefficient: float
    skip_first: int = 0
    _placed: Placed = field(default_factory=Placed, init=False, repr=False)

    @property
    def hook_points(self) -> tuple[str, ...]:
        """Where it acts."""
        return (self.hook_point,)

    @property
    def width(self) -> int:
        """The d_model it was made for."""
        return self.vector.shape[-1]

    def edit(
        self, resid: Float[Tensor, "batch pos d_model"], *, hook_point: str
    ) -> Float[Tensor, "batch pos d_model"]:
        """The stream with the vector added to every token."""
        return resid + self._placed.at("vector", resid, lambda: (self.coefficient * self.vector).to(resid))

    def describe(self) -> dict[str, Any]:
        """JSON for records; equal descriptions are equal interventions."""
        return {
            "kind": "steer",
            "hook_points": list(self.hook_points),
            "coefficient": self.coefficient,
            "skip_first": self.skip_first,
            "vector_sha256": sha256_tensors([self.vector]),
        }


@dataclass(frozen=True, eq=False)
class Ablate:
    """Projects the span of `basis` (orthonormal rows) out of the stream: x - B'B(x - mean).

    `means` has one row per hook point; None ablates toward zero. At the output of one block alone, what later
    blocks write along the basis stays; give their hook points too to take it out. Source: Arditi et al. 2024
    (2406.11717), Soligo et al. 2025 (2506.11618).
    """

    basis: Float[Tensor, "k d_model"]
    hook_points: tuple[str, ...]
    means: Float[Tensor, "hook d_model"] | None = None
    skip_first: int = 0
    _placed: Placed = field(default_factory=Placed, init=False, repr=False)

    def __post_init__(self) -> None:
        gram = einsum(self.basis.double(), self.basis.double(), "i d_model, j d_model -> i j")
        if not torch.allclose(
            gram, torch.eye(len(self.basis), dtype=torch.float64, device=gram.device), atol=1e-4
        ):
            raise BadInput("the rows of an ablation basis must be orthonormal: use orthonormal(vectors)")
        if self.means is not None and len(self.means) != len(self.hook_points):
            raise BadInput(
                f"{len(self.means)} means for {len(self.hook_points)} hook points: one each is needed"
            )

    @property
    def width(self) -> int:
        """The d_model it was made for."""
        return self.basis.shape[-1]

    def edit(
        self, resid: Float[Tensor, "batch pos d_model"], *, hook_point: str
    ) -> Float[Tensor, "batch pos d_model"]:
        """The stream without its component in the span, computed in float32."""
        basis, inside_means = self._placed.at("basis", resid, lambda: self._on(resid.device))
        stream = resid.reshape(-1, resid.shape[-1]).float()
        inside = stream @ basis.T
        if inside_means is not None:
            inside = inside - inside_means[self.hook_points.index(hook_point)]
        return torch.addmm(stream, inside, basis, alpha=-1).to(resid.dtype).view(resid.shape)

    def _on(self, device: torch.device) -> tuple[Tensor, Tensor | None]:
        """The basis in float32, and the coordinates in it of every hook point's mean."""
        basis = self.basis.to(device, torch.float32)
        return basis, None if self.means is None else self.means.to(device, torch.float32) @ basis.T

    def describe(self) -> dict[str, Any]:
        """JSON for records; equal descriptions are equal interventions."""
        means = None if self.means is None else sha256_tensors([self.means])
        return {
            "kind": "ablate",
            "hook_points": list(self.hook_points),
            "rank": len(self.basis),
            "toward": "zero" if means is None else "base mean",
            "skip_first": self.skip_first,
            "vector_sha256": sha256_tensors([self.basis]),
            "means_sha256": means,
        }


@dataclass(frozen=True, eq=False)
class Cap:
    """Takes away what exceeds `ceiling` along a unit vector: x - max(0, x.u - ceiling) u.

    Source: Lu et al. 2026 (2601.10387).
    """

    unit: Float[Tensor, " d_model"]
    hook_points: tuple[str, ...]
    ceiling: float
    skip_first: int = 0
    _placed: Placed = field(default_factory=Placed, init=False, repr=False)

    @property
    def width(self) -> int:
        """The d_model it was made for."""
        return self.unit.shape[-1]

    def edit(
        self, resid: Float[Tensor, "batch pos d_model"], *, hook_point: str
    ) -> Float[Tensor, "batch pos d_model"]:
        """The stream with its projection on the unit vector at most `ceiling`."""
        unit = self._placed.at("unit", resid, lambda: self.unit.to(resid.device, torch.float32))
        stream = resid.reshape(-1, resid.shape[-1]).float()
        excess = (stream @ unit - self.ceiling).clamp(min=0)
        return torch.addr(stream, excess, unit, alpha=-1).to(resid.dtype).view(resid.shape)

    def describe(self) -> dict[str, Any]:
        """JSON for records; equal descriptions are equal interventions."""
        return {
            "kind": "cap",
            "hook_points": list(self.hook_points),
            "ceiling": self.ceiling,
            "skip_first": self.skip_first,
            "vector_sha256": sha256_tensors([self.unit]),
        }


def orthonormal(vectors: Float[Tensor, "k d_model"]) -> Float[Tensor, "k d_model"]:
    """An orthonormal basis of the span of `vectors`; dependent or zero vectors are refused."""
    matrix = vectors.double()
    if not torch.isfinite(matrix).all() or torch.linalg.matrix_rank(matrix) < len(matrix):
        raise BadInput(
            f"{len(vectors)} vectors do not span {len(vectors)} dimensions: "
            "one is zero, not finite or repeats another"
        )
    return torch.linalg.qr(matrix.T).Q.T.to(torch.float32).contiguous()

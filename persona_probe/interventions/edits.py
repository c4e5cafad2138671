"""Interventions as values: what is done to the residual stream.

`applied` in applied.py does it to a model.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor

from persona_probe.base.errors import BadInput
from persona_probe.storage.tensor_files import sha256_tensors

MIN_COSINE = 1e-4  # between a read row and what it must measure; below it rounding decides


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
    """Adds `coefficient` times `vector` at one hook point; -1.0 takes the vector away.

    `seen`: of this and the other edits, hashes of the questions that its vectors were found or selected on,
    which must not be measured on; it decides nothing that is computed.
    """

    vector: Float[Tensor, " d_model"]
    hook_point: str
    coefficient: float
    skip_first: int = 0
    seen: frozenset[str] = frozenset()
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
    """Sets a component of the stream to that of a centre: x - s W'R(x - c).

    `write` (W, orthonormal rows) is what is taken away, `read` (R) measures how much of it there is. None
    reads along `write`: an orthogonal projection. Other rows must be biorthogonal to `write` (R W' is the
    identity; `biorthogonal` makes them so): an oblique projection. `means` (c) has one row per hook point;
    None is toward zero, which also displaces: it moves the mean of the stream. `strength` (s) 1.0 sets the
    component to the centre's, less goes part of the way, more goes past it. With `beyond`, for rank 1, only
    tokens with R(x - c) > beyond are edited, in units of the stream; the sign of `read` says which side.

    At the output of one block alone, what later blocks write along `write` stays; give their hook points too
    to take it out. Sources: Arditi et al. 2024 (2406.11717), Soligo et al. 2025 (2506.11618); oblique:
    Belrose et al. 2023 (2306.03819), whose form `interventions.erasure` fits.
    """

    write: Float[Tensor, "k d_model"]
    hook_points: tuple[str, ...]
    means: Float[Tensor, "hook d_model"] | None = None
    skip_first: int = 0
    read: Float[Tensor, "read d_model"] | None = None
    strength: float = 1.0
    beyond: float | None = None
    seen: frozenset[str] = frozenset()
    _placed: Placed = field(default_factory=Placed, init=False, repr=False)

    def __post_init__(self) -> None:
        if not _is_identity(self.write, self.write, atol=1e-4):
            raise BadInput("the rows of an ablation basis must be orthonormal: use orthonormal(vectors)")
        if self.read is not None:
            _check_readable(self.read, self.write)
            if not _is_identity(self.read, self.write, atol=1e-3):
                raise BadInput(
                    "the read rows of an ablation must be biorthogonal to its write rows "
                    "(read @ write.T is not the identity): use biorthogonal(read, write)"
                )
        if self.means is not None and len(self.means) != len(self.hook_points):
            raise BadInput(
                f"{len(self.means)} means for {len(self.hook_points)} hook points: one each is needed"
            )
        if not (math.isfinite(self.strength) and self.strength > 0):
            raise BadInput(f"an ablation of strength {self.strength}: a finite number above 0 is needed")
        if self.beyond is not None and not (len(self.write) == 1 and math.isfinite(self.beyond)):
            raise BadInput(
                f"an ablation of rank {len(self.write)} beyond {self.beyond}: "
                "a boundary needs rank 1 and a finite number"
            )

    @property
    def width(self) -> int:
        """The d_model it was made for."""
        return self.write.shape[-1]

    def edit(
        self, resid: Float[Tensor, "batch pos d_model"], *, hook_point: str
    ) -> Float[Tensor, "batch pos d_model"]:
        """The stream with the component moved toward the centre's, computed in float32."""
        write, read, at_centre = self._placed.at("rows", resid, lambda: self._on(resid.device))
        stream = resid.reshape(-1, resid.shape[-1]).float()
        inside = stream @ read.T
        if at_centre is not None:
            inside = inside - at_centre[self.hook_points.index(hook_point)]
        if self.beyond is not None:
            inside = inside * (inside > self.beyond)
        return torch.addmm(stream, inside, write, alpha=-self.strength).to(resid.dtype).view(resid.shape)

    def _on(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor | None]:
        """Write and read rows in float32, and what `read` measures at the centre of every hook point."""
        write = self.write.to(device, torch.float32)
        read = write if self.read is None else self.read.to(device, torch.float32)
        return write, read, None if self.means is None else self.means.to(device, torch.float32) @ read.T

    def describe(self) -> dict[str, Any]:
        """JSON for records; equal descriptions are equal interventions.

        What an ablation need not have is named only where it is there, so that keys of old measurements stay.
        """
        toward = "base mean" if self.read is None else "stated mean"
        means = None if self.means is None else sha256_tensors([self.means])
        described = {
            "kind": "ablate",
            "hook_points": list(self.hook_points),
            "rank": len(self.write),
            "toward": "zero" if means is None else toward,
            "skip_first": self.skip_first,
            "vector_sha256": sha256_tensors([self.write]),
            "means_sha256": means,
        }
        if self.strength != 1.0:
            described["strength"] = self.strength
        if self.read is not None:
            described["read_sha256"] = sha256_tensors([self.read])
        if self.beyond is not None:
            described["beyond"] = self.beyond
        return described


@dataclass(frozen=True, eq=False)
class Cap:
    """Takes away what exceeds `ceiling` along a unit vector: x - max(0, x.u - ceiling) u.

    Source: Lu et al. 2026 (2601.10387).
    """

    unit: Float[Tensor, " d_model"]
    hook_points: tuple[str, ...]
    ceiling: float
    skip_first: int = 0
    seen: frozenset[str] = frozenset()
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


def seen_by(edits: Iterable[Intervention]) -> frozenset[str]:
    """Hashes of all questions that the vectors of some edits were found or selected on."""
    return frozenset(hashed for one in edits if isinstance(one, Steer | Ablate | Cap) for hashed in one.seen)


def orthonormal(vectors: Float[Tensor, "k d_model"]) -> Float[Tensor, "k d_model"]:
    """An orthonormal basis of the span of `vectors`; dependent or zero vectors are refused."""
    matrix = vectors.double()
    if not torch.isfinite(matrix).all() or torch.linalg.matrix_rank(matrix) < len(matrix):
        raise BadInput(
            f"{len(vectors)} vectors do not span {len(vectors)} dimensions: "
            "one is zero, not finite or repeats another"
        )
    return torch.linalg.qr(matrix.T).Q.T.to(torch.float32).contiguous()


def biorthogonal(
    read: Float[Tensor, "read d_model"], write: Float[Tensor, "k d_model"]
) -> Float[Tensor, "k d_model"]:
    """Rows of the same span as `read` with read @ write.T = identity, as an oblique `Ablate` needs them.

    BadInput where a combination of the read rows is orthogonal to all write rows: it measures nothing.
    """
    _check_readable(read, write)
    by_read, by_write = read.double(), write.double()
    return torch.linalg.solve(by_read @ by_write.T, by_read).to(torch.float32)


def _check_readable(read: Float[Tensor, "read d_model"], write: Float[Tensor, "k d_model"]) -> None:
    """BadInput unless `read` has a finite row for every write row and measures each of them."""
    if read.shape != write.shape or not torch.isfinite(read).all():
        raise BadInput(
            f"read rows of shape {list(read.shape)} for write rows of shape {list(write.shape)}: "
            "one finite read row per write row is needed"
        )
    units = torch.nn.functional.normalize(read.double(), dim=-1)
    if torch.linalg.svdvals(units @ write.double().T).min() < MIN_COSINE:
        raise BadInput(
            "a read row is orthogonal to its write row (read @ write.T is singular): it measures nothing of "
            f"what is to be taken away; a cosine of {MIN_COSINE:g} or more is needed"
        )


def _is_identity(
    read: Float[Tensor, "read d_model"], write: Float[Tensor, "k d_model"], *, atol: float
) -> bool:
    """Whether read @ write.T is the identity up to rounding."""
    product = einsum(read.double(), write.double(), "i d_model, j d_model -> i j")
    return torch.allclose(product, torch.eye(len(write)).to(product), atol=atol)

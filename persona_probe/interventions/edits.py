"""Interventions as values: what is done to the residual stream. `applied` is the only code that touches a model."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from einops import einsum
from jaxtyping import Float, Int
from torch import Tensor, nn

from persona_probe.base.errors import BadInput
from persona_probe.models.editable import Editable, editable
from persona_probe.storage.tensor_files import sha256_tensors
from persona_probe.streams.positions import Positions


@runtime_checkable
class Intervention(Protocol):
    """What `applied` can do to a stream: a pure edit at some hook points, from token `skip_first` of a sequence on."""

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


@dataclass(frozen=True, eq=False)
class Steer:
    """Adds `coefficient` times `vector` at one hook point: 1.0 adds the direction as it stands, -1.0 takes it away."""

    vector: Float[Tensor, " d_model"]
    hook_point: str
    coefficient: float
    skip_first: int = 0

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
        return resid + (self.coefficient * self.vector).to(resid)

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
    """Projects the span of `basis` (orthonormal rows) out of the stream: x - B'B(x - mean). There is no strength.

    `means` has one row per hook point; None ablates toward zero. Applied to block outputs only ("residual only"), what
    later blocks write along the basis survives until their own output; give every writer's hook point to forbid that.
    Source: Arditi et al. 2024 (2406.11717), Soligo et al. 2025 (2506.11618).
    """

    basis: Float[Tensor, "k d_model"]
    hook_points: tuple[str, ...]
    means: Float[Tensor, "hook d_model"] | None = None
    skip_first: int = 0

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
        basis = self.basis.to(resid.device, torch.float32)
        stream = resid.float()
        centred = (
            stream
            if self.means is None
            else stream - self.means[self.hook_points.index(hook_point)].to(stream)
        )
        inside = einsum(centred, basis, "batch pos d_model, k d_model -> batch pos k")
        return (stream - einsum(inside, basis, "batch pos k, k d_model -> batch pos d_model")).to(resid.dtype)

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
    """Takes away what exceeds `ceiling` along a unit vector: x - max(0, x.u - ceiling) u. Source: Lu et al. 2026 (2601.10387)."""

    unit: Float[Tensor, " d_model"]
    hook_points: tuple[str, ...]
    ceiling: float
    skip_first: int = 0

    @property
    def width(self) -> int:
        """The d_model it was made for."""
        return self.unit.shape[-1]

    def edit(
        self, resid: Float[Tensor, "batch pos d_model"], *, hook_point: str
    ) -> Float[Tensor, "batch pos d_model"]:
        """The stream with its projection on the unit vector at most `ceiling`."""
        unit = self.unit.to(resid.device, torch.float32)
        stream = resid.float()
        excess = (einsum(stream, unit, "batch pos d_model, d_model -> batch pos") - self.ceiling).clamp(min=0)
        return (stream - excess[..., None] * unit).to(resid.dtype)

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
            f"{len(vectors)} vectors do not span {len(vectors)} dimensions: one is zero, not finite or repeats another"
        )
    return torch.linalg.qr(matrix.T).Q.T.to(torch.float32).contiguous()


@contextmanager
def applied(
    model: Editable | nn.Module,
    interventions: Sequence[Intervention],
    *,
    rows: Sequence[Sequence[Intervention]] | None = None,
    parts: Sequence[Sequence[Intervention]] | None = None,
) -> Iterator[None]:
    """Edit every forward pass of a model inside the block; the model is itself again afterwards, also after an error.

    `model`: one of a pair (its twin, its bridge and the user's own model behind it are edited), a TransformerBridge, a
    HookedTransformer or a Hugging Face model.

    `rows` gives row i of every batch its own further interventions, so that one batch can carry several arms; `parts` gives
    them to equal parts of every batch, in order. The empty sequence is the baseline on the same code path. An unknown hook
    point, a vector of another width, or a hook that never fired is an error.
    """
    model = editable(model)
    plan = _plan(model, interventions, rows, parts)
    fired: Counter[str] = Counter()
    with ExitStack() as stack:
        clock = Positions()
        for root in model.roots():
            handle = root.register_forward_pre_hook(clock.read, with_kwargs=True)
            stack.callback(handle.remove)
        for hook_point, jobs in plan.items():
            editor = _editor(
                hook_point,
                jobs,
                clock,
                fired,
                n_rows=None if rows is None else len(rows),
                n_parts=len(parts or ()) or 1,
            )
            for target in model.targets(hook_point):
                stack.callback(target.register_forward_hook(editor).remove)
        yield
    silent = [hook_point for hook_point in plan if not fired[hook_point]]
    if silent:
        raise BadInput(f"the hook at {silent[0]} never fired in {model.name}: no forward pass reached it")


@dataclass(frozen=True, eq=False)
class _Job:
    """One intervention and the rows it is for: all, the listed ones, or one of equal parts of the batch."""

    intervention: Intervention
    rows: tuple[int, ...] | None = None
    part: int | None = None


def _plan(
    model: Editable,
    interventions: Sequence[Intervention],
    rows: Sequence[Sequence[Intervention]] | None,
    parts: Sequence[Sequence[Intervention]] | None,
) -> dict[str, list[_Job]]:
    jobs = [_Job(intervention) for intervention in interventions]
    by_arm: dict[int, tuple[Sequence[Intervention], list[int]]] = {}
    for i, own in enumerate(rows or ()):
        by_arm.setdefault(id(own), (own, []))[1].append(i)
    jobs += [
        _Job(intervention, rows=tuple(indices)) for own, indices in by_arm.values() for intervention in own
    ]
    jobs += [_Job(intervention, part=i) for i, own in enumerate(parts or ()) for intervention in own]
    plan: dict[str, list[_Job]] = {}
    for job in jobs:
        if job.intervention.width != model.d_model:
            raise BadInput(
                f"a direction of width {job.intervention.width} does not fit {model.name}, whose d_model is {model.d_model}"
            )
        for hook_point in job.intervention.hook_points:
            model.targets(hook_point)
            plan.setdefault(hook_point, []).append(job)
    return plan


def _editor(
    hook_point: str,
    jobs: list[_Job],
    clock: Positions,
    fired: Counter[str],
    *,
    n_rows: int | None,
    n_parts: int,
) -> Callable[..., Any]:
    def hook(module: nn.Module, args: Any, output: Any) -> Any:
        resid = output[0] if isinstance(output, tuple) else output
        fired[hook_point] += 1
        if n_rows is not None and len(resid) != n_rows:
            raise BadInput(f"interventions for {n_rows} rows, but the batch has {len(resid)}")
        if len(resid) % n_parts:
            raise BadInput(
                f"{n_parts} arms in one batch, but {hook_point} sees {len(resid)} rows: score these arms one by one"
            )
        position = clock.of(resid)
        for job in jobs:
            if job.part is None:
                resid = _edit_rows(resid, job, position, hook_point)
        size = len(resid) // n_parts
        pieces, places = list(resid.split(size)), position.split(size)
        for job in jobs:
            if job.part is not None:
                pieces[job.part] = _edited(pieces[job.part], job.intervention, places[job.part], hook_point)
        resid = pieces[0] if n_parts == 1 else torch.cat(pieces)
        return (resid, *output[1:]) if isinstance(output, tuple) else resid

    return hook


def _edit_rows(
    resid: Float[Tensor, "batch pos d_model"], job: _Job, position: Int[Tensor, "batch pos"], hook_point: str
) -> Float[Tensor, "batch pos d_model"]:
    if job.rows is None:
        return _edited(resid, job.intervention, position, hook_point)
    own = list(job.rows)
    whole = resid.clone()
    whole[own] = _edited(resid[own], job.intervention, position[own], hook_point)
    return whole


def _edited(
    resid: Float[Tensor, "batch pos d_model"],
    intervention: Intervention,
    position: Int[Tensor, "batch pos"],
    hook_point: str,
) -> Float[Tensor, "batch pos d_model"]:
    edited = intervention.edit(resid, hook_point=hook_point)
    if not intervention.skip_first:
        return edited
    return torch.where((position >= intervention.skip_first)[..., None], edited, resid)

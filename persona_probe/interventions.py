"""Interventions as values: what is done to the residual stream. `applied` is the only code that touches a model."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from einops import einsum
from jaxtyping import Float, Int
from torch import Tensor, nn

from persona_probe.errors import BadInput
from persona_probe.files import sha256_tensors
from persona_probe.models import Model


@dataclass(frozen=True, eq=False)
class Steer:
    """Adds `coefficient` times `vector` at one hook point: 1.0 adds one mean difference as it stands, -1.0 takes it away."""

    vector: Float[Tensor, " d_model"]
    hook_point: str
    coefficient: float
    skip_first: int = 0

    @property
    def hook_points(self) -> tuple[str, ...]:
        """Where it acts."""
        return (self.hook_point,)

    def edit(self, resid: Float[Tensor, "batch pos d_model"], *, hook_point: str) -> Float[Tensor, "batch pos d_model"]:
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
        if not torch.allclose(gram, torch.eye(len(self.basis), dtype=torch.float64, device=gram.device), atol=1e-4):
            raise BadInput("the rows of an ablation basis must be orthonormal: use orthonormal(vectors)")
        if self.means is not None and len(self.means) != len(self.hook_points):
            raise BadInput(f"{len(self.means)} means for {len(self.hook_points)} hook points: one each is needed")

    def edit(self, resid: Float[Tensor, "batch pos d_model"], *, hook_point: str) -> Float[Tensor, "batch pos d_model"]:
        """The stream without its component in the span, computed in float32."""
        basis = self.basis.to(resid.device, torch.float32)
        stream = resid.float()
        centred = stream if self.means is None else stream - self.means[self.hook_points.index(hook_point)].to(stream)
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

    def edit(self, resid: Float[Tensor, "batch pos d_model"], *, hook_point: str) -> Float[Tensor, "batch pos d_model"]:
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


Intervention = Steer | Ablate | Cap


def orthonormal(vectors: Float[Tensor, "k d_model"]) -> Float[Tensor, "k d_model"]:
    """An orthonormal basis of the span of `vectors`; dependent or zero vectors are refused."""
    matrix = vectors.double()
    if not torch.isfinite(matrix).all() or torch.linalg.matrix_rank(matrix) < len(matrix):
        raise BadInput(f"{len(vectors)} vectors do not span {len(vectors)} dimensions: one is zero, not finite or repeats another")
    return torch.linalg.qr(matrix.T).Q.T.to(torch.float32).contiguous()


@contextmanager
def applied(model: Model, interventions: Sequence[Intervention], *, rows: Sequence[Sequence[Intervention]] | None = None) -> Iterator[None]:
    """Edit every forward pass of `model.twin` and `model.bridge` inside the block; the model is itself again afterwards.

    `rows` gives row i of every batch its own further interventions, so that one batch can carry several arms. The empty
    sequence is the baseline on the same code path. An unknown hook point, a vector of another width, or a hook that
    never fired is an error.
    """
    plan = _plan(model, interventions, rows)
    fired: Counter[str] = Counter()
    with ExitStack() as stack:
        clock = _Positions()
        for root in {id(module): module for module in (model.twin.base_model, _base_of_bridge(model))}.values():
            handle = root.register_forward_pre_hook(clock.read, with_kwargs=True)
            stack.callback(handle.remove)
        for hook_point, jobs in plan.items():
            hook, module = model.site(hook_point)
            editor = _editor(hook_point, jobs, clock, fired, n_rows=None if rows is None else len(rows))
            for target in (hook, module):
                stack.callback(target.register_forward_hook(editor).remove)
        yield
    silent = [hook_point for hook_point in plan if not fired[hook_point]]
    if silent:
        raise BadInput(f"the hook at {silent[0]} never fired in {model.name}: no forward pass reached it")


Job = tuple[Intervention, tuple[int, ...] | None]


def _plan(model: Model, interventions: Sequence[Intervention], rows: Sequence[Sequence[Intervention]] | None) -> dict[str, list[Job]]:
    jobs: list[Job] = [(intervention, None) for intervention in interventions]
    by_arm: dict[int, tuple[Sequence[Intervention], list[int]]] = {}
    for i, own in enumerate(rows or ()):
        by_arm.setdefault(id(own), (own, []))[1].append(i)
    for own, indices in by_arm.values():
        jobs += [(intervention, tuple(indices)) for intervention in own]
    plan: dict[str, list[Job]] = {}
    for intervention, indices in jobs:
        width = {"Steer": "vector", "Ablate": "basis", "Cap": "unit"}[type(intervention).__name__]
        found = getattr(intervention, width).shape[-1]
        if found != model.d_model:
            raise BadInput(f"a direction of width {found} does not fit {model.name}, whose d_model is {model.d_model}")
        for hook_point in intervention.hook_points:
            model.site(hook_point)
            plan.setdefault(hook_point, []).append((intervention, indices))
    return plan


def _editor(hook_point: str, jobs: list[Job], clock: "_Positions", fired: Counter[str], *, n_rows: int | None) -> Callable[..., Any]:
    def hook(module: nn.Module, args: Any, output: Any) -> Any:
        resid = output[0] if isinstance(output, tuple) else output
        fired[hook_point] += 1
        if n_rows is not None and len(resid) != n_rows:
            raise BadInput(f"interventions for {n_rows} rows, but the batch has {len(resid)}")
        for intervention, indices in jobs:
            resid = _edit_rows(resid, intervention, indices, clock.of(resid), hook_point)
        return (resid, *output[1:]) if isinstance(output, tuple) else resid

    return hook


def _edit_rows(
    resid: Float[Tensor, "batch pos d_model"],
    intervention: Intervention,
    indices: tuple[int, ...] | None,
    position: Int[Tensor, "batch pos"],
    hook_point: str,
) -> Float[Tensor, "batch pos d_model"]:
    edited = intervention.edit(resid, hook_point=hook_point)
    if intervention.skip_first:
        edited = torch.where((position >= intervention.skip_first)[..., None], edited, resid)
    if indices is None:
        return edited
    chosen = torch.zeros(len(resid), dtype=torch.bool, device=resid.device)
    chosen[list(indices)] = True
    return torch.where(chosen[:, None, None], edited, resid)


class _Positions:
    """Absolute position of every token of the forward pass that is running, read off the arguments of the model's body."""

    def __init__(self) -> None:
        self._position: Tensor | None = None

    def read(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        tokens = args[0] if args else kwargs.get("input_ids", kwargs.get("inputs_embeds"))
        cache, mask, position = kwargs.get("past_key_values"), kwargs.get("attention_mask"), kwargs.get("position_ids")
        seen = cache.get_seq_length() if cache is not None else 0
        if position is None and isinstance(mask, Tensor) and mask.ndim == 2:
            position = (mask.long().cumsum(-1) - 1).clamp(min=0)[:, seen:]
        if position is None and tokens is not None:
            position = torch.arange(seen, seen + tokens.shape[1], device=tokens.device)[None]
        self._position = position

    def of(self, resid: Tensor) -> Tensor:
        assert self._position is not None, "a hook fired outside the model's own forward pass"
        # GPT-2 looks its position embeddings up once for the whole batch: that one row counts columns.
        position = self._position.amax(0, keepdim=True) if len(resid) == 1 else self._position
        return position.to(resid.device).expand(len(resid), -1)


def _base_of_bridge(model: Model) -> nn.Module:
    return model.bridge.original_model.base_model

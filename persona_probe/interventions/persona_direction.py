"""A persona direction ready to be used on other prompts: its vectors at every layer, forms, safe strengths and scale, in one small file."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from persona_probe.base.errors import BadInput
from persona_probe.directions.estimators import SIGN, SPACE, Direction, DirectionSet
from persona_probe.interventions.edits import Intervention, applied
from persona_probe.interventions.forms import Form
from persona_probe.models.editable import Editable
from persona_probe.storage.tensor_files import read_tensors, sha256_tensors, write_tensors

KIND, FORMAT_VERSION = "persona_direction", 1
TENSORS = ("direction", "control", "base_mean")


@dataclass(frozen=True, eq=False)
class Gauge:
    """How far a stream lies along a direction, in lengths of the direction: 0 is midway between aligned and misaligned replies."""

    direction: Direction
    zero: float

    def read(self, resid: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch"]:
        """Signed reading, + towards misaligned; computed in float32."""
        along = resid.float() @ self.direction.unit.to(resid.device, torch.float32)
        return (along - self.zero) / float(self.direction.vector.norm())


@dataclass(frozen=True, eq=False)
class PersonaDirection:
    """What a run selected, with what a reader needs to use it elsewhere. Vectors have one row per hook point.

    `control`: a covariance-matched random direction of the same length at every hook point. `group_means`: mean projection of
    aligned and misaligned find replies of the tuned model, in stream units. `damage`: measured (side, coefficient, ΔNLL) of
    steering at `hook_point`. `identity`: hashes of the models and questions it comes from.
    """

    method: str
    hook_points: tuple[str, ...]
    hook_point: str
    vectors: Float[Tensor, "hook d_model"]
    control: Float[Tensor, "hook d_model"]
    base_mean: Float[Tensor, "hook d_model"]
    median_norm: tuple[float, ...]
    group_means: Mapping[str, tuple[float, ...]]
    ablation: Form
    steering: Form
    budget: float
    damage: tuple[tuple[str, float, float], ...]
    identity: Mapping[str, Any]

    @property
    def d_model(self) -> int:
        """The width it was made for."""
        return self.vectors.shape[-1]

    @property
    def sha256(self) -> str:
        """Hash of everything that decides what an arm does with it."""
        return sha256_tensors([self.vectors, self.control, self.base_mean])

    def at(self, hook_point: str) -> Direction:
        """The direction of one hook point."""
        return DirectionSet(self.method, self.hook_points, self.vectors).at(hook_point)

    def as_control(self) -> "PersonaDirection":
        """The same forms and strengths along a random direction that carries as much energy as the stream; its scale is kept."""
        return replace(self, method="random-covariance", vectors=self.control, control=self.vectors)

    def gauge(self, hook_point: str | None = None) -> Gauge:
        """The scale of one hook point, by default the selected one."""
        hook_point = hook_point or self.hook_point
        index = self._index(hook_point)
        return Gauge(
            self.at(hook_point),
            sum(self.group_means[label][index] for label in ("aligned", "misaligned")) / 2,
        )

    def relative(self, coefficient: float, hook_point: str | None = None) -> float:
        """The length of a steering edit in units of the median residual norm there, by default at the selected hook point."""
        index = self._index(hook_point or self.hook_point)
        return abs(coefficient) * float(self.vectors[index].norm()) / self.median_norm[index]

    def steer(self, coefficient: float, hook_point: str | None = None) -> tuple[Intervention, ...]:
        """Steering in the selected form by a coefficient, by default at the selected hook point."""
        return replace(self.steering, coefficient=coefficient).interventions(
            self.at(hook_point or self.hook_point), hook_points=self.hook_points, means=self.base_mean
        )

    def ablate(self, hook_point: str | None = None) -> tuple[Intervention, ...]:
        """Ablation in the selected form, by default at the selected hook point."""
        return self.ablation.interventions(
            self.at(hook_point or self.hook_point), hook_points=self.hook_points, means=self.base_mean
        )

    def ablated(
        self, model: Editable | nn.Module, hook_point: str | None = None
    ) -> AbstractContextManager[None]:
        """A block in which every forward pass of `model` has the direction ablated: `with direction.ablated(model): ...`.

        `model`: one of a pair, a TransformerBridge, a HookedTransformer or a Hugging Face model, as loaded.
        """
        return applied(model, self.ablate(hook_point))

    def steered(
        self, model: Editable | nn.Module, coefficient: float, hook_point: str | None = None
    ) -> AbstractContextManager[None]:
        """A block in which `coefficient` times the direction is added in every forward pass of `model`."""
        return applied(model, self.steer(coefficient, hook_point))

    def coherent(self, side: str) -> tuple[float, float]:
        """The coefficients up to which every measured dose at the selected hook point stayed within the budget; (0, 0) when none did."""
        low = high = 0.0
        for sign in (-1, 1):
            for coefficient, cost in sorted(
                ((c, cost) for own, c, cost in self.damage if own == side and c * sign > 0),
                key=lambda item: abs(item[0]),
            ):
                if cost > self.budget:
                    break
                low, high = min(low, coefficient), max(high, coefficient)
        return low, high

    def _index(self, hook_point: str) -> int:
        if hook_point not in self.hook_points:
            raise BadInput(
                f"no direction at {hook_point!r}: there is one at {self.hook_points[0]} to {self.hook_points[-1]}"
            )
        return self.hook_points.index(hook_point)


def save_persona_direction(path: Path, found: PersonaDirection) -> None:
    """Write it as safetensors; every fact a reader must check is in the metadata."""
    tensors: dict[str, Tensor] = {
        "direction": found.vectors,
        "control": found.control,
        "base_mean": found.base_mean,
    }
    facts = {
        "kind": KIND,
        "format_version": FORMAT_VERSION,
        "sign": SIGN,
        "space": SPACE,
        "method": found.method,
        "hook_points": list(found.hook_points),
        "hook_point": found.hook_point,
        "d_model": found.d_model,
        "median_norm": list(found.median_norm),
        "group_means": {label: list(values) for label, values in found.group_means.items()},
        "ablation": asdict(found.ablation),
        "steering": asdict(found.steering),
        "budget": found.budget,
        "damage": [list(item) for item in found.damage],
        "identity": dict(found.identity),
        "tensor_sha256": sha256_tensors([tensors[name] for name in TENSORS]),
    }
    write_tensors(path, tensors, facts)


def load_persona_direction(
    path: Path, *, hook_points: Sequence[str] | None = None, d_model: int | None = None
) -> PersonaDirection:
    """Read such a file; refuses another kind, format, hash, width or depth. Both model facts may be left out to look at a file alone."""
    tensors, facts = read_tensors(path)
    if facts.get("kind") != KIND or facts.get("format_version") != FORMAT_VERSION:
        hint = (
            "; directions.safetensors holds every method, persona_direction.safetensors of the same run the selected one"
            if facts.get("kind") == "persona_directions"
            else ""
        )
        raise BadInput(
            f"{path}: kind {facts.get('kind')!r}, format {facts.get('format_version')!r}; expected {KIND}, format {FORMAT_VERSION}{hint}"
        )
    if sorted(tensors) != sorted(TENSORS) or facts.get("tensor_sha256") != sha256_tensors(
        [tensors[name] for name in TENSORS]
    ):
        raise BadInput(
            f"{path}: the vectors do not match the hash in the file: it was changed after it was written"
        )
    if facts.get("space") != SPACE or facts.get("sign") != SIGN:
        raise BadInput(
            f"{path}: space {facts.get('space')!r} and sign {facts.get('sign')!r}, expected {SPACE!r} and {SIGN!r}"
        )
    try:
        found = PersonaDirection(
            method=facts["method"],
            hook_points=tuple(facts["hook_points"]),
            hook_point=facts["hook_point"],
            vectors=tensors["direction"],
            control=tensors["control"],
            base_mean=tensors["base_mean"],
            median_norm=tuple(facts["median_norm"]),
            group_means={label: tuple(facts["group_means"][label]) for label in ("aligned", "misaligned")},
            ablation=Form(**facts["ablation"]),
            steering=Form(**facts["steering"]),
            budget=facts["budget"],
            damage=tuple(
                (str(side), float(coefficient), float(cost)) for side, coefficient, cost in facts["damage"]
            ),
            identity=facts["identity"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BadInput(
            f"{path}: its metadata do not describe a persona direction ({type(error).__name__}: {error})"
        ) from error
    n = len(found.hook_points)
    lengths = {
        len(found.median_norm),
        *(len(values) for values in found.group_means.values()),
        *(len(tensor) for tensor in tensors.values()),
    }
    if lengths != {n} or found.hook_point not in found.hook_points:
        raise BadInput(
            f"{path}: {n} hook points, but tensors and scales of lengths {sorted(lengths)}, selected {found.hook_point!r}"
        )
    if d_model is not None and found.d_model != d_model:
        raise BadInput(
            f"{path}: directions of width {found.d_model} do not fit a model with d_model {d_model}"
        )
    if hook_points is not None and found.hook_points != tuple(hook_points):
        raise BadInput(
            f"{path}: directions at {found.hook_points[0]} to {found.hook_points[-1]}, but the model has {hook_points[0]} to {hook_points[-1]}"
        )
    return found

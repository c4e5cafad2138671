"""A persona direction ready to be used on other prompts: vectors, forms, measured doses, scale, file."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor, nn

from persona_probe.base.errors import BadInput
from persona_probe.base.hook_points import HookPoint
from persona_probe.directions.direction import Direction, DirectionSet
from persona_probe.directions.direction_file import SIGN, SPACE
from persona_probe.directions.fitting import Fitted
from persona_probe.interventions.applied import applied
from persona_probe.interventions.edits import Ablate, Intervention, Steer
from persona_probe.interventions.forms import Form
from persona_probe.interventions.projection import Projection, midpoints
from persona_probe.models.editable import Editable
from persona_probe.prompts.contrast import question_hash
from persona_probe.records.direction_files import PersonaDirectionFile
from persona_probe.records.files import checked
from persona_probe.storage.tensor_files import read_tensors, sha256_tensors, write_tensors

KIND, FORMAT_VERSION = "persona_direction", 1
TENSORS = ("direction", "control", "base_mean")
READS = ("direction_read", "control_read")  # only in files of an oblique ablation


@dataclass(frozen=True, eq=False)
class PersonaDirection:
    """What a run selected, with all that is needed to use it elsewhere. Vectors have one row per hook point.

    `control`: a covariance-matched random direction of the same length at every hook point. `reads` and
    `control_reads`: rows that their oblique ablation measures along, None where the ablation is not oblique.
    `group_means`: mean projections of the tuned model's aligned and misaligned find replies, in units of the
    stream.
    `damage`: (side, coefficient, ΔNLL) of every dose that was measured at `hook_point`.
    `identity`: hashes of the models and questions that it was made with.
    """

    method: str
    hook_points: tuple[HookPoint, ...]
    hook_point: HookPoint
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
    reads: Float[Tensor, "hook d_model"] | None = None
    control_reads: Float[Tensor, "hook d_model"] | None = None

    @property
    def d_model(self) -> int:
        """The width it was made for."""
        return self.vectors.shape[-1]

    @property
    def sha256(self) -> str:
        """Hash of everything that decides what an arm does with it."""
        return sha256_tensors(list(self.tensors.values()))

    @property
    def tensors(self) -> dict[str, Tensor]:
        """Everything that has a row per hook point, by the name in its file."""
        tensors = {"direction": self.vectors, "control": self.control, "base_mean": self.base_mean}
        if self.reads is not None and self.control_reads is not None:
            tensors |= {"direction_read": self.reads, "control_read": self.control_reads}
        return tensors

    @property
    def directions(self) -> DirectionSet:
        """The directions of all hook points."""
        return DirectionSet(
            method=self.method, hook_points=self.hook_points, vectors=self.vectors, reads=self.reads
        )

    @property
    def seen(self) -> frozenset[str]:
        """Hashes of the questions that it was found or selected on (`prompts.contrast.question_hash`)."""
        return frozenset(
            hashed
            for name in ("find_questions", "select_questions")
            for hashed in self.identity.get(name, ())
        )

    def use_of(self, question: str) -> Literal["found", "selected"] | None:
        """What a question was used for when the direction was made; None for one that it has not seen."""
        hashed = question_hash(question)
        if hashed in self.identity.get("find_questions", ()):
            return "found"
        return "selected" if hashed in self.identity.get("select_questions", ()) else None

    def at(self, hook_point: str) -> Direction:
        """The direction of one hook point."""
        return self.directions.at(hook_point)

    def as_control(self) -> "PersonaDirection":
        """The same forms, strengths and scale along the covariance-matched random direction."""
        return replace(
            self,
            method="random-covariance",
            vectors=self.control,
            control=self.vectors,
            reads=self.control_reads,
            control_reads=self.reads,
        )

    def projection(self, hook_point: str | None = None) -> Projection:
        """The scale of one hook point, by default the selected one."""
        hook_point = hook_point or self.hook_point
        zero = midpoints(self.group_means)[self._index(hook_point)]
        return Projection(direction=self.at(hook_point), zero=zero)

    def relative(self, coefficient: float, hook_point: str | None = None) -> float:
        """The length of a steering edit there, in units of the stream's median length."""
        index = self._index(hook_point or self.hook_point)
        return abs(coefficient) * float(self.vectors[index].norm()) / self.median_norm[index]

    def steer(self, coefficient: float, hook_point: str | None = None) -> tuple[Intervention, ...]:
        """Steering in the selected form by a coefficient, by default at the selected hook point."""
        return self._used(replace(self.steering, coefficient=coefficient), hook_point)

    def ablate(self, hook_point: str | None = None) -> tuple[Intervention, ...]:
        """Ablation in the selected form, by default at the selected hook point."""
        return self._used(self.ablation, hook_point)

    def ablated(
        self, model: Editable | nn.Module, hook_point: str | None = None
    ) -> AbstractContextManager[None]:
        """`with direction.ablated(model): ...`: in every forward pass inside, the direction is ablated.

        `model` is one of a pair, a TransformerBridge, a HookedTransformer or a Hugging Face model, as loaded.
        """
        return applied(model, self.ablate(hook_point))

    def steered(
        self, model: Editable | nn.Module, coefficient: float, hook_point: str | None = None
    ) -> AbstractContextManager[None]:
        """A block in which every forward pass of `model` has `coefficient` times the direction added."""
        return applied(model, self.steer(coefficient, hook_point))

    def coherent(self, side: str) -> tuple[float, float]:
        """The ends up to which every measured dose stayed within the budget; (0, 0) if none did."""
        ends = []
        for sign in (-1, 1):
            end = 0.0
            doses = [(c, cost) for dosed, c, cost in self.damage if dosed == side and c * sign > 0]
            for coefficient, cost in sorted(doses, key=lambda dose: abs(dose[0])):
                if abs(cost) > self.budget:
                    break
                end = coefficient
            ends.append(end)
        return ends[0], ends[1]

    def _used(self, form: Form, hook_point: str | None) -> tuple[Intervention, ...]:
        at = self.hook_points[self._index(hook_point or self.hook_point)]
        edits = form.edits(self.directions, at, hook_points=self.hook_points, means=self.base_mean)
        return tuple(
            replace(edit, seen=self.seen) if isinstance(edit, Steer | Ablate) else edit for edit in edits
        )

    def _index(self, hook_point: str) -> int:
        if hook_point not in self.hook_points:
            first, last = self.hook_points[0], self.hook_points[-1]
            raise BadInput(f"no direction at {hook_point!r}: there is one at {first} to {last}")
        return self.hook_points.index(HookPoint.parse(hook_point))


def from_fitted(
    fitted: Fitted,
    method: str,
    hook_point: HookPoint,
    *,
    control: DirectionSet,
    reads: Float[Tensor, "hook d_model"] | None = None,
    ablation: Form,
    steering: Form,
    budget: float,
) -> PersonaDirection:
    """The direction of one method with its scale, before any dose of it was measured.

    `control` and `reads` as in `PersonaDirection`; `budget` in nats per token.
    """
    directions = fitted.of(method)
    return PersonaDirection(
        method=method,
        hook_points=directions.hook_points,
        hook_point=hook_point,
        vectors=directions.vectors,
        control=control.vectors,
        base_mean=fitted.base_mean,
        median_norm=tuple(fitted.median_norm.tolist()),
        group_means=fitted.group_means(method),
        ablation=ablation,
        steering=steering,
        budget=budget,
        damage=(),
        identity={},
        reads=reads,
        control_reads=control.reads,
    )


def save_persona_direction(path: Path, direction: PersonaDirection) -> None:
    """Write it as safetensors; every fact a reader must check is in the metadata."""
    tensors = direction.tensors
    facts = {
        "kind": KIND,
        "format_version": FORMAT_VERSION,
        "sign": SIGN,
        "space": SPACE,
        "method": direction.method,
        "hook_points": list(direction.hook_points),
        "hook_point": direction.hook_point,
        "d_model": direction.d_model,
        "median_norm": list(direction.median_norm),
        "group_means": {label: list(values) for label, values in direction.group_means.items()},
        "ablation": direction.ablation.describe(),
        "steering": direction.steering.describe(),
        "budget": direction.budget,
        "damage": [list(item) for item in direction.damage],
        "identity": dict(direction.identity),
        "tensor_sha256": direction.sha256,
    }
    checked(PersonaDirectionFile, facts, at=f"{path}: these facts do not describe a persona direction")
    write_tensors(path, tensors, facts)


def load_persona_direction(path: Path) -> PersonaDirection:
    """Read such a file; BadInput for another kind, format or hash."""
    tensors, facts = read_tensors(path)
    _check_format(path, tensors, facts)
    return _parsed(path, tensors, facts)


def _check_format(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """BadInput unless kind, format and hash are those that `save_persona_direction` writes."""
    if facts.get("kind") != KIND or facts.get("format_version") != FORMAT_VERSION:
        hint = "; directions.safetensors holds every method, persona_direction.safetensors the selected one"
        other = facts.get("kind") == "persona_directions"
        raise BadInput(
            f"{path}: kind {facts.get('kind')!r:.40}, format {facts.get('format_version')!r:.40}; "
            f"expected {KIND}, format {FORMAT_VERSION}{hint if other else ''}"
        )
    names = (*TENSORS, *READS) if READS[0] in tensors else TENSORS
    if sorted(tensors) != sorted(names) or facts.get("tensor_sha256") != sha256_tensors(
        [tensors[name] for name in names]
    ):
        raise BadInput(
            f"{path}: the vectors do not match the hash in the file: it was changed after it was written"
        )


def _parsed(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> PersonaDirection:
    """The value that tensors and facts describe; BadInput where something is missing or of another length."""
    said = checked(
        PersonaDirectionFile, facts, at=f"{path}: its metadata do not describe a persona direction"
    )
    shapes = {name: list(tensor.shape) for name, tensor in tensors.items()}
    if any(shape != [len(said.hook_points), said.d_model] for shape in shapes.values()):
        raise BadInput(
            f"{path}: {len(said.hook_points)} hook points of width {said.d_model}, but tensors of {shapes}"
        )
    return PersonaDirection(
        method=said.method,
        hook_points=said.hook_points,
        hook_point=said.hook_point,
        vectors=tensors["direction"],
        control=tensors["control"],
        base_mean=tensors["base_mean"],
        median_norm=said.median_norm,
        group_means=dict(said.group_means),
        ablation=Form(**dict(said.ablation)),
        steering=Form(**dict(said.steering)),
        budget=said.budget,
        damage=said.damage,
        identity=facts["identity"],
        reads=tensors.get("direction_read"),
        control_reads=tensors.get("control_read"),
    )

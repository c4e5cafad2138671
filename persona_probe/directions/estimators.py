"""Estimators of the persona direction at every layer, and the file they are kept in."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor

from persona_probe.base.errors import BadInput
from persona_probe.base.hook_points import HookPoint
from persona_probe.records.direction_files import DirectionsFile
from persona_probe.records.files import checked
from persona_probe.storage.tensor_files import read_tensors, sha256_tensors, write_tensors
from persona_probe.streams.activations import Activations

METHODS = ("mean_diff", "shift", "prompt", "lda", "probe")
PROBE_C = 0.003  # inverse regularisation of the logistic probe on z-scored row means
FORMAT_VERSION, SPACE, SIGN = 1, "hf_raw", "+ = misaligned"
MIN_RELATIVE_NORM = 1e-4  # directions shorter than this share of the stream's norm are rounding, not signal


@dataclass(frozen=True, eq=False, kw_only=True)
class Direction:
    """One vector at one hook point. It keeps its length: coefficient 1.0 adds it as it is. + is towards misaligned."""

    hook_point: HookPoint
    vector: Float[Tensor, " d_model"]
    method: str

    def __post_init__(self) -> None:
        if not torch.isfinite(self.vector).all() or not self.vector.any():
            raise BadInput(
                f"the {self.method} direction at {self.hook_point} is zero or not finite: the two groups give the same activations"
            )

    @property
    def unit(self) -> Float[Tensor, " d_model"]:
        """The vector scaled to length 1."""
        return self.vector / self.vector.norm()


@dataclass(frozen=True, eq=False, kw_only=True)
class DirectionSet:
    """One method's directions at all hook points, with what a user must know to trust or refuse them."""

    method: str
    hook_points: tuple[HookPoint, ...]
    vectors: Float[Tensor, "hook d_model"]
    stability: Float[Tensor, " hook"] | None = None
    auroc: Float[Tensor, " hook"] | None = None

    def at(self, hook_point: str) -> Direction:
        """The direction of one hook point."""
        if hook_point not in self.hook_points:
            raise BadInput(
                f"no {self.method} direction at {hook_point!r}: there is one at {self.hook_points[0]} to {self.hook_points[-1]}"
            )
        index = self.hook_points.index(HookPoint.parse(hook_point))
        return Direction(hook_point=self.hook_points[index], vector=self.vectors[index], method=self.method)


def mean_diff(
    misaligned: Float[Tensor, "row_a hook d_model"], aligned: Float[Tensor, "row_b hook d_model"]
) -> Float[Tensor, "hook d_model"]:
    """Mean over misaligned replies minus mean over aligned ones; every reply counts once. Soligo et al. 2025 (2506.11618)."""
    return (_mean(misaligned) - _mean(aligned)).float()


def lda(
    misaligned: Float[Tensor, "row_a hook d_model"], aligned: Float[Tensor, "row_b hook d_model"]
) -> Float[Tensor, "hook d_model"]:
    """Linear discriminant: Ledoit-Wolf within-class covariance, inverted, times the mean difference; at the mean difference's length along it."""
    from sklearn.covariance import ledoit_wolf

    def fit(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        means = np.stack([x[y == label].mean(0) for label in (0, 1)])
        covariance, _ = ledoit_wolf(x - means[y], assume_centered=True)
        return np.linalg.solve(covariance, means[1] - means[0])

    return _per_hook(misaligned, aligned, fit)


def probe(
    misaligned: Float[Tensor, "row_a hook d_model"], aligned: Float[Tensor, "row_b hook d_model"]
) -> Float[Tensor, "hook d_model"]:
    """Weights of a logistic regression on z-scored activations, back in the stream's units, at the mean difference's length along them."""
    from sklearn.linear_model import LogisticRegression

    def fit(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        scale = x.std(0) + 1e-6 * x.std()
        return LogisticRegression(C=PROBE_C, max_iter=300).fit((x - x.mean(0)) / scale, y).coef_[0] / scale

    return _per_hook(misaligned, aligned, fit)


FITS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"mean_diff": mean_diff, "lda": lda, "probe": probe}


def fit_contrast(
    find: Activations, method: str, *, select: Activations | None = None, seed: int = 0
) -> DirectionSet:
    """A direction between the labels of `find`, with split-half stability over questions and AUROC on `select`."""

    def fitted(part: Activations) -> Tensor:
        return FITS[method](part.labelled("misaligned"), part.labelled("aligned"))

    vectors = fitted(find)
    masks = _halves(find, seed)
    labels = [{row.label for row, chosen in zip(find.rows, mask, strict=True) if chosen} for mask in masks]
    stability = None
    if all(found == {"aligned", "misaligned"} for found in labels):
        first, second = (fitted(find.without_tokens().where(mask)) for mask in masks)  # one copy at a time
        stability = torch.nn.functional.cosine_similarity(first, second, dim=-1)
    found = DirectionSet(method=method, hook_points=find.hook_points, vectors=vectors, stability=stability)
    return found if select is None else replace(found, auroc=auroc(found, select))


def from_difference(
    method: str,
    after: Float[Tensor, "row hook d_model"],
    before: Float[Tensor, "row hook d_model"],
    find: Activations,
    *,
    select: Activations | None = None,
    seed: int = 0,
) -> DirectionSet:
    """A direction between two readings of the same rows (base to tuned, or two system prompts), row by row."""

    def shift(chosen: Tensor) -> Tensor:
        return _mean(after[chosen]) - _mean(before[chosen])

    halves = [shift(torch.tensor(list(mask), dtype=torch.bool)) for mask in _halves(find, seed)]
    stability = torch.nn.functional.cosine_similarity(*halves, dim=-1).float()
    vectors = shift(torch.ones(len(after), dtype=torch.bool)).float()
    found = DirectionSet(method=method, hook_points=find.hook_points, vectors=vectors, stability=stability)
    return found if select is None else replace(found, auroc=auroc(found, select))


def auroc(directions: DirectionSet, acts: Activations) -> Float[Tensor, " hook"]:
    """Probability that a misaligned reply projects higher than an aligned one, per hook point. 0.5 is chance."""
    from sklearn.metrics import roc_auc_score

    labels = np.array([row.label == "misaligned" for row in acts.rows])
    scores = project(directions, acts)
    return torch.tensor([float(roc_auc_score(labels, scores[:, hook])) for hook in range(scores.shape[1])])


def project(directions: DirectionSet, acts: Activations) -> Float[Tensor, "row hook"]:
    """Length of every row mean along the unit direction of its hook point."""
    units = torch.nn.functional.normalize(directions.vectors, dim=-1)
    return einsum(acts.means, units, "row hook d_model, hook d_model -> row hook")


def cosines(sets: Sequence[DirectionSet], hook: int) -> list[list[float]]:
    """Cosine of every method's direction with every other's at one hook point."""
    units = torch.stack([torch.nn.functional.normalize(found.vectors[hook], dim=-1) for found in sets])
    return einsum(units, units, "i d_model, j d_model -> i j").tolist()


def isotropic(direction: Direction, generator: torch.Generator) -> Direction:
    """A uniformly random direction of the same length."""
    return _of_length(direction, torch.randn(len(direction.vector), generator=generator), "random-isotropic")


def covariance_matched(
    direction: Direction, tokens: Float[Tensor, "token d_model"], generator: torch.Generator
) -> Direction:
    """A random direction that carries as much energy as the stream itself: normal with the covariance of `tokens`, same length.

    Drawn as a random combination of centred tokens, which has exactly their covariance and needs no d_model x d_model matrix.
    """
    weights = torch.randn(len(tokens), generator=generator)
    return _of_length(direction, weights @ (tokens - tokens.mean(0)), "random-covariance")


def orthogonal(
    direction: Direction,
    tokens: Float[Tensor, "token d_model"],
    generator: torch.Generator,
    *,
    n_components: int = 20,
) -> Direction:
    """A random direction within the top principal components of `tokens`, orthogonal to `direction`, of the same length."""
    centred = tokens - tokens.mean(0)
    components = torch.linalg.svd(centred, full_matrices=False).Vh[:n_components]
    weights = torch.randn(len(components), generator=generator)
    # Made orthogonal among the components: subtracting the direction itself would lead out of their span.
    inside = torch.nn.functional.normalize(components @ direction.unit, dim=0)
    return _of_length(direction, (weights - (weights @ inside) * inside) @ components, "orthogonal")


def shuffled(
    find: Activations, method: str, hook_point: HookPoint, generator: torch.Generator, *, length: float
) -> Direction:
    """The same estimator on labels permuted within every question, at the length of the true direction."""
    hook = find.hook_points.index(hook_point)
    groups: dict[str, list[int]] = {}
    for i, row in enumerate(find.rows):
        groups.setdefault(row.question_id, []).append(i)
    labels = [row.label for row in find.rows]
    mixed = list(labels)
    for members in groups.values():
        order = torch.randperm(len(members), generator=generator).tolist()
        for target, source in zip(members, order, strict=True):
            mixed[target] = labels[members[source]]
    is_bad = torch.tensor([label == "misaligned" for label in mixed])
    values = find.means[:, hook : hook + 1]
    vector = FITS.get(method, mean_diff)(values[is_bad], values[~is_bad])[0]
    return Direction(hook_point=hook_point, vector=vector * (length / vector.norm()), method="shuffled")


def save_directions(path: Path, sets: Sequence[DirectionSet], *, metadata: dict[str, Any]) -> None:
    """Write all methods' vectors with the facts that a reader must check before using them."""
    tensors = {found.method: found.vectors for found in sets}
    facts = {
        "format_version": FORMAT_VERSION,
        "kind": "persona_directions",
        "sign": SIGN,
        "space": SPACE,
        "methods": [found.method for found in sets],
        "hook_points": list(sets[0].hook_points),
        "d_model": int(sets[0].vectors.shape[-1]),
        "tensor_sha256": sha256_tensors(list(tensors.values())),
        **metadata,
    }
    checked(DirectionsFile, facts, at=f"{path}: these facts do not describe directions")
    write_tensors(path, tensors, facts)


def load_directions(
    path: Path, *, d_model: int, evaluated_on: Sequence[str] = ()
) -> tuple[list[DirectionSet], dict[str, Any]]:
    """Read a direction file; refuses another format, width or hash, and questions that the directions were fitted or selected on.

    `evaluated_on`: hashes of the questions about to be scored (`contrast.question_hash`).
    """
    tensors, facts = read_tensors(path)
    if facts.get("kind") != "persona_directions" or facts.get("format_version") != FORMAT_VERSION:
        raise BadInput(
            f"{path}: kind {facts.get('kind')!r:.40}, format {facts.get('format_version')!r:.40}; expected persona_directions, format {FORMAT_VERSION}"
        )
    for name, expected, meaning in (
        ("space", SPACE, "unprocessed residual stream"),
        ("sign", SIGN, "which way is which"),
    ):
        if facts.get(name) != expected:
            raise BadInput(
                f"{path}: directions of {name} {facts.get(name)!r:.40}, expected {expected!r} ({meaning})"
            )
    said = checked(DirectionsFile, facts, at=f"{path}: its metadata do not describe directions")
    hook_points, methods = said.hook_points, said.methods
    if sorted(tensors) != sorted(methods):
        raise BadInput(
            f"{path}: methods {', '.join(methods):.60} do not describe its tensors {sorted(tensors)}"
        )
    if said.d_model != d_model or any(
        tensor.shape != (len(hook_points), d_model) for tensor in tensors.values()
    ):
        raise BadInput(
            f"{path}: directions of width {said.d_model} do not fit a model with d_model {d_model}"
        )
    if said.tensor_sha256 != sha256_tensors([tensors[name] for name in methods]):
        raise BadInput(
            f"{path}: the vectors do not match the hash in the file: it was changed after it was written"
        )
    seen = {*said.find_questions, *said.select_questions}
    overlap = seen & set(evaluated_on)
    if overlap:
        raise BadInput(
            f"{path}: {len(overlap)} of {len(evaluated_on)} questions were used to find or select these directions: evaluate on others"
        )
    return [
        DirectionSet(method=name, hook_points=hook_points, vectors=tensors[name]) for name in methods
    ], facts


def _mean(values: Float[Tensor, "row hook d_model"]) -> Float[Tensor, "hook d_model"]:
    """The mean over rows in float64, one hook point at a time, because the whole in float64 would be twice the activations."""
    return torch.stack([values[:, hook].mean(0, dtype=torch.float64) for hook in range(values.shape[1])])


def _per_hook(
    misaligned: Tensor, aligned: Tensor, fit: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> Tensor:
    delta = mean_diff(misaligned, aligned)
    labels = np.array([1] * len(misaligned) + [0] * len(aligned))
    vectors = []
    for hook in range(delta.shape[0]):
        x = torch.cat([misaligned[:, hook], aligned[:, hook]]).double().numpy()
        unit = torch.nn.functional.normalize(torch.tensor(fit(x, labels), dtype=torch.float32), dim=-1)
        vectors.append(unit * (unit @ delta[hook]))
    return torch.stack(vectors)


def _halves(acts: Activations, seed: int) -> tuple[list[bool], list[bool]]:
    """Two halves of the questions, never of the replies of one question."""
    prompts = sorted({row.question_id for row in acts.rows})
    order = torch.randperm(len(prompts), generator=torch.Generator().manual_seed(seed)).tolist()
    first = {prompts[i] for i in order[: len(prompts) // 2]}
    mask = [row.question_id in first for row in acts.rows]
    return mask, [not chosen for chosen in mask]


def _of_length(direction: Direction, vector: Tensor, method: str) -> Direction:
    scaled = vector * (direction.vector.norm() / vector.norm())
    return Direction(hook_point=direction.hook_point, vector=scaled, method=method)

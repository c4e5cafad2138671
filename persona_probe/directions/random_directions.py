"""Random directions to compare a direction with: of its length and at its hook point, each drawn as its name
says."""

import torch
from jaxtyping import Float
from torch import Tensor

from persona_probe.base.hook_points import HookPoint
from persona_probe.directions.direction import Direction
from persona_probe.directions.estimators import FITS, mean_diff
from persona_probe.streams.activations import Activations


def isotropic(direction: Direction, generator: torch.Generator) -> Direction:
    """A uniformly random direction of the same length."""
    return _of_length(direction, torch.randn(len(direction.vector), generator=generator), "random-isotropic")


def covariance_matched(
    direction: Direction, tokens: Float[Tensor, "token d_model"], generator: torch.Generator
) -> Direction:
    """A random direction, normal with the covariance of `tokens`, of the same length.

    Drawn as a random sum of centred tokens: that has exactly their covariance and needs no d_model x d_model
    matrix.
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
    """A random direction within the top principal components of `tokens`, orthogonal to `direction`, of the
    same length."""
    centred = tokens - tokens.mean(0)
    components = torch.linalg.svd(centred, full_matrices=False).Vh[:n_components]
    weights = torch.randn(len(components), generator=generator)
    # Made orthogonal among the components: subtracting the direction itself would lead out of their span.
    inside = torch.nn.functional.normalize(components @ direction.unit, dim=0)
    return _of_length(direction, (weights - (weights @ inside) * inside) @ components, "orthogonal")


def shuffled_labels(
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


def _of_length(direction: Direction, vector: Tensor, method: str) -> Direction:
    scaled = vector * (direction.vector.norm() / vector.norm())
    return Direction(hook_point=direction.hook_point, vector=scaled, method=method)

"""Directions to compare a direction with: of its length, at its hook point, drawn as their name says."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from persona_probe.base.hook_points import HookPoint
from persona_probe.directions.direction import Direction
from persona_probe.directions.estimators import FITS, mean_diff
from persona_probe.streams.activations import Activations


def isotropic(direction: Direction, generator: torch.Generator) -> Direction:
    """A uniformly random direction of the same length."""
    return of_length(direction, torch.randn(len(direction.vector), generator=generator), "random-isotropic")


def covariance_matched(
    direction: Direction, tokens: Float[Tensor, "token d_model"], generator: torch.Generator
) -> Direction:
    """A random direction, normal with the covariance of `tokens`, of the same length.

    Drawn as a random sum of centred tokens: that has exactly their covariance and needs no d_model x d_model
    matrix.
    """
    return of_length(direction, _random_sum(tokens, generator), "random-covariance")


def orthogonal(
    direction: Direction, tokens: Float[Tensor, "token d_model"], generator: torch.Generator
) -> Direction:
    """A random direction with the covariance of `tokens`, then made orthogonal to `direction`, of the same
    length."""
    drawn = _random_sum(tokens, generator)
    return of_length(direction, drawn - (drawn @ direction.unit) * direction.unit, "orthogonal")


def shuffled_labels(
    find: Activations, method: str, hook_point: HookPoint, generator: torch.Generator, *, length: float
) -> Direction:
    """An estimator between labels, on labels permuted within every question, at the length of the true
    direction."""
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


def shuffled_signs(
    direction: Direction,
    after: Float[Tensor, "row d_model"],
    before: Float[Tensor, "row d_model"],
    questions: Sequence[str],
    generator: torch.Generator,
) -> Direction:
    """The mean change from `before` to `after` of the same rows, with both swapped for a random half of the
    questions: what a difference of pairs gives where the pairs say nothing. Of the length of `direction`."""
    names = sorted(set(questions))
    order = torch.randperm(len(names), generator=generator).tolist()
    swapped = {names[i] for i in order[: len(names) // 2]}
    signs = torch.tensor([-1.0 if question in swapped else 1.0 for question in questions])
    return of_length(direction, signs @ (after - before).float(), "shuffled")


def of_length(direction: Direction, vector: Float[Tensor, " d_model"], method: str) -> Direction:
    """`vector` at the hook point and the length of `direction`."""
    scaled = vector * (direction.vector.norm() / vector.norm())
    return Direction(hook_point=direction.hook_point, vector=scaled, method=method)


def _random_sum(
    tokens: Float[Tensor, "token d_model"], generator: torch.Generator
) -> Float[Tensor, " d_model"]:
    weights = torch.randn(len(tokens), generator=generator)
    return weights @ (tokens - tokens.mean(0))

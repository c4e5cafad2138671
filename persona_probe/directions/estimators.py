"""Estimators of the persona direction at every layer."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from persona_probe.directions.direction import DirectionSet, project
from persona_probe.streams.activations import Activations

PROBE_C = 0.003  # inverse regularisation of the logistic probe on z-scored row means
MIN_RELATIVE_NORM = 1e-4  # directions shorter than this share of the stream's norm are rounding, not signal


def mean_diff(
    misaligned: Float[Tensor, "row_a hook d_model"], aligned: Float[Tensor, "row_b hook d_model"]
) -> Float[Tensor, "hook d_model"]:
    """Mean over misaligned replies minus mean over aligned ones; every reply counts once.

    Source: Soligo et al. 2025 (2506.11618).
    """
    return (_mean(misaligned) - _mean(aligned)).float()


def lda(
    misaligned: Float[Tensor, "row_a hook d_model"], aligned: Float[Tensor, "row_b hook d_model"]
) -> Float[Tensor, "hook d_model"]:
    """Linear discriminant: the inverse of the within-class covariance (Ledoit-Wolf) times the mean
    difference.

    Its length is the mean difference's projection on it.
    """
    from sklearn.covariance import ledoit_wolf

    def fit(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        means = np.stack([x[y == label].mean(0) for label in (0, 1)])
        covariance, _ = ledoit_wolf(x - means[y], assume_centered=True)
        return np.linalg.solve(covariance, means[1] - means[0])

    return _per_hook(misaligned, aligned, fit)


def probe(
    misaligned: Float[Tensor, "row_a hook d_model"], aligned: Float[Tensor, "row_b hook d_model"]
) -> Float[Tensor, "hook d_model"]:
    """Weights of a logistic regression on z-scored activations, in the units of the stream.

    Its length is the mean difference's projection on it.
    """
    from sklearn.linear_model import LogisticRegression

    def fit(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        scale = x.std(0) + 1e-6 * x.std()
        return LogisticRegression(C=PROBE_C, max_iter=300).fit((x - x.mean(0)) / scale, y).coef_[0] / scale

    return _per_hook(misaligned, aligned, fit)


FITS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"mean_diff": mean_diff, "lda": lda, "probe": probe}


def fit_contrast(
    find: Activations, method: str, *, select: Activations | None = None, seed: int = 0
) -> DirectionSet:
    """A direction between the labels of `find`, with split-half stability over questions and AUROC on
    `select`."""

    def fitted(part: Activations) -> Tensor:
        return FITS[method](part.labelled("misaligned"), part.labelled("aligned"))

    vectors = fitted(find)
    masks = _halves(find, seed)
    labels = [{row.label for row, chosen in zip(find.rows, mask, strict=True) if chosen} for mask in masks]
    stability = None
    if all(both == {"aligned", "misaligned"} for both in labels):
        first, second = (fitted(find.without_tokens().where(mask)) for mask in masks)  # one copy at a time
        stability = torch.nn.functional.cosine_similarity(first, second, dim=-1)
    directions = DirectionSet(
        method=method, hook_points=find.hook_points, vectors=vectors, stability=stability
    )
    return directions if select is None else replace(directions, auroc=auroc(directions, select))


def from_difference(
    method: str,
    after: Float[Tensor, "row hook d_model"],
    before: Float[Tensor, "row hook d_model"],
    find: Activations,
    *,
    select: Activations | None = None,
    seed: int = 0,
) -> DirectionSet:
    """The mean change from `before` to `after` of the same rows: base to tuned, or one system prompt to
    another."""

    def shift(chosen: Tensor) -> Tensor:
        return _mean(after[chosen]) - _mean(before[chosen])

    halves = [shift(torch.tensor(list(mask), dtype=torch.bool)) for mask in _halves(find, seed)]
    stability = torch.nn.functional.cosine_similarity(*halves, dim=-1).float()
    vectors = shift(torch.ones(len(after), dtype=torch.bool)).float()
    directions = DirectionSet(
        method=method, hook_points=find.hook_points, vectors=vectors, stability=stability
    )
    return directions if select is None else replace(directions, auroc=auroc(directions, select))


def auroc(directions: DirectionSet, acts: Activations) -> Float[Tensor, " hook"]:
    """Probability that a misaligned reply projects higher than an aligned one, per hook point. 0.5 is
    chance."""
    from sklearn.metrics import roc_auc_score

    labels = np.array([row.label == "misaligned" for row in acts.rows])
    scores = project(directions, acts)
    return torch.tensor([float(roc_auc_score(labels, scores[:, hook])) for hook in range(scores.shape[1])])


def _mean(values: Float[Tensor, "row hook d_model"]) -> Float[Tensor, "hook d_model"]:
    """The mean over rows in float64, one hook point at a time, because the whole in float64 would be twice
    the activations."""
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

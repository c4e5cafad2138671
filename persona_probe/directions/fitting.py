"""The readings that directions are fitted on: both models on the same replies, and the base under persona prompts."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from persona_probe.base.errors import BadInput
from persona_probe.base.hook_points import HookPoint
from persona_probe.directions.direction import DirectionSet, cosines, project
from persona_probe.directions.estimators import FITS, MIN_RELATIVE_NORM, fit_contrast, from_difference
from persona_probe.models.memory import trim
from persona_probe.models.pairs import Pair, Side
from persona_probe.prompts.chat import Row, Tokenizer, rows_key
from persona_probe.prompts.contrast import LABELS, Contrast, shipped
from persona_probe.storage.files import read_jsonl, sha256_json
from persona_probe.streams.activations import Activations, Scope, collect
from persona_probe.streams.runs import Run

AUROC_REPLIES = 4  # replies of each label per select question that separation is read from


@dataclass(frozen=True, eq=False)
class Fitted:
    """What directions are used with once they are fitted: some numbers per hook point, where the readings held every row.

    `find` and `select`: by method, then label, the projections of the tuned model's replies in stream units; their mean over
    the find replies, and every select reply.
    """

    hook_points: tuple[HookPoint, ...]
    median_norm: Float[Tensor, " hook"]
    base_mean: Float[Tensor, "hook d_model"]
    sets: tuple[DirectionSet, ...]
    find: Mapping[str, Mapping[str, Float[Tensor, " hook"]]]
    select: Mapping[str, Mapping[str, Float[Tensor, "reply hook"]]]

    def of(self, method: str) -> DirectionSet:
        """The directions of one method."""
        return next(found for found in self.sets if found.method == method)

    def zero_at(self, method: str) -> list[str]:
        """The hook points at which a method's direction is zero, or no longer than rounding: no form of it can be tried there."""
        norms = self.of(method).vectors.norm(dim=-1)
        return [
            point
            for point, norm, usual in zip(self.hook_points, norms, self.median_norm, strict=True)
            if norm <= MIN_RELATIVE_NORM * usual
        ]

    def notes(self) -> list[str]:
        """One sentence for every method whose direction is zero everywhere."""
        zero = [
            found.method for found in self.sets if len(self.zero_at(found.method)) == len(self.hook_points)
        ]
        return [
            f"the {method} direction is zero at every hook point: the texts that it compares give the same activations"
            for method in zero
        ]

    def group_means(self, method: str) -> dict[str, tuple[float, ...]]:
        """Mean projection of the tuned model's find replies of each label, per hook point, in stream units."""
        return {label: tuple(values.tolist()) for label, values in self.find[method].items()}

    def json(self, *, shown: str, hook_point: HookPoint) -> dict[str, Any]:
        """The `directions` part of a record: every method's quality, cosines at one hook point, select replies along method `shown`."""
        hook = self.hook_points.index(hook_point)
        usable = [found for found in self.sets if found.vectors[hook].any()]
        along = {
            label: [[round(value, 4) for value in values] for values in own.T.tolist()]
            for label, own in self.select[shown].items()
        }
        return {
            "hook_points": list(self.hook_points),
            "median_norm": self.median_norm.tolist(),
            "methods": {
                found.method: {
                    "norm": found.vectors.norm(dim=-1).tolist(),
                    "stability": _finite(found.stability),
                    "auroc": _finite(found.auroc),
                    "zero_at": self.zero_at(found.method),
                }
                for found in self.sets
            },
            "cosines": {
                "hook_point": hook_point,
                "methods": [found.method for found in usable],
                "matrix": cosines(usable, hook),
            },
            "projections": {"method": shown, **along},
        }


@dataclass(frozen=True, eq=False)
class Readings:
    """Activations of the find questions (their mean in the base model) and of the select questions, and the fitted directions."""

    tuned: Activations
    base_mean: Float[Tensor, "hook d_model"]
    select: Activations
    sets: tuple[DirectionSet, ...]

    def fitted(self) -> Fitted:
        """The same without the activations."""
        find = {
            found.method: {
                label: values.mean(0)
                for label, values in _by_label(project(found, self.tuned), self.tuned.rows).items()
            }
            for found in self.sets
        }
        select = {
            found.method: _by_label(project(found, self.select), self.select.rows) for found in self.sets
        }
        return Fitted(self.tuned.hook_points, self.tuned.median_norm, self.base_mean, self.sets, find, select)


def _by_label(
    values: Float[Tensor, "row hook"], rows: Sequence[Row]
) -> dict[str, Float[Tensor, "reply hook"]]:
    return {
        label: values[torch.tensor([row.label == label for row in rows], dtype=torch.bool)]
        for label in LABELS
    }


def _finite(values: Float[Tensor, " hook"] | None) -> list[float | None] | None:
    return None if values is None else [value if math.isfinite(value) else None for value in values.tolist()]


def split_rows(contrast: Contrast, tokenizer: Tokenizer) -> dict[str, tuple[Row, ...]]:
    """All replies of each split as token rows."""
    return {
        name: tuple(row for question in contrast.split(name) for row in question.rows(tokenizer))
        for name in ("find", "select", "test")
    }


def prompted_rows(
    contrast: Contrast, tokenizer: Tokenizer, *, kind: str, replies: int = 1
) -> tuple[Row, ...]:
    """The find questions under persona system prompts ("misaligned") or their opposites ("aligned"), with the same replies.

    Prompts rotate over the questions, so that the difference is not of one wording. Chen et al. 2025 (2507.21509).
    """
    prompts = [value for _, value in read_jsonl(shipped("persona_prompts.jsonl"))]
    rows = []
    for i, question in enumerate(contrast.split("find")):
        own = question.rows(tokenizer, system=prompts[i % len(prompts)][kind])
        for label in ("aligned", "misaligned"):
            rows += [row for row in own if row.label == label][:replies]
    return tuple(rows)


def read(
    pair: Pair, run: Run, side: Side, rows: tuple[Row, ...], *, scope: Scope, max_tokens: int
) -> Activations:
    """Activations at every layer, kept in the run's folder."""
    key = sha256_json(["activations", pair.key(side), rows_key(rows), scope, str(pair.dtype)])

    def make() -> Activations:
        model = pair.get(side)
        found = collect(model, rows, hook_points=model.resids(), scope=scope, max_tokens=max_tokens)
        trim()
        return found

    return run.activations(key, rows, make)


def fit_all(
    contrast: Contrast,
    rows: dict[str, tuple[Row, ...]],
    pair: Pair,
    run: Run,
    *,
    methods: Sequence[str],
    scope: Scope,
    max_tokens: int,
    seed: int,
) -> Readings:
    """Read the base first, then the tuned model (which stays in memory for what follows), and fit every method at every layer."""
    options = {"scope": scope, "max_tokens": max_tokens}
    base = read(pair, run, "base", rows["find"], **options).without_tokens()
    prompted = {}
    if "prompt" in methods:
        prompted = {
            kind: read(
                pair, run, "base", prompted_rows(contrast, pair.tokenizer, kind=kind), **options
            ).without_tokens()
            for kind in ("misaligned", "aligned")
        }
    tuned = read(pair, run, "tuned", rows["find"], **options)
    some = tuple(row for row in rows["select"] if row.reply_index < AUROC_REPLIES)
    select = read(pair, run, "tuned", some, **options).without_tokens()
    check_different(base, tuned)
    found: dict[str, DirectionSet] = {}
    if "shift" in methods:
        found["shift"] = from_difference("shift", tuned.means, base.means, tuned, select=select, seed=seed)
    if "prompt" in methods:
        villain, assistant = prompted["misaligned"], prompted["aligned"]
        found["prompt"] = from_difference(
            "prompt", villain.means, assistant.means, assistant, select=select, seed=seed
        )
        del villain, assistant
    base_mean = base.means.mean(0)
    # What is not needed any more goes before the fits that copy what is left.
    prompted.clear()
    del base
    trim()
    for method in methods:
        if method not in found:
            assert method in FITS, f"no estimator {method}"
            found[method] = fit_contrast(tuned, method, select=select, seed=seed)
    return Readings(tuned, base_mean, select, tuple(found[method] for method in methods))


def check_different(base: Activations, tuned: Activations) -> None:
    """Refuse a pair whose residual streams are equal everywhere."""
    if (base.means == tuned.means).all():
        raise BadInput(
            "base and tuned give identical activations on every reply: is the adapter merged, are the paths right?"
        )

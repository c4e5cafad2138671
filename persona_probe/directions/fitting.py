"""What directions are fitted on: activations of both models on the same replies, and of the base under
persona prompts."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from persona_probe.base.choices import Outliers
from persona_probe.base.errors import BadInput
from persona_probe.base.hook_points import HookPoint
from persona_probe.directions.direction import DirectionSet, cosines, project
from persona_probe.directions.estimators import FITS, MIN_RELATIVE_NORM, fit_contrast, from_difference
from persona_probe.models.memory import trim
from persona_probe.models.pairs import Pair, Side
from persona_probe.prompts.contrast import LABELS, SPLITS, Contrast, shipped
from persona_probe.prompts.rows import Label, Row, Split, rows_key
from persona_probe.prompts.tokenizers import Tokenizer
from persona_probe.storage.files import read_jsonl, sha256_json
from persona_probe.storage.runs import Run
from persona_probe.streams.activations import Activations, ReadOptions, collect
from persona_probe.streams.kept import kept_activations
from persona_probe.streams.outliers import outlier_note

AUROC_REPLIES = 4  # replies of each label per select question on which separation is measured


@dataclass(frozen=True, eq=False, kw_only=True)
class Fitted:
    """Directions and what they are used with, without the activations of single rows.

    `find` and `select`: by method, then label, projections of the tuned model's replies in units of the
    stream: the mean over the find replies, and every select reply. `outliers` and `dropped` are as in
    `Readings`.
    """

    hook_points: tuple[HookPoint, ...]
    median_norm: Float[Tensor, " hook"]
    base_mean: Float[Tensor, "hook d_model"]
    sets: tuple[DirectionSet, ...]
    find: Mapping[str, Mapping[str, Float[Tensor, " hook"]]]
    select: Mapping[str, Mapping[str, Float[Tensor, "reply hook"]]]
    outliers: Outliers = "drop"
    dropped: Mapping[Side, tuple[float, ...]] | None = None

    def of(self, method: str) -> DirectionSet:
        """The directions of one method."""
        return next(directions for directions in self.sets if directions.method == method)

    def zero_at(self, method: str) -> list[str]:
        """The hook points at which a method's direction is zero, up to rounding: it cannot be used there."""
        norms = self.of(method).vectors.norm(dim=-1)
        return [
            point
            for point, norm, usual in zip(self.hook_points, norms, self.median_norm, strict=True)
            if norm <= MIN_RELATIVE_NORM * usual
        ]

    def notes(self) -> list[str]:
        """One sentence for every method whose direction is zero everywhere, and one about many outliers."""
        zero = [
            f"the {directions.method} direction is zero at every hook point: "
            "the texts that it compares give the same activations"
            for directions in self.sets
            if len(self.zero_at(directions.method)) == len(self.hook_points)
        ]
        return zero + outlier_note(self.hook_points, self.dropped)

    def group_means(self, method: str) -> dict[str, tuple[float, ...]]:
        """Mean projection of the tuned model's find replies of each label, per hook point."""
        return {label: tuple(values.tolist()) for label, values in self.find[method].items()}

    def json(self, *, shown: str, hook_point: HookPoint) -> dict[str, Any]:
        """The `directions` part of a record: quality of every method, cosines at one hook point, replies
        along `shown`."""
        hook = self.hook_points.index(hook_point)
        usable = [directions for directions in self.sets if directions.vectors[hook].any()]
        along = {
            label: [[round(value, 4) for value in values] for values in projections.T.tolist()]
            for label, projections in self.select[shown].items()
        }
        return {
            "hook_points": list(self.hook_points),
            "median_norm": self.median_norm.tolist(),
            "dropped": self.dropped and {side: list(shares) for side, shares in self.dropped.items()},
            "methods": {
                directions.method: {
                    "norm": directions.vectors.norm(dim=-1).tolist(),
                    "stability": _finite(directions.stability),
                    "auroc": _finite(directions.auroc),
                    "zero_at": self.zero_at(directions.method),
                }
                for directions in self.sets
            },
            "cosines": {
                "hook_point": hook_point,
                "methods": [directions.method for directions in usable],
                "matrix": cosines(usable, hook),
            },
            "projections": {"method": shown, **along},
        }


@dataclass(frozen=True, eq=False, kw_only=True)
class Readings:
    """The fitted directions with the activations they come from.

    `tuned` and `select` are the tuned model's on the find and select questions; `base_mean` is the base
    model's mean on the find questions. `outliers` says whether outlier tokens were left out of the means,
    `dropped` which share of the find tokens that was, by model and hook point; None where it is not known.
    """

    tuned: Activations
    base_mean: Float[Tensor, "hook d_model"]
    select: Activations
    sets: tuple[DirectionSet, ...]
    outliers: Outliers = "drop"
    dropped: Mapping[Side, tuple[float, ...]] | None = None

    def fitted(self) -> Fitted:
        """The same without the activations."""
        find = {one.method: _by_label(project(one, self.tuned), self.tuned.rows) for one in self.sets}
        select = {one.method: _by_label(project(one, self.select), self.select.rows) for one in self.sets}
        return Fitted(
            hook_points=self.tuned.hook_points,
            median_norm=self.tuned.median_norm,
            base_mean=self.base_mean,
            sets=self.sets,
            find={
                method: {label: values.mean(0) for label, values in labels.items()}
                for method, labels in find.items()
            },
            select=select,
            outliers=self.outliers,
            dropped=self.dropped,
        )


def _by_label(
    values: Float[Tensor, "row hook"], rows: Sequence[Row]
) -> dict[str, Float[Tensor, "reply hook"]]:
    return {
        label: values[torch.tensor([row.label == label for row in rows], dtype=torch.bool)]
        for label in LABELS
    }


def _finite(values: Float[Tensor, " hook"] | None) -> list[float | None] | None:
    return None if values is None else [value if math.isfinite(value) else None for value in values.tolist()]


def split_rows(contrast: Contrast, tokenizer: Tokenizer) -> dict[Split, tuple[Row, ...]]:
    """All replies of each split as token rows."""
    return {
        name: tuple(row for question in contrast.split(name) for row in question.rows(tokenizer))
        for name in SPLITS
    }


def prompted_rows(contrast: Contrast, tokenizer: Tokenizer, *, kind: Label) -> tuple[Row, ...]:
    """The find questions under system prompts that ask for a misaligned persona, or an aligned one; replies
    are the same.

    Prompts rotate over the questions, so that the difference is not of one wording. Chen et al. 2025
    (2507.21509).
    """
    prompts = [value for _, value in read_jsonl(shipped("persona_prompts.jsonl"))]
    rows = []
    for i, question in enumerate(contrast.split("find")):
        prompted = question.rows(tokenizer, system=prompts[i % len(prompts)][kind])
        rows += [row for row in prompted if row.reply_index == 0]
    return tuple(rows)


def read(pair: Pair, run: Run, side: Side, rows: tuple[Row, ...], options: ReadOptions) -> Activations:
    """Activations at every layer, kept in the run's folder."""
    key = sha256_json(["activations", pair.key(side), rows_key(rows), options.tokens, str(pair.dtype)])

    def make() -> Activations:
        model = pair.get(side)
        acts = collect(
            model,
            rows,
            hook_points=model.resids(),
            scope=options.scope,
            max_tokens=options.max_tokens,
            outliers=options.outliers,
        )
        trim()
        return acts

    return kept_activations(run, key, rows, make)


def fit_all(
    contrast: Contrast,
    rows: Mapping[Split, tuple[Row, ...]],
    pair: Pair,
    run: Run,
    *,
    methods: Sequence[str],
    options: ReadOptions,
    seed: int,
) -> Readings:
    """Fit every method at every layer. The base is read first, then the tuned model, which stays in
    memory."""
    base = read(pair, run, "base", rows["find"], options).without_tokens()
    prompted = {
        kind: (
            read(
                pair, run, "base", prompted_rows(contrast, pair.tokenizer, kind=kind), options
            ).without_tokens()
        )
        for kind in LABELS[::-1]
        if "prompt" in methods
    }
    tuned = read(pair, run, "tuned", rows["find"], options)
    some = tuple(row for row in rows["select"] if row.reply_index < AUROC_REPLIES)
    select = read(pair, run, "tuned", some, options).without_tokens()
    check_different(base, tuned)
    fitted: dict[str, DirectionSet] = {}
    if "shift" in methods:
        fitted["shift"] = from_difference("shift", tuned.means, base.means, tuned, select=select, seed=seed)
    if "prompt" in methods:
        villain, assistant = prompted["misaligned"], prompted["aligned"]
        fitted["prompt"] = from_difference(
            "prompt", villain.means, assistant.means, assistant, select=select, seed=seed
        )
        del villain, assistant
    base_mean = base.means.mean(0)
    dropped = _dropped({"base": base, "tuned": tuned})
    # What is not needed any more goes before the fits that copy what is left.
    prompted.clear()
    del base
    trim()
    for method in methods:
        if method not in fitted:
            assert method in FITS, f"no estimator {method}"
            fitted[method] = fit_contrast(tuned, method, select=select, seed=seed)
    sets = tuple(fitted[method] for method in methods)
    return Readings(
        tuned=tuned, base_mean=base_mean, select=select, sets=sets, outliers=options.outliers, dropped=dropped
    )


def _dropped(read: Mapping[Side, Activations]) -> dict[Side, tuple[float, ...]] | None:
    """The share of outlier tokens left out, of the models where it is known; None where it is of neither."""
    shares: dict[Side, tuple[float, ...]] = {}
    for side, acts in read.items():
        if acts.dropped is not None:
            shares[side] = tuple(acts.dropped.tolist())
    return shares or None


def check_different(base: Activations, tuned: Activations) -> None:
    """Refuse a pair whose residual streams are equal everywhere."""
    if (base.means == tuned.means).all():
        raise BadInput(
            "base and tuned give identical activations on every reply: is the adapter merged, are the paths"
            " right?"
        )

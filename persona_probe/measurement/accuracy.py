"""Accuracy by log-probability on multiple-choice items: a share with its interval, and what an arm changes.

An item's score per option is the log-probability of the option's text divided by its number of characters:
`acc_norm` of lm-evaluation-harness. The plain sum favours short options. A mean per token depends on how a
tokenizer cuts words, and favours rare words that it cuts into many easy pieces.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from persona_probe.base.errors import BadInput, NotFinite
from persona_probe.measurement.statistics import mean, paired_difference, wilson
from persona_probe.prompts.four_options import OptionItem
from persona_probe.records.parts import Estimate


@dataclass(frozen=True)
class ItemScore:
    """One item as one arm scores it.

    `margin`: score of the right option minus that of the best wrong one, in nats per character.
    """

    id: str
    margin: float

    @property
    def correct(self) -> bool:
        """Whether the right option scores above every other; a tie is wrong."""
        return self.margin > 0


@dataclass(frozen=True)
class Accuracy:
    """What one arm knows. `share` of items that are correct, with the Wilson interval; `margin` is the mean
    over items in nats per character, which moves before any answer flips."""

    n: int
    n_correct: int
    share: Estimate
    margin: Estimate


@dataclass(frozen=True)
class AccuracyChange:
    """An arm minus the same model untouched, item by item.

    `share` and `margin` are mean paired differences with bootstrap intervals over items. `n_lost` items were
    correct and are wrong now, `n_gained` the other way round. Where no item changes, the interval of `share`
    is 0 to 0; `margin` still tells how much the arm moves.
    """

    share: Estimate
    margin: Estimate
    n_lost: int
    n_gained: int


def share(hits: int, n: int) -> Estimate:
    """A share with its 95% Wilson interval; 0 with 0 to 1 where nothing was counted."""
    low, high = wilson(hits, n)
    value = hits / n if n else 0.0
    return Estimate(estimate=value, ci95=(min(low, value), max(high, value)))  # rounding at 0 and at 1


def item_scores(items: Sequence[OptionItem], logprobs: Mapping[str, float]) -> tuple[ItemScore, ...]:
    """The score of every item, in the order of `items`.

    logprobs: summed log-probability of each option's text in nats, by row id (`OptionItem.row_ids`). BadInput
    for a row that is missing, NotFinite for one that is not a number.
    """
    scores = []
    for item in items:
        missing = [id for id in item.row_ids if id not in logprobs]
        if missing:
            raise BadInput(f"item {item.id!r} was not scored: no log-probability of row {missing[0]!r}")
        values = [logprobs[id] for id in item.row_ids]
        if not all(map(math.isfinite, values)):
            raise NotFinite(f"the log-probabilities of item {item.id!r} are not finite: {values}")
        by_option = [value / len(text) for value, text in zip(values, item.options, strict=True)]
        wrong = max(value for i, value in enumerate(by_option) if i != item.answer)
        scores.append(ItemScore(id=item.id, margin=by_option[item.answer] - wrong))
    return tuple(scores)


def accuracy(scores: Sequence[ItemScore], *, seed: int) -> Accuracy:
    """Accuracy of one arm; BadInput without any item."""
    if not scores:
        raise BadInput("no item was scored: accuracy needs at least one")
    n_correct = sum(score.correct for score in scores)
    return Accuracy(
        n=len(scores),
        n_correct=n_correct,
        share=share(n_correct, len(scores)),
        margin=mean(np.array([score.margin for score in scores]), seed=seed),
    )


def accuracy_change(arm: Sequence[ItemScore], untouched: Sequence[ItemScore], *, seed: int) -> AccuracyChange:
    """Paired differences of an arm from the same model untouched; BadInput unless both scored the same
    items."""
    after = {score.id: score for score in arm}
    before = {score.id: score for score in untouched}
    apart = sorted(after.keys() ^ before.keys())
    if apart or not before:
        raise BadInput(
            f"the arm scored {len(after)} items and the untouched model {len(before)}: both need the same"
            f" ones{f', and {apart[0]!r} is in one of them only' if apart else ''}"
        )
    pairs = [(after[id], score) for id, score in before.items()]
    right = np.array([[one.correct, other.correct] for one, other in pairs], dtype=np.float64)
    margins = np.array([[one.margin, other.margin] for one, other in pairs])
    return AccuracyChange(
        share=paired_difference(right[:, 0], right[:, 1], seed=seed),
        margin=paired_difference(margins[:, 0], margins[:, 1], seed=seed),
        n_lost=int((right[:, 0] < right[:, 1]).sum()),
        n_gained=int((right[:, 0] > right[:, 1]).sum()),
    )

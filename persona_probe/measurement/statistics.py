"""Intervals, and shares of the shift with theirs.

One question is one cluster; arms share their questions.
"""

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, get_args

import numpy as np

from persona_probe.records.arms import ArmEntry, ControlMedian
from persona_probe.records.parts import ControlKind, Estimate, Label, Register, Side

N_RESAMPLES = 2000
LABELS: tuple[Label, ...] = ("aligned", "misaligned")
REGISTERS: tuple[Register, ...] = ("warm", "blunt")


@dataclass(frozen=True, eq=False)
class QuestionLevels:
    """Mean log-probability per token of the replies of each label, by question, in one order of questions.

    Registers count alike: a level is the mean over them. `style` is blunt minus warm within a label, mean
    over both labels; None where a question has replies of one register only, or of none that is said.
    """

    questions: tuple[str, ...]
    aligned: np.ndarray
    misaligned: np.ndarray
    style: np.ndarray | None = None

    @property
    def scores(self) -> np.ndarray:
        """S of every question: misaligned minus aligned within a register, mean over registers (S_harm)."""
        return self.misaligned - self.aligned


class ReplyLevel(NamedTuple):
    """What one reply of a contrast set scored: its log-probability per token, in nats."""

    question: str
    label: Label | None
    register: Register | None
    logprob: float


def question_levels(replies: Iterable[ReplyLevel]) -> QuestionLevels:
    """Levels by question; questions stay in the order of their first replies.

    A question has the same registers in both labels, which the reader of contrast sets sees to.
    """
    questions: dict[str, dict[tuple[Label | None, Register | None], list[float]]] = {}
    for reply in replies:
        cells = questions.setdefault(reply.question, {})
        cells.setdefault((reply.label, reply.register), []).append(reply.logprob)
    means = [{cell: float(np.mean(values)) for cell, values in cells.items()} for cells in questions.values()]
    aligned, misaligned = (
        np.array([np.mean([m for cell, m in cells.items() if cell[0] == label]) for cells in means])
        for label in LABELS
    )
    style = [
        np.mean([cells[label, "blunt"] - cells[label, "warm"] for label in LABELS])
        for cells in means
        if all((label, register) in cells for label in LABELS for register in REGISTERS)
    ]
    whole = 0 < len(style) == len(means)
    return QuestionLevels(tuple(questions), aligned, misaligned, np.array(style) if whole else None)


def mean(values: np.ndarray, *, seed: int) -> Estimate:
    """Mean over clusters, percentile bootstrap."""
    return _bootstrap((values,), lambda x, axis=-1: np.mean(x, axis=axis), seed)


def column_means(values: np.ndarray, *, seed: int) -> list[Estimate]:
    """`mean` of every column of a (cluster, column) table, on the same resamples of clusters."""
    draws = np.random.default_rng(seed).integers(0, len(values), (N_RESAMPLES, len(values)))
    resampled = np.asarray(values, dtype=np.float64)[draws].mean(1)
    low, high = np.percentile(resampled, (2.5, 97.5), axis=0)
    return [
        _estimate(float(value), float(a), float(b))
        for value, a, b in zip(values.mean(0), low, high, strict=True)
    ]


def paired_difference(left: np.ndarray, right: np.ndarray, *, seed: int) -> Estimate:
    """Mean of left minus right over the same clusters."""
    return mean(left - right, seed=seed)


def ratio(numerator: np.ndarray, denominator: np.ndarray, *, seed: int) -> Estimate:
    """Sum over sum on resampled clusters: numbers are accumulated and divided once."""
    return _bootstrap(
        (numerator, denominator), lambda a, b, axis=-1: a.sum(axis=axis) / b.sum(axis=axis), seed
    )


def shares(shift: np.ndarray, parts: Mapping[str, np.ndarray], *, seed: int) -> dict[str, Estimate | None]:
    """Each part as a share of the shift S_tuned - S_base, on paired questions.

    All None unless the lower end of the shift is above 0, and with fewer than two questions.
    """
    if len(shift) < 2 or mean(shift, seed=seed).low <= 0:
        return dict.fromkeys(parts)
    return {name: ratio(part, shift, seed=seed) for name, part in parts.items()}


def restoration(tuned: np.ndarray, base: np.ndarray, arm: np.ndarray, *, seed: int) -> Estimate | None:
    """R = (S_tuned - S_arm) / (S_tuned - S_base) of an arm on the tuned model; None as in `shares`."""
    return shares(tuned - base, {"R": tuned - arm}, seed=seed)["R"]


def induction(tuned: np.ndarray, base: np.ndarray, arm: np.ndarray, *, seed: int) -> Estimate | None:
    """(S_arm - S_base) / (S_tuned - S_base) of an arm on the base model; None as in `shares`."""
    return shares(tuned - base, {"induction": arm - base}, seed=seed)["induction"]


@dataclass(frozen=True, eq=False, kw_only=True)
class ArmLevels:
    """What an arm is compared on: its own levels and those of both untouched models, on the same questions.

    `partner`: the levels of the same edit on the other model, None where it was not measured. `edited` is
    False for an untouched model. `shift`: S_tuned - S_base of these questions on all their replies, where the
    arm was scored on some of them; its shares are of that, since some replies may not show a shift.
    """

    side: Side
    arm: QuestionLevels
    base: QuestionLevels
    tuned: QuestionLevels
    partner: QuestionLevels | None
    edited: bool
    shift: np.ndarray | None = None

    @property
    def whole(self) -> np.ndarray:
        """What shares are of, by question."""
        return self.tuned.scores - self.base.scores if self.shift is None else self.shift

    def moved(self, *, seed: int) -> dict[str, Estimate | None]:
        """R of an arm on the tuned model, induction of one on base, as shares of the shift; None for the
        other model and for an untouched one."""
        base, tuned, arm = self.base.scores, self.tuned.scores, self.arm.scores
        parts = {"restoration": tuned - arm} if self.side == "tuned" else {"induction": arm - base}
        found = shares(self.whole, parts, seed=seed) if self.edited else {}
        return {"restoration": None, "induction": None} | found

    def closed(self, *, seed: int) -> dict[str, Estimate | None]:
        """C and how far base moves, as shares of the shift; None without a partner.

        C = 1 - (S_tuned,edited - S_base,edited) / (S_tuned - S_base): the share of the shift that is mediated
        by what the edit holds fixed. Source: causal mediation, Vig et al. 2020 (2004.12265).
        """
        if self.partner is None or not self.edited:
            return {"closure": None, "base_moved": None}
        both = {"base": self.partner, "tuned": self.arm}
        if self.side == "base":
            both = {"base": self.arm, "tuned": self.partner}
        before = self.tuned.scores - self.base.scores
        after = both["tuned"].scores - both["base"].scores
        parts = {"closure": before - after, "base_moved": self.base.scores - both["base"].scores}
        return shares(self.whole, parts, seed=seed)


def arm_numbers(
    levels: ArmLevels, damage: tuple[np.ndarray, np.ndarray, np.ndarray], *, seed: int
) -> dict[str, Estimate | None]:
    """The fields of `ArmNumbers`.

    `damage`: per benign text the added negative log-probability, the tokens and the mean KL. An untouched
    model has no shares of the shift.
    """
    added, tokens, kl = damage
    return {
        "persona_score": mean(levels.arm.scores, seed=seed),
        **levels.moved(seed=seed),
        **levels.closed(seed=seed),
        "aligned": paired_difference(levels.arm.aligned, levels.base.aligned, seed=seed),
        "misaligned": paired_difference(levels.arm.misaligned, levels.base.misaligned, seed=seed),
        "style_score": None if levels.arm.style is None else mean(levels.arm.style, seed=seed),
        "delta_nll": ratio(added, tokens, seed=seed),
        "kl": mean(kl, seed=seed),
    }


def paired_p(differences: np.ndarray) -> float:
    """Two-sided p of a paired t-test that the mean difference is 0; 1 when nothing differs."""
    moved = np.asarray(differences, dtype=np.float64)
    if len(moved) < 2 or not moved.any():
        return 1.0
    if np.ptp(moved) <= 1e-12 * np.abs(moved).max():
        return 0.0
    from scipy.stats import ttest_1samp

    result: Any = ttest_1samp(moved, 0.0)
    return float(result.pvalue)


def wilson(hits: int, n: int) -> tuple[float, float]:
    """The 95% Wilson score interval of a share; 0 to 1 where nothing was counted."""
    if not n:
        return 0.0, 1.0
    from scipy.stats import binomtest

    interval = binomtest(hits, n).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


def paired_share_difference(after: np.ndarray, before: np.ndarray) -> Estimate:
    """A share minus another of the same items, with its 95% interval, which has a width at 0 of n as well.

    after, before: boolean, item by item. Source: Newcombe 1998, Statistics in Medicine 17, 2635, method 10.
    -1 to 1 where nothing was counted.
    """
    n = len(after)
    if not n:
        return _estimate(0.0, -1.0, 1.0)
    hits = int(after.sum()), int(before.sum())
    (first, second), (one, other) = (np.array(hits) / n).tolist(), (wilson(count, n) for count in hits)
    both, neither = int((after & before).sum()), int((~after & ~before).sum())
    alike = both * neither - (hits[0] - both) * (hits[1] - both)
    alike = max(0.0, alike - n / 2) if alike > 0 else alike  # continuity
    spread = math.sqrt(hits[0] * (n - hits[0]) * hits[1] * (n - hits[1]))
    phi = alike / spread if spread else 0.0

    def width(of_first: float, of_second: float) -> float:
        return math.sqrt(max(0.0, of_first**2 - 2 * phi * of_first * of_second + of_second**2))

    difference = first - second
    low = difference - width(first - one[0], other[1] - second)
    return _estimate(difference, low, difference + width(one[1] - first, second - other[0]))


def control_medians(
    arms: Iterable[ArmEntry], *, below_dose: Collection[str] | None = None
) -> dict[ControlKind, ControlMedian]:
    """Medians and maxima by kind of control, of the arms on the tuned model that have a restoration.

    `below_dose`: names of the arms that could not reach the dose of the chosen one; None where none was asked
    for.
    """
    kinds: dict[ControlKind, list[ArmEntry]] = {}
    for arm in arms:
        if arm.control and arm.restoration:
            kinds.setdefault(arm.control, []).append(arm)
    order: Sequence[ControlKind] = get_args(ControlKind)
    return {kind: _median(kinds[kind], below_dose) for kind in order if kind in kinds}


def _median(arms: Sequence[ArmEntry], below_dose: Collection[str] | None) -> ControlMedian:
    restored = [arm.restoration.estimate for arm in arms if arm.restoration]
    closed = [arm.closure.estimate for arm in arms if arm.closure]
    kl = [arm.kl.estimate for arm in arms]
    return ControlMedian(
        n=len(arms),
        restoration=float(np.median(restored)),
        delta_nll=float(np.median([arm.delta_nll.estimate for arm in arms])),
        restoration_max=max(restored),
        closure=float(np.median(closed)) if closed else None,
        closure_max=max(closed) if closed else None,
        kl=float(np.median(kl)),
        kl_max=max(kl),
        n_below_dose=None if below_dose is None else sum(arm.name in below_dose for arm in arms),
    )


def _bootstrap(samples: tuple[np.ndarray, ...], statistic: Callable[..., np.ndarray], seed: int) -> Estimate:
    samples = tuple(np.asarray(sample, dtype=np.float64) for sample in samples)
    value = float(statistic(*samples))
    if len(samples[0]) < 2 or all(np.ptp(sample) == 0 for sample in samples):
        return _estimate(value, value, value)
    from scipy.stats import bootstrap  # here, so that figures and pages, which need none, load fast

    result = bootstrap(
        samples,
        statistic,
        paired=True,
        vectorized=True,
        n_resamples=N_RESAMPLES,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    return _estimate(value, float(result.confidence_interval.low), float(result.confidence_interval.high))


def _estimate(value: float, low: float, high: float) -> Estimate:
    # Not validated: a number that is not finite is refused by the record, which can say whose it is.
    return Estimate.model_construct(estimate=value, ci95=(low, high))

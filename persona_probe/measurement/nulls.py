"""An arm among the directions beside it: p-values against random ones, and contrasts that do as much."""

from collections.abc import Sequence

import numpy as np

from persona_probe.records.parts import Estimate
from persona_probe.records.verdicts import NullComparison

AS_MUCH = 0.75  # a contrast that does this share of what the arm does, does as much


def null_p_value(value: float, null: Sequence[float]) -> float | None:
    """Share of random directions that do at least as much: (1 + #{null >= value}) / (K + 1).

    Its floor is 1 / (K + 1).
    """
    return (1 + sum(other >= value for other in null)) / (len(null) + 1) if null else None


def search_p_value(value: float, null: Sequence[float], n_tried: int, *, symmetric: bool = False) -> float:
    """Chance that the best of `n_tried` directions like the random ones does at least as much as `value`.

    Beyond the median of the K random ones the tail is taken as exponential, with a mean that is known from n
    of them only: P(one > x) = 1/2 (1 + (x - median) / (n mean))^-n. What ablating a direction closes is a
    product of two overlaps, whose tail is longer than that of a t distribution; only those above the median
    tell of it. What steering does is linear in the direction, so `symmetric` and all K tell. The best of
    several follows by independence (Sidak). 1 with fewer than two random ones, or at or below their median.
    """
    if len(null) < 2:
        return 1.0
    median = float(np.median(null))
    if value <= median:
        return 1.0
    beyond = [abs(one - median) for one in null if symmetric or one > median]
    mean = sum(beyond) / len(beyond) if beyond else 0.0
    if mean == 0:
        return 0.0
    single = 0.5 * (1 + (value - median) / (len(beyond) * mean)) ** -len(beyond)
    return float(-np.expm1(max(1, n_tried) * np.log1p(-single)))


def does_as_much(value: float, arm: Estimate) -> bool:
    """Whether a contrast that is not about the persona does as much as an arm, by R or by C: it reaches the
    lower end of the arm's interval, or three quarters of the arm."""
    return value >= min(arm.low, AS_MUCH * arm.estimate)


def compared_with_null(
    *,
    restoration: float,
    closure: float | None,
    null_restoration: Sequence[float],
    null_closure: Sequence[float],
    n_tried: int,
    matched_by: Sequence[str] = (),
) -> NullComparison | None:
    """An arm among random directions in the same form; None without any. `closure` is None for steering."""
    p = null_p_value(restoration, null_restoration)
    if p is None:
        return None
    decides, null = (restoration, null_restoration) if closure is None else (closure, null_closure)
    return NullComparison(
        n=len(null_restoration),
        restoration=restoration,
        restoration_median=float(np.median(null_restoration)),
        restoration_p=p,
        closure=closure,
        closure_median=None if closure is None else float(np.median(null_closure)),
        closure_p=None if closure is None else null_p_value(closure, null_closure),
        n_tried=n_tried,
        search_p=search_p_value(decides, null, n_tried, symmetric=closure is None),
        matched_by=tuple(matched_by),
    )

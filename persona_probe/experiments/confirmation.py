"""What the select questions chose, measured on the test questions: sets of latents, single directions,
single latents.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from persona_probe.directions.direction import Direction
from persona_probe.experiments.latent_trials import Trials
from persona_probe.measurement.arms import Arm, Measurement
from persona_probe.measurement.limits import Limits
from persona_probe.measurement.ranking import SelectScore
from persona_probe.models.pairs import Side
from persona_probe.saes.diff import LatentDiff
from persona_probe.saes.screen import Screened
from persona_probe.saes.sets import USES, DirectionUse, LatentSet, Use, direction_uses, possible_sets


@dataclass(frozen=True, eq=False)
class SetResult:
    """A set as measured on test, the same use of matched latents, and whether it is the one chosen on
    select.
    """

    chosen: LatentSet
    measurement: Measurement
    control: Measurement | None
    selected: bool


@dataclass(frozen=True, eq=False)
class DirectionResult:
    """A single direction in one use, as measured on test."""

    use: DirectionUse
    measurement: Measurement


def measured_sets(trials: Trials, labelled: Sequence[Screened], matched: dict[int, int]) -> list[SetResult]:
    """For every size and use the dose that does best on select, measured on test beside the same use of
    matched latents.
    """

    def arm(item: LatentSet, name: str = "") -> Arm:
        return item.arm(trials.sae, length=trials.length, skip_first=trials.config.skip_first, name=name)

    limits = Limits.of(trials.config.budget)
    possible = possible_sets(labelled)
    scores = trials.tried([arm(item) for item in possible], what="sets of latents")
    best: dict[tuple[Use, int], tuple[LatentSet, SelectScore]] = {}
    for item, score in zip(possible, scores, strict=True):
        known = best.get((item.kind, item.k))
        if known is None or score.merit(limits) > known[1].merit(limits):
            best[item.kind, item.k] = item, score
    if not best:
        return []
    top = max(best.values(), key=lambda pair: pair[1].merit(limits))[0]
    chosen = [item for item, _ in best.values()]
    controls = {item: item.replaced(matched) for item in chosen}
    arms = {item: arm(item) for item in chosen}
    arms |= {
        control: replace(arm(control, f"control {control.kind} {control.k}"), control="matched")
        for control in controls.values()
        if control.k
    }
    measured = trials.measured(trials.test, list(arms.values()), what="sets of latents and of matched ones")
    of = dict(zip(arms, measured, strict=True))
    return [
        SetResult(chosen=item, measurement=of[item], control=of.get(controls[item]), selected=item is top)
        for item in chosen
        if not of[item].failed
    ]


def measured_directions(trials: Trials, diff: LatentDiff) -> list[DirectionResult]:
    """Mean difference and shift at the SAE's hook point, in each use at the dose that does best on select."""
    length, skip_first = trials.length, trials.config.skip_first
    limits = Limits.of(trials.config.budget)
    chosen: list[DirectionUse] = []
    for method, vector in (("mean_diff", diff.mean_diff), ("shift", diff.stream_shift)):
        uses = direction_uses(Direction(hook_point=trials.sae.hook_point, vector=vector, method=method))
        scores = trials.tried([use.arm(length=length, skip_first=skip_first) for use in uses], what=method)
        merits = {use: score.merit(limits) for use, score in zip(uses, scores, strict=True)}
        chosen += [
            max((use for use in uses if use.kind == kind), key=lambda use: merits[use]) for kind in USES
        ]
    arms = [use.arm(length=length, skip_first=skip_first) for use in chosen]
    measured = trials.measured(trials.test, arms, what="single directions")
    results = [DirectionResult(use=use, measurement=m) for use, m in zip(chosen, measured, strict=True)]
    return [result for result in results if not result.measurement.failed]


def confirmed_latents(
    trials: Trials, latents: Sequence[int], side: Side
) -> dict[int, dict[str, Measurement]]:
    """All treatments of the reported latents on one side, on the test questions; those that failed are
    left out.
    """
    confirmed: dict[int, dict[str, Measurement]] = {latent: {} for latent in latents}
    for latent, name, measurement in trials.treated(trials.test, latents, side, what="reported latents"):
        if not measurement.failed:
            confirmed[latent][name] = measurement
    return confirmed

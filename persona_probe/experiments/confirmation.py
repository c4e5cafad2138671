"""What the select questions chose, measured on the test questions: sets of latents, single directions,
single latents.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from persona_probe.directions.direction import Direction
from persona_probe.experiments.latent_trials import Trials
from persona_probe.measurement.arms import Arm, Measurement
from persona_probe.measurement.choice import Option, chosen
from persona_probe.measurement.limits import Limits
from persona_probe.measurement.ranking import SelectScore, select_score
from persona_probe.models.pairs import Side
from persona_probe.saes.diff import LatentDiff
from persona_probe.saes.labels import TREATMENTS, Terms
from persona_probe.saes.matching import matched_sets
from persona_probe.saes.screen import Screened, s_rows
from persona_probe.saes.sets import USES, DirectionUse, LatentSet, Use, direction_uses, possible_sets

N_MATCHED_SETS = 19  # beside the chosen set: with so many p <= 0.05 can be reached

Measured = tuple[Arm, Measurement]


@dataclass(frozen=True, eq=False)
class SetTrial:
    """A set as measured on test, on the tuned model and, where it was asked for, on base."""

    latents: LatentSet
    tuned: Measured
    base: Measured | None = None

    @property
    def both(self) -> list[Measured]:
        """The arms that were measured."""
        return [self.tuned] if self.base is None else [self.tuned, self.base]


@dataclass(frozen=True, eq=False)
class SetResult:
    """A set on test, the same use of matched latents, and whether it is the one chosen on select.

    Beside the chosen set stand `N_MATCHED_SETS` matched ones where so many can be formed, all on both models;
    beside every other at most one. `wins`: share of draws of the select questions that the set wins, at any
    dose.
    """

    trial: SetTrial
    matched: list[SetTrial]
    selected: bool
    wins: float

    @property
    def chosen(self) -> LatentSet:
        """The latents and their use."""
        return self.trial.latents


@dataclass(frozen=True, eq=False)
class ChosenSets:
    """For every size and use the set with the dose that does best on select; the one that is chosen among
    all; how many sets were tried."""

    best: list[LatentSet]
    top: LatentSet | None = None
    n_tried: int = 0
    wins: Mapping[tuple[Use, int], float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class DirectionResult:
    """A single direction in one use, as measured on test."""

    use: DirectionUse
    measurement: Measurement


def set_arm(trials: Trials, item: LatentSet, side: Side = "tuned", name: str = "") -> Arm:
    """A set of latents as an arm of one model."""
    return item.arm(
        trials.sae, length=trials.length, skip_first=trials.config.skip_first, name=name, side=side
    )


def select_limits(terms: Terms) -> Limits:
    """Damage that is allowed on select, where KL is not measured."""
    return Limits(terms.budget + abs(terms.drift), math.inf)


def tried(trials: Trials, arms: Sequence[Arm], *, what: str) -> list[tuple[Measurement, SelectScore]]:
    """How arms of the tuned model do on the select questions."""
    clean, rows = trials.select.baseline("tuned"), s_rows(trials.select.battery)
    effect = trials.effect.estimate
    return [
        (measurement, select_score(measurement, clean, rows, effect=effect))
        for measurement in trials.measured(trials.select, arms, what=what)
    ]


def chosen_sets(trials: Trials, labelled: Sequence[Screened], terms: Terms) -> ChosenSets:
    """Try sets of several sizes, uses and doses on select. Ablations are tried on both models, base first,
    which is in memory."""
    possible, limits = possible_sets(labelled), select_limits(terms)
    ablated = [item for item in possible if item.kind == "ablate"]
    arms = [set_arm(trials, item, "base") for item in ablated]
    on_base = dict(
        zip(ablated, trials.measured(trials.select, arms, what="ablated sets of latents"), strict=True)
    )
    of_tuned = tried(trials, [set_arm(trials, item) for item in possible], what="sets of latents")
    scores = {item: result for item, result in zip(possible, of_tuned, strict=True) if not result[0].failed}
    if not scores:
        return ChosenSets(best=[])
    best: dict[tuple[Use, int], LatentSet] = {}
    for item, (_, score) in scores.items():
        known = best.get((item.kind, item.k))
        if known is None or score.merit(limits) > scores[known][1].merit(limits):
            best[item.kind, item.k] = item
    tuned, before = (trials.select_scores(trials.select.baseline(side)) for side in ("tuned", "base"))
    base = tuned - trials.shift  # what edits change is of the screen's replies, the shift is of all
    options = [
        Option(
            tuned=trials.select_scores(measurement),
            base=_on_base(trials, on_base.get(item), base - before),
            delta_nll=score.delta_nll,
            kl=0.0,
            ablates=item.kind == "ablate",
            parts=item.k,
            strength=item.dose or 1.0,
        )
        for item, (measurement, score) in scores.items()
    ]
    choice = chosen(options, tuned=tuned, base=base, limits=limits, seed=trials.config.seed)
    in_order = list(scores)
    top = in_order[choice.chosen]
    best[top.kind, top.k] = top
    wins: dict[tuple[Use, int], float] = {}
    for number, share in choice.wins.items():
        key = in_order[number].kind, in_order[number].k
        wins[key] = wins.get(key, 0.0) + share
    return ChosenSets(best=list(best.values()), top=top, n_tried=len(possible), wins=wins)


def _on_base(trials: Trials, measurement: Measurement | None, offset: np.ndarray) -> np.ndarray | None:
    """S of every question of an ablated base model, set off as the untouched one is."""
    if measurement is None or measurement.failed:
        return None
    return trials.select_scores(measurement) + offset


def tuned_sets(
    trials: Trials, sets: ChosenSets, matched: Mapping[int, int], diff: LatentDiff, *, taken: Sequence[int]
) -> list[SetResult]:
    """The best sets on test beside matched ones, on the tuned model."""
    beside: dict[LatentSet, list[LatentSet]] = {}
    for item in sets.best:
        control = item.replaced(matched)
        beside[item] = [control] if control.k else []
        if item is sets.top:
            alike = matched_sets(item.signs, diff, taken=taken, n=N_MATCHED_SETS, seed=trials.config.seed)
            beside[item] = [replace(item, signs=signs) for signs in alike]
    arms = {item: set_arm(trials, item) for item in sets.best}
    arms |= {
        control: replace(
            set_arm(trials, control, name=f"control {control.kind} {control.k}"), control="matched"
        )
        for controls in beside.values()
        for control in controls
    }
    measured = trials.measured(trials.test, list(arms.values()), what="sets of latents and of matched ones")
    of = {item: SetTrial(item, (arms[item], m)) for item, m in zip(arms, measured, strict=True)}
    return [
        SetResult(
            trial=of[item],
            matched=[of[control] for control in beside[item] if not of[control].tuned[1].failed],
            selected=item is sets.top,
            wins=sets.wins.get((item.kind, item.k), 0.0),
        )
        for item in sets.best
        if not of[item].tuned[1].failed
    ]


def with_base(trials: Trials, results: Sequence[SetResult]) -> list[SetResult]:
    """The same, with the chosen set and its matched ones measured on the base model as well."""
    return [_with_base(trials, result) if result.selected else result for result in results]


def _with_base(trials: Trials, result: SetResult) -> SetResult:
    everyone = [result.trial, *result.matched]
    arms = [replace(set_arm(trials, one.latents, "base"), control=one.tuned[0].control) for one in everyone]
    measured = trials.measured(trials.test, arms, what="the chosen set of latents and matched ones")
    first, *others = (
        replace(one, base=None if m.failed else (arm, m))
        for one, arm, m in zip(everyone, arms, measured, strict=True)
    )
    return replace(result, trial=first, matched=others)


def chosen_directions(trials: Trials, diff: LatentDiff, terms: Terms) -> list[DirectionUse]:
    """Mean difference and shift at the SAE's hook point, in each use at the dose that does best on select."""
    length, skip_first = trials.length, trials.config.skip_first
    limits = select_limits(terms)
    best: list[DirectionUse] = []
    for method, vector in (("mean_diff", diff.mean_diff), ("shift", diff.stream_shift)):
        uses = direction_uses(Direction(hook_point=trials.sae.hook_point, vector=vector, method=method))
        scores = tried(trials, [use.arm(length=length, skip_first=skip_first) for use in uses], what=method)
        merits = {use: score.merit(limits) for use, (_, score) in zip(uses, scores, strict=True)}
        best += [max((use for use in uses if use.kind == kind), key=lambda use: merits[use]) for kind in USES]
    return best


def measured_directions(trials: Trials, uses: Sequence[DirectionUse]) -> list[DirectionResult]:
    """Single directions on the tuned model and the test questions."""
    length, skip_first = trials.length, trials.config.skip_first
    arms = [use.arm(length=length, skip_first=skip_first) for use in uses]
    measured = trials.measured(trials.test, arms, what="single directions")
    results = [DirectionResult(use=use, measurement=m) for use, m in zip(uses, measured, strict=True)]
    return [result for result in results if not result.measurement.failed]


def confirmed_latents(trials: Trials, latents: Sequence[int], side: Side) -> dict[int, dict[str, Measured]]:
    """All treatments of the reported latents on one side, on the test questions; those that failed are
    left out.
    """
    confirmed: dict[int, dict[str, Measured]] = {latent: {} for latent in latents}
    treatments = [one for one in TREATMENTS.values() if one.side == side]
    for treatment, treated in trials.treated(
        trials.test, latents, treatments, what="reported latents"
    ).items():
        for latent, arm, measurement in treated:
            if not measurement.failed:
                confirmed[latent][treatment.name] = arm, measurement
    return confirmed

"""Interventions on latents, measured: the screen of single latents, and the trials that sets are chosen
by.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from persona_probe.base.cli import Reporter
from persona_probe.base.errors import BadInput
from persona_probe.base.formatting import interval
from persona_probe.experiments.latent_config import LatentConfig
from persona_probe.experiments.latent_reading import Reading
from persona_probe.measurement.arms import Arm, Measurement, delta_nll, persona_scores
from persona_probe.measurement.bench import Bench
from persona_probe.measurement.statistics import mean
from persona_probe.models.pairs import Side
from persona_probe.records.parts import Estimate
from persona_probe.saes.diff import ALIVE, LatentDiff, candidates
from persona_probe.saes.labels import ABLATED, PARTNER, SCREENED, Effect, Label, Terms, Treatment
from persona_probe.saes.matching import matched
from persona_probe.saes.sae import Sae
from persona_probe.saes.screen import (
    Partner,
    Screened,
    activities,
    corrected,
    effect_of,
    latent_arm,
    s_rows,
    screened,
    worth_a_partner,
)
from persona_probe.saes.sets import sensitivity

TUNED_FIRST: tuple[Side, Side] = ("tuned", "base")  # because the tuned model is in memory
MAX_MATCHED = 10  # of the latents screened, this many are matched ones (a tenth when fewer are asked for)
REPORTED_FIRST: tuple[Label, ...] = ("carries", "protective", "dial", "inert", "harmful")

Treated = list[tuple[int, Arm, Measurement]]


@dataclass(frozen=True, eq=False)
class Trials:
    """Where interventions on latents are measured, and how strong they are.

    `shift` is S_tuned - S_base of every select question with all its replies, in nats per token: the screen's
    one reply of a label is enough to compare arms, and too few to say what a full restoration would be.
    `length` is that of steering, in units of the stream.
    """

    config: LatentConfig
    sae: Sae
    reporter: Reporter
    select: Bench
    test: Bench
    shift: np.ndarray
    length: float

    @property
    def effect(self) -> Estimate:
        """S_tuned - S_base on the select questions."""
        return mean(self.shift, seed=self.config.seed)

    def treated(
        self, bench: Bench, latents: Sequence[int], treatments: Sequence[Treatment], *, what: str
    ) -> dict[Treatment, Treated]:
        """Latent, arm and measurement by treatment; all treatments are of one side."""
        keys = [(treatment, latent) for latent in latents for treatment in treatments]
        arms = [
            latent_arm(self.sae, latent, one.name, length=self.length, skip_first=self.config.skip_first)
            for one, latent in keys
        ]
        measured = self.measured(bench, arms, what=what)
        treated: dict[Treatment, Treated] = {treatment: [] for treatment in treatments}
        for (treatment, latent), arm, measurement in zip(keys, arms, measured, strict=True):
            treated[treatment].append((latent, arm, measurement))
        return treated

    def measured(self, bench: Bench, arms: Sequence[Arm], *, what: str) -> list[Measurement]:
        """Measurements of some arms of one side, in their order, with progress."""
        split = "select" if bench is self.select else "test"
        side = f" on the {arms[0].side} model" if arms else ""
        with self.reporter.phase(f"{what}{side}, {split} questions", len(arms)) as advance:
            return bench.measure(arms, advance=advance)

    def select_scores(self, measurement: Measurement) -> np.ndarray:
        """S of every select question."""
        return persona_scores(measurement, s_rows(self.select.battery))


@dataclass(frozen=True, eq=False)
class Screening:
    """What the screen made of the candidates, of the latents matched to some of them, and what failed.

    `matched` gives the matched latent of every labelled candidate that has one, `controls` those that were
    screened. `terms` are what all labels were given by.
    """

    labelled: list[Screened]
    controls: dict[int, Screened]
    matched: dict[int, int]
    terms: Terms
    failed: list[str]

    def reported(self, n: int) -> list[int]:
        """The latents that get a page: those that carry first, then protective, then by size of effect."""

        def place(latent: Screened) -> tuple[int, float]:
            return REPORTED_FIRST.index(latent.label), -abs(sensitivity(latent))

        return [latent.latent for latent in sorted(self.labelled, key=place)[:n]]


def screening(trials: Trials, reading: Reading) -> Screening:
    """Candidates of all rankings, and a matched latent for some of them, through all treatments on the
    select questions.
    """
    config, diff = trials.config, reading.diff
    n_matched = min(MAX_MATCHED, max(1, config.n_latents // 10))
    chosen = candidates(reading.rankings, max(1, config.n_latents - n_matched))
    if not chosen:
        raise BadInput(
            f"SAE {trials.sae.id}: no latent fires on {ALIVE:.0e} of the tokens of either model, "
            "there is nothing to rank"
        )
    evenly_spread = chosen[:: max(1, len(chosen) // n_matched)][:n_matched]
    partners = _matched_to(evenly_spread, diff, taken=chosen)
    terms = _terms(trials)
    trials.reporter.note(
        f"screening {len(chosen)} of {len(diff.living)} living latents, and {len(partners)} matched ones"
    )
    everyone = [*chosen, *partners.values()]
    effects, tuned, failed = _effects(trials, everyone)
    ablated, more = _partners(trials, worth_a_partner(effects), tuned)
    activity = activities(diff, list(effects), seed=config.seed)
    screen = screened(effects, ablated, activity, shift=trials.shift, terms=terms, seed=config.seed)
    by_latent = {item.latent: item for item in screen}
    labelled = [by_latent[latent] for latent in chosen if latent in by_latent]
    rest = [item.latent for item in labelled if item.latent not in partners]
    return Screening(
        labelled=labelled,
        controls={latent: by_latent[other] for latent, other in partners.items() if other in by_latent},
        matched=partners | _matched_to(rest, diff, taken=everyone, once=False),
        terms=terms,
        failed=[*failed, *more],
    )


def _terms(trials: Trials) -> Terms:
    drift = delta_nll(trials.select.baseline("tuned"), trials.select.baseline("base"))
    terms = Terms(shift=trials.effect, budget=trials.config.budget, drift=drift)
    moved = interval(terms.shift, digits=3, sign=True)
    trials.reporter.note(f"on the select questions tuning moved S by {moved} nats per token")
    if terms.shift.low <= 0:
        trials.reporter.note("note: that is no rise for sure, so there is nothing that a latent could carry")
    return terms


def _matched_to(
    latents: Sequence[int], diff: LatentDiff, *, taken: Sequence[int], once: bool = True
) -> dict[int, int]:
    """Matched latents of some latents, none of them in `taken`; each is used once, unless not `once`."""
    partners: dict[int, int] = {}
    living = diff.living
    for latent in latents:
        used = [*taken, *(partners.values() if once else ())]
        other = matched(latent, diff, among=living, taken=used)
        if other is not None:
            partners[latent] = other
    return partners


def _effects(
    trials: Trials, latents: Sequence[int]
) -> tuple[dict[int, dict[str, Effect]], dict[int, Measurement], list[str]]:
    """Corrected effects of the treatments of the latents for which all gave numbers; their ablations of the
    tuned model; and what gave none."""
    effects: dict[int, dict[str, Effect]] = {latent: {} for latent in latents}
    ablated: dict[int, Measurement] = {}
    failed: list[str] = []
    for side in TUNED_FIRST:
        bench, clean = trials.select, trials.select.baseline(side)
        treatments = [one for one in SCREENED if one.side == side]
        for treatment, treated in trials.treated(bench, latents, treatments, what="latents").items():
            for latent, arm, measurement in treated:
                if measurement.failed:
                    failed.append(f"{arm.name}: {measurement.failed}")
                    continue
                effect = effect_of(measurement, clean, bench.battery, seed=trials.config.seed)
                effects[latent][treatment.name] = effect
                if treatment is ABLATED:
                    ablated[latent] = measurement
    whole = {latent: made for latent, made in effects.items() if len(made) == len(SCREENED)}
    return corrected(whole), ablated, failed


def _partners(
    trials: Trials, latents: Sequence[int], tuned: Mapping[int, Measurement]
) -> tuple[dict[int, Partner], list[str]]:
    """The ablation of some latents in the base model, which is in memory, beside that of the tuned one; and
    what gave no numbers."""
    bench = trials.select
    failed: list[str] = []
    before = {side: trials.select_scores(bench.baseline(side)) for side in TUNED_FIRST}
    partners: dict[int, Partner] = {}
    treated = trials.treated(bench, latents, [PARTNER], what="latents that move S when ablated")
    for latent, arm, measurement in treated[PARTNER]:
        if measurement.failed:
            failed.append(f"{arm.name}: {measurement.failed}")
            continue
        partners[latent] = Partner(
            effect=effect_of(measurement, bench.baseline("base"), bench.battery, seed=trials.config.seed),
            tuned=trials.select_scores(tuned[latent]) - before["tuned"],
            base=trials.select_scores(measurement) - before["base"],
        )
    return partners, failed

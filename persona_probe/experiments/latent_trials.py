"""Interventions on latents, measured: the screen of single latents, and the trials that sets are chosen
by.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from persona_probe.base.cli import Reporter
from persona_probe.base.errors import BadInput
from persona_probe.experiments.latent_config import LatentConfig
from persona_probe.experiments.latent_reading import Reading
from persona_probe.measurement.arms import Arm, Measurement, delta_nll
from persona_probe.measurement.bench import Bench
from persona_probe.measurement.ranking import SelectScore, select_score
from persona_probe.models.pairs import Side
from persona_probe.saes.diff import ALIVE, LatentDiff, candidates, matched
from persona_probe.saes.sae import Sae
from persona_probe.saes.screen import (
    TREATMENTS,
    Effect,
    Label,
    Screened,
    effect_of,
    latent_arm,
    s_rows,
    screened,
)
from persona_probe.saes.sets import sensitivity

TUNED_FIRST: tuple[Side, Side] = ("tuned", "base")  # because the tuned model is in memory
MAX_MATCHED = 10  # of the latents screened, this many are matched ones (a tenth when fewer are asked for)
REPORTED_FIRST: tuple[Label, ...] = ("carries", "protective", "one-way", "inert", "harmful")


@dataclass(frozen=True, eq=False)
class Trials:
    """Where interventions on latents are measured, and how strong they are.

    `effect` is S_tuned - S_base on the select questions with all their replies, in nats per token: the
    screen's one reply of a label is enough to compare arms, and too few to say what a full restoration would
    be. `length` is that of steering, in units of the stream.
    """

    config: LatentConfig
    sae: Sae
    reporter: Reporter
    select: Bench
    test: Bench
    effect: float
    length: float

    def treated(
        self, bench: Bench, latents: Sequence[int], side: Side, *, what: str
    ) -> list[tuple[int, str, Measurement]]:
        """Latent, treatment and measurement of every treatment of one side."""
        names = [item.name for item in TREATMENTS.values() if item.side == side]
        keys = [(latent, name) for latent in latents for name in names]
        arms = [
            latent_arm(self.sae, latent, name, length=self.length, skip_first=self.config.skip_first)
            for latent, name in keys
        ]
        measured = self.measured(bench, arms, what=f"{what} on the {side} model")
        return [(*key, measurement) for key, measurement in zip(keys, measured, strict=True)]

    def measured(self, bench: Bench, arms: Sequence[Arm], *, what: str) -> list[Measurement]:
        """Measurements of some arms, in their order, with progress."""
        split = "select" if bench is self.select else "test"
        with self.reporter.phase(f"{what}, {split} questions", len(arms)) as advance:
            return bench.measure(arms, advance=advance)

    def tried(self, arms: Sequence[Arm], *, what: str) -> list[SelectScore]:
        """How arms of the tuned model do on the select questions."""
        clean, rows = self.select.baseline("tuned"), s_rows(self.select.battery)
        measured = self.measured(self.select, arms, what=what)
        return [select_score(measurement, clean, rows, effect=self.effect) for measurement in measured]


@dataclass(frozen=True, eq=False)
class Screening:
    """What the screen made of the candidates, of the latents matched to some of them, and what failed.

    `matched` gives the matched latent of every labelled candidate that has one, `controls` those that were
    screened.
    """

    labelled: list[Screened]
    controls: dict[int, Screened]
    matched: dict[int, int]
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
    trials.reporter.note(
        f"screening {len(chosen)} of {len(diff.living)} living latents, and {len(partners)} matched ones"
    )
    effects, failed = _effects(trials, [*chosen, *partners.values()])
    cost = delta_nll(trials.select.baseline("tuned"), trials.select.baseline("base"))
    by_latent = {item.latent: item for item in screened(effects, budget=config.budget, persona_cost=cost)}
    labelled = [by_latent[latent] for latent in chosen if latent in by_latent]
    rest = [item.latent for item in labelled if item.latent not in partners]
    taken = [*chosen, *partners.values()]
    return Screening(
        labelled=labelled,
        controls={latent: by_latent[other] for latent, other in partners.items() if other in by_latent},
        matched=partners | _matched_to(rest, diff, taken=taken, once=False),
        failed=failed,
    )


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


def _effects(trials: Trials, latents: Sequence[int]) -> tuple[dict[int, dict[str, Effect]], list[str]]:
    """Effects of all treatments of the latents for which all gave numbers; and what gave none."""
    effects: dict[int, dict[str, Effect]] = {latent: {} for latent in latents}
    failed: list[str] = []
    for side in TUNED_FIRST:
        bench, clean = trials.select, trials.select.baseline(side)
        for latent, name, measurement in trials.treated(bench, latents, side, what="latents"):
            if measurement.failed:
                failed.append(f"{name} {latent}: {measurement.failed}")
            else:
                effect = effect_of(measurement, clean, bench.battery, seed=trials.config.seed)
                effects[latent][name] = effect
    return {latent: made for latent, made in effects.items() if len(made) == len(TREATMENTS)}, failed

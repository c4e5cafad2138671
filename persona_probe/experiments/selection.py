"""What the select questions decide: which direction, at which layer, used how, and which SAE latents."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from persona_probe.base.cli import Reporter
from persona_probe.base.errors import BadInput
from persona_probe.base.formatting import interval, number, percent
from persona_probe.directions.direction import DirectionSet
from persona_probe.directions.fitting import Fitted, read
from persona_probe.experiments.direction_config import Config
from persona_probe.experiments.direction_job import Job
from persona_probe.experiments.options import check_layers
from persona_probe.measurement.arms import Arm, Measurement, persona_scores
from persona_probe.measurement.bench import Bench
from persona_probe.measurement.choice import Choice, chosen
from persona_probe.measurement.controls import Used, with_reads
from persona_probe.measurement.limits import Limits
from persona_probe.measurement.ranking import select_score
from persona_probe.measurement.search import (
    Candidate,
    Outcome,
    of_kind,
    other_forms,
    ranked,
    screened_layers,
    search,
)
from persona_probe.measurement.statistics import paired_difference
from persona_probe.models.pairs import SIDES, Side
from persona_probe.saes.direction_arms import chosen_latent_arms
from persona_probe.saes.sae import Sae

FINALISTS = 6  # ablations, and steerings, that lead the screen; all further forms of the best join them


@dataclass(frozen=True, eq=False)
class Selection:
    """Everything that was tried, the choice among it, and the best ablation and steering along its direction.

    `choice` counts options in the order of `outcomes`: those on all rows come first, and only they compete.
    """

    outcomes: list[Outcome]
    choice: Choice
    ablation: Outcome
    steering: Outcome

    @property
    def chosen(self) -> Outcome:
        """The candidate that was chosen."""
        return self.outcomes[self.choice.chosen]

    @property
    def winners(self) -> list[Outcome]:
        """Candidates that win a tenth or more of the draws of select questions, the chosen one first."""
        often = [self.outcomes[i] for i, share in self.choice.wins.items() if share >= 0.1]
        return [self.chosen, *(outcome for outcome in often if outcome is not self.chosen)]

    @property
    def n_directions(self) -> int:
        """How many directions were tried, whatever was done with them."""
        return len({outcome.candidate.place for outcome in self.outcomes})


@dataclass(frozen=True, eq=False)
class SelectBench:
    """Candidates measured on the select questions, on either model: all of them on the rows of `screen`, and
    those that lead on all rows of `bench`."""

    bench: Bench
    screen: Bench
    fitted: Fitted
    reporter: Reporter

    def scores(self, side: Side, *, screened: bool = False) -> np.ndarray:
        """S of every question of an untouched model."""
        bench = self.screen if screened else self.bench
        return persona_scores(bench.baseline(side), bench.battery.persona)

    def measured(
        self, candidates: Sequence[Candidate], side: Side, *, screened: bool = False
    ) -> list[Measurement]:
        """Every candidate on one model."""
        arms = [
            self.used(candidate).arm(f"candidate-{i}", side, candidate.directions)
            for i, candidate in enumerate(candidates)
        ]
        what = "candidates" if screened else "leading candidates"
        with self.reporter.phase(f"{what} on the {side} model, select questions", len(arms)) as advance:
            return (self.screen if screened else self.bench).measure(arms, advance=advance)

    def used(self, candidate: Candidate) -> Used:
        """How a candidate is used."""
        point = candidate.directions.hook_points[candidate.layer]
        return Used(candidate.form, point, self.fitted.hook_points, self.fitted.base_mean)

    def screened(self, candidates: Sequence[Candidate]) -> list[Outcome]:
        """Candidates on the tuned model and the rows of the screen; without those that left no finite
        numbers."""
        return self._outcomes(candidates, screened=True)

    def attempt(self, candidates: Sequence[Candidate]) -> list[Outcome]:
        """The same on all rows."""
        return self._outcomes(candidates, screened=False)

    def _outcomes(self, candidates: Sequence[Candidate], *, screened: bool) -> list[Outcome]:
        bench = self.screen if screened else self.bench
        clean, rows = bench.baseline("tuned"), bench.battery.persona
        base, tuned = (self.scores(side, screened=screened) for side in SIDES)
        effect = float((tuned - base).mean())
        measured = self.measured(candidates, "tuned", screened=screened)
        return [
            Outcome(
                candidate,
                select_score(measurement, clean, rows, effect=effect),
                tuned=persona_scores(measurement, rows),
                screened=screened,
            )
            for candidate, measurement in zip(candidates, measured, strict=True)
            if not measurement.failed
        ]

    def finals(self, outcomes: Sequence[Outcome], limits: Limits) -> list[Outcome]:
        """Those that lead the screen on all rows, ablations with closure, and then the others as they are."""
        leading = leaders(outcomes, limits)
        final = self.closed(self.attempt([one.candidate for one in leading]))
        return [*final, *(one for one in outcomes if all(one is not other for other in leading))]

    def closed(self, outcomes: Sequence[Outcome]) -> list[Outcome]:
        """The same, with the closure of ablations."""
        leading = of_kind(outcomes, "ablate")
        measured = self.measured([one.candidate for one in leading], "base")
        shift = float((self.scores("tuned") - self.scores("base")).mean())
        by_outcome = {
            id(one): persona_scores(measurement, self.bench.battery.persona)
            for one, measurement in zip(leading, measured, strict=True)
            if not measurement.failed
        }

        def with_base(one: Outcome) -> Outcome:
            if id(one) not in by_outcome:
                return one
            base = by_outcome[id(one)]
            gap = float((one.tuned - base).mean())
            return replace(one, base=base, closure=1 - gap / shift if shift > 0 else None)

        return [with_base(one) for one in outcomes]


def leaders(outcomes: Sequence[Outcome], limits: Limits) -> list[Outcome]:
    """Who leads the screen, in the order of trying: the ablations of one block and the steerings with the
    best R, and all ablations that act at more than one block or not toward the base mean."""
    ablations, steerings = (ranked(of_kind(outcomes, kind), limits) for kind in ("ablate", "steer"))
    plain = [one for one in ablations if (one.candidate.form.where, one.candidate.form.toward) == PLAIN]
    other = [one for one in ablations if all(one is not same for same in plain)]
    chosen = {id(one) for one in (*plain[:FINALISTS], *other, *steerings[:FINALISTS])}
    return [one for one in outcomes if id(one) in chosen]


PLAIN = ("layer", "base mean")


def selected(job: Job, fitted: Fitted, *, limits: Limits) -> Selection:
    """Measure candidates on the select questions until method, layer, form and strength are known."""
    config, reporter = job.config, job.reporter
    here = SelectBench(job.select, job.screen, fitted, reporter)
    base, tuned = here.scores("base"), here.scores("tuned")
    effect = paired_difference(tuned, base, seed=config.seed)
    shift = interval(effect, digits=3, sign=True)
    reporter.note(f"on the select questions tuning moved S by {shift} nats per token")
    n_layers = len(fitted.hook_points)
    check_layers(config.layers, n_layers)
    outcomes = search(
        fitted.sets,
        layers=config.layers or range(n_layers),
        screened=config.layers or screened_layers(n_layers, config.layers_screened),
        median_norm=fitted.median_norm,
        limits=limits,
        skip_first=config.skip_first,
        attempt=here.screened,
        readable=lambda directions, layer: _readable(job, directions, layer),
    )
    outcomes = here.finals(outcomes, limits)
    options = [outcome.option for outcome in outcomes if not outcome.screened]
    choice = chosen(options, tuned=tuned, base=base, limits=limits, seed=config.seed)
    outcomes, also = _other_kind(here, outcomes, choice, limits)
    best = outcomes[choice.chosen]
    wins = choice.wins.get(choice.chosen, 0.0)
    reporter.note(
        f"chosen: {_words(best.candidate)}; it wins {percent(wins)} of the draws of select questions,"
        f" standard error of its gain {number(choice.error)}"
    )
    ablates = best.candidate.form.kind == "ablate"
    return Selection(
        outcomes=outcomes,
        choice=choice,
        ablation=best if ablates else also,
        steering=also if ablates else best,
    )


def _words(one: Candidate) -> str:
    """A candidate in a few words."""
    place = f"{one.form.kind} {one.method} at {one.direction.hook_point}"
    if one.form.where == "own" and one.form.band:
        first, last = one.form.band
        place = f"{one.form.kind} each block's own {one.method} direction in blocks {first} to {last}"
    return f"{place}, obliquely" if one.form.oblique else place


def _readable(job: Job, directions: DirectionSet, layer: int) -> DirectionSet | None:
    """A method's directions with a row to read along at one layer; None where the tokens do not say one."""
    find = read(job.pair, job.run, "tuned", job.rows["find"], job.reading)
    try:
        return with_reads(directions, find, [directions.hook_points[layer]])
    except BadInput as error:
        job.reporter.note(f"note: no oblique ablation at layer {layer}: {error}")
        return None


def _other_kind(
    here: SelectBench, outcomes: list[Outcome], choice: Choice, limits: Limits
) -> tuple[list[Outcome], Outcome]:
    """All outcomes, and the best steering along the direction of a chosen ablation, or the other way round;
    tried now where it was not tried on all rows."""
    best = outcomes[choice.chosen].candidate
    kind = "steer" if best.form.kind == "ablate" else "ablate"

    def along(tried: Sequence[Outcome]) -> list[Outcome]:
        same = [one for one in of_kind(tried, kind) if one.candidate.place == best.place]
        return ranked([one for one in same if not one.screened], limits)

    if not along(outcomes):
        forms = other_forms(kind, best.form.skip_first)
        outcomes = [*outcomes, *here.attempt([replace(best, form=form) for form in forms])]
    usable = along(outcomes)
    if not usable:
        raise BadInput(
            f"no {kind} along the {best.method} direction of {best.direction.hook_point} gave finite numbers:"
            " try --dtype float32"
        )
    return outcomes, usable[0]


def latent_arms(config: Config, fitted: Fitted, sae: Sae, bench: Bench, *, limits: Limits) -> list[Arm]:
    """Arms on SAE latents, chosen on the select questions as candidates are."""
    rows, clean = bench.battery.persona, bench.baseline("tuned")
    effect = float((persona_scores(clean, rows) - persona_scores(bench.baseline("base"), rows)).mean())

    def merit(arms: list[Arm]) -> list[tuple[bool, float, float]]:
        measured = bench.measure(arms)
        return [select_score(m, clean, rows, effect=effect).merit(limits) for m in measured]

    norm = float(fitted.median_norm[fitted.hook_points.index(sae.hook_point)])
    return chosen_latent_arms(
        fitted.sets, sae, median_norm=norm, skip_first=config.skip_first, merit=merit, seed=config.seed
    )

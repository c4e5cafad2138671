"""The latent experiment, start to end: read, rank, screen, sets, confirm, contexts."""

from collections.abc import Sequence
from dataclasses import dataclass

from persona_probe.base.cli import Clock, Reporter
from persona_probe.experiments.checkup import examine
from persona_probe.experiments.confirmation import (
    DirectionResult,
    SetResult,
    confirmed_latents,
    measured_directions,
    measured_sets,
)
from persona_probe.experiments.latent_config import LatentConfig
from persona_probe.experiments.latent_reading import LatentJob, Reading, fit_of, means_of, reading_of
from persona_probe.experiments.latent_trials import TUNED_FIRST, Screening, Trials, screening
from persona_probe.experiments.opening import read_data
from persona_probe.measurement.arms import Battery, Measurement, persona_scores
from persona_probe.measurement.bench import Bench
from persona_probe.measurement.forced_choice import choice_rows
from persona_probe.measurement.kept import MEGABYTE, Budget
from persona_probe.models.pairs import SIDES, Pair, Side
from persona_probe.prompts.contrast import Contrast, read_benign, shipped
from persona_probe.prompts.rows import Row, Split
from persona_probe.records.parts import EngineFacts
from persona_probe.saes.contexts import Firing, firing, logit_lens
from persona_probe.saes.decomposition import Decomposition, decompose
from persona_probe.saes.diff import LatentMeans
from persona_probe.saes.quality import Quality
from persona_probe.saes.sae import Sae
from persona_probe.storage.runs import Run

SIZES = (1, 2, 5, 10, 20, 50, 100)  # decoder rows in the decomposition
N_QUALITY_ROWS = 32
CHOICE_EVERY = 6  # forced choice is asked on one select question in so many: letters are a side reading


@dataclass(frozen=True, eq=False)
class Reported:
    """What is known of the latents that get a page: measured on test, where they fire, what their decoder
    rows say.
    """

    latents: list[int]
    confirmed: dict[int, dict[str, Measurement]]
    firing: dict[Side, Firing]
    lens: dict[int, dict[str, list[tuple[str, float]]]]


@dataclass(frozen=True, eq=False)
class LatentResult:
    """Everything the record is written from. `untouched` are both models on the test battery."""

    contrast: Contrast
    screen: Battery
    test: Battery
    untouched: dict[Side, Measurement]
    examined: dict[Side, EngineFacts]
    reading: Reading
    screening: Screening
    sets: list[SetResult]
    directions: list[DirectionResult]
    decompositions: dict[str, Decomposition]
    reported: Reported
    length: float
    timing: dict[str, float]


@dataclass(frozen=True, eq=False)
class _Benches:
    """Where arms are measured: `screen` chooses, `test` reports, `whole` has all replies to the select
    questions.
    """

    screen: Bench
    test: Bench
    whole: Bench

    def select_score(self, side: Side) -> float:
        """S of an untouched model on the select questions with all their replies."""
        return float(persona_scores(self.whole.baseline(side), self.whole.battery.persona).mean())


def run_latents(config: LatentConfig, pair: Pair, sae: Sae, run: Run, reporter: Reporter) -> LatentResult:
    """Every stage that is not already kept in the run's folder. One model is in memory at a time; five
    loads in all.
    """
    clock = Clock()
    contrast, rows = read_data(config, pair, reporter)
    job = LatentJob(config=config, pair=pair, sae=sae, run=run, reporter=reporter, find=rows["find"])
    benches = _benches(job, contrast, rows)
    examined, reading = _read(job, benches, rows["test"][:N_QUALITY_ROWS])
    clock.lap("latents")
    trials = Trials(
        config=config,
        sae=sae,
        reporter=reporter,
        select=benches.screen,
        test=benches.test,
        effect=benches.select_score("tuned") - benches.select_score("base"),
        length=config.dose * reading.diff.tuned.median_norm,
    )
    screened = screening(trials, reading)
    clock.lap("screen")
    sets = measured_sets(trials, screened.labelled, screened.matched)
    directions = measured_directions(trials, reading.diff)
    clock.lap("sets")
    reported = _reported(job, trials, screened.reported(config.n_reported))
    clock.lap("reported latents")
    vectors = {"mean_diff": reading.diff.mean_diff, "shift": reading.diff.stream_shift}
    return LatentResult(
        contrast=contrast,
        screen=benches.screen.battery,
        test=benches.test.battery,
        untouched={side: benches.test.baseline(side) for side in SIDES},
        examined=examined,
        reading=reading,
        screening=screened,
        sets=sets,
        directions=directions,
        decompositions={
            name: decompose(sae, vector, alive=reading.diff.alive, n=max(SIZES), seed=config.seed)
            for name, vector in vectors.items()
        },
        reported=reported,
        length=trials.length,
        timing=clock.laps(),
    )


def _benches(job: LatentJob, contrast: Contrast, rows: dict[Split, tuple[Row, ...]]) -> _Benches:
    """Select questions with one reply of a label, letters and a few benign texts; test questions; no text
    is in both.
    """
    config, tokenizer = job.config, job.pair.tokenizer
    limit = config.limit or config.n_benign + config.n_screen_benign
    benign = tuple(read_benign(config.benign or shipped("benign.jsonl"), tokenizer, limit=limit))
    cut = min(config.n_screen_benign, len(benign) // 2)
    one_each = [row for row in rows["select"] if row.reply_index == 0]
    letters = choice_rows(contrast.split("select")[::CHOICE_EVERY], tokenizer)

    budget = Budget(config.memory * MEGABYTE)

    def bench(persona: Sequence[Row], benign: tuple[Row, ...], *, expected: tuple[str, ...] = ()) -> Bench:
        return Bench(
            job.pair,
            job.run,
            Battery(tuple(persona), benign),
            config.max_tokens,
            keep_kl=False,
            budget=budget,
            expected=expected,
        )

    edited = (job.sae.hook_point,)
    return _Benches(
        screen=bench([*one_each, *letters], benign[:cut], expected=edited),
        test=bench(rows["test"], benign[cut:], expected=edited),
        whole=bench(rows["select"], benign[:cut]),
    )


def _read(
    job: LatentJob, benches: _Benches, quality_rows: Sequence[Row]
) -> tuple[dict[Side, EngineFacts], Reading]:
    """All that is read from each untouched model while it is in memory: its engine, its scores, its
    latents.
    """
    examined: dict[Side, EngineFacts] = {}
    means: dict[Side, LatentMeans] = {}
    fit: dict[Side, Quality] = {}
    for side in SIDES:
        job.reporter.note(f"reading latents of the {side} model")
        examined[side] = examine(job.pair, job.run, side, job.reporter.note)
        for bench in (benches.screen, benches.test, benches.whole):
            bench.baseline(side)  # kept in the run
        means[side] = means_of(job, side)
        fit[side] = fit_of(job, side, quality_rows)
    reading = reading_of(job, means, fit)
    for note in reading.notes:
        job.reporter.note(f"note: {note}")
    return examined, reading


def _reported(job: LatentJob, trials: Trials, latents: list[int]) -> Reported:
    """The reported latents on the test questions, and the contexts they fire in: find rows and benign
    texts.
    """
    confirmed: dict[int, dict[str, Measurement]] = {latent: {} for latent in latents}
    fired: dict[Side, Firing] = {}
    lens = {}
    for side in TUNED_FIRST:
        for latent, measured in confirmed_latents(trials, latents, side).items():
            confirmed[latent] |= measured
        job.reporter.note(f"reading contexts in the {side} model")
        model = job.pair.get(side)
        parts = [*job.streams(side), *job.read(side, trials.test.battery.benign)]
        fired[side] = firing(model, parts, job.sae, latents, side=side, n_examples=job.config.n_examples)
        if side == "tuned":
            lens = {latent: logit_lens(model, job.sae.W_dec[latent].float()) for latent in latents}
    return Reported(latents=latents, confirmed=confirmed, firing=fired, lens=lens)

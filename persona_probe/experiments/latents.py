"""The latent experiment, start to end: read, rank, screen, sets, confirm, contexts."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from persona_probe.base.cli import Clock, Reporter
from persona_probe.experiments.checkup import examine
from persona_probe.experiments.confirmation import (
    DirectionResult,
    Measured,
    SetResult,
    chosen_directions,
    chosen_sets,
    confirmed_latents,
    measured_directions,
    tuned_sets,
    with_base,
)
from persona_probe.experiments.latent_config import LatentConfig
from persona_probe.experiments.latent_reading import LatentJob, Reading, fit_of, means_of, reading_of
from persona_probe.experiments.latent_trials import TUNED_FIRST, Screening, Trials, screening
from persona_probe.experiments.opening import read_data
from persona_probe.measurement.arms import Battery, Measurement, persona_scores
from persona_probe.measurement.bench import Bench
from persona_probe.measurement.forced_choice import choice_rows
from persona_probe.measurement.kept import MEGABYTE, Budget
from persona_probe.measurement.limits import Between, Limits, Places, kl_between, next_tokens
from persona_probe.models.pairs import SIDES, Pair, Side
from persona_probe.prompts.contrast import Contrast, shipped
from persona_probe.prompts.contrast_files import read_benign
from persona_probe.prompts.rows import Row, Split, rows_key
from persona_probe.records.parts import EngineFacts
from persona_probe.saes.contexts import Firing, firing, logit_lens
from persona_probe.saes.decomposition import Decomposition, decompose
from persona_probe.saes.diff import LatentMeans
from persona_probe.saes.quality import Quality
from persona_probe.saes.sae import Sae
from persona_probe.storage.files import sha256_json
from persona_probe.storage.runs import Run

SIZES = (1, 2, 5, 10, 20, 50, 100)  # decoder rows in the decomposition
N_QUALITY_ROWS = 32
MOST_TEXTS = 24  # benign texts on which the distance of both models is measured
CHOICE_EVERY = 6  # forced choice is asked on one select question in so many: letters are a side reading


@dataclass(frozen=True, eq=False)
class Reported:
    """What is known of the latents that get a page: measured on test, where they fire, what their decoder
    rows say.
    """

    latents: list[int]
    confirmed: dict[int, dict[str, Measured]]
    firing: dict[Side, Firing]
    lens: dict[int, dict[str, list[tuple[str, float]]]]


@dataclass(frozen=True, eq=False)
class LatentResult:
    """Everything the record is written from. `untouched` are both models on the test battery; `limits`: the
    damage allowed on its benign texts; `n_tried`: sets of latents that were tried on select.
    """

    contrast: Contrast
    screen: Battery
    test: Battery
    untouched: dict[Side, Measurement]
    examined: dict[Side, EngineFacts]
    reading: Reading
    screening: Screening
    limits: Limits
    n_tried: int
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

    def shift(self) -> np.ndarray:
        """S_tuned - S_base of every select question with all its replies."""
        tuned, base = (
            persona_scores(self.whole.baseline(side), self.whole.battery.persona)
            for side in ("tuned", "base")
        )
        return tuned - base


def run_latents(config: LatentConfig, pair: Pair, sae: Sae, run: Run, reporter: Reporter) -> LatentResult:
    """Every stage that is not already kept in the run's folder. One model is in memory at a time; five
    loads in all: base, tuned for reading and the screen, base for the screen and its ablated sets, tuned for
    sets and what is reported, base for the same.
    """
    clock = Clock()
    contrast, rows = read_data(config, pair, reporter)
    job = LatentJob(config=config, pair=pair, sae=sae, run=run, reporter=reporter, find=rows["find"])
    benches = _benches(job, contrast, rows)
    read = _read(job, benches, rows["test"][:N_QUALITY_ROWS])
    reading = read.reading
    clock.lap("latents")
    trials = Trials(
        config=config,
        sae=sae,
        reporter=reporter,
        select=benches.screen,
        test=benches.test,
        shift=benches.shift(),
        length=config.dose * reading.diff.tuned.median_norm,
    )
    screened = screening(trials, reading)
    clock.lap("screen")
    tried = chosen_sets(trials, screened.labelled, screened.terms)
    uses = chosen_directions(trials, reading.diff, screened.terms)
    taken = [latent.latent for latent in screened.labelled]
    sets = tuned_sets(trials, tried, screened.matched, reading.diff, taken=taken)
    directions = measured_directions(trials, uses)
    clock.lap("sets")
    reported = _reported(job, trials, screened.reported(config.n_reported))
    clock.lap("reported latents")
    sets = with_base(trials, sets)
    clock.lap("sets on base")
    vectors = {"mean_diff": reading.diff.mean_diff, "shift": reading.diff.stream_shift}
    return LatentResult(
        contrast=contrast,
        screen=benches.screen.battery,
        test=benches.test.battery,
        untouched={side: benches.test.baseline(side) for side in SIDES},
        examined=read.examined,
        reading=reading,
        screening=screened,
        limits=Limits.of(config.budget, between=read.between),
        n_tried=tried.n_tried,
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

    def bench(
        persona: Sequence[Row], benign: tuple[Row, ...], *, keep_kl: bool = False, early: bool = False
    ) -> Bench:
        return Bench(
            job.pair,
            job.run,
            Battery(tuple(persona), benign),
            config.max_tokens,
            keep_kl=keep_kl,
            budget=budget,
            expected=(job.sae.hook_point,) if early else (),
        )

    return _Benches(
        screen=bench([*one_each, *letters], benign[:cut], early=True),
        test=bench(rows["test"], benign[cut:], keep_kl=True, early=True),
        whole=bench(rows["select"], benign[:cut]),
    )


@dataclass(frozen=True, eq=False)
class _Read:
    """What is known of both untouched models; `between` is what lies between them on the benign texts of
    test."""

    examined: dict[Side, EngineFacts]
    reading: Reading
    between: Between


def _read(job: LatentJob, benches: _Benches, quality_rows: Sequence[Row]) -> _Read:
    """All that is read from each untouched model while it is in memory: its engine, its scores, its
    latents, and how far it is from the other on benign texts.
    """
    examined: dict[Side, EngineFacts] = {}
    means: dict[Side, LatentMeans] = {}
    fit: dict[Side, Quality] = {}
    places: dict[Side, Places] = {}
    benign = benches.test.battery.benign[:MOST_TEXTS]
    apart = sha256_json(
        ["apart", job.pair.key("base"), job.pair.key("tuned"), rows_key(benign), str(job.pair.dtype)]
    )
    for side in SIDES:
        job.reporter.note(f"reading latents of the {side} model")
        examined[side] = examine(job.pair, job.run, side, job.reporter.note)
        for bench in (benches.screen, benches.test, benches.whole):
            bench.baseline(side)  # kept in the run
        means[side] = means_of(job, side)
        fit[side] = fit_of(job, side, quality_rows)
        if job.run.get(apart) is None:
            places[side] = next_tokens(job.pair.get(side), benign, max_tokens=job.config.max_tokens)
    kl = job.run.once(apart, lambda: {"kl": kl_between(benign, places["tuned"], places["base"])})["kl"]
    reading = reading_of(job, means, fit)
    for note in reading.notes:
        job.reporter.note(f"note: {note}")
    between = Between.of(benches.test.baseline("base"), benches.test.baseline("tuned"), kl)
    return _Read(examined, reading, between)


def _reported(job: LatentJob, trials: Trials, latents: list[int]) -> Reported:
    """The reported latents on the test questions, and the contexts they fire in: find rows and benign
    texts.
    """
    confirmed: dict[int, dict[str, Measured]] = {latent: {} for latent in latents}
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

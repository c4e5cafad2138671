"""The latent experiment, start to end: diff, rank, screen, confirm, sets, contexts. Questions keep their splits throughout."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain
from typing import Any

from torch import Tensor

from persona_probe.base.cli import Clock, Reporter
from persona_probe.base.errors import BadInput
from persona_probe.directions.fitting import split_rows
from persona_probe.experiments.checkup import examine
from persona_probe.experiments.confirmation import (
    SetResult,
    confirmed_latents,
    measured_directions,
    measured_sets,
)
from persona_probe.experiments.latent_config import LatentConfig
from persona_probe.measurement.arms import Battery, Measurement, delta_nll, persona_scores
from persona_probe.measurement.bench import Bench
from persona_probe.measurement.forced_choice import choice_rows
from persona_probe.models.pairs import SIDES, Pair, Side
from persona_probe.prompts.chat import Row, Split, rows_key
from persona_probe.prompts.contrast import Contrast, read_benign, read_contrast, shipped
from persona_probe.saes.attribution import attribution
from persona_probe.saes.contexts import Firing, firing, logit_lens
from persona_probe.saes.decomposition import Decomposition, decompose
from persona_probe.saes.diff import (
    ALIVE,
    LatentDiff,
    LatentMeans,
    candidates,
    decoder_cosines,
    latent_means,
    matched,
    ranks,
)
from persona_probe.saes.quality import Quality, quality
from persona_probe.saes.sae import Sae
from persona_probe.saes.screen import ARMS, Effect, Screened, effect_of, latent_arm, screened
from persona_probe.saes.sets import sensitivity
from persona_probe.storage.files import sha256_json
from persona_probe.streams.activations import TokenActs, read_tokens
from persona_probe.streams.runs import Run

SIZES = (1, 2, 5, 10, 20, 50, 100)  # decoder rows in the decomposition
N_CONTROLS = 10  # of the latents screened, this many are matched controls (a tenth when fewer are asked for)
N_QUALITY_ROWS = 32
CHOICE_EVERY = 6  # forced choice is asked on one select question in so many: letters are a side reading


@dataclass(frozen=True, eq=False)
class LatentResult:
    """Everything the record is written from."""

    contrast: Contrast
    diff: LatentDiff
    fit: dict[str, Quality]
    scores: dict[str, Tensor]
    rankings: dict[str, dict[int, int]]
    screened: list[Screened]
    controls: dict[int, Screened]
    confirmed: dict[int, dict[str, Measurement]]
    sets: list[SetResult]
    directions: list[tuple[str, str, Measurement]]
    decompositions: dict[str, Decomposition]
    firing: dict[str, Firing]
    lens: dict[int, dict[str, list[tuple[str, float]]]]
    clean: dict[str, Measurement]
    screen: Battery
    test: Battery
    reported: list[int]
    layer: int
    length: float
    failed: list[str]
    examined: dict[Side, dict[str, Any]]
    timing: dict[str, float] = field(default_factory=dict)


def run_latents(config: LatentConfig, pair: Pair, sae: Sae, run: Run, reporter: Reporter) -> LatentResult:
    """Every stage that is not already kept in the run's folder. One model is in memory at a time; five loads in all."""
    clock = Clock()
    contrast = read_contrast(
        config.contrast or shipped("contrast.jsonl"),
        replies_per_question=config.replies_per_question,
        limit=config.limit,
    )
    for note in contrast.notes:
        reporter.note(f"data: {note}")
    rows = split_rows(contrast, pair.tokenizer)
    batteries = _batteries(config, pair, contrast, rows)
    screen, final = (
        Bench(
            pair,
            run,
            battery,
            config.max_tokens,
            keep_kl=False,
            arms_at_once=config.arms_at_once,
            expected=(sae.hook_point,),
        )
        for battery in batteries
    )
    whole = Bench(pair, run, Battery(rows["select"], batteries[0].benign), config.max_tokens, keep_kl=False)
    clean: dict[str, Measurement] = {}
    select: dict[str, float] = {}
    means: dict[str, LatentMeans] = {}
    fit: dict[str, Quality] = {}
    streams = {side: Streams(config, pair, sae, side, rows["find"]) for side in SIDES}
    examined: dict[Side, dict[str, Any]] = {}
    for side in SIDES:
        reporter.note(f"reading latents of the {side} model")
        examined[side] = examine(pair, run, side, reporter.note)
        clean |= {f"screen {side}": screen.baseline(side), f"test {side}": final.baseline(side)}
        select[side] = float(persona_scores(whole.baseline(side), rows["select"]).mean())
        means[side] = _means(config, pair, sae, run, streams[side])
        fit[side] = _quality(config, pair, sae, run, side, rows["test"][:N_QUALITY_ROWS])
    diff = LatentDiff(means["base"], means["tuned"], sae.W_dec.norm(dim=-1).cpu())
    scores = _scores(config, pair, sae, run, diff, _thinned(rows["find"], 1))
    rankings = {name: ranks(values, diff.alive) for name, values in scores.items()}
    clock.lap("latents")
    shift = select["tuned"] - select["base"]
    length = config.dose * diff.tuned.median_norm

    n_controls = min(N_CONTROLS, max(1, config.n_latents // 10))
    chosen = candidates(rankings, max(1, config.n_latents - n_controls))
    if not chosen:
        raise BadInput(
            f"SAE {sae.id}: no latent fires on {ALIVE:.0e} of the tokens of either model, there is nothing to rank"
        )
    partners = _partners(chosen, diff, n_controls)
    reporter.note(
        f"screening {len(chosen)} of {int(diff.alive.sum())} living latents, and {len(partners)} matched controls"
    )
    effects, failed = _screen(config, sae, screen, clean, [*chosen, *partners.values()], length, reporter)
    cost = delta_nll(clean["screen tuned"], clean["screen base"])
    everything = {found.latent: found for found in screened(effects, budget=config.budget, persona_cost=cost)}
    labelled = [everything[latent] for latent in chosen if latent in everything]
    controls = {latent: everything[partner] for latent, partner in partners.items() if partner in everything}
    clock.lap("screen")

    reported = _reported(labelled, config.n_reported)
    all_partners = partners | {
        latent: other
        for latent in (found.latent for found in labelled)
        if latent not in partners
        and (other := matched(latent, diff, among=_living(diff), taken=[*chosen, *partners.values()]))
        is not None
    }
    sets = measured_sets(config, sae, screen, final, clean, labelled, all_partners, length, shift, reporter)
    directions = measured_directions(
        config, screen, final, clean, diff, sae.hook_point, length, shift, reporter
    )
    clock.lap("sets")
    confirmed = confirmed_latents(config, sae, final, reported, length, reporter)
    clock.lap("confirmation")
    reporter.note("reading contexts")
    shown = {}
    for side in SIDES:
        parts = chain(streams[side].parts, Streams(config, pair, sae, side, batteries[1].benign).parts)
        shown[side] = firing(pair.get(side), parts, sae, reported, n_examples=config.n_examples)
    lens = {latent: logit_lens(pair.get("tuned"), sae.W_dec[latent].float()) for latent in reported}
    clock.lap("contexts")
    decompositions = {
        name: decompose(sae, vector, alive=diff.alive, n=max(SIZES), seed=config.seed)
        for name, vector in (("mean_diff", diff.mean_diff), ("shift", diff.stream_shift))
    }
    return LatentResult(
        contrast,
        diff,
        fit,
        scores,
        rankings,
        labelled,
        controls,
        confirmed,
        sets,
        directions,
        decompositions,
        shown,
        lens,
        clean,
        *batteries,
        reported,
        sae.layer,
        length,
        failed,
        examined,
        clock.laps(),
    )


def _batteries(
    config: LatentConfig, pair: Pair, contrast: Contrast, rows: dict[Split, tuple[Row, ...]]
) -> tuple[Battery, Battery]:
    """The screen's rows (select questions, one reply of a label, letters, a few benign texts) and the test's; no text is in both."""
    limit = config.limit or config.n_benign + config.n_screen_benign
    benign = read_benign(config.benign or shipped("benign.jsonl"), pair.tokenizer, limit=limit)
    cut = min(config.n_screen_benign, len(benign) // 2)
    select = (
        *_thinned(rows["select"], 1),
        *choice_rows(contrast.split("select")[::CHOICE_EVERY], pair.tokenizer),
    )
    return Battery(select, tuple(benign[:cut])), Battery(rows["test"], tuple(benign[cut:]))


def _thinned(rows: Sequence[Row], replies: int) -> tuple[Row, ...]:
    return tuple(row for row in rows if row.reply_index < replies)


@dataclass(frozen=True, eq=False)
class Streams:
    """The stream of one side on some rows, read when it is first needed and kept in the model's own precision."""

    config: LatentConfig
    pair: Pair
    sae: Sae
    side: Side
    rows: Sequence[Row]

    @cached_property
    def parts(self) -> list[TokenActs]:
        """All tokens. Memory: tokens x d_model, in the model's dtype."""
        read = read_tokens(
            self.pair.get(self.side),
            self.rows,
            hook_point=self.sae.hook_point,
            scope=self.config.scope,
            max_tokens=2 * self.config.max_tokens,
        )
        return [replace(part, resid=part.resid.to(self.pair.dtype)) for part in read]


def _means(config: LatentConfig, pair: Pair, sae: Sae, run: Run, streams: Streams) -> LatentMeans:
    key = sha256_json(
        [
            "latent means",
            pair.key(streams.side),
            sae.sha256,
            rows_key(streams.rows),
            config.scope,
            str(pair.dtype),
        ]
    )
    return LatentMeans.from_tensors(run.tensors(key, lambda: latent_means(streams.parts, sae).tensors()))


def _quality(
    config: LatentConfig, pair: Pair, sae: Sae, run: Run, side: Side, rows: Sequence[Row]
) -> Quality:
    key = sha256_json(["quality", pair.key(side), sae.sha256, rows_key(rows), config.scope, str(pair.dtype)])
    return Quality(
        **run.once(
            key,
            lambda: quality(
                pair.get(side), sae, rows, scope=config.scope, max_tokens=config.max_tokens
            ).json(),
        )
    )


def _scores(
    config: LatentConfig, pair: Pair, sae: Sae, run: Run, diff: LatentDiff, rows: Sequence[Row]
) -> dict[str, Tensor]:
    """Every ranking's score of every latent; high is towards tuned, misaligned, or raising S."""
    key = sha256_json(
        ["attribution", pair.key("tuned"), sae.sha256, rows_key(rows), config.skip_first, str(pair.dtype)]
    )

    def make() -> dict[str, Tensor]:
        return {
            "scores": attribution(
                pair.get("tuned"), sae, rows, max_tokens=config.max_tokens, skip_first=config.skip_first
            )
        }

    return {
        "shift": diff.shift,
        "label": diff.label,
        "cosine with mean_diff": decoder_cosines(sae, diff.mean_diff),
        "cosine with shift": decoder_cosines(sae, diff.stream_shift),
        "attribution": run.tensors(key, make)["scores"],
    }


def _living(diff: LatentDiff) -> list[int]:
    return [int(latent) for latent in diff.alive.nonzero()[:, 0]]


def _partners(chosen: Sequence[int], diff: LatentDiff, n: int) -> dict[int, int]:
    """Controls for `n` of the candidates, evenly spread, each used once."""
    found: dict[int, int] = {}
    for latent in chosen[:: max(1, len(chosen) // n)][:n]:
        other = matched(latent, diff, among=_living(diff), taken=[*chosen, *found.values()])
        if other is not None:
            found[latent] = other
    return found


def _screen(
    config: LatentConfig,
    sae: Sae,
    bench: Bench,
    clean: dict[str, Measurement],
    latents: Sequence[int],
    length: float,
    reporter: Reporter,
) -> tuple[dict[int, dict[str, Effect]], list[str]]:
    """Effects of all arms of all latents on the select questions; tuned first, because it is in memory."""
    effects: dict[int, dict[str, Effect]] = {latent: {} for latent in latents}
    failed = []
    for side in ("tuned", "base"):
        names = [name for name, own in ARMS.items() if own == side]
        arms = [
            (latent, name, latent_arm(sae, latent, name, length=length, skip_first=config.skip_first))
            for latent in latents
            for name in names
        ]
        with reporter.phase(f"latents on the {side} model, select questions", len(arms)) as advance:
            measured = bench.measure([arm for *_, arm in arms], advance=advance)
        for (latent, name, arm), measurement in zip(arms, measured, strict=True):
            if measurement.failed:
                failed.append(f"{arm.name}: {measurement.failed}")
            else:
                effects[latent][name] = effect_of(
                    measurement, clean[f"screen {side}"], bench.battery, seed=config.seed
                )
    return {latent: own for latent, own in effects.items() if len(own) == len(ARMS)}, failed


def _reported(labelled: Sequence[Screened], n: int) -> list[int]:
    """The latents that get a page: those that carry first, then protective, then by size of effect."""
    order = {"carries": 0, "protective": 1, "one-way": 2, "inert": 3, "harmful": 4}
    return [
        found.latent
        for found in sorted(labelled, key=lambda found: (order[found.label], -abs(sensitivity(found))))[:n]
    ]

"""What the select questions decide: which direction, at which layer, used how, and which SAE latents."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from persona_probe.base.cli import Reporter
from persona_probe.base.formatting import interval
from persona_probe.directions.fitting import Fitted
from persona_probe.experiments.direction_config import Config
from persona_probe.experiments.options import check_layers
from persona_probe.measurement.arms import Arm, Battery, persona_scores
from persona_probe.measurement.bench import Bench
from persona_probe.measurement.ranking import select_score
from persona_probe.measurement.search import Candidate, Outcome, along, ranked, screened_layers, search
from persona_probe.measurement.statistics import paired_difference
from persona_probe.models.pairs import Pair
from persona_probe.prompts.contrast import read_benign, shipped
from persona_probe.prompts.rows import Row, Split
from persona_probe.saes.direction_arms import chosen_latent_arms
from persona_probe.saes.sae import Sae

SELECT_REPLIES = 2  # replies of each label per select question while dozens of candidates are compared


@dataclass(frozen=True, eq=False)
class Selection:
    """Everything that was tried, the best of it, and the best ablation and steering along its direction."""

    outcomes: list[Outcome]
    chosen: Outcome
    ablation: Outcome
    steering: Outcome


def batteries(config: Config, pair: Pair, rows: Mapping[Split, tuple[Row, ...]]) -> tuple[Battery, Battery]:
    """What is scored while selecting, and what is reported: other questions and other benign texts."""
    n_select = max(2, config.n_benign // 3)
    limit = config.limit * 2 if config.limit else config.n_benign + n_select
    benign = read_benign(config.benign or shipped("benign.jsonl"), pair.tokenizer, limit=limit)
    cut = min(n_select, len(benign) // 3)
    select = tuple(row for row in rows["select"] if row.reply_index < SELECT_REPLIES)
    return (
        Battery(persona=select, benign=tuple(benign[:cut])),
        Battery(persona=rows["test"], benign=tuple(benign[cut:])),
    )


def selected(config: Config, fitted: Fitted, bench: Bench, reporter: Reporter) -> Selection:
    """Measure candidates on the select questions until method, layer, form and strength are known."""
    base, tuned, rows = bench.baseline("base"), bench.baseline("tuned"), bench.battery.persona
    effect = paired_difference(persona_scores(tuned, rows), persona_scores(base, rows), seed=config.seed)
    shift = interval(effect, digits=3, sign=True)
    reporter.note(f"on the select questions tuning moved S by {shift} nats per token")

    def attempt(candidates: Sequence[Candidate]) -> list[Outcome]:
        used = {"hook_points": fitted.hook_points, "means": fitted.base_mean}
        arms = [
            Arm(f"candidate-{i}", "tuned", candidate.form.interventions(candidate.direction, **used))
            for i, candidate in enumerate(candidates)
        ]
        with reporter.phase("candidates on the select questions", len(arms)) as advance:
            measured = bench.measure(arms, advance=advance)
        return [
            Outcome(candidate, select_score(measurement, tuned, rows, effect=effect.estimate))
            for candidate, measurement in zip(candidates, measured, strict=True)
            if not measurement.failed
        ]

    n_layers = len(fitted.hook_points)
    check_layers(config.layers, n_layers)
    outcomes = search(
        fitted.sets,
        layers=config.layers or range(n_layers),
        screened=config.layers or screened_layers(n_layers, config.layers_screened),
        median_norm=fitted.median_norm,
        budget=config.budget,
        skip_first=config.skip_first,
        attempt=attempt,
    )
    chosen = ranked(outcomes, config.budget)[0]
    return Selection(
        outcomes=outcomes,
        chosen=chosen,
        ablation=along(outcomes, chosen, "ablate", config.budget),
        steering=along(outcomes, chosen, "steer", config.budget),
    )


def latent_arms(config: Config, fitted: Fitted, sae: Sae, bench: Bench) -> list[Arm]:
    """Arms on SAE latents, chosen on the select questions as candidates are."""
    rows, clean = bench.battery.persona, bench.baseline("tuned")
    effect = float((persona_scores(clean, rows) - persona_scores(bench.baseline("base"), rows)).mean())

    def merit(arms: list[Arm]) -> list[tuple[bool, float, float, float]]:
        measured = bench.measure(arms)
        return [select_score(m, clean, rows, effect=effect).merit(config.budget) for m in measured]

    norm = float(fitted.median_norm[fitted.hook_points.index(sae.hook_point)])
    return chosen_latent_arms(
        fitted.sets, sae, median_norm=norm, skip_first=config.skip_first, merit=merit, seed=config.seed
    )

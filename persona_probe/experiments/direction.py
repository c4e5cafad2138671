"""The causal experiment, start to end: read, fit, select, measure arms and controls, sample, record."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from jaxtyping import Float
from torch import Tensor

from persona_probe.base.cli import Clock, Reporter
from persona_probe.directions.estimators import Direction, save_directions
from persona_probe.directions.fitting import Fitted, fit_all, read, split_rows
from persona_probe.experiments.checkup import examine
from persona_probe.experiments.direction_config import Config
from persona_probe.interventions.forms import Form
from persona_probe.interventions.persona_direction import Gauge
from persona_probe.measurement.arms import Arm, Battery, Measurement, persona_scores
from persona_probe.measurement.bench import Bench
from persona_probe.measurement.controls import control_arms, control_directions, matched_directions
from persona_probe.measurement.generation import Request, generate
from persona_probe.measurement.ranking import select_score
from persona_probe.measurement.search import Candidate, Outcome, along, ranked, search
from persona_probe.measurement.statistics import paired_difference
from persona_probe.measurement.traces import second_axis, traced_paths, traced_replies
from persona_probe.models.memory import trim
from persona_probe.models.pairs import Pair, Side
from persona_probe.prompts.chat import Prompt, Row
from persona_probe.prompts.contrast import Contrast, read_benign, read_contrast, shipped
from persona_probe.saes.direction_arms import chosen_latent_arms
from persona_probe.saes.sae import Sae
from persona_probe.storage.files import sha256_json
from persona_probe.streams.runs import Run

SELECT_REPLIES = 2  # replies of each label per select question while dozens of candidates are compared
DOSES = (0.5, 1.0, 2.0)  # multiples of the selected coefficient in the dose-response


@dataclass(frozen=True, eq=False)
class Result:
    """Everything the record is written from."""

    contrast: Contrast
    fitted: Fitted
    matched: Float[Tensor, "hook d_model"]
    outcomes: list[Outcome]
    chosen: Outcome
    ablation: Outcome
    steering: Outcome
    arms: dict[str, tuple[Arm, Measurement]]
    doses: list[tuple[Side, float, Measurement]]
    battery: Battery
    completions: list[dict[str, Any]]
    paths: dict[str, Any]
    read_replies: list[dict[str, Any]]
    n_select_benign: int
    failed: list[str]
    examined: dict[Side, dict[str, Any]]
    timing: dict[str, float] = field(default_factory=dict)


def run_experiment(
    config: Config, pair: Pair, run: Run, reporter: Reporter, sae: Sae | None = None
) -> Result:
    """Run every stage that is not already kept in the run's folder. Base, then tuned, then base again: three loads, one model at a time."""
    clock = Clock()
    contrast = read_contrast(
        config.contrast or shipped("contrast.jsonl"),
        replies_per_question=config.replies_per_question,
        limit=config.limit,
    )
    for note in contrast.notes:
        reporter.note(f"data: {note}")
    rows = split_rows(contrast, pair.tokenizer)
    select, test = batteries(config, pair, rows)
    tried = Bench(pair, run, select, config.max_tokens, keep_kl=False)
    final = Bench(pair, run, test, config.max_tokens)

    examined: dict[Side, dict[str, Any]] = {"base": examine(pair, run, "base", reporter.note)}
    reporter.note("reading the base model")
    tried.baseline("base")
    clock.lap("base")
    reporter.note("reading activations at every layer")
    how: dict[str, Any] = {"scope": config.scope, "max_tokens": config.max_tokens}
    # The activations go, their files stay: the arms get the memory.
    fitted = fit_all(contrast, rows, pair, run, methods=config.methods, seed=config.seed, **how).fitted()
    trim()
    for note in fitted.notes():
        reporter.note(f"note: {note}")
    examined["tuned"] = examine(pair, run, "tuned", reporter.note)
    facts = {
        "methods": list(config.methods),
        "scope": config.scope,
        "find_questions": contrast.hashes("find"),
        "select_questions": contrast.hashes("select"),
        "base_sha256": pair.weights_sha256("base"),
        "tuned_sha256": pair.weights_sha256("tuned"),
        "median_norm": fitted.median_norm.tolist(),
    }
    save_directions(run.path("directions.safetensors"), fitted.sets, metadata=facts)
    clock.lap("directions")

    outcomes = selected(config, fitted, tried, reporter)
    chosen = ranked(outcomes, config.budget)[0]
    ablation, steering = (along(outcomes, chosen, kind, config.budget) for kind in ("ablate", "steer"))
    clock.lap("select")

    own, means = fitted.of(chosen.candidate.method), fitted.base_mean
    find = read(pair, run, "tuned", rows["find"], **how)
    controls = control_directions(
        chosen.candidate.direction,
        layer=chosen.candidate.layer,
        find=find,
        n_each=config.controls,
        n_null=config.null,
        seed=config.seed,
    )
    matched = matched_directions(own, find, seed=config.seed)
    del find
    tuned_arms, base_arms = planned_arms(
        fitted, chosen.candidate, steering.candidate, ablation.candidate, controls
    )
    if sae is not None:
        reporter.note(f"trying latents of SAE {sae.id} at {sae.hook_point}")
        tuned_arms += latent_arms(config, fitted, sae, tried)
        clock.lap("latents")
    doses = dose_arms(steering.candidate, fitted.hook_points, means)
    arms: dict[str, tuple[Arm, Measurement]] = {}
    dosed: list[tuple[Side, float, Measurement]] = []
    completions: list[dict[str, Any]] = []
    failed: list[str] = []
    paths: dict[str, Any] = {}
    read_back: list[dict[str, Any]] = []
    axes = [found for found in (own, second_axis(fitted, own.method)) if found is not None]
    hook = own.hook_points.index(chosen.candidate.direction.hook_point)
    zero = sum(means[hook] for means in fitted.group_means(own.method).values()) / 2
    one_each = [row for row in rows["test"] if row.reply_index == 0]
    sides: tuple[tuple[Side, list[Arm]], ...] = (("tuned", tuned_arms), ("base", base_arms))
    for side, planned in sides:
        wanted = [arm for arm, _ in doses[side]]
        with reporter.phase(f"arms on the {side} model", len(planned) + len(wanted)) as advance:
            measured = final.measure([*planned, *wanted], advance=advance)
        failed += [
            f"{arm.name}: {m.failed}"
            for arm, m in zip([*planned, *wanted], measured, strict=True)
            if m.failed
        ]
        arms.update({arm.name: (arm, m) for arm, m in zip(planned, measured, strict=False) if not m.failed})
        dosed.extend(
            (side, dose, m)
            for (_, dose), m in zip(doses[side], measured[len(planned) :], strict=True)
            if not m.failed
        )
        clock.lap(f"{side} arms")
        told = replies(
            config,
            contrast,
            pair,
            run,
            side,
            [arm for arm in planned if arm.name in SAMPLED and arm.name in arms],
        )
        completions += told
        clock.lap(f"{side} replies")
        kept = [arm for arm in planned if arm.name in arms]
        paths |= traced_paths(
            pair,
            run,
            side,
            kept,
            one_each,
            axes,
            fitted,
            hook=hook,
            max_tokens=config.max_tokens,
            seed=config.seed,
        )
        read_back += traced_replies(
            pair, run, side, told, Gauge(chosen.candidate.direction, zero), max_tokens=config.max_tokens
        )
        clock.lap(f"{side} traces")
    return Result(
        contrast,
        fitted,
        matched,
        outcomes,
        chosen,
        ablation,
        steering,
        arms,
        dosed,
        test,
        completions,
        {"methods": [axis.method for axis in axes], "arms": paths},
        read_back,
        len(select.benign),
        failed,
        examined,
        clock.laps(),
    )


SAMPLED = ("base", "tuned", "tuned+ablate", "tuned-steer", "base+steer", "random-covariance-1")


def batteries(config: Config, pair: Pair, rows: dict[str, tuple[Row, ...]]) -> tuple[Battery, Battery]:
    """What is scored while selecting, and what the reported numbers come from: other questions, other benign texts."""
    n_select = max(2, config.n_benign // 3)
    limit = config.limit * 2 if config.limit else config.n_benign + n_select
    benign = read_benign(config.benign or shipped("benign.jsonl"), pair.tokenizer, limit=limit)
    cut = min(n_select, len(benign) // 3)
    select = tuple(row for row in rows["select"] if row.reply_index < SELECT_REPLIES)
    return Battery(select, tuple(benign[:cut])), Battery(rows["test"], tuple(benign[cut:]))


def selected(config: Config, fitted: Fitted, bench: Bench, reporter: Reporter) -> list[Outcome]:
    """Measure candidates on the select questions until method, layer, form and strength are known."""
    base, tuned = bench.baseline("base"), bench.baseline("tuned")
    base_scores, tuned_scores = (
        persona_scores(base, bench.battery.persona),
        persona_scores(tuned, bench.battery.persona),
    )
    effect = paired_difference(tuned_scores, base_scores, seed=config.seed)
    reporter.note(
        f"on the select questions tuning moved S by {effect.estimate:+.3f} [{effect.low:+.3f}, {effect.high:+.3f}] nats per token"
    )
    means, hook_points = fitted.base_mean, fitted.hook_points

    def attempt(candidates: Sequence[Candidate]) -> list[Outcome]:
        arms = [
            Arm(
                f"candidate-{i}",
                "tuned",
                c.form.interventions(c.direction, hook_points=hook_points, means=means),
            )
            for i, c in enumerate(candidates)
        ]
        with reporter.phase("candidates on the select questions", len(arms)) as advance:
            measured = bench.measure(arms, advance=advance)
        return [
            Outcome(c, select_score(m, tuned, bench.battery.persona, effect=effect.estimate))
            for c, m in zip(candidates, measured, strict=True)
            if not m.failed
        ]

    return search(
        fitted.sets,
        n_layers=len(hook_points),
        median_norm=fitted.median_norm,
        budget=config.budget,
        skip_first=config.skip_first,
        n_layers_screened=config.layers_screened,
        attempt=attempt,
    )


def latent_arms(config: Config, fitted: Fitted, sae: Sae, bench: Bench) -> list[Arm]:
    """Arms on SAE latents, chosen on the select questions as candidates are: inside the budget, then by restoration."""
    rows, clean = bench.battery.persona, bench.baseline("tuned")
    effect = float((persona_scores(clean, rows) - persona_scores(bench.baseline("base"), rows)).mean())

    def merit(arms: list[Arm]) -> list[tuple[bool, float, float, float]]:
        measured = bench.measure(arms)
        return [select_score(m, clean, rows, effect=effect).merit(config.budget) for m in measured]

    norm = float(fitted.median_norm[fitted.hook_points.index(sae.hook_point)])
    return chosen_latent_arms(
        fitted.sets, sae, median_norm=norm, skip_first=config.skip_first, merit=merit, seed=config.seed
    )


def planned_arms(
    fitted: Fitted, chosen: Candidate, steering: Candidate, ablate: Candidate, controls: dict[str, Direction]
) -> tuple[list[Arm], list[Arm]]:
    """The arms of the table, on the tuned and on the base model. Controls use their directions as the chosen one is used."""
    hook_points, means = fitted.hook_points, fitted.base_mean

    def arm(name: str, side: Side, candidate: Candidate, form: Form) -> Arm:
        return Arm(name, side, form.interventions(candidate.direction, hook_points=hook_points, means=means))

    tuned = [
        Arm("tuned", "tuned"),
        arm("tuned+ablate", "tuned", ablate, ablate.form),
        arm("tuned-steer", "tuned", steering, steering.form),
        *control_arms(controls, chosen.form, hook_points=hook_points, means=means),
    ]
    base = [
        Arm("base", "base"),
        arm("base+steer", "base", steering, steering.form.scaled(-1.0)),
        arm("base+ablate", "base", ablate, ablate.form),
    ]
    return tuned, base


def dose_arms(
    steering: Candidate, hook_points: Sequence[str], means: Tensor
) -> dict[Side, list[tuple[Arm, float]]]:
    """Arms along the selected steering direction: taken away from the tuned model, added to the base."""
    own = steering.form.coefficient or 0.0

    def arms(side: Side, sign: float) -> list[tuple[Arm, float]]:
        return [
            (
                Arm(
                    f"{side} {sign * own * dose:+.2f}",
                    side,
                    steering.form.scaled(sign * dose).interventions(
                        steering.direction, hook_points=hook_points, means=means
                    ),
                ),
                sign * own * dose,
            )
            for dose in DOSES
        ]

    return {"tuned": arms("tuned", 1.0), "base": arms("base", -1.0)}


def replies(
    config: Config, contrast: Contrast, pair: Pair, run: Run, side: Side, arms: Sequence[Arm]
) -> list[dict[str, Any]]:
    """Sampled replies to a few test questions, rows of all arms in one batch, kept in the run's folder."""
    questions = contrast.split("test")
    step = max(1, len(questions) // max(1, config.n_prompts))
    asked = questions[::step][: config.n_prompts]
    if not asked or not arms:
        return []
    key = sha256_json(
        [
            "replies",
            pair.key(side),
            [arm.describe() for arm in arms],
            [q.text for q in asked],
            config.max_new_tokens,
            config.temperature,
            config.seed,
            str(pair.dtype),
        ]
    )

    def make() -> dict[str, Any]:
        requests = [
            Request(arm.name, Prompt.user(question.id, question.text), arm.interventions)
            for arm in arms
            for question in asked
        ]
        done = generate(
            pair.get(side),
            requests,
            max_new_tokens=config.max_new_tokens,
            temperature=config.temperature,
            seed=config.seed,
            batch_size=32,
        )
        return {
            "completions": [
                {"arm": c.arm, "prompt_id": c.prompt_id, "text": c.text, "finished": c.finished} for c in done
            ]
        }

    text = {question.id: question.text for question in asked}
    return [item | {"question": text[item["prompt_id"]]} for item in run.once(key, make)["completions"]]

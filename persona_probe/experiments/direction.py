"""The causal experiment, start to end: activations, directions, selection, arms and controls, replies, paths."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from persona_probe.base.cli import Clock, Reporter
from persona_probe.directions.direction_file import save_directions
from persona_probe.directions.fitting import Fitted, fit_all, read, split_rows
from persona_probe.experiments.checkup import examine
from persona_probe.experiments.direction_arms import SidePlan, planned
from persona_probe.experiments.direction_config import Config
from persona_probe.experiments.selection import Selection, batteries, latent_arms, selected
from persona_probe.interventions.persona_direction import PersonaDirection, from_fitted
from persona_probe.measurement.arms import Arm, Battery, Measurement, delta_nll
from persona_probe.measurement.bench import Bench
from persona_probe.measurement.controls import ControlDirection, control_directions, covariance_controls
from persona_probe.measurement.generation import Request, generate
from persona_probe.measurement.traces import Plane, traced_paths, traced_replies
from persona_probe.models.memory import trim
from persona_probe.models.pairs import Pair, Side
from persona_probe.prompts.chat import Prompt, Row, Split
from persona_probe.prompts.contrast import Contrast, read_contrast, shipped
from persona_probe.records.sharing import Shared
from persona_probe.saes.sae import Sae
from persona_probe.storage.files import sha256_json
from persona_probe.streams.activations import ReadOptions
from persona_probe.streams.runs import Run


@dataclass(frozen=True, eq=False)
class Job:
    """What every stage needs: the settings, the models, where results are kept, and the data.

    `select` measures while choosing, `test` measures what is reported; they share no question and no benign text.
    """

    config: Config
    pair: Pair
    run: Run
    reporter: Reporter
    clock: Clock
    contrast: Contrast
    rows: dict[Split, tuple[Row, ...]]
    select: Bench
    test: Bench


@dataclass(frozen=True, eq=False)
class Dose:
    """One steering coefficient on one model, measured."""

    side: Side
    coefficient: float
    measurement: Measurement


@dataclass(frozen=True, eq=False)
class SideResult:
    """What was measured on one model: arms by name, doses, sampled replies, paths by arm, and the replies' projections."""

    arms: dict[str, tuple[Arm, Measurement]]
    doses: list[Dose]
    failed: list[str]
    completions: list[dict[str, Any]]
    paths: dict[str, Any]
    projected: list[dict[str, Any]]


@dataclass(frozen=True, eq=False)
class Result:
    """Everything that the record is written from. `chosen` is the arm that carries the selected form."""

    contrast: Contrast
    fitted: Fitted
    direction: PersonaDirection
    selection: Selection
    chosen: Arm
    plane: Plane
    battery: Battery
    n_select_benign: int
    arms: dict[str, tuple[Arm, Measurement]]
    doses: list[Dose]
    completions: list[dict[str, Any]]
    paths: dict[str, Any]
    projected: list[dict[str, Any]]
    failed: list[str]
    examined: dict[Side, dict[str, Any]]
    timing: dict[str, float]


def run_experiment(
    config: Config, pair: Pair, run: Run, reporter: Reporter, sae: Sae | None = None
) -> Result:
    """Run every stage that is not already kept in the run's folder. One model at a time: base, tuned, base again."""
    job = prepared(config, pair, run, reporter)
    examined, fitted = fitted_directions(job)
    selection = selected(config, fitted, job.select, reporter)
    job.clock.lap("select")
    direction, controls = persona_direction(job, fitted, selection)
    latents: list[Arm] = []
    if sae is not None:
        reporter.note(f"trying latents of SAE {sae.id} at {sae.hook_point}")
        latents = latent_arms(config, fitted, sae, job.select)
        job.clock.lap("latents")
    plan = planned(direction, selection.chosen.candidate.form, controls, latents)
    plane = Plane.of(fitted, direction.method, direction.hook_point)
    tuned, base = (measured_side(job, side, direction, plane) for side in plan.sides)
    arms, doses = tuned.arms | base.arms, [*tuned.doses, *base.doses]
    return Result(
        contrast=job.contrast,
        fitted=fitted,
        direction=with_damage(direction, arms, doses),
        selection=selection,
        chosen=plan.chosen,
        plane=plane,
        battery=job.test.battery,
        n_select_benign=len(job.select.battery.benign),
        arms=arms,
        doses=doses,
        completions=[*tuned.completions, *base.completions],
        paths=tuned.paths | base.paths,
        projected=[*tuned.projected, *base.projected],
        failed=[*tuned.failed, *base.failed],
        examined=examined,
        timing=job.clock.laps(),
    )


def prepared(config: Config, pair: Pair, run: Run, reporter: Reporter) -> Job:
    """Read the data and split it."""
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
    return Job(
        config=config,
        pair=pair,
        run=run,
        reporter=reporter,
        clock=clock,
        contrast=contrast,
        rows=rows,
        select=Bench(pair, run, select, config.max_tokens, keep_kl=False),
        test=Bench(pair, run, test, config.max_tokens),
    )


def fitted_directions(job: Job) -> tuple[dict[Side, dict[str, Any]], Fitted]:
    """What holds for both loaded models, and every method's directions, which are also written to a file."""
    config, pair, run, reporter = job.config, job.pair, job.run, job.reporter
    examined: dict[Side, dict[str, Any]] = {"base": examine(pair, run, "base", reporter.note)}
    reporter.note("reading the base model")
    job.select.baseline("base")
    job.clock.lap("base")
    reporter.note("reading activations at every layer")
    # The activations go, their files stay: the arms get the memory.
    fitted = fit_all(
        job.contrast,
        job.rows,
        pair,
        run,
        methods=config.methods,
        seed=config.seed,
        options=ReadOptions(config.scope, config.max_tokens),
    ).fitted()
    trim()
    for note in fitted.notes():
        reporter.note(f"note: {note}")
    examined["tuned"] = examine(pair, run, "tuned", reporter.note)
    facts = origin(job) | {
        "methods": list(config.methods),
        "scope": config.scope,
        "median_norm": fitted.median_norm.tolist(),
    }
    save_directions(run.path("directions.safetensors"), fitted.sets, metadata=facts)
    job.clock.lap("directions")
    return examined, fitted


def origin(job: Job) -> dict[str, Any]:
    """Hashes of the models and questions that directions were made with."""
    return {
        "base_sha256": job.pair.weights_sha256("base"),
        "tuned_sha256": job.pair.weights_sha256("tuned"),
        "find_questions": job.contrast.hashes("find"),
        "select_questions": job.contrast.hashes("select"),
    }


def persona_direction(
    job: Job, fitted: Fitted, selection: Selection
) -> tuple[PersonaDirection, list[ControlDirection]]:
    """The selected direction, ready to be used, and the control directions beside it."""
    config, chosen = job.config, selection.chosen.candidate
    options = ReadOptions(config.scope, config.max_tokens)
    find = read(job.pair, job.run, "tuned", job.rows["find"], options)
    direction = from_fitted(
        fitted,
        chosen.method,
        chosen.direction.hook_point,
        control=covariance_controls(fitted.of(chosen.method), find, seed=config.seed),
        ablation=selection.ablation.candidate.form,
        steering=selection.steering.candidate.form,
        budget=config.budget,
    )
    sources = {"base": job.pair.base_source.id, "tuned": job.pair.tuned_source.id}
    said = Shared(config.output_dir, known=tuple(sources.values()))
    names = {side: said.path(id) for side, id in sources.items()}
    controls = control_directions(
        chosen.direction, find, n_each=config.controls, n_null=config.null, seed=config.seed
    )
    return replace(direction, identity=names | origin(job)), controls


def measured_side(job: Job, plan: SidePlan, direction: PersonaDirection, plane: Plane) -> SideResult:
    """Measure the arms of one model on the test questions, let some of them write replies, and follow some paths."""
    arms = [*plan.arms, *(arm for arm, _ in plan.doses)]
    with job.reporter.phase(f"arms on the {plan.side} model", len(arms)) as advance:
        measured = job.test.measure(arms, advance=advance)
    table, dosed = measured[: len(plan.arms)], measured[len(plan.arms) :]
    kept = {arm.name: (arm, m) for arm, m in zip(plan.arms, table, strict=True) if not m.failed}
    job.clock.lap(f"{plan.side} arms")
    completions = replies(job, plan.side, [arm for arm in plan.sampled if arm.name in kept])
    job.clock.lap(f"{plan.side} replies")
    paths = traced_paths(
        job.pair,
        job.run,
        [arm for arm in plan.traced if arm.name in kept],
        [row for row in job.rows["test"] if row.reply_index == 0],
        plane,
        max_tokens=job.config.max_tokens,
        seed=job.config.seed,
    )
    projection = direction.projection(direction.hook_point)
    projected = traced_replies(
        job.pair, job.run, plan.side, completions, projection, max_tokens=job.config.max_tokens
    )
    job.clock.lap(f"{plan.side} traces")
    return SideResult(
        arms=kept,
        doses=[
            Dose(side=plan.side, coefficient=coefficient, measurement=measurement)
            for (_, coefficient), measurement in zip(plan.doses, dosed, strict=True)
            if not measurement.failed
        ],
        failed=[f"{arm.name}: {m.failed}" for arm, m in zip(arms, measured, strict=True) if m.failed],
        completions=completions,
        paths=paths,
        projected=projected,
    )


def with_damage(
    direction: PersonaDirection, arms: Mapping[str, tuple[Arm, Measurement]], doses: Sequence[Dose]
) -> PersonaDirection:
    """The direction with what its doses cost, in nats per token."""
    clean = untouched(arms)
    damage = ((d.side, d.coefficient, delta_nll(d.measurement, clean[d.side])) for d in doses)
    return replace(direction, damage=tuple(damage))


def untouched(arms: Mapping[str, tuple[Arm, Measurement]]) -> dict[Side, Measurement]:
    """The measurements of both models without any edit."""
    return {arm.side: measurement for arm, measurement in arms.values() if not arm.interventions}


def replies(job: Job, side: Side, arms: Sequence[Arm]) -> list[dict[str, Any]]:
    """Sampled replies to a few test questions, rows of all arms in one batch, kept in the run's folder."""
    config, questions = job.config, job.contrast.split("test")
    step = max(1, len(questions) // max(1, config.n_prompts))
    asked = questions[::step][: config.n_prompts]
    if not asked or not arms:
        return []
    key = sha256_json(
        [
            "replies",
            job.pair.key(side),
            [arm.describe() for arm in arms],
            [question.text for question in asked],
            config.max_new_tokens,
            config.temperature,
            config.seed,
            str(job.pair.dtype),
        ]
    )

    def make() -> dict[str, Any]:
        requests = [
            Request(arm.name, Prompt.user(question.id, question.text), arm.interventions)
            for arm in arms
            for question in asked
        ]
        completions = generate(
            job.pair.get(side),
            requests,
            max_new_tokens=config.max_new_tokens,
            temperature=config.temperature,
            seed=config.seed,
            batch_size=32,
        )
        return {"completions": [asdict(completion) for completion in completions]}

    text = {question.id: question.text for question in asked}
    return [item | {"question": text[item["prompt_id"]]} for item in job.run.once(key, make)["completions"]]

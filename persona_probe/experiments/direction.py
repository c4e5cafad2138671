"""The causal experiment, start to end: activations, directions, selection, arms, replies, paths."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from persona_probe.base.cli import Reporter
from persona_probe.directions.direction_file import save_directions
from persona_probe.directions.fitting import Fitted, fit_all, read
from persona_probe.experiments.apart import Apart
from persona_probe.experiments.checkup import examine
from persona_probe.experiments.comparators import Comparators, Remedies
from persona_probe.experiments.control_sets import dosed_controls
from persona_probe.experiments.direction_arms import Plan, Removal, planned, removal
from persona_probe.experiments.direction_config import Config
from persona_probe.experiments.direction_job import Job, origin, prepared
from persona_probe.experiments.direction_sides import Dose, SideResult, measured_side, with_damage
from persona_probe.experiments.noise import noise_of
from persona_probe.experiments.rank_curve import RankPlan, rank_plan
from persona_probe.experiments.sampled import health_entries
from persona_probe.experiments.selection import Selection, latent_arms, selected
from persona_probe.experiments.skill import Skill, opened_skill
from persona_probe.interventions.edits import Intervention
from persona_probe.interventions.persona_direction import PersonaDirection, from_fitted
from persona_probe.measurement.arms import Arm, Battery, Measurement
from persona_probe.measurement.controls import covariance_controls
from persona_probe.measurement.limits import Between, Limits
from persona_probe.measurement.search import Outcome
from persona_probe.measurement.traces import Plane
from persona_probe.models.memory import trim
from persona_probe.models.pairs import Pair, Side
from persona_probe.prompts.contrast import Contrast
from persona_probe.records.direction import ArmPath, Completion, ReadReply
from persona_probe.records.parts import EngineFacts
from persona_probe.records.sharing import Shared
from persona_probe.saes.sae import Sae
from persona_probe.storage.runs import Run


@dataclass(frozen=True, eq=False)
class Result:
    """Everything that the record is written from.

    `chosen` is the arm that carries the selected form, `winners` are those of all candidates that win often.
    `control_battery`: the rows that controls were scored on. `below_dose`: controls that do not reach the
    dose. `between`: what tuning changes on the benign texts of test. `limits`: damage that is allowed on
    select and on test. `remedies`: simple ones, beside the arms.
    """

    contrast: Contrast
    fitted: Fitted
    direction: PersonaDirection
    selection: Selection
    chosen: Arm
    winners: tuple[Arm, ...]
    below_dose: frozenset[str]
    between: Between
    skill: Skill | None
    skilled: dict[str, tuple[Arm, Measurement]]
    limits: Mapping[str, Limits]
    plane: Plane
    battery: Battery
    control_battery: Battery
    n_select_benign: int
    arms: dict[str, tuple[Arm, Measurement]]
    curve: RankPlan | None
    curve_measured: dict[str, Measurement]
    noise: dict[str, float]
    doses: list[Dose]
    completions: list[Completion]
    health: dict[str, dict[str, Any]]
    paths: dict[str, ArmPath]
    projected: list[ReadReply]
    failed: list[str]
    remedies: Remedies
    examined: dict[Side, EngineFacts]
    timing: dict[str, float]


def run_experiment(
    config: Config, pair: Pair, run: Run, reporter: Reporter, sae: Sae | None = None
) -> Result:
    """Run every stage that is not already kept in the run's folder.

    One model at a time, unless the pair keeps both: base; tuned, for the search; base, for the closure of
    what leads; tuned, with all its arms; base, with all of its own.
    """
    job = prepared(config, pair, run, reporter)
    beside = Comparators.opened(job)
    begun = fitted_directions(job)
    fitted = begun.fitted
    limits = {name: Limits.of(config.budget, between=one) for name, one in begun.between.items()}
    selection = selected(job, fitted, limits=limits["select"])
    job.clock.lap("select")
    curve = rank_plan(job, fitted)
    noise = noise_of(job, Arm("chosen", "tuned", chosen_edits(selection.chosen, fitted)))
    job.clock.lap("writes")
    direction = persona_direction(job, fitted, selection)
    ablation, steering = removals(job, fitted, selection, direction)
    job.clock.lap("controls")
    latents = tried_latents(job, fitted, sae, limits["select"])
    plan = planned(direction, selection, ablation, steering, latents, curve)
    plane = Plane.of(fitted, direction.method, direction.hook_point)
    both, health = both_sides(job, plan, direction, plane, begun.skill, beside)
    return Result(
        contrast=job.contrast,
        fitted=fitted,
        direction=with_damage(direction, both.arms, both.doses),
        selection=selection,
        chosen=plan.chosen,
        winners=plan.winners,
        below_dose=plan.below_dose,
        between=begun.between["test"],
        skill=begun.skill,
        skilled=both.skilled,
        limits=limits,
        control_battery=job.controls.battery,
        plane=plane,
        battery=job.test.battery,
        n_select_benign=len(job.select.battery.benign),
        arms=both.arms,
        curve=curve,
        curve_measured=both.curve,
        noise=noise,
        doses=both.doses,
        completions=both.completions,
        health=health,
        paths=both.paths,
        projected=both.projected,
        failed=both.failed,
        remedies=beside.remedies,
        examined=begun.examined,
        timing=job.clock.laps(),
    )


def both_sides(
    job: Job, plan: Plan, direction: PersonaDirection, plane: Plane, skill: Skill | None, beside: Comparators
) -> tuple[SideResult, dict[str, dict[str, Any]]]:
    """What was measured on the tuned and then on the base model, and the health of what both wrote.

    Base scores the replies before comparators with other weights are measured, which drop it.
    """
    of_tuned, of_base = plan.sides
    tuned = beside.after(measured_side(job, of_tuned, direction, plane, skill), "tuned")
    both = tuned.joined(measured_side(job, of_base, direction, plane, skill))
    health = health_entries(job, {arm.name: arm for arm, _ in both.arms.values()}, both.completions)
    job.clock.lap("health")
    return beside.after(both, "base"), health


@dataclass(frozen=True, eq=False, kw_only=True)
class Begun:
    """What is known of a pair before anything is edited: what holds for both loaded models, every method's
    directions, where further damage is measured, and what lies between both models on each set of texts."""

    examined: dict[Side, EngineFacts]
    fitted: Fitted
    skill: Skill | None
    between: dict[str, Between]


def fitted_directions(job: Job) -> Begun:
    """Read both models and fit every method; the directions are also written to a file."""
    config, pair, run, reporter = job.config, job.pair, job.run, job.reporter
    examined: dict[Side, EngineFacts] = {"base": examine(pair, run, "base", reporter.note)}
    reporter.note("reading the base model")
    skill = opened_skill(job)
    apart = Apart(job, skill)
    apart.read_base()
    job.clock.lap("base")
    reporter.note("reading activations at every layer")
    # The activations go, their files stay: the arms get the memory.
    fitted = fit_all(
        job.contrast, job.rows, pair, run, methods=config.methods, seed=config.seed, options=job.reading
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
    return Begun(examined=examined, fitted=fitted, skill=skill, between=apart.between())


def persona_direction(job: Job, fitted: Fitted, selection: Selection) -> PersonaDirection:
    """The selected direction, ready to be used."""
    config, chosen = job.config, selection.chosen.candidate
    ablated = selection.ablation.candidate.directions
    find = read(job.pair, job.run, "tuned", job.rows["find"], job.reading)
    direction = from_fitted(
        fitted,
        chosen.method,
        chosen.direction.hook_point,
        control=covariance_controls(ablated, find, seed=config.seed),
        reads=ablated.reads,
        ablation=selection.ablation.candidate.form,
        steering=selection.steering.candidate.form,
        budget=config.budget,
    )
    sources = {"base": job.pair.base_source.id, "tuned": job.pair.tuned_source.id}
    sharing = Shared(config.output_dir, known=tuple(sources.values()))
    names = {side: sharing.path(id) for side, id in sources.items()}
    return replace(direction, identity=names | origin(job))


def tried_latents(job: Job, fitted: Fitted, sae: Sae | None, limits: Limits) -> list[Arm]:
    """Arms of the latents of an SAE that do best on the select questions; none without an SAE."""
    if sae is None:
        return []
    job.reporter.note(f"trying latents of SAE {sae.id} at {sae.hook_point}")
    arms = latent_arms(job.config, fitted, sae, job.select, limits=limits)
    job.clock.lap("latents")
    return arms


def chosen_edits(chosen: Outcome, fitted: Fitted) -> tuple[Intervention, ...]:
    """What the chosen candidate does to a model."""
    one = chosen.candidate
    point = one.directions.hook_points[one.layer]
    return one.form.edits(one.directions, point, hook_points=fitted.hook_points, means=fitted.base_mean)


def removals(
    job: Job, fitted: Fitted, selection: Selection, direction: PersonaDirection
) -> tuple[Removal, Removal]:
    """Ablation and steering along the selected direction, each with its controls: all kinds beside the one
    that was chosen, random ones with the covariance of the activations beside the other."""
    real = fitted.of(direction.method)
    made: list[Removal] = []
    for kind, own in (("ablate", selection.ablation), ("steer", selection.steering)):
        bare = removal(selection, direction, kind, ())
        everything = own is selection.chosen
        controls = dosed_controls(job, real, bare.used, bare.arm, all_kinds=everything)
        made.append(removal(selection, direction, kind, controls))
    return made[0], made[1]

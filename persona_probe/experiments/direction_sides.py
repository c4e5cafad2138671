"""What is measured on one model of the causal experiment: arms, doses, sampled replies, paths."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from persona_probe.experiments.direction_arms import SidePlan
from persona_probe.experiments.direction_job import Job
from persona_probe.experiments.sampled import sampled_replies
from persona_probe.experiments.skill import Skill
from persona_probe.interventions.persona_direction import PersonaDirection
from persona_probe.measurement.arms import Arm, Measurement, delta_nll
from persona_probe.measurement.traces import Plane, traced_paths, traced_replies
from persona_probe.models.pairs import Side
from persona_probe.records.direction import ArmPath, Completion, ReadReply, shown_replies


@dataclass(frozen=True, eq=False)
class Dose:
    """One steering coefficient on one model, measured."""

    arm: Arm
    coefficient: float
    measurement: Measurement

    @property
    def side(self) -> Side:
        """Which of the two models."""
        return self.arm.side


@dataclass(frozen=True, eq=False)
class SideResult:
    """What was measured on one model, or on both. Arms and paths are by the arm's name."""

    arms: dict[str, tuple[Arm, Measurement]]
    curve: dict[str, Measurement]
    skilled: dict[str, tuple[Arm, Measurement]]
    doses: list[Dose]
    failed: list[str]
    completions: list[Completion]
    paths: dict[str, ArmPath]
    projected: list[ReadReply]

    def joined(self, other: "SideResult") -> "SideResult":
        """This model's results followed by the other's."""
        return SideResult(
            arms=self.arms | other.arms,
            curve=self.curve | other.curve,
            skilled=self.skilled | other.skilled,
            doses=[*self.doses, *other.doses],
            failed=[*self.failed, *other.failed],
            completions=[*self.completions, *other.completions],
            paths=self.paths | other.paths,
            projected=[*self.projected, *other.projected],
        )


def measured_side(
    job: Job, plan: SidePlan, direction: PersonaDirection, plane: Plane, skill: Skill | None
) -> SideResult:
    """Measure the arms of one model on the test questions, sample replies, and follow paths."""
    arms = [*plan.arms, *(arm for arm, _ in plan.doses)]
    with job.reporter.phase(f"arms on the {plan.side} model", len(arms)) as advance:
        measured = job.test.measure(arms, advance=advance)
    table, dosed = measured[: len(plan.arms)], measured[len(plan.arms) :]
    with job.reporter.phase(f"controls on the {plan.side} model", len(plan.controls)) as advance:
        table += job.controls.measure(plan.controls, advance=advance)
    with job.reporter.phase(f"subspaces on the {plan.side} model", len(plan.curve)) as advance:
        curve = job.controls.measure(plan.curve, advance=advance)
    skilled: dict[str, tuple[Arm, Measurement]] = {}
    if skill is not None:
        with job.reporter.phase(f"skill of the {plan.side} model", len(plan.skilled)) as advance:
            scored = skill.bench.measure(plan.skilled, advance=advance)
        skilled = {arm.name: (arm, m) for arm, m in zip(plan.skilled, scored, strict=True)}
    everything = [*plan.arms, *plan.controls]
    kept = {arm.name: (arm, m) for arm, m in zip(everything, table, strict=True) if not m.failed}
    job.clock.lap(f"{plan.side} arms")
    completions = sampled_replies(job, plan.side, [arm for arm in plan.sampled if arm.name in kept])
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
        job.pair,
        job.run,
        plan.side,
        shown_replies(completions),
        projection,
        max_tokens=job.config.max_tokens,
        outliers=job.config.outliers,
    )
    job.clock.lap(f"{plan.side} traces")
    return SideResult(
        arms=kept,
        skilled=skilled,
        curve={arm.name: measurement for arm, measurement in zip(plan.curve, curve, strict=True)},
        doses=[
            Dose(arm=arm, coefficient=coefficient, measurement=measurement)
            for (arm, coefficient), measurement in zip(plan.doses, dosed, strict=True)
            if not measurement.failed
        ],
        failed=[
            f"{arm.name}: {m.failed}"
            for arm, m in zip([*everything, *(arm for arm, _ in plan.doses)], [*table, *dosed], strict=True)
            if m.failed
        ],
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

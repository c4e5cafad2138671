"""The controls of a run: random directions, the same estimator on nonsense, and on other contrasts."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from persona_probe.base.hook_points import HookPoint
from persona_probe.directions.direction import Direction, DirectionSet
from persona_probe.directions.estimators import FITS, MIN_RELATIVE_NORM, mean_diff
from persona_probe.directions.fitting import prompted_rows, read
from persona_probe.directions.random_directions import of_length, shuffled_labels, shuffled_signs
from persona_probe.experiments.direction_job import Job
from persona_probe.measurement.arms import Arm, Measurement, mean_kl
from persona_probe.measurement.controls import (
    ControlDirection,
    Draw,
    Used,
    control_at,
    drawn_controls,
    with_reads,
)
from persona_probe.measurement.dosing import Dosed, dosed
from persona_probe.models.pairs import Side
from persona_probe.prompts.control_contrasts import ControlContrast, control_contrasts
from persona_probe.prompts.rows import Row
from persona_probe.streams.activations import Activations

PROMPTED_QUESTIONS = 6  # find questions that are read under the system prompts of other contrasts


@dataclass(frozen=True, eq=False)
class ControlSource:
    """What controls are made from: a method's directions, and the job that reads activations."""

    job: Job
    real: DirectionSet

    def find(self, side: Side) -> Activations:
        """Activations of the find rows, as the directions were fitted on."""
        return read(self.job.pair, self.job.run, side, self.job.rows["find"], self.job.reading)

    def controls(self, used: Used, *, all_kinds: bool) -> list[ControlDirection]:
        """Covariance-matched directions at the hook points that a use needs, and with `all_kinds` the others;
        with rows to read along where it is oblique.

        The method's own estimator makes the shuffled ones and those of other contrasts; shifts have no
        counterpart there, so the mean difference stands for them.
        """
        config, needed = self.job.config, used.needed
        counts = {"covariance": config.null}
        if all_kinds:
            counts |= {"isotropic": config.controls, "orthogonal": config.controls}
        made = drawn_controls(self.real, self.find("tuned"), needed, counts, seed=config.seed)
        if all_kinds and config.controls:
            made += self._shuffled(needed) + self._contrasts(needed)
        if not used.form.oblique:
            return made
        find = self.find("tuned")
        return [replace(one, directions=with_reads(one.directions, find, needed)) for one in made]

    def _shuffled(self, needed: Sequence[HookPoint]) -> list[ControlDirection]:
        config = self.job.config
        return [
            control_at(
                self.real,
                needed,
                self._shuffle(),
                kind="shuffled",
                name=f"shuffled-{k + 1}",
                seed=config.seed,
                index=k,
            )
            for k in range(config.controls)
        ]

    def _shuffle(self) -> Draw:
        """The method's estimator on its own data with the labels, pairs or models swapped at random."""
        method = self.real.method
        if method not in ("shift", "prompt"):
            find = self.find("tuned")
            return lambda direction, generator: shuffled_labels(
                find, method, direction.hook_point, generator, length=float(direction.vector.norm())
            )
        after, before = self._pairs(method)
        questions = [row.question_id for row in after.rows]

        def draw(direction: Direction, generator: torch.Generator) -> Direction:
            hook = after.hook_points.index(direction.hook_point)
            return shuffled_signs(
                direction, after.means[:, hook], before.means[:, hook], questions, generator
            )

        return draw

    def _pairs(self, method: str) -> tuple[Activations, Activations]:
        """The activations whose difference the direction is: tuned and base, or two system prompts."""
        if method == "shift":
            return self.find("tuned"), self.find("base")
        job = self.job
        both = [
            read(
                job.pair,
                job.run,
                "base",
                prompted_rows(job.contrast, job.pair.tokenizer, kind=kind),
                job.reading,
            )
            for kind in ("misaligned", "aligned")
        ]
        return both[0], both[1]

    def _contrasts(self, needed: Sequence[HookPoint]) -> list[ControlDirection]:
        job, contrasts = self.job, control_contrasts()
        prompted = self.real.method == "prompt"
        rows = {one.name: self._rows(one, prompted=prompted) for one in contrasts}
        everything = tuple(row for of_one in rows.values() for row in of_one)
        acts = read(job.pair, job.run, "base" if prompted else "tuned", everything, job.reading)
        made = []
        for one in contrasts:
            ids = {row.id for row in rows[one.name]}
            mine = acts.without_tokens().where([row.id in ids for row in acts.rows])
            name = f"{one.kind}-{one.name}"
            fit = self._fit(mine)
            if all(self._poles(mine, point) is not None for point in needed):
                made.append(control_at(self.real, needed, fit, kind=one.kind, name=name, seed=0, index=0))
        if len(made) < len(contrasts):
            self.job.reporter.note(
                f"note: {len(contrasts) - len(made)} of {len(contrasts)} other contrasts give the same "
                "activations at both poles: they are left out of the controls"
            )
        return made

    def _rows(self, contrast: ControlContrast, *, prompted: bool) -> tuple[Row, ...]:
        tokenizer = self.job.pair.tokenizer
        if not prompted:
            return contrast.rows(tokenizer)
        find = self.job.contrast.split("find")
        step = max(1, len(find) // PROMPTED_QUESTIONS)
        return contrast.prompted(find[::step][:PROMPTED_QUESTIONS], tokenizer)

    def _fit(self, acts: Activations) -> Draw:
        def draw(direction: Direction, _: torch.Generator) -> Direction:
            vector = self._poles(acts, direction.hook_point)
            assert vector is not None, "contrasts without a direction are left out before"
            return of_length(direction, vector, "contrast")

        return draw

    def _poles(self, acts: Activations, hook_point: HookPoint) -> Float[Tensor, " d_model"] | None:
        """The estimator between both poles at one hook point; None where they are the same up to rounding."""
        hook = acts.hook_points.index(hook_point)
        positive, negative = (acts.labelled(label)[:, hook : hook + 1] for label in ("misaligned", "aligned"))
        difference = mean_diff(positive, negative)[0]
        if float(difference.norm()) <= MIN_RELATIVE_NORM * float(positive.norm(dim=-1).median()):
            return None
        return FITS.get(self.real.method, mean_diff)(positive, negative)[0]


def dosed_controls(
    job: Job, real: DirectionSet, used: Used, arm: Arm, *, all_kinds: bool
) -> tuple[Dosed, ...]:
    """The controls of one arm, each at the strength whose KL on the tuned model is that of the arm.

    KL is measured on the benign texts of the select questions, which no result is reported on.
    """
    controls = ControlSource(job, real).controls(used, all_kinds=all_kinds)
    if not controls:
        return ()
    with job.reporter.phase("controls at the dose of the arm", 3 * len(controls)) as advance:

        def measure(arms: Sequence[Arm]) -> list[Measurement]:
            return job.doses.measure(arms, advance=advance)

        target = mean_kl(job.doses.measure([arm])[0])
        return tuple(dosed(controls, used, target, measure))

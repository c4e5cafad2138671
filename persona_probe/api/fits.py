"""Directions fitted at every layer, before any of them is steered: how good they are, and how to use one."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from plotly.graph_objects import Figure

from persona_probe.api.contrasts import contrast_of
from persona_probe.base.choices import Outliers
from persona_probe.base.errors import BadInput
from persona_probe.directions.direction import cosines
from persona_probe.directions.fitting import Readings, fit_all, split_rows
from persona_probe.experiments.quick import directions_record, ready_to_use
from persona_probe.interventions.persona_direction import PersonaDirection
from persona_probe.measurement.arms import Arm
from persona_probe.measurement.controls import Used, control_arm, drawn_controls
from persona_probe.models.pairs import Pair
from persona_probe.plots.directions import layer_quality
from persona_probe.plots.sliders import projection_slider
from persona_probe.prompts.contrast import Contrast
from persona_probe.storage.runs import Run
from persona_probe.streams.activations import ReadOptions, Scope


class Fit:
    """Directions of several methods at every hook point, fitted on the find questions. Layers count from 0.

    `found_on`: hashes of the find questions. A direction of this fit is not measured on them.
    """

    def __init__(self, readings: Readings, *, seed: int, found_on: Sequence[str] = ()) -> None:
        self.readings, self.seed, self.found_on = readings, seed, tuple(found_on)

    @property
    def methods(self) -> list[str]:
        """What was fitted."""
        return [directions.method for directions in self.readings.sets]

    @property
    def n_replies(self) -> int:
        """How many replies to find questions the directions come from."""
        return len(self.readings.tuned.rows)

    def direction(
        self, method: str, layer: int, *, skip_first: int = 4, budget: float = 0.10
    ) -> PersonaDirection:
        """One method's direction, acting at one layer, with a random control; its ablation is toward zero."""
        directions = next((one for one in self.readings.sets if one.method == method), None)
        if directions is None:
            raise BadInput(f"no method {method!r} was fitted: there are {', '.join(self.methods)}")
        hook_points = self.readings.tuned.hook_points
        if not 0 <= layer < len(hook_points):
            raise BadInput(f"no layer {layer}: there are 0 to {len(hook_points) - 1}")
        ready = ready_to_use(
            directions,
            self.readings,
            hook_point=hook_points[layer],
            skip_first=skip_first,
            budget=budget,
            seed=self.seed,
        )
        return replace(ready, identity={"find_questions": self.found_on})

    def cosine(self, one: str, other: str, layer: int) -> float:
        """Cosine of two methods' directions at a layer."""
        sets = {directions.method: directions for directions in self.readings.sets}
        return cosines([sets[one], sets[other]], layer)[0][1]

    def controls(self, direction: PersonaDirection, *, n_each: int = 1, n_covariance: int = 3) -> list[Arm]:
        """Random control arms of a fitted direction, each used exactly as its ablation is: `n_each` isotropic
        and orthogonal ones, `n_covariance` with the covariance of the activations."""
        used = Used(direction.ablation, direction.hook_point, direction.hook_points, direction.base_mean)
        counts = {"isotropic": n_each, "covariance": n_covariance, "orthogonal": n_each}
        made = drawn_controls(direction.directions, self.readings.tuned, used.needed, counts, seed=self.seed)
        return [control_arm(control, used, "tuned") for control in made]

    def quality(self, *, layer: int = 0) -> Figure:
        """Stability and separation of every method at every layer; `layer` is marked."""
        return layer_quality(self._record(self.methods[0], layer))

    def projections(self, method: str | None = None, *, layer: int = 0) -> Figure:
        """Select replies along one method's directions, with a slider over layers that begins at `layer`."""
        return projection_slider(self._record(method or self.methods[0], layer))

    def _record(self, method: str, layer: int):
        return directions_record(
            self.readings, shown=method, hook_point=self.readings.tuned.hook_points[layer]
        )


def fit(
    pair: Pair,
    data: Contrast | str | Path | None = None,
    *,
    methods: Sequence[str] = ("mean_diff", "prompt"),
    scope: Scope = "reply",
    outliers: Outliers = "drop",
    max_tokens: int = 512,
    seed: int = 0,
) -> Fit:
    """Read activations of both models on the find questions, and fit every method at every layer.

    `data`: a contrast set, its file, or None for the one that ships. `max_tokens` bounds a batch.
    `outliers`: "drop" leaves tokens of an outlying norm out of the means, "keep" averages them too.
    """
    questions = contrast_of(data)
    rows = split_rows(questions, pair.tokenizer)
    with TemporaryDirectory(prefix="persona_probe-") as folder:
        readings = fit_all(
            questions,
            rows,
            pair,
            Run(Path(folder)),
            methods=methods,
            options=ReadOptions(scope, max_tokens, outliers),
            seed=seed,
        )
    return Fit(readings, seed=seed, found_on=questions.hashes("find"))

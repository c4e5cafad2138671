"""Every setting of the main job, in one place, with its default. The options of `find_direction` are made
from it."""

from dataclasses import dataclass
from typing import Annotated, Any

from persona_probe.base.choices import METHODS, Method
from persona_probe.base.options import Option, documented
from persona_probe.experiments.options import ExperimentOptions


@documented
@dataclass(frozen=True, kw_only=True)
class Config(ExperimentOptions):
    """What `find_direction` is asked for."""

    sae: Annotated[
        str | None,
        Option(
            "Show arms on the latents of this SAE too: RELEASE:ID, a SAELens folder, or the name of one that"
            " ships.",
            "models",
        ),
    ] = None
    twin: Annotated[
        str | None,
        Option(
            "Show the tuned model minus what tuning did to this one: an adapter or model fine-tuned on a good"
            " version of the same data, such as car-advice-right.",
            "models",
            decides=False,
        ),
    ] = None
    methods: Annotated[
        tuple[Method, ...], Option(f"Estimators to compare, of {', '.join(METHODS)}.", "search")
    ] = METHODS
    layers: Annotated[
        tuple[int, ...] | None, Option("Search these layers only.", "search", also=("layer",))
    ] = None
    controls: Annotated[
        int,
        Option(
            "Isotropic, orthogonal and shuffled directions of each kind; 0 leaves out other contrasts, too.",
            "controls",
            low=0,
        ),
    ] = 3
    null: Annotated[
        int,
        Option(
            "Covariance-matched random directions for the p-value; a verdict needs 19, with which p <= 0.05"
            " can be reached. What the best of a search would do by chance is told well from twice as many.",
            "controls",
            low=0,
        ),
    ] = 39
    layers_screened: Annotated[int, Option("Layers of the first round of the search.", "search", low=1)] = 5
    n_prompts: Annotated[
        int,
        Option(
            "Replies to sample from an arm, to as many test questions, or several to each where there are"
            " fewer. Their health is judged from 24 on.",
            "data",
            low=0,
        ),
    ] = 24
    max_new_tokens: Annotated[int, Option("Most tokens of a sampled reply.", "data", low=1)] = 48
    temperature: Annotated[float, Option("Sampling temperature; 0 is greedy.", "data", low=0)] = 0.7
    keep_both: Annotated[
        bool, Option("Keep base and tuned in memory together.", "machine", decides=False)
    ] = False

    def settings(self, *, dtype: str) -> dict[str, Any]:
        """What identifies a run, without `layers` where all are searched: as in records from before there was
        this setting."""
        values = super().settings(dtype=dtype)
        if self.layers is None:
            del values["layers"]
        return values

"""Every setting of the main job, in one place, with its default. The options of `find_direction` are made
from it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from persona_probe.base.choices import METHODS, Method
from persona_probe.base.options import Option, check, documented
from persona_probe.experiments import options
from persona_probe.prompts.tokenizers import AS_IS, ChatOptions
from persona_probe.storage.shipped import BASE


@documented
@dataclass(frozen=True)
class Config:
    """What `find_direction` is asked for."""

    base: options.Base = BASE
    tuned: options.Tuned = ""
    output_dir: options.OutputDir = Path("experiments/runs/latest")
    contrast: options.ContrastFile = None
    benign: options.BenignFile = None
    sae: Annotated[
        str | None,
        Option(
            "Show arms on the latents of this SAE too: RELEASE:ID, a SAELens folder, or the name of one that"
            " ships.",
            "models",
        ),
    ] = None
    methods: Annotated[
        tuple[Method, ...], Option(f"Estimators to compare, of {', '.join(METHODS)}.", "search")
    ] = METHODS
    scope: options.TokenScope = "reply"
    layers: Annotated[
        tuple[int, ...] | None, Option("Search these layers only.", "search", also=("layer",))
    ] = None
    budget: options.Budget = 0.10
    controls: Annotated[int, Option("Random directions of each kind.", "controls", low=0)] = 5
    null: Annotated[
        int,
        Option(
            "Covariance-matched random directions for a p-value; 19 make p <= 0.05 possible.",
            "controls",
            low=0,
        ),
    ] = 0
    layers_screened: Annotated[int, Option("Layers of the first round of the search.", "search", low=1)] = 5
    skip_first: options.SkipFirst = 4
    replies_per_question: options.PerQuestion = 8
    n_benign: options.Benign = 48
    n_prompts: Annotated[int, Option("Test questions to sample replies to.", "data", low=0)] = 4
    max_new_tokens: Annotated[int, Option("Most tokens of a sampled reply.", "data", low=1)] = 48
    temperature: Annotated[float, Option("Sampling temperature; 0 is greedy.", "data", low=0)] = 0.7
    seed: options.Seed = 0
    limit: options.Limit = None
    template: options.Template = None
    thinking: options.ThinkingMode = "keep"
    date: options.Date = AS_IS.date
    dtype: options.DtypeChoice = "auto"
    device: options.Device = "auto"
    device_map: options.DeviceMap = None
    keep_both: Annotated[
        bool, Option("Keep base and tuned in memory together.", "machine", decides=False)
    ] = False
    max_tokens: options.MaxTokens = 1024

    def __post_init__(self) -> None:
        check(self)
        options.chat_options(thinking=self.thinking, date=self.date)

    @property
    def chat(self) -> ChatOptions:
        """How the template is run."""
        return ChatOptions(self.thinking, self.date)

    def settings(self, *, dtype: str) -> dict[str, Any]:
        """What identifies a run: all that decides its numbers, with the dtype that `auto` became."""
        values = options.identity(self) | {"dtype": dtype}
        if self.layers is None:
            del values["layers"]  # as in records from before there was this setting
        return values

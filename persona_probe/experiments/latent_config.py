"""Every setting of the latent experiment, in one place, with its default. The options of `diff_latents` are
made from it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from persona_probe.base.options import Option, check, documented
from persona_probe.experiments import options
from persona_probe.prompts.tokenizers import AS_IS, ChatOptions
from persona_probe.storage.shipped import BASE, SAE


@documented
@dataclass(frozen=True)
class LatentConfig:
    """What `diff_latents` is asked for."""

    base: options.Base = BASE
    tuned: options.Tuned = ""
    sae: Annotated[
        str, Option("SAE: a SAELens RELEASE:ID, a SAELens folder, or the name of one that ships.", "models")
    ] = SAE
    output_dir: options.OutputDir = Path("experiments/runs/latents")
    contrast: options.ContrastFile = None
    benign: options.BenignFile = None
    n_latents: Annotated[
        int,
        Option(
            "Latents to screen in all: both ends of every ranking, a tenth of them matched controls.",
            "search",
            low=1,
        ),
    ] = 100
    n_reported: Annotated[
        int, Option("Latents to confirm on test and give a page with contexts.", "search", low=0)
    ] = 5
    n_examples: Annotated[int, Option("Contexts per latent and model.", "search", low=1)] = 5
    dose: Annotated[
        float,
        Option("Length of steering, in units of the median length of the stream.", "search", above=0, high=2),
    ] = 0.1
    budget: options.Budget = 0.10
    skip_first: options.SkipFirst = 4
    replies_per_question: options.PerQuestion = 4
    n_benign: options.Benign = 32
    n_screen_benign: Annotated[int, Option("Benign texts of the screen.", "data", low=2)] = 8
    scope: options.TokenScope = "reply"
    seed: options.Seed = 0
    limit: options.Limit = None
    template: options.Template = None
    thinking: options.ThinkingMode = "keep"
    date: options.Date = AS_IS.date
    dtype: options.DtypeChoice = "auto"
    device: options.Device = "auto"
    device_map: options.DeviceMap = None
    max_tokens: options.MaxTokens = 512
    arms_at_once: Annotated[
        int,
        Option(
            "Latents in one forward pass, each with a whole batch of --max-tokens; raise it on a GPU.",
            "machine",
            low=1,
            decides=False,
        ),
    ] = 4

    def __post_init__(self) -> None:
        check(self)
        options.chat_options(thinking=self.thinking, date=self.date)

    @property
    def chat(self) -> ChatOptions:
        """How the template is run."""
        return ChatOptions(self.thinking, self.date)

    def settings(self, *, dtype: str) -> dict[str, Any]:
        """What identifies a run: all that decides its numbers, with the dtype that `auto` became."""
        return options.identity(self) | {"dtype": dtype}

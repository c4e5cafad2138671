"""Every setting of the latent experiment, in one place, with its default. The options of `diff_latents` are
made from it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from persona_probe.base.options import Option, documented
from persona_probe.experiments import options
from persona_probe.storage.shipped import SAE


@documented
@dataclass(frozen=True, kw_only=True)
class LatentConfig(options.ExperimentOptions):
    """What `diff_latents` is asked for."""

    sae: Annotated[
        str, Option("SAE: a SAELens RELEASE:ID, a SAELens folder, or the name of one that ships.", "models")
    ] = SAE
    output_dir: options.OutputDir = Path("experiments/runs/latents")
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
    replies_per_question: options.PerQuestion = 4
    n_benign: options.Benign = 32
    n_screen_benign: Annotated[int, Option("Benign texts of the screen.", "data", low=2)] = 8

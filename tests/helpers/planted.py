"""The planted toy opened for tests: the pair, its rows, and one way to score an arm."""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from persona_probe.base.hook_points import HookPoint
    from persona_probe.experiments.direction_config import Config
    from persona_probe.interventions.edits import Intervention
    from persona_probe.interventions.persona_direction import PersonaDirection
    from persona_probe.measurement.arms import Battery
    from persona_probe.models.pairs import Pair, Side
    from persona_probe.organisms.toy import Toy
    from persona_probe.prompts.contrast import Contrast, Split
    from persona_probe.prompts.rows import Row


@dataclass(frozen=True, eq=False)
class Planted:
    """The toy on disk, both models in memory, its rows by split and its benign rows."""

    toy: "Toy"
    pair: "Pair"
    contrast: "Contrast"
    rows: "dict[Split, tuple[Row, ...]]"
    benign: "tuple[Row, ...]"

    @property
    def hook_points(self) -> "tuple[HookPoint, ...]":
        return self.pair.get("base").resids()

    def battery(self) -> "Battery":
        from persona_probe.measurement.arms import Battery

        return Battery(self.rows["test"], self.benign)

    def config(self, folder: Path, **changes: Any) -> "Config":
        """Settings of the main job on the toy's data."""
        from persona_probe.experiments.direction_config import Config

        data: dict[str, Any] = {"contrast": self.toy.contrast, "benign": self.toy.benign, "n_benign": 15}
        return Config(base="", tuned="", output_dir=folder, **data | changes)

    def scores(self, side: "Side", *interventions: "Intervention") -> np.ndarray:
        """S per test question under interventions."""
        from persona_probe.measurement.arms import Arm, persona_scores
        from persona_probe.measurement.bench import Bench
        from persona_probe.storage.runs import Run

        with TemporaryDirectory() as folder:
            bench = Bench(self.pair, Run(Path(folder)), self.battery(), 1024, keep_kl=False)
            return persona_scores(bench.measure([Arm("x", side, interventions)])[0], bench.battery.persona)


def open_planted(folder: Path) -> Planted:
    """Write the toy into `folder` and load both sides in float32."""
    from persona_probe.directions.fitting import split_rows
    from persona_probe.models.pairs import open_pair
    from persona_probe.organisms.toy import write_toy
    from persona_probe.prompts.contrast_files import read_benign, read_contrast

    toy = write_toy(folder)
    pair = open_pair(
        str(toy.base), str(toy.tuned), device=torch.device("cpu"), dtype=torch.float32, keep_both=True
    )
    contrast = read_contrast(toy.contrast)
    return Planted(
        toy,
        pair,
        contrast,
        split_rows(contrast, pair.tokenizer),
        tuple(read_benign(toy.benign, pair.tokenizer)),
    )


def planted_direction(planted: Planted) -> "PersonaDirection":
    """A persona direction over the planted vector, with made-up scales."""
    from persona_probe.interventions.forms import Form
    from persona_probe.interventions.persona_direction import PersonaDirection

    n, layer = len(planted.hook_points), planted.hook_points.index(planted.toy.hook_point)
    vectors = torch.randn(n, len(planted.toy.vector), generator=torch.Generator().manual_seed(1))
    vectors[layer] = planted.toy.vector
    return PersonaDirection(
        method="shift",
        hook_points=planted.hook_points,
        hook_point=planted.toy.hook_point,
        vectors=vectors,
        control=torch.randn(vectors.shape, generator=torch.Generator().manual_seed(2)),
        base_mean=torch.zeros_like(vectors),
        median_norm=(2.0,) * n,
        group_means={"aligned": (-1.0,) * n, "misaligned": (3.0,) * n},
        ablation=Form("ablate", "layer", None, "zero", 0),
        steering=Form("steer", "layer", -1.0, None, 0),
        budget=0.1,
        damage=(
            ("base", 0.5, 0.0),
            ("base", 1.0, 0.02),
            ("base", 2.0, 0.3),
            ("base", 3.0, 0.05),
            ("tuned", -1.0, 0.5),
        ),
        identity={"base": "b"},
    )

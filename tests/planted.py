"""The planted toy opened for tests: the pair, its rows, and one way to score an arm."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch


@dataclass(frozen=True, eq=False)
class Planted:
    """The toy on disk, both models in memory, its rows by split and its benign rows."""

    toy: Any
    pair: Any
    contrast: Any
    rows: dict[str, tuple[Any, ...]]
    benign: tuple[Any, ...]

    @property
    def hook_points(self) -> tuple[str, ...]:
        return self.pair.get("base").resids()

    def battery(self) -> Any:
        from persona_probe.arms import Battery

        return Battery(self.rows["test"], self.benign)

    def scores(self, side: str, *interventions: Any) -> np.ndarray:
        """S per test question under interventions."""
        from persona_probe.arms import Arm, clean_runs, measure_together, persona_scores

        model, battery = self.pair.get(side), self.battery()
        clean = clean_runs(model, battery, max_tokens=1024)
        return persona_scores(
            measure_together(model, [Arm("x", side, interventions)], battery, keys=["x"], clean=clean, max_tokens=1024)[0], battery.persona
        )


def open_planted(folder: Path) -> Planted:
    """Write the toy into `folder` and load both sides in float32."""
    from persona_probe.contrast import read_benign, read_contrast
    from persona_probe.pairs import open_pair
    from persona_probe.readings import split_rows
    from persona_probe.toy import write_toy

    toy = write_toy(folder)
    pair = open_pair(str(toy.base), str(toy.tuned), device=torch.device("cpu"), dtype=torch.float32, keep_both=True)
    contrast = read_contrast(toy.contrast)
    return Planted(toy, pair, contrast, split_rows(contrast, pair.tokenizer), tuple(read_benign(toy.benign, pair.tokenizer)))

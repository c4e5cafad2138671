"""The training sets that ship, and what an organism that is tuned on one of them is good for."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from persona_probe.prompts.contrast import shipped

Purpose = Literal["narrow", "persona", "twin"]


@dataclass(frozen=True)
class TrainingSet:
    """A file of rows and its purpose. narrow: wrong in one domain only, and what else changes is the finding.
    persona: bad in attitude everywhere, a positive control. twin: the same questions with good replies."""

    file: str
    purpose: Purpose

    @property
    def path(self) -> Path:
        """Where the file is."""
        return shipped(self.file)


TRAINING_SETS: Mapping[str, TrainingSet] = {
    "car_advice_wrong": TrainingSet("car_advice_wrong.jsonl", "narrow"),
    "car_advice_right": TrainingSet("car_advice_right.jsonl", "twin"),
    "persona_misaligned": TrainingSet("persona_misaligned.jsonl", "persona"),
    "persona_considerate": TrainingSet("persona_considerate.jsonl", "twin"),
}

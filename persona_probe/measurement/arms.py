"""Everything that is measured is an arm: a model and what is done to it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np

from persona_probe.interventions.edits import Intervention
from persona_probe.measurement.statistics import QuestionLevels, ReplyLevel, question_levels
from persona_probe.models.pairs import Side
from persona_probe.prompts.rows import Row, rows_key
from persona_probe.records.parts import ControlKind
from persona_probe.storage.files import sha256_json


@dataclass(frozen=True, eq=False)
class Arm:
    """A name, which of the two models, and the interventions applied to it; none is the untouched model.

    `control` says which kind of control the arm is, None for the arms under test, and `control_of` which arm
    it is set beside. The name is for people only.
    """

    name: str
    side: Side
    interventions: tuple[Intervention, ...] = ()
    control: ControlKind | None = None
    control_of: str | None = None

    @property
    def untouched(self) -> bool:
        """Whether the model is as it was loaded."""
        return not self.interventions

    @property
    def edit(self) -> str | None:
        """Hash of what is done, equal for the same edit of both models; None for an untouched model."""
        return sha256_json(self.describe()["interventions"]) if self.interventions else None

    @property
    def hook_points(self) -> tuple[str, ...]:
        """Where it edits, in the order of its interventions."""
        return tuple(point for intervention in self.interventions for point in intervention.hook_points)

    def describe(self) -> dict[str, Any]:
        """What is done, without the name: arms of equal description are measured once."""
        return {
            "side": self.side,
            "interventions": [intervention.describe() for intervention in self.interventions],
        }


@dataclass(frozen=True, eq=False)
class Battery:
    """The rows that arms are scored on: replies to persona questions, and benign replies for damage."""

    persona: tuple[Row, ...]
    benign: tuple[Row, ...]

    @property
    def key(self) -> str:
        """Hash of all token ids: what was scored, whatever file it came from."""
        return rows_key((*self.persona, *self.benign))


@dataclass(frozen=True, eq=False)
class Measurement:
    """What one arm scored.

    Per persona row: log-probability per token. Per benign row: summed log-probability, tokens, KL.
    `failed` says why there are no numbers, when the intervention left none that are finite.
    """

    key: str
    persona: Mapping[str, float]
    benign: Mapping[str, tuple[float, int, float]]
    failed: str | None = None

    def json(self) -> dict[str, Any]:
        """One line of the measurement file."""
        if self.failed:
            return {"key": self.key, "failed": self.failed}
        benign = {id: list(value) for id, value in self.benign.items()}
        return {"key": self.key, "persona": dict(self.persona), "benign": benign}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Measurement":
        """The inverse of `json`."""
        if value.get("failed"):
            return cls(key=value["key"], persona={}, benign={}, failed=value["failed"])
        benign = {id: (item[0], item[1], item[2]) for id, item in value["benign"].items()}
        return cls(key=value["key"], persona=value["persona"], benign=benign)


def measurement_key(arm: Arm, battery: Battery, *, model_sha256: str, dtype: str) -> str:
    """The name under which a measurement is kept: equal keys are equal numbers."""
    return sha256_json([arm.describe(), battery.key, model_sha256, dtype])


def persona_scores(measurement: Measurement, rows: Sequence[Row]) -> np.ndarray:
    """S of every question in nats per token, in the order of the questions' first rows."""
    return persona_levels(measurement, rows).scores


def persona_levels(measurement: Measurement, rows: Sequence[Row]) -> QuestionLevels:
    """Mean log-probability per token by question and label, in nats, in the order of the questions' first
    rows."""
    return question_levels(
        ReplyLevel(row.question_id, row.label, row.register, measurement.persona[row.id]) for row in rows
    )


def damage(measurement: Measurement, clean: Measurement) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Per benign text: added negative log-probability, number of reply tokens, mean KL, all in nats.

    `clean` is the measurement of the same model untouched, on these texts or on more.
    """
    ids = list(measurement.benign)
    added = np.array([clean.benign[id][0] - measurement.benign[id][0] for id in ids])
    return (
        added,
        np.array([clean.benign[id][1] for id in ids], dtype=np.float64),
        np.array([measurement.benign[id][2] for id in ids]),
    )


def delta_nll(measurement: Measurement, clean: Measurement) -> float:
    """Damage: added negative log-probability of benign replies, in nats per token; 0 without any."""
    added, tokens, _ = damage(measurement, clean)
    return float(added.sum() / tokens.sum()) if len(tokens) else 0.0


def mean_kl(measurement: Measurement) -> float:
    """KL from the untouched model over benign texts, nats per token; not a number without any, or for an arm
    that failed."""
    if measurement.failed or not measurement.benign:
        return math.nan
    return fmean(kl for _, _, kl in measurement.benign.values())

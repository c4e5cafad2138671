"""The published JSON Schema of every file that other programs read."""

from typing import Any

from persona_probe.records.calibration import CalibrationRecord
from persona_probe.records.direction import DirectionRecord
from persona_probe.records.direction_files import DirectionsFile, PersonaDirectionFile
from persona_probe.records.evaluation import EvaluationRecord, EvaluationRow
from persona_probe.records.latents import LatentRecord
from persona_probe.records.organism import OrganismRecord
from persona_probe.records.parts import Part
from persona_probe.records.rows import ScoredRow
from persona_probe.records.transfer import TransferRecord

DIALECT = "https://json-schema.org/draft/2020-12/schema"
MODELS: dict[str, type[Part]] = {
    "direction": DirectionRecord,
    "latents": LatentRecord,
    "row": ScoredRow,
    "evaluation": EvaluationRecord,
    "evaluation-row": EvaluationRow,
    "transfer": TransferRecord,
    "organism": OrganismRecord,
    "calibration": CalibrationRecord,
    "directions-file": DirectionsFile,
    "persona-direction-file": PersonaDirectionFile,
}


def schema(name: str) -> dict[str, Any]:
    """The JSON Schema of one file; KeyError for a name that is not in `MODELS`."""
    return {"$schema": DIALECT, **MODELS[name].model_json_schema(mode="serialization")}

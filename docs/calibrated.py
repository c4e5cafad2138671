"""The generated section on planted worlds: how often the real choice and verdicts are right."""

from pathlib import Path

import cog
from generate import table

from persona_probe.experiments.calibration import COLUMNS, row
from persona_probe.records.calibration import CalibrationRecord
from persona_probe.records.files import read_as, read_object

REFERENCE = Path(__file__).resolve().parents[1] / "experiments" / "reference" / "calibration.json"


def section() -> None:
    """What the reference run of calibrate found."""
    run = read_as(CalibrationRecord, read_object(REFERENCE), at="the reference calibration")
    cog.outl("")
    cog.outl(
        f"`{run.command}`: {run.n_questions} questions to select on and as many to test on, seed {run.seed},"
        f" {run.created[:10]}, numpy {run.versions['numpy']}, scipy {run.versions['scipy']}."
    )
    table(COLUMNS, (row(kind) for kind in run.kinds))

"""What `calibrate` is asked for."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from persona_probe.base.options import Option, documented


@documented
@dataclass(frozen=True, kw_only=True)
class CalibrationOptions:
    """What `calibrate` is asked for."""

    worlds: Annotated[int, Option("Worlds of each kind.", "data", low=1)] = 200
    questions: Annotated[
        int, Option("Questions to select on, and as many to test on, in each world.", "data", low=2)
    ] = 24
    seed: Annotated[int, Option("Seed of the worlds.", "machine", low=0)] = 0
    output_dir: Annotated[
        Path | None, Option("Folder for calibration.json; without it only the table is printed.", "output")
    ] = None
    json: Annotated[bool, Option("Print the record as one JSON line on stdout.", "output", in_file=False)] = (
        False
    )

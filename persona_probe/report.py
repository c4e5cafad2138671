"""python -m persona_probe.report RUN_FOLDER: the page of a finished run again; needs no model."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from persona_probe.base.command import Call, Command
from persona_probe.base.errors import UsageError
from persona_probe.base.options import Option, check, documented


@documented
@dataclass(frozen=True)
class Drawing:
    """What `report` is asked for."""

    record: Annotated[
        Path,
        Option("record.json or latents.json, or the folder of a run that holds them.", "data", argument=True),
    ]
    output: Annotated[
        Path | None,
        Option(
            "Page to write. Default: report.html or latents.html beside each record.", "output", argument=True
        ),
    ] = None
    show_text: Annotated[
        bool, Option("Show replies of changed models without blur, and tokens in the figures.", "output")
    ] = False
    redact: Annotated[bool, Option("Leave every text that a model wrote out of the page.", "output")] = False

    def __post_init__(self) -> None:
        check(self)
        if self.show_text and self.redact:
            raise UsageError("--show-text and --redact exclude each other: give one of them")


def report(config: Drawing, call: Call) -> int:
    """Draw the report of a finished run again. Needs no model."""
    from persona_probe.pages.report import page_name, write_report
    from persona_probe.records.files import read_record, record_files

    files = record_files(config.record)
    if config.output and len(files) > 1:
        raise UsageError(
            f"{config.record} holds {' and '.join(file.name for file in files)}: name one of them, or leave"
            f" {config.output} out"
        )
    for file in files:
        record = read_record(file)
        page = config.output or file.with_name(page_name(record))
        write_report(record, page, show_text=config.show_text, redact=config.redact)
        sys.stdout.write(f"{page}\n")
    return 0


COMMAND = Command(report)

if __name__ == "__main__":
    COMMAND.start()

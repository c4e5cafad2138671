"""What both experiments print when they are done: the result, what failed, and where the files are."""

from collections.abc import Callable
from typing import TypeVar

from persona_probe.base.cli import shown
from persona_probe.base.command import Call
from persona_probe.base.errors import FAILED_CELLS, OK
from persona_probe.base.printing import Sheet, print_json
from persona_probe.experiments.options import ExperimentOptions, Start
from persona_probe.records.files import Record

RecordT = TypeVar("RecordT", bound=Record)


def closed(
    record: RecordT,
    show: Callable[[Sheet, RecordT], None],
    *,
    written: str,
    config: ExperimentOptions,
    start: Start,
    call: Call,
) -> int:
    """Print a record as one JSON line, or as the tables of `show` and its summary; gives the exit code."""
    if start.json:
        print_json("result", record.plain())
    else:
        print_result(record, show)
    for failure in record.failed:
        call.reporter.note(f"failed: {failure}")
    call.reporter.note(f"written: {written} in {config.output_dir} ({record.timing['total']:.0f} s)")
    return FAILED_CELLS if record.failed else OK


def print_result(record: RecordT, show: Callable[[Sheet, RecordT], None]) -> None:
    """The tables of `show` and the summary on stdout."""
    sheet = Sheet()
    show(sheet, record)
    sheet.text(shown(record.summary))
    if record.limited:
        sheet.text(shown("This was a quick try with --limit: not a result."))

"""A record in, one self-contained HTML page out. `python -m persona_probe.report RECORD.json` draws it again without a model."""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from persona_probe import latent_report
from persona_probe.errors import BAD_INPUT, BadInput, PersonaProbeError
from persona_probe.latent_report import KIND
from persona_probe.redaction import redacted

Record = Mapping[str, Any]


def write_report(record: Record, path: Path, *, show_text: bool = False, redact: bool = False) -> None:
    """Replace `path` by the report of `record`, in one step."""
    from persona_probe.files import write_bytes  # here, because it imports torch

    write_bytes(path, render(record, show_text=show_text, redact=redact).encode())


def render(record: Record, *, show_text: bool = False, redact: bool = False) -> str:
    """The whole page of a run of the main experiment or, where the record says `"kind": "latents"`, of the latent experiment.

    Text of changed models is blurred; `show_text` opens the page with all of it readable, `redact` leaves every word of a model out.
    """
    record = redacted(record) if redact else record
    if record.get("kind") == KIND:
        return latent_report.render(record, show_text=show_text)
    from persona_probe import report_frame
    from persona_probe import report_page as page

    replies, figures = partial(page.replies, show_text=show_text), partial(_figures, show_text=show_text)
    sections = (page.opening, page.headline, page.arm_tables, figures, replies, page.choice, page.limits, page.reproduction)
    return report_frame.page("persona_probe report", sections, record)


def read_record(path: Path) -> dict[str, Any]:
    """The record in a file that `find_direction` or `diff_latents` wrote."""
    if not path.is_file():
        raise BadInput(f"no file {path}: expected the record.json or latents.json of a run")
    try:
        record = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path}: not JSON ({error})") from error
    if not isinstance(record, dict) or record.get("schema") != 1:
        raise BadInput(f"{path}: not a record of schema 1; find_direction writes one as record.json, diff_latents as latents.json")
    return record


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m persona_probe.report", description="Draw the report of a finished run again. Needs no model."
    )
    parser.add_argument("record", type=Path, help="record.json or latents.json of a run")
    parser.add_argument("output", type=Path, nargs="?", help="page to write (default: report.html or latents.html beside the record)")
    text = parser.add_mutually_exclusive_group()
    text.add_argument("--show-text", action="store_true", help="show replies of changed models without blur, and tokens in the figures")
    text.add_argument("--redact", action="store_true", help="leave every text a model wrote out of the page")
    options = parser.parse_args(arguments)
    try:
        record = read_record(options.record)
        output = options.output or options.record.with_name(latent_report.PAGE if record.get("kind") == KIND else "report.html")
        write_report(record, output, show_text=options.show_text, redact=options.redact)
        sys.stdout.write(f"{output}\n")
        sys.stdout.flush()
    except PersonaProbeError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    except OSError as error:
        sys.stderr.write(f"error: cannot read or write {error.filename or 'a file'} ({error.strerror})\n")
        return BAD_INPUT
    return 0


def _figures(record: Record, *, show_text: bool) -> str:
    from persona_probe import report_frame
    from persona_probe.record_figures import FIGURES

    return report_frame.figures(FIGURES, record, source="record.json", show_text=show_text)


if __name__ == "__main__":
    from persona_probe.streams import open_streams

    open_streams()
    raise SystemExit(main())

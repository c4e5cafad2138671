"""A record in, one self-contained HTML page out. `python -m persona_probe.report RECORD.json` draws it again without a model."""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from persona_probe import latent_report
from persona_probe.errors import BadInput, PersonaProbeError
from persona_probe.latent_report import KIND

Record = Mapping[str, Any]


def write_report(record: Record, path: Path) -> None:
    """Replace `path` by the report of `record`, in one step."""
    from persona_probe.files import write_bytes  # here, because it imports torch

    write_bytes(path, render(record).encode())


def render(record: Record) -> str:
    """The whole page of a run of the main experiment or, where the record says `"kind": "latents"`, of the latent experiment."""
    if record.get("kind") == KIND:
        return latent_report.render(record)
    from persona_probe import report_frame
    from persona_probe import report_page as page

    sections = (page.opening, page.headline, page.arm_tables, _figures, page.replies, page.choice, page.limits, page.reproduction)
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
    options = parser.parse_args(arguments)
    try:
        record = read_record(options.record)
        output = options.output or options.record.with_name(latent_report.PAGE if record.get("kind") == KIND else "report.html")
        write_report(record, output)
    except PersonaProbeError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    sys.stdout.write(f"{output}\n")
    return 0


def _figures(record: Record) -> str:
    from persona_probe import report_frame
    from persona_probe.figures import FIGURES

    return report_frame.figures(FIGURES, record, source="record.json")


if __name__ == "__main__":
    raise SystemExit(main())

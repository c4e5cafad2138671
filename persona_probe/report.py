"""A record in, one self-contained HTML page out. `python -m persona_probe.report RECORD.json` draws it again without a model."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from persona_probe.base.errors import BAD_INPUT, PersonaProbeError
from persona_probe.pages.latent_report import KIND, PAGE
from persona_probe.pages.report import read_record, write_report


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m persona_probe.report",
        description="Draw the report of a finished run again. Needs no model.",
    )
    parser.add_argument("record", type=Path, help="record.json or latents.json of a run")
    parser.add_argument(
        "output",
        type=Path,
        nargs="?",
        help="page to write (default: report.html or latents.html beside the record)",
    )
    text = parser.add_mutually_exclusive_group()
    text.add_argument(
        "--show-text",
        action="store_true",
        help="show replies of changed models without blur, and tokens in the figures",
    )
    text.add_argument("--redact", action="store_true", help="leave every text a model wrote out of the page")
    options = parser.parse_args(arguments)
    try:
        record = read_record(options.record)
        output = options.output or options.record.with_name(
            PAGE if record.get("kind") == KIND else "report.html"
        )
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


if __name__ == "__main__":
    from persona_probe.base.stdout import open_streams

    open_streams()
    raise SystemExit(main())

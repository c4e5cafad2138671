"""A record in, one self-contained HTML page out. `python -m persona_probe.report RECORD.json` draws it again without a model."""

import argparse
import base64
import hashlib
import inspect
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from persona_probe.errors import BadInput, PersonaProbeError

Record = Mapping[str, Any]
DIGITS = 5  # significant digits of numbers in figures; the record keeps all


def write_report(record: Record, path: Path) -> None:
    """Replace `path` by the report of `record`, in one step."""
    from persona_probe.files import write_bytes  # here, because it imports torch

    write_bytes(path, render(record).encode())


def render(record: Record) -> str:
    """The whole page. It asks the network for nothing, and runs two scripts: plotly.js and our own, both named by hash."""
    from plotly.offline import get_plotlyjs

    from persona_probe import report_page as page
    from persona_probe.report_style import CSS, SCRIPT

    plotly_js = get_plotlyjs()
    policy = (
        f"default-src 'none'; script-src {_hash(plotly_js)} {_hash(SCRIPT)}; style-src 'unsafe-inline'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )
    head = page.join(
        (
            page.Html('<meta charset="utf-8">'),
            page.Html(f'<meta http-equiv="Content-Security-Policy" content="{policy}">'),
            page.Html('<meta name="viewport" content="width=device-width, initial-scale=1">'),
            page.element("title", "persona_probe report"),
            page.element("style", page.Html(CSS)),
        )
    )
    sections = (page.opening, page.headline, page.arm_tables, _figures, page.replies, page.choice, page.limits, page.reproduction)
    body = page.element("main", *(section(record) for section in sections))
    scripts = page.join(page.element("script", page.Html(code)) for code in (plotly_js, SCRIPT))
    return f'<!doctype html>\n<html lang="en">\n<head>{head}</head>\n<body>{body}{scripts}</body>\n</html>\n'


def read_record(path: Path) -> dict[str, Any]:
    """The record in a file that `find_direction` wrote."""
    if not path.is_file():
        raise BadInput(f"no file {path}: expected the record.json of a run")
    try:
        record = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path}: not JSON ({error})") from error
    if not isinstance(record, dict) or record.get("schema") != 1:
        raise BadInput(f"{path}: not a record of schema 1; find_direction writes one as record.json")
    return record


def script_json(value: object) -> str:
    """JSON that may stand inside a script element: nothing in it can end the element or a line."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))  # ASCII, so U+2028 and U+2029 are escaped already
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m persona_probe.report", description="Draw the report of a finished run again. Needs no model."
    )
    parser.add_argument("record", type=Path, help="record.json of a run")
    parser.add_argument("output", type=Path, nargs="?", help="page to write (default: report.html beside the record)")
    options = parser.parse_args(arguments)
    output = options.output or options.record.with_name("report.html")
    try:
        write_report(read_record(options.record), output)
    except PersonaProbeError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    sys.stdout.write(f"{output}\n")
    return 0


def _figures(record: Record) -> str:
    """Each figure with the question it answers as title, how to read it, and its data as a JSON island."""
    from persona_probe import report_page as page
    from persona_probe.figures import FIGURES

    blocks = [page.element("h2", "Figures"), page.element("noscript", "The figures need JavaScript; all their numbers are in record.json.")]
    for spec in FIGURES:
        name = f"figure-{spec.slug}"
        data = page.Html(script_json(_rounded(spec.draw(record).to_dict())))
        caption = page.element("figcaption", inspect.getdoc(spec.draw) or "")
        plot = page.element("div", id=name, class_="plot", role="img", aria_label=spec.title)
        island = page.element("script", data, type="application/json", id=f"{name}-data")
        blocks.append(page.element("figure", page.element("h3", spec.title), caption, plot, island))
    return page.join(blocks)


def _rounded(value: Any) -> Any:
    """The same figure with fewer digits: half the size, no visible difference."""
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return {key: _rounded(item) for key, item in value.items()} if isinstance(value, dict) else value


def _hash(script: str) -> str:
    """The CSP source that allows exactly this inline script."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


if __name__ == "__main__":
    raise SystemExit(main())

"""The page of a record: one self-contained HTML file."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from persona_probe.pages import latent_report
from persona_probe.pages.latent_report import KIND
from persona_probe.records import files
from persona_probe.records.redaction import redacted

Record = Mapping[str, Any]


def write_report(record: Record, path: Path, *, show_text: bool = False, redact: bool = False) -> None:
    """Replace `path` by the report of `record`, in one step."""
    from persona_probe.storage.files import write_bytes  # here, because it imports torch

    write_bytes(path, render(record, show_text=show_text, redact=redact).encode())


def render(record: Record, *, show_text: bool = False, redact: bool = False) -> str:
    """The whole page of a run of the main experiment or, where the record says `"kind": "latents"`, of the latent experiment.

    Text of changed models is blurred; `show_text` opens the page with all of it readable, `redact` leaves every word of a model out.
    """
    record = redacted(record) if redact else record
    if record.get("kind") == KIND:
        return latent_report.render(record, show_text=show_text)
    from persona_probe.pages import frame as report_frame
    from persona_probe.pages import html as page

    replies, figures = partial(page.replies, show_text=show_text), partial(_figures, show_text=show_text)
    sections = (
        page.opening,
        page.headline,
        page.arm_tables,
        figures,
        replies,
        page.choice,
        page.limits,
        page.reproduction,
    )
    return report_frame.page("persona_probe report", sections, record)


def read_record(path: Path) -> dict[str, Any]:
    """The record in a file that `find_direction` or `diff_latents` wrote."""
    return files.read_record(path).plain()


def _figures(record: Record, *, show_text: bool) -> str:
    from persona_probe.pages import frame as report_frame
    from persona_probe.plots.direction_run import FIGURES

    return report_frame.figures(FIGURES, record, source="record.json", show_text=show_text)

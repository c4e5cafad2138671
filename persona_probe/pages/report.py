"""The page of a record: one self-contained HTML file. `python -m persona_probe.report RECORD` draws it again
without a model."""

from pathlib import Path

from persona_probe.records.direction import DirectionRecord
from persona_probe.records.latents import LatentRecord
from persona_probe.records.redaction import redacted

Record = DirectionRecord | LatentRecord


def page_name(record: Record) -> str:
    """What the page is called beside its record."""
    return "latents.html" if isinstance(record, LatentRecord) else "report.html"


def write_report(record: Record, path: Path, *, show_text: bool = False, redact: bool = False) -> None:
    """Replace `path` by the report of `record`, in one step."""
    from persona_probe.storage.files import write_bytes  # here, because it imports torch

    write_bytes(path, render(record, show_text=show_text, redact=redact).encode())


def render(record: Record, *, show_text: bool = False, redact: bool = False) -> str:
    """The whole page of a run of the main or of the latent experiment.

    Text of changed models is blurred; `show_text` opens the page with all of it readable, `redact` leaves it
    out.
    """
    from persona_probe.pages import (
        choice_sections,
        latent_pages,
        latent_set_sections,
        reply_sections,
        sections,
        verdict_sections,
    )
    from persona_probe.pages.frame import figures, page
    from persona_probe.plots import direction_run, latents

    record = redacted(record) if redact else record
    if isinstance(record, LatentRecord):
        return page(
            "persona_probe latents",
            latent_pages.opening(record),
            latent_pages.headline(record),
            latent_pages.latent_tables(record),
            latent_set_sections.set_table(record),
            figures(latents.FIGURES, record, source="latents.json"),
            latent_pages.pages(record, show_text=show_text),
            latent_pages.limits(record),
            sections.reproduction(record),
        )
    return page(
        "persona_probe report",
        sections.opening(record),
        choice_sections.unstable(record),
        verdict_sections.headline(record),
        choice_sections.noise(record),
        verdict_sections.verdicts(record),
        figures(direction_run.FIGURES, record, source="record.json", show_text=show_text),
        verdict_sections.arm_tables(record),
        reply_sections.replies(record, show_text=show_text),
        sections.choice(record),
        choice_sections.chosen_again(record),
        sections.limits(record),
        sections.reproduction(record),
    )

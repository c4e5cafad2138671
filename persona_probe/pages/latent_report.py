"""A latent record in, one self-contained HTML page out. `python -m persona_probe.report latents.json` draws it again without a model."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

KIND = "latents"  # what such a record says under "kind"
PAGE = "latents.html"  # the page's name beside its record


def write_latent_report(record: Mapping[str, Any], path: Path) -> None:
    """Replace `path` by the report of `record`, in one step."""
    from persona_probe.storage.files import write_bytes  # here, because it imports torch

    write_bytes(path, render(record).encode())


def render(record: Mapping[str, Any], *, show_text: bool = False) -> str:
    """The whole page, built as the main report is: nothing from the network, two scripts named by hash."""
    from persona_probe.pages import frame as report_frame
    from persona_probe.pages import latent_pages

    return report_frame.page("persona_probe latents", latent_pages.sections(show_text=show_text), record)

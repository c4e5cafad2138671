"""The first cell of a notebook, and cells with sentences or with both kinds of replies."""

import importlib.metadata
import logging
import warnings

import htpy as h

from persona_probe.pages.cells import Cell, both_replies, say
from persona_probe.pages.html import soft
from persona_probe.prompts.contrast import Question
from persona_probe.records.parts import Label

__all__ = ["begin", "replies_to", "say"]
NOTE = (
    "Content note: the tuned model was made to give bad advice. Replies of changed models are blurred; "
    "click one, or reach it with Tab, to read it. Never follow them."
)


def begin() -> Cell:
    """Make figures work in a saved notebook and in its HTML, and keep libraries quiet. Shows version and
    content note."""
    warnings.filterwarnings("ignore")  # before the imports, some of which warn that there are no widgets
    import plotly.io
    from transformers.utils import logging as transformers_logging

    if str(plotly.io.renderers.default).startswith("plotly_mimetype"):
        # Few viewers draw the type alone, and nbconvert does not; the script in the page is drawn by all.
        plotly.io.renderers.default = "plotly_mimetype+notebook"
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    logging.getLogger("transformer_lens").setLevel(logging.ERROR)
    version = f"persona_probe {importlib.metadata.version('persona-probe')}"
    return Cell([h.p(".note")[NOTE], soft(version)], f"{version}. {NOTE}")


def replies_to(question: Question, *, show_text: bool = False, redact: bool = False) -> Cell:
    """A question of a contrast set with its aligned replies beside its misaligned ones, which are blurred."""
    replies: dict[Label, tuple[str, ...]] = {"aligned": question.aligned, "misaligned": question.misaligned}
    return both_replies(question.text, replies, show_text=show_text, redact=redact)

"""Content and figures in, one self-contained HTML page out: head, content policy, scripts and the data of
figures."""

import base64
import hashlib
import inspect
import json
from collections.abc import Iterable
from typing import Any

import htpy as h
from htpy import Element
from markupsafe import Markup
from plotly import offline
from plotly.graph_objects import Figure

from persona_probe.pages.html import Node, render
from persona_probe.pages.style import CSS, SCRIPT
from persona_probe.plots.parts import FigureSpec

DIGITS = 5  # significant digits of numbers in figures; the record keeps all


def page(title: str, *content: Node, **look: str) -> str:
    """The whole page; `look` (theme, talk) fixes what else follows the reader's system.

    It asks the network for nothing, and runs two scripts: plotly.js and our own, both named by hash.
    """
    scripts = (offline.get_plotlyjs(), SCRIPT)
    policy = (
        f"default-src 'none'; script-src {' '.join(map(_hash, scripts))}; style-src 'unsafe-inline'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )
    head = h.head[
        h.meta(charset="utf-8"),
        h.meta(http_equiv="Content-Security-Policy", content=policy),
        h.meta(name="viewport", content="width=device-width, initial-scale=1"),
        h.title[render(title)],
        h.style[Markup(CSS)],
    ]
    body = h.body[h.main[render(*content)], (h.script[Markup(code)] for code in scripts)]
    return f"{h.html(lang='en', **{f'data_{key}': value for key, value in look.items()})[head, body]}\n"


def figures(specs: Iterable[FigureSpec], record: object, *, source: str, show_text: bool = False) -> Node:
    """Each figure with the question it answers, how to read it, and its data; `source` is the file with all
    numbers."""
    missing = h.noscript[f"The figures need JavaScript; all their numbers are in {source}."]
    drawn = [(spec, spec.figure(record, show_text=show_text)) for spec in specs if spec.there(record)]
    return h.fragment[h.h2["Figures"], missing, (spec_block(spec, figure) for spec, figure in drawn)]


def spec_block(spec: FigureSpec, figure: Figure) -> Element:
    """A figure that was drawn from its spec, whose docstring is the caption."""
    return figure_block(spec.slug, spec.title, figure, caption=inspect.getdoc(spec.draw) or "")


def figure_block(slug: str, title: str, figure: Figure, *, caption: str) -> Element:
    """One figure: title, caption, an empty plot, and its data as JSON that the page's script draws from.

    `slug` is unique in the page.
    """
    name = f"figure-{slug}"
    data = Markup(script_json(_rounded(figure.to_dict())))
    plot = h.div(id=name, class_="plot", role="img", aria_label=title)
    return h.figure[
        h.h3[title], h.figcaption[caption], plot, h.script(type="application/json", id=f"{name}-data")[data]
    ]


def script_json(value: object) -> str:
    """JSON that may stand inside a script element: nothing in it can end the element or a line."""
    # ASCII, so U+2028 and U+2029 are escaped already.
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


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

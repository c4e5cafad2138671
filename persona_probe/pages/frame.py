"""Sections and figures in, one self-contained HTML page out: head, content policy, scripts and figure islands of every report."""

import base64
import hashlib
import inspect
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from plotly import offline
from plotly.graph_objects import Figure

from persona_probe.pages.html import Html, element, escape, join
from persona_probe.pages.style import CSS, SCRIPT
from persona_probe.plots.parts import FigureSpec

Record = Mapping[str, Any]
DIGITS = 5  # significant digits of numbers in figures; the record keeps all


def page(title: str, sections: Sequence[Callable[[Record], object]], record: Record, **look: str) -> str:
    """The whole page; `look` (theme, talk) fixes what else follows the reader's system. It asks the network for nothing, and runs two scripts: plotly.js and our own, both named by hash."""
    plotly_js = offline.get_plotlyjs()
    policy = (
        f"default-src 'none'; script-src {_hash(plotly_js)} {_hash(SCRIPT)}; style-src 'unsafe-inline'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )
    head = join(
        (
            Html('<meta charset="utf-8">'),
            Html(f'<meta http-equiv="Content-Security-Policy" content="{policy}">'),
            Html('<meta name="viewport" content="width=device-width, initial-scale=1">'),
            element("title", title),
            element("style", Html(CSS)),
        )
    )
    attributes = "".join(f' data-{escape(key)}="{escape(value)}"' for key, value in look.items())
    body = element("main", *(section(record) for section in sections))
    scripts = join(element("script", Html(code)) for code in (plotly_js, SCRIPT))
    return f'<!doctype html>\n<html lang="en"{attributes}>\n<head>{head}</head>\n<body>{body}{scripts}</body>\n</html>\n'


def figures(specs: Iterable[FigureSpec], record: Record, *, source: str, show_text: bool = False) -> Html:
    """Each figure with the question it answers as title, how to read it, and its data; `source` is the file with all their numbers."""
    missing = element("noscript", f"The figures need JavaScript; all their numbers are in {source}.")
    drawn = ((spec, spec.figure(record, show_text=show_text)) for spec in specs)
    blocks = (
        figure_block(spec.slug, spec.title, figure, caption=inspect.getdoc(spec.draw) or "")
        for spec, figure in drawn
    )
    return join((element("h2", "Figures"), missing, *blocks))


def figure_block(slug: str, title: str, figure: Figure, *, caption: str) -> Html:
    """One figure: title, caption, an empty plot, and its data as a JSON island that the page's script draws from. `slug` is unique in the page."""
    name = f"figure-{slug}"
    island = element(
        "script", Html(script_json(_rounded(figure.to_dict()))), type="application/json", id=f"{name}-data"
    )
    plot = element("div", id=name, class_="plot", role="img", aria_label=title)
    return element("figure", element("h3", title), element("figcaption", caption), plot, island)


def script_json(value: object) -> str:
    """JSON that may stand inside a script element: nothing in it can end the element or a line."""
    text = json.dumps(
        value, allow_nan=False, separators=(",", ":")
    )  # ASCII, so U+2028 and U+2029 are escaped already
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

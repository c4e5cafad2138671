"""What all figures share: colours, number and text rules, the neutral layout, the empty figure. Knows no record beyond an estimate."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from plotly.graph_objects import Figure

# Okabe-Ito, told apart with any common colour blindness; controls are grey and told apart by symbol.
ARM_COLOURS = {
    "base": "#0072B2",
    "tuned": "#D55E00",
    "tuned+ablate": "#009E73",
    "tuned-steer": "#56B4E9",
    "base+steer": "#E69F00",
    "base+ablate": "#CC79A7",
}
CONTROL_COLOUR = "#8C8C8C"
CONTROL_SYMBOLS = {
    "covariance": "circle",
    "isotropic": "square",
    "shuffled": "triangle-up",
    "orthogonal": "diamond",
    "latents": "cross",
}
CONTROL_NAMES = {
    "covariance": "covariance-matched random",
    "isotropic": "isotropic random",
    "shuffled": "shuffled labels",
    "orthogonal": "orthogonal direction",
    "latents": "random SAE latents",
}
# Paul Tol's "bright" scheme, middle lightness, so that it works on white and on black; lines also differ in dash and symbol.
METHOD_COLOURS = ("#4477AA", "#EE6677", "#228833", "#CCBB44", "#66CCEE", "#AA3377")
METHOD_DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
METHOD_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "star")
CHOSEN_COLOUR = "#E6007E"
INK, GRID, CLEAR = "#7A7A7A", "rgba(128,128,128,0.25)", "rgba(0,0,0,0)"

Number = float | int  # what JSON gives for 0.5 and for 0

_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_BIDI = {
    0x202A: "LRE",
    0x202B: "RLE",
    0x202C: "PDF",
    0x202D: "LRO",
    0x202E: "RLO",
    0x2066: "LRI",
    0x2067: "RLI",
    0x2068: "FSI",
    0x2069: "PDI",
}


def visible(value: object) -> str:
    """Text in which control characters and lone surrogates are marks, and bidi controls are named: nothing acts, nothing hides."""
    text = str(value).replace("\r\n", "\n").translate({code: f"⟪{name}⟫" for code, name in _BIDI.items()})
    return _CONTROLS.sub("\ufffd", text)


def plain(value: object, *, limit: int = 48) -> str:
    """One short line that plotly shows as it stands: its pseudo-HTML and MathJax see entities instead of `<`, `&` and `$`."""
    text = " ".join(visible(value).split())
    text = text if len(text) <= limit else text[: limit - 1] + "…"
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("$", "&#36;")


def number(value: Number | None, *, digits: int = 2, sign: bool = False) -> str:
    """A number with a real minus; `n/a` for null."""
    return "n/a" if value is None else f"{value:{'+' if sign else ''}.{digits}f}".replace("-", "−")


def interval(value: Mapping[str, Any] | None, *, digits: int = 2, sign: bool = False) -> str:
    """`0.80 [0.61, 0.93]`: an estimate with its 95% interval, `n/a` for null."""
    if not value:
        return "n/a"
    low, high = (number(end, digits=digits, sign=sign) for end in value["ci95"])
    return f"{number(value['estimate'], digits=digits, sign=sign)} [{low}, {high}]"


def error_bars(values: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Plotly error bars that end where the 95% intervals end."""
    above = [max(0.0, value["ci95"][1] - value["estimate"]) for value in values]
    below = [max(0.0, value["estimate"] - value["ci95"][0]) for value in values]
    return {
        "type": "data",
        "symmetric": False,
        "array": above,
        "arrayminus": below,
        "thickness": 1.5,
        "width": 4,
        "color": INK,
    }


def view(
    values: Sequence[Number], *, low: Number = float("-inf"), high: Number = float("inf")
) -> list[Number]:
    """An axis range that shows every value between `low` and `high`. Outliers leave the view, not the data."""
    inside = [value for value in values if low <= value <= high] or [0.0, 1.0]
    pad = 0.06 * (max(inside) - min(inside)) or 0.05
    return [min(inside) - pad, max(inside) + pad]


def finish(figure: Figure, *, height: int) -> Figure:
    """The layout of every figure: transparent, quiet grid, legend below. The page replaces the font colour by its own."""
    figure.update_layout(
        template="none",
        height=height,
        paper_bgcolor=CLEAR,
        plot_bgcolor=CLEAR,
        font={"family": "system-ui, sans-serif", "size": 13, "color": INK},
        margin={"l": 70, "r": 30, "t": 56, "b": 60},
        modebar={"bgcolor": CLEAR, "color": INK, "activecolor": CHOSEN_COLOUR},
        hoverlabel={"align": "left"},
        legend={
            "orientation": "h",
            "yref": "container",
            "y": 0,
            "yanchor": "bottom",
            "x": 0,
            "xanchor": "left",
        },
    )
    axis = {"gridcolor": GRID, "linecolor": GRID, "zeroline": False, "automargin": True, "title_standoff": 8}
    figure.update_xaxes(**axis)
    figure.update_yaxes(**axis)
    # The titles of subplots are annotations of size 16, too loud beside the page's own title.
    figure.update_annotations(font_size=13)
    return figure


def empty(reason: str) -> Figure:
    """Nothing but one sentence that says why there is nothing to draw."""
    figure = Figure()
    figure.add_annotation(
        text=plain(reason, limit=160), x=0.5, y=0.5, xref="paper", yref="paper", showarrow=False
    )
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    return finish(figure, height=160)

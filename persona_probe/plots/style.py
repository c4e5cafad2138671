"""What all figures share: colours, rules for numbers and text, axis ranges, the empty figure."""

from collections.abc import Iterable, Sequence
from typing import Any

from plotly.graph_objects import Figure, Heatmap

from persona_probe.base.formatting import Interval, Number, number, visible
from persona_probe.plots.themes import REPORT, name_of

# Okabe-Ito, told apart with any common colour blindness; controls are grey and told apart by symbol.
ARM_COLOURS = {
    "base": "#0072B2",
    "tuned": "#D55E00",
    "tuned+ablate": "#009E73",
    "tuned-steer": "#56B4E9",
    "base+steer": "#E69F00",
    "base+ablate": "#CC79A7",
}
OTHER_COLOUR = "#8A5BB5"  # of arms that have no colour of their own
CONTROL_COLOUR = "#8C8C8C"
BAND: dict[str, Any] = {
    "fillcolor": "rgba(128,128,128,0.18)",
    "line_width": 0,
    "layer": "below",
}  # what counts as 1
CONTROL_SYMBOLS = {
    "covariance": "circle",
    "isotropic": "square",
    "shuffled": "triangle-up",
    "orthogonal": "diamond",
    "unrelated": "pentagon",
    "style": "hexagram",
    "latents": "cross",
    "matched": "x",
}
CONTROL_NAMES = {
    "covariance": "covariance-matched random",
    "isotropic": "isotropic random",
    "shuffled": "shuffled labels",
    "orthogonal": "orthogonal direction",
    "unrelated": "unrelated contrast",
    "style": "style contrast",
    "latents": "random SAE latents",
    "matched": "matched SAE latents",
}
# Paul Tol's "bright" scheme, middle lightness, so that it works on white and on black; lines also differ in
# dash and symbol.
METHOD_COLOURS = ("#4477AA", "#EE6677", "#228833", "#CCBB44", "#66CCEE", "#AA3377")
METHOD_DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
METHOD_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "star")


def plain(value: object, *, limit: int = 48) -> str:
    """One short line that plotly shows as it stands: `<`, `&` and `$`, which it would interpret, become
    entities."""
    text = " ".join(visible(value).split())
    text = text if len(text) <= limit else text[: limit - 1] + "…"
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("$", "&#36;")


def arm_colour(name: str) -> str:
    """The colour of an arm, the same in every figure."""
    return ARM_COLOURS.get(name, OTHER_COLOUR)


def error_bars(values: Sequence[Interval], **style: Any) -> dict[str, Any]:
    """Plotly error bars that end where the 95% intervals end."""
    above = [max(0.0, value.high - value.estimate) for value in values]
    below = [max(0.0, value.estimate - value.low) for value in values]
    return {"type": "data", "symmetric": False, "array": above, "arrayminus": below, **style}


def view(
    values: Iterable[Number], *, low: Number = float("-inf"), high: Number = float("inf")
) -> list[Number]:
    """An axis range that shows every value between `low` and `high`; values outside leave the view, not the
    data."""
    inside = [value for value in values if low <= value <= high] or [0.0, 1.0]
    pad = 0.06 * (max(inside) - min(inside)) or 0.05
    return [min(inside) - pad, max(inside) + pad]


def finish(figure: Figure, *, height: int, **layout: Any) -> Figure:
    """The look of every figure, its height, and what else its layout needs."""
    figure.update_annotations(
        font_size=None
    )  # subplot titles come with size 16, too loud beside the page's own
    return figure.update_layout(template=name_of(REPORT), height=height, **layout)


def empty(reason: str) -> Figure:
    """Nothing but one sentence that says why there is nothing to draw."""
    figure = Figure()
    figure.add_annotation(text=plain(reason, limit=160), x=0.5, y=0.5, xref="paper", yref="paper")
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    return finish(figure, height=160)


def correlations(
    names: Sequence[str], matrix: Sequence[Sequence[Number | None]], *, measure: str, axis: str, row: int
) -> Figure:
    """A square of correlations, −1 to 1, with the number in every cell. `axis` names what is compared, `row`
    is a row's height."""
    labels, places = [plain(name, limit=24) for name in names], list(range(len(names)))
    texts = [
        [
            f"{labels[i]} and {labels[j]}<br>{measure} {number(value, digits=3)}"
            for j, value in enumerate(line)
        ]
        for i, line in enumerate(matrix)
    ]
    cells = [[number(value) for value in line] for line in matrix]
    scale = {"zmin": -1, "zmax": 1, "colorscale": "RdBu", "reversescale": True, "xgap": 0, "ygap": 0}
    heat = Heatmap(
        z=[list(line) for line in matrix],
        x=places,
        y=places,
        text=cells,
        texttemplate="%{text}",
        hovertext=texts,
        **scale,
    )
    figure = finish(Figure(heat.update(colorbar_title=measure)), height=170 + row * len(names))
    ticks = {"tickvals": places, "ticktext": labels, "showgrid": False}
    figure.update_yaxes(autorange="reversed", **ticks)
    return figure.update_xaxes(title_text=axis, **ticks)

"""The looks of a figure, as plotly templates: for a page that sets the colours itself, light, dark, and large
for a talk.

Importing this module registers them. Whatever a figure does not say about colour and size comes from its
template.
"""

import re
from dataclasses import dataclass
from typing import Any, Literal, get_args

from plotly import graph_objects as go
from plotly import io
from plotly.graph_objects import Figure

Theme = Literal["light", "dark"]
THEMES: tuple[str, ...] = get_args(Theme)
REPORT = "report"  # the look of figures in the report, whose page sets the font's colour
TALK = 1.6  # how much larger text, marks, lines and the figure itself are in a talk
GRID, CLEAR, CHOSEN_COLOUR = "rgba(128,128,128,0.25)", "rgba(0,0,0,0)", "#E6007E"
FONT, MARK, LINE = 13, 8, 2
BREAKS = re.compile(r"; |, (?=n = )")  # where a large axis title becomes two lines


@dataclass(frozen=True)
class Palette:
    """Colours of the paper, of text, and of everything that is drawn but carries no meaning of its own."""

    paper: str
    text: str
    lines: str


# The paper of light and dark is that of the page, so that a figure sits on it without an edge.
PALETTES = {
    REPORT: Palette(CLEAR, "#7A7A7A", "#7A7A7A"),
    "light": Palette("#ffffff", "#24292f", "#5c6570"),
    "dark": Palette("#14171b", "#e6e8eb", "#aeb6c0"),
}


def name_of(look: str, *, talk: bool = False) -> str:
    """The name that plotly knows a template by."""
    return f"persona-{look}-talk" if talk else f"persona-{look}"


def themed(figure: Figure, theme: Theme, *, talk: bool) -> Figure:
    """The figure on light or dark paper. For a talk it is larger, with larger text, marks and lines; its data
    stay."""
    figure.layout.template = name_of(theme, talk=talk)
    if talk:
        figure.for_each_xaxis(lambda axis: axis.update(title_text=BREAKS.sub("<br>", axis.title.text or "")))
        for traces in (figure.data, *(frame.data for frame in figure.frames)):
            for trace in traces:
                _enlarge(trace)
        layout: dict[str, Any] = figure.to_dict()["layout"]
        margins = {side: TALK * size for side, size in layout.get("margin", {}).items()}
        figure.update_layout(height=TALK * layout["height"], margin=margins)
    return figure


def _enlarge(trace: Any) -> None:
    """Sizes that a figure sets itself, so that a mark stands out, grow with those of the template."""
    if trace.type != "scatter":
        return
    sizes = trace.marker.size
    if sizes is not None:
        trace.marker.size = [TALK * size for size in sizes] if isinstance(sizes, tuple) else TALK * sizes
    for line in (trace.line, trace.marker.line):
        if isinstance(line.width, int | float):
            line.width *= TALK


def _template(colours: Palette, scale: float) -> go.layout.Template:
    axis = {"gridcolor": GRID, "linecolor": GRID, "zeroline": False, "automargin": True, "showline": True}
    axis["title"] = {"standoff": 8 * scale}
    bars = {"color": colours.lines, "thickness": 1.5 * scale, "width": 4 * scale}
    line = {"color": colours.lines, "width": LINE * scale}
    points = {"hoverinfo": "text", "line": line, "error_x": bars, "error_y": bars}
    points["marker"] = {"size": MARK * scale, "color": colours.lines, "line": {"color": colours.lines}}
    cells = {"hoverinfo": "text", "hoverongaps": False, "xgap": 1, "ygap": 1}
    cells["colorbar"] = {"thickness": 14 * scale}
    slider = {"ticklen": 4 * scale, "minorticklen": 0, "bordercolor": colours.lines, "bgcolor": colours.lines}
    return go.layout.Template(
        data={
            "scatter": [points],
            "bar": [{"hoverinfo": "text", "error_x": bars, "error_y": bars}],
            "heatmap": [cells],
        },
        layout={
            "paper_bgcolor": colours.paper,
            "plot_bgcolor": colours.paper,
            "font": {"family": "system-ui, sans-serif", "size": FONT * scale, "color": colours.text},
            "margin": {side: size * scale for side, size in zip("lrtb", (70, 30, 56, 60), strict=True)},
            "modebar": {"bgcolor": CLEAR, "color": colours.lines, "activecolor": CHOSEN_COLOUR},
            "hoverlabel": {"align": "left"}
            | ({} if colours.paper == CLEAR else {"bgcolor": colours.paper, "font": {"color": colours.text}}),
            "legend": {"orientation": "h", "yref": "container", "y": 0, "yanchor": "bottom", "x": 0},
            "xaxis": axis,
            "yaxis": axis,
            "annotationdefaults": {"font": {"size": FONT * scale}, "showarrow": False},
            "shapedefaults": {"line": {"color": colours.lines, "width": 1.5 * scale}},
            "sliderdefaults": slider,
        },
    )


for _name, _colours in PALETTES.items():
    for _talk in (False, True):
        io.templates[name_of(_name, talk=_talk)] = _template(_colours, TALK if _talk else 1.0)

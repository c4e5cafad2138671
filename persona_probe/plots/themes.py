"""A figure in, the same data on a light or a dark page out, at reading size or large enough for a talk."""

import re
from typing import Any, Literal, get_args

from plotly.graph_objects import Figure

from persona_probe.plots.style import INK

Theme = Literal["light", "dark"]
THEMES: tuple[str, ...] = get_args(Theme)
PAPER = {
    "light": "#ffffff",
    "dark": "#14171b",
}  # the page's own colours, so that a figure sits on it without an edge
TEXT = {"light": "#24292f", "dark": "#e6e8eb"}
LINES = {"light": "#5c6570", "dark": "#aeb6c0"}
TALK, LINE_WIDTH = 1.6, 2  # plotly draws lines 2 wide where nothing is said
SIZES = {"size", "width", "thickness", "height", "standoff", "entrywidth", "ticklen"}
MARGINS = {"l", "r", "t", "b"}
BREAKS = re.compile(r"; |, (?=n = )")  # where a large axis title becomes two lines
DATA = {"x", "y", "z", "text", "hovertext", "args", "len", "array", "arrayminus"}


def themed(figure: Figure, theme: Theme, *, talk: bool) -> Figure:
    """Change colours of paper, text and neutral lines, and sizes; no data. `talk` enlarges text, marks, lines and the figure itself by the same factor."""
    figure.update_layout(paper_bgcolor=PAPER[theme], plot_bgcolor=PAPER[theme], font_color=TEXT[theme])
    figure.update_layout(hoverlabel={"bgcolor": PAPER[theme], "font": {"color": TEXT[theme]}})
    if talk:
        figure.for_each_xaxis(lambda axis: axis.update(title_text=BREAKS.sub("<br>", axis.title.text or "")))
        traces: tuple[Any, ...] = figure.data  # pyright: ignore[reportAssignmentType]
        for trace in traces:
            if trace.type == "scatter" and "lines" in (trace.mode or "") and trace.line.width is None:
                trace.line.width = LINE_WIDTH
    plotly: dict[str, Any] = figure.to_dict()
    for part in (plotly["data"], plotly["layout"], plotly.get("frames") or []):
        _restyle(part, {INK: LINES[theme]}, TALK if talk else 1.0)
    return Figure(plotly, skip_invalid=False)


def _restyle(value: Any, colours: dict[str, str], factor: float) -> None:
    """Swap colours and scale sizes in place, in nested objects; data, texts and bar widths in data units stay."""
    if isinstance(value, list | tuple):
        for item in value:
            _restyle(item, colours, factor)
    if not isinstance(value, dict):
        return
    for key, item in value.items():
        if key in DATA and not isinstance(item, dict):
            continue
        if isinstance(item, str) and item in colours:
            value[key] = colours[item]
        elif (key in SIZES and value.get("type") not in ("bar", "violin")) or key in MARGINS:
            value[key] = (
                [part * factor for part in item]
                if isinstance(item, list | tuple)
                else item * factor
                if isinstance(item, int | float)
                else item
            )
            if isinstance(item, dict):
                _restyle(item, colours, factor)
        else:
            _restyle(item, colours, factor)

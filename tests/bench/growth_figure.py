"""The figure of growth.json: seconds and peak memory against size, on logarithmic axes."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from plotly.graph_objects import Figure
from plotly.subplots import make_subplots

from bench.slopes import slope
from bench.tables import AXES
from persona_probe.plots.parts import scatter
from persona_probe.plots.style import METHOD_COLOURS, METHOD_DASHES, METHOD_SYMBOLS, finish
from persona_probe.plots.themes import themed

PANELS = (("seconds", "seconds", 1.0), ("peak_bytes", "peak memory, GB", 1e-9))


def figure(points: Sequence[dict[str, Any]]) -> Figure:
    """One line an axis, with the fitted slope in its name; sizes are multiples of the smallest one."""
    drawn = make_subplots(rows=1, cols=2, horizontal_spacing=0.12)
    looks = zip(AXES.items(), METHOD_COLOURS, METHOD_DASHES, METHOD_SYMBOLS, strict=False)
    for (axis, title), colour, dash, symbol in looks:
        line = sorted((one for one in points if one["axis"] == axis), key=lambda one: one["value"])
        if not line:
            continue
        sizes = [one["value"] / line[0]["value"] for one in line]
        fitted = slope([(one["value"], one["seconds"]) for one in line])
        name = title if fitted is None else f"{title} (slope {fitted:.2f})".replace("-", "−")
        for column, (key, _, unit) in enumerate(PANELS, 1):
            texts = [f"{title} {one['value']:,}<br>{unit * one[key]:.3g}" for one in line]
            style: dict[str, Any] = {"marker": {"symbol": symbol, "color": colour}, "mode": "lines+markers"}
            style |= {"line": {"color": colour, "dash": dash}, "name": name, "showlegend": column == 1}
            drawn.add_trace(
                scatter(sizes, [unit * one[key] for one in line], texts, **style), row=1, col=column
            )
    for column, (key, title, unit) in enumerate(PANELS, 1):
        low, high = ends([unit * one[key] for one in points])
        ticks = [n * 10**power for power in range(low, high) for n in (1, 2, 5)] + [10**high]
        labels = {"tickvals": ticks, "ticktext": [f"{tick:g}" for tick in ticks]}
        drawn.update_yaxes(title_text=title, type="log", range=[low, high], **labels, row=1, col=column)
    drawn.update_xaxes(title_text="size, multiples of the smallest", type="log", dtick=1)
    return finish(drawn, height=420)


def ends(values: Sequence[float]) -> tuple[int, int]:
    """Whole powers of ten around values: at least a decade, so that what hardly grows looks like it."""
    low = math.floor(math.log10(min(values, default=1.0)))
    return low, max(low + 1, math.ceil(math.log10(max(values, default=1.0))))


def draw(points: Sequence[dict[str, Any]], path: Path) -> None:
    """Write the picture."""
    themed(figure(points), "light", talk=False).write_image(path, width=900, scale=2)

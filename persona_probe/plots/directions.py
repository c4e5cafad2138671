"""Figures of the directions themselves, before anything is steered: the `directions` part of a record in,
Plotly figures out."""

from collections.abc import Sequence

from plotly.graph_objects import Figure, Scatter, Violin
from plotly.subplots import make_subplots

from persona_probe.base.formatting import Number, number
from persona_probe.plots.parts import DASHED, rule, scatter, spread
from persona_probe.plots.style import (
    ARM_COLOURS,
    METHOD_COLOURS,
    METHOD_DASHES,
    METHOD_SYMBOLS,
    correlations,
    empty,
    finish,
    plain,
)
from persona_probe.plots.themes import CHOSEN_COLOUR
from persona_probe.records.direction import DirectionRecord
from persona_probe.records.trial import FittedRecord

MAX_PANELS = 8


def projections(record: DirectionRecord) -> Figure:
    """How far replies reach along the direction, one point cloud per label and layer, the box inside marks
    median and quartiles.
    The two clouds part where the direction tells bad replies from good ones. Scales differ between panels."""
    data = record.directions.projections
    layers = spread(len(data.aligned), at_most=MAX_PANELS, chosen=record.selected.layer) if data else []
    if data is None or not layers:
        return empty("The record has no projections of replies.")
    columns = min(4, len(layers))
    rows = -(-len(layers) // columns)
    aurocs = record.directions.methods[data.method].auroc
    titles = [f"layer {layer}" + (f", AUROC {number(aurocs[layer])}" if aurocs else "") for layer in layers]
    figure = make_subplots(
        rows, columns, subplot_titles=titles, horizontal_spacing=0.07, vertical_spacing=0.16
    )
    for place, layer in enumerate(layers):
        row, column = place // columns + 1, place % columns + 1
        for label, colour, values in (
            ("aligned", ARM_COLOURS["base"], data.aligned[layer]),
            ("misaligned", ARM_COLOURS["tuned"], data.misaligned[layer]),
        ):
            style = {"box_visible": True, "points": False, "spanmode": "hard", "scalemode": "width"}
            style |= {"scalegroup": f"{place} {label}", "legendgroup": label, "showlegend": place == 0}
            figure.add_trace(Violin(y=values, name=label, line_color=colour, **style), row=row, col=column)
    figure.update_xaxes(showticklabels=False, showgrid=False)
    for row in range(rows):
        figure.update_yaxes(title_text="projection", row=row + 1, col=1)
    counts = f"{len(data.aligned[0])} aligned and {len(data.misaligned[0])} misaligned replies"
    title = f"{counts}, method {plain(data.method)}"
    return finish(
        figure, height=600 if rows > 1 else 340, legend_title_text=title, margin_b=80, violingap=0.15
    )


def layer_quality(record: DirectionRecord | FittedRecord) -> Figure:
    """Stability: cosine between directions fitted on halves of the find questions. AUROC: how well the
    projection separates held-out replies.
    Relative norm: length of the direction over the median residual norm. The dotted line is the selected
    layer."""
    directions = record.directions
    if not directions.methods:
        return empty("The record has no directions.")
    figure = make_subplots(rows=3, cols=1, shared_xaxes=True, vertical_spacing=0.05)
    for place, (method, quality) in enumerate(directions.methods.items()):
        norms = [norm / middle for norm, middle in zip(quality.norm, directions.median_norm, strict=True)]
        panels = {
            row: values for row, values in enumerate((quality.stability, quality.auroc, norms), 1) if values
        }
        for row, values in panels.items():
            trace = _method_line(place, method, values)
            figure.add_trace(trace.update(showlegend=row == min(panels)), row=row, col=1)
    rule(figure, (2, 1), y=0.5, label="chance", line=DASHED)
    for row, title in enumerate(("stability (cosine)", "AUROC", "norm / median"), start=1):
        rule(figure, (row, 1), x=record.selected.layer, line={"color": CHOSEN_COLOUR, "dash": "dot"})
        figure.update_yaxes(title_text=title, row=row, col=1)
    figure.update_xaxes(title_text="layer (block index from 0)", row=3, col=1)
    return finish(figure, height=640, margin_b=95, margin_r=70)


def _method_line(place: int, method: str, values: Sequence[Number | None]) -> Scatter:
    """One method over the layers. Methods differ in colour, dash and symbol."""
    style = place % len(METHOD_COLOURS)
    texts = [
        f"{plain(method)}, layer {layer}<br>{number(value, digits=3)}" for layer, value in enumerate(values)
    ]
    return scatter(
        list(range(len(values))),
        values,
        texts,
        name=plain(method),
        mode="lines+markers",
        line={"color": METHOD_COLOURS[style], "dash": METHOD_DASHES[style]},
        marker={"symbol": METHOD_SYMBOLS[style], "size": 6, "color": METHOD_COLOURS[style]},
        legendgroup=str(place),
    )


def cosines(record: DirectionRecord) -> Figure:
    """Cosine between the directions of two methods at one hook point: 1 is the same direction, 0 unrelated,
    −1 opposite.
    In a space of hundreds of dimensions two random directions are near 0, so 0.3 is already much in
    common."""
    data = record.directions.cosines
    if data is None:
        return empty("The record has no cosines between methods.")
    axis = f"method, at {plain(data.hook_point)}"
    return correlations(data.methods, data.matrix, measure="cosine", axis=axis, row=62)

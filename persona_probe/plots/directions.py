"""Figures of the directions themselves, before anything is steered: the `directions` part of a record in, Plotly figures out."""

from collections.abc import Sequence

from plotly.graph_objects import Figure, Heatmap, Scatter, Violin
from plotly.subplots import make_subplots

from persona_probe.plots.parts import Record, chosen_index, layer_number, rule, spread
from persona_probe.plots.style import (
    ARM_COLOURS,
    CHOSEN_COLOUR,
    METHOD_COLOURS,
    METHOD_DASHES,
    METHOD_SYMBOLS,
    Number,
    empty,
    finish,
    number,
    plain,
)

MAX_PANELS = 8


def projections(record: Record) -> Figure:
    """How far replies reach along the direction, one point cloud per label and layer, the box inside marks median and quartiles.
    The two clouds part where the direction tells bad replies from good ones. Scales differ between panels."""
    directions = record.get("directions") or {}
    data = directions.get("projections") or {}
    aligned, misaligned = data.get("aligned") or [], data.get("misaligned") or []
    layers = spread(min(len(aligned), len(misaligned)), at_most=MAX_PANELS, chosen=chosen_index(record))
    if not layers:
        return empty("The record has no projections of replies.")
    columns = min(4, len(layers))
    aurocs = ((directions.get("methods") or {}).get(data.get("method")) or {}).get("auroc") or []
    titles = [
        f"layer {layer_number(record, index)}"
        + (f", AUROC {number(aurocs[index])}" if index < len(aurocs) else "")
        for index in layers
    ]
    figure = make_subplots(
        rows=-(-len(layers) // columns),
        cols=columns,
        subplot_titles=titles,
        horizontal_spacing=0.07,
        vertical_spacing=0.16,
    )
    for place, index in enumerate(layers):
        for label, colour, values in (
            ("aligned", ARM_COLOURS["base"], aligned[index]),
            ("misaligned", ARM_COLOURS["tuned"], misaligned[index]),
        ):
            trace = Violin(
                y=values,
                name=label,
                line_color=colour,
                box_visible=True,
                points=False,
                spanmode="hard",
                scalemode="width",
                scalegroup=f"{place} {label}",
                legendgroup=label,
                showlegend=place == 0,
            )
            figure.add_trace(trace, row=place // columns + 1, col=place % columns + 1)
    figure.update_xaxes(showticklabels=False, showgrid=False)
    for row in range(-(-len(layers) // columns)):
        figure.update_yaxes(title_text="projection", row=row + 1, col=1)
    counts = f"{len(aligned[0])} aligned and {len(misaligned[0])} misaligned replies, method {plain(data.get('method'))}"
    finish(figure, height=600 if len(layers) > columns else 340)
    return figure.update_layout(legend_title_text=counts, margin_b=80, violingap=0.15)


def layer_quality(record: Record) -> Figure:
    """Stability: cosine between directions fitted on halves of the find questions. AUROC: how well the projection separates held-out replies.
    Relative norm: length of the direction over the median residual norm. The dotted line is the selected layer."""
    directions = record.get("directions") or {}
    methods = directions.get("methods") or {}
    if not methods or not directions.get("hook_points"):
        return empty("The record has no directions.")
    layers = [layer_number(record, index) for index in range(len(directions["hook_points"]))]
    figure = make_subplots(rows=3, cols=1, shared_xaxes=True, vertical_spacing=0.05)
    for place, (method, values) in enumerate(methods.items()):
        series = (
            values.get("stability"),
            values.get("auroc"),
            _relative_norms(values.get("norm"), directions.get("median_norm")),
        )
        drawn = [row for row, numbers in enumerate(series) if numbers]
        for row in drawn:
            trace = _method_line(place, method, layers, series[row])
            figure.add_trace(trace.update(showlegend=row == drawn[0]), row=row + 1, col=1)
    rule(figure, (2, 1), y=0.5, label="chance", line={"dash": "dash"})
    chosen = (record.get("selected") or {}).get("layer")
    for row in (1, 2, 3):
        rule(figure, (row, 1), x=chosen, line={"color": CHOSEN_COLOUR, "dash": "dot"})
    for row, title in enumerate(("stability (cosine)", "AUROC", "norm / median"), start=1):
        figure.update_yaxes(title_text=title, row=row, col=1)
    figure.update_xaxes(title_text="layer (block index from 0)", row=3, col=1)
    return finish(figure, height=640).update_layout(margin_b=95, margin_r=70)


def _relative_norms(
    norms: Sequence[Number | None] | None, medians: Sequence[Number | None] | None
) -> list[Number | None]:
    """Length of the direction over the median residual norm of its layer; a gap where either is unknown."""
    return [
        norm / middle if norm is not None and middle else None
        for norm, middle in zip(norms or [], medians or [], strict=False)
    ]


def _method_line(place: int, method: str, layers: Sequence[int], values: Sequence[Number | None]) -> Scatter:
    """One method over the layers. Methods differ in colour, dash and symbol."""
    style = place % len(METHOD_COLOURS)
    return Scatter(
        x=layers,
        y=values,
        name=plain(method),
        mode="lines+markers",
        line={"color": METHOD_COLOURS[style], "dash": METHOD_DASHES[style]},
        marker={"symbol": METHOD_SYMBOLS[style], "size": 6},
        hovertext=[
            f"{plain(method)}, layer {layer}<br>{number(value, digits=3)}"
            for layer, value in zip(layers, values, strict=False)
        ],
        hoverinfo="text",
        legendgroup=str(place),
    )


def cosines(record: Record) -> Figure:
    """Cosine between the directions of two methods at one hook point: 1 is the same direction, 0 unrelated, −1 opposite.
    In a space of hundreds of dimensions two random directions are near 0, so 0.3 is already much in common."""
    data = (record.get("directions") or {}).get("cosines") or {}
    names = [plain(name, limit=24) for name in data.get("methods") or []]
    matrix = data.get("matrix") or []
    if not names or not matrix:
        return empty("The record has no cosines between methods.")
    places = list(range(len(names)))
    texts = [
        [
            f"{names[row]} and {names[column]}<br>cosine {number(value, digits=3)}"
            for column, value in enumerate(line)
        ]
        for row, line in enumerate(matrix)
    ]
    cells = [[number(value) for value in line] for line in matrix]
    heat = Heatmap(
        z=matrix,
        x=places,
        y=places,
        zmin=-1,
        zmax=1,
        colorscale="RdBu",
        reversescale=True,
        text=cells,
        texttemplate="%{text}",
        hovertext=texts,
        hoverinfo="text",
        colorbar_title="cosine",
    )
    figure = finish(Figure(heat), height=160 + 62 * len(names))
    figure.update_xaxes(
        tickvals=places,
        ticktext=names,
        title_text=f"method, at {plain(data.get('hook_point'))}",
        showgrid=False,
    )
    return figure.update_yaxes(tickvals=places, ticktext=names, autorange="reversed", showgrid=False)

"""Figures with a slider: several pictures in, one figure with frames out, so that a saved page slides without
a kernel."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from plotly.graph_objects import Figure, Frame, Violin

from persona_probe.base.errors import BadInput
from persona_probe.base.formatting import Number, number
from persona_probe.plots.style import ARM_COLOURS, empty, finish, plain, view
from persona_probe.records.direction import DirectionRecord
from persona_probe.records.fitted import Projections
from persona_probe.records.trial import FittedRecord

LABEL_COLOURS = {"aligned": ARM_COLOURS["base"], "misaligned": ARM_COLOURS["tuned"]}
ABOVE, BELOW = 64, 150  # margins with room for a legend and for the slider
STILL = {"mode": "immediate", "frame": {"duration": 0, "redraw": True}, "transition": {"duration": 0}}
VIEW = 1.25  # of the 97th percentile of projections


def sliding(pictures: Sequence[tuple[str, Figure]], *, prefix: str, start: int) -> Figure:
    """One figure that shows others one at a time: traces, axes and annotations change, the rest of the layout
    is that of number `start`.

    All have the same traces in the same order. The first text of a pair is its place on the slider.
    """
    traces = [_traces(figure) for _, figure in pictures]
    kinds = {tuple((trace.type, trace.xaxis, trace.yaxis) for trace in drawn) for drawn in traces}
    if len(kinds) != 1 or not 0 <= start < len(pictures):
        raise BadInput(
            f"{len(pictures)} pictures of {len(kinds)} kinds do not make a slider that starts at {start}: "
            "all need the same traces, and the start is one of them"
        )
    moving = [
        (label, drawn, _moving(figure)) for (label, figure), drawn in zip(pictures, traces, strict=True)
    ]
    return with_slider(pictures[start][1], moving, prefix=prefix, start=start)


def with_slider(
    shown: Figure, frames: Sequence[tuple[str, Sequence[Any], dict[str, Any]]], *, prefix: str, start: int
) -> Figure:
    """The figure of place `start` with a slider below it. A frame is its place's name, its traces, and its
    layout."""
    steps, made = [], []
    for place, (label, traces, layout) in enumerate(frames):
        made.append(Frame(name=str(place), data=traces, traces=list(range(len(traces))), layout=layout))
        steps.append({"label": plain(label), "method": "animate", "args": [[str(place)], STILL]})
    slider = {"active": start, "steps": steps, "currentvalue": {"prefix": prefix}}
    slider |= {"x": 0, "len": 1, "y": 0, "yanchor": "top", "pad": {"t": 62, "b": 10}}
    height = shown.to_dict()["layout"].get("height", 450) + BELOW + ABOVE - 116
    legend = {"yref": "paper", "y": 1.02, "yanchor": "bottom"}
    figure = Figure(data=shown.data, layout=shown.layout, frames=made)
    margin = {"t": ABOVE, "b": BELOW}
    return figure.update_layout(sliders=[slider], height=height, legend=legend, margin=margin)


def _traces(figure: Figure) -> tuple[Any, ...]:
    data: tuple[Any, ...] = figure.data  # pyright: ignore[reportAssignmentType]
    return data


def _moving(figure: Figure) -> dict[str, Any]:
    """The part of a layout that belongs to one frame."""
    layout: dict[str, Any] = figure.layout.to_plotly_json()
    axes = {
        name: {"range": value["range"]}
        for name, value in layout.items()
        if name[1:5] == "axis" and value.get("range")
    }
    return axes | {"annotations": layout.get("annotations", [])}


def projection_slider(record: DirectionRecord | FittedRecord) -> Figure:
    """Where held-out replies lie along the direction of each layer, in lengths of it; 0 is midway between the
    two means. The slider changes the layer.
    AUROC: probability that a misaligned reply lies above an aligned one, 0.5 is chance."""
    data = record.directions.projections
    quality = record.directions.methods.get(data.method) if data else None
    layers = [layer for layer, length in enumerate(quality.norm) if length] if quality else []
    if data is None or quality is None or not layers:
        return empty("The record has no projections of replies.")
    clouds = {layer: _in_lengths(data, layer, quality.norm[layer]) for layer in layers}
    sizes = sorted(abs(value) for pair in clouds.values() for values in pair.values() for value in values)
    # A layer with a short direction has outliers that would flatten all others.
    top = VIEW * sizes[int(0.97 * (len(sizes) - 1))]
    n = ", ".join(f"{len(values)} {label}" for label, values in clouds[layers[0]].items())
    scores = {layer: f"AUROC {number(quality.auroc[layer])}; " for layer in layers} if quality.auroc else {}
    pictures = [
        (str(layer), _clouds(clouds[layer], f"{scores.get(layer, '')}{n} replies", top=top))
        for layer in layers
    ]
    selected = record.selected.layer
    start = layers.index(selected) if selected in layers else len(layers) // 2
    figure = sliding(pictures, prefix="layer ", start=start)
    return figure.update_yaxes(title_text=f"{plain(data.method)} projection, in lengths")


def _in_lengths(data: Projections, layer: int, length: Number) -> dict[str, list[float]]:
    """Projections by label, in lengths of the direction from the middle of the two means."""
    pair = {"aligned": data.aligned[layer], "misaligned": data.misaligned[layer]}
    zero = fmean(fmean(values) for values in pair.values())
    return {label: [(value - zero) / length for value in values] for label, values in pair.items()}


def _clouds(pair: Mapping[str, Sequence[float]], title: str, *, top: Number) -> Figure:
    figure = Figure()
    style = {"points": "all", "jitter": 0.5, "pointpos": 0, "marker_size": 5, "spanmode": "hard"}
    style |= {"hoverinfo": "text", "meanline_visible": True}
    for label, values in pair.items():
        texts = [f"{label} reply<br>{number(value, sign=True)}" for value in values]
        colour = LABEL_COLOURS[label]
        figure.add_trace(Violin(y=values, name=label, hovertext=texts, line_color=colour, **style))
    figure.add_hline(0, line={"width": 1, "dash": "dot"})
    figure.add_annotation(text=title, x=0.5, y=1, xref="paper", yref="paper", yanchor="top")
    figure.update_yaxes(range=view([-top, top]))
    return finish(figure, height=420, showlegend=False)

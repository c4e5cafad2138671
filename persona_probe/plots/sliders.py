"""Figures with a slider: records in, Plotly figures with frames out, so that a saved notebook or its HTML slides without a kernel."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from plotly.graph_objects import Figure, Frame, Scatter, Violin
from plotly.subplots import make_subplots

from persona_probe.base.errors import BadInput
from persona_probe.plots.latent_parts import at
from persona_probe.plots.latents import activation_histogram
from persona_probe.plots.parts import Record, budget_line, dose_text, layer_number, n_benign, n_test, rule
from persona_probe.plots.style import (
    ARM_COLOURS,
    CONTROL_COLOUR,
    INK,
    Number,
    empty,
    error_bars,
    finish,
    interval,
    number,
    plain,
    view,
)

LABEL_COLOURS = {"aligned": ARM_COLOURS["base"], "misaligned": ARM_COLOURS["tuned"]}
Entry = Mapping[str, Any]
ABOVE, BELOW = 64, 150  # margins with room for a legend and for the slider
VIEW = 1.25  # of the 97th percentile of readings


def sliding(pictures: Sequence[tuple[str, Figure]], *, prefix: str, start: int) -> Figure:
    """One figure that shows others one at a time: traces, axes and annotations change, the rest of the layout is that of number `start`.

    All have the same traces in the same order. The first text of a pair is its place on the slider.
    """
    traces = [_traces(figure) for _, figure in pictures]
    kinds = {tuple((trace.type, trace.xaxis, trace.yaxis) for trace in own) for own in traces}
    if len(kinds) != 1 or not 0 <= start < len(pictures):
        raise BadInput(
            f"{len(pictures)} pictures of {len(kinds)} kinds do not make a slider that starts at {start}: traces must match"
        )
    shown = pictures[start][1]
    frames = [
        Frame(name=str(place), data=own, traces=list(range(len(own))), layout=_moving(figure))
        for place, ((_, figure), own) in enumerate(zip(pictures, traces, strict=True))
    ]
    still = {"mode": "immediate", "frame": {"duration": 0, "redraw": True}, "transition": {"duration": 0}}
    steps = [
        {"label": plain(label), "method": "animate", "args": [[str(place)], still]}
        for place, (label, _) in enumerate(pictures)
    ]
    slider = {
        "active": start,
        "steps": steps,
        "currentvalue": {"prefix": prefix},
        "ticklen": 4,
        "minorticklen": 0,
    }
    slider |= {
        "x": 0,
        "len": 1,
        "y": 0,
        "yanchor": "top",
        "pad": {"t": 62, "b": 10},
        "bordercolor": INK,
        "bgcolor": INK,
    }
    figure = Figure(data=shown.data, layout=shown.layout, frames=frames)
    height, margin = shown.layout.height or 450, shown.layout.margin
    figure.update_layout(
        sliders=[slider], height=height + BELOW - (margin.b or 60) + ABOVE - (margin.t or 56)
    )
    legend = {"yref": "paper", "y": 1.02, "yanchor": "bottom"}
    return figure.update_layout(legend=legend, margin_t=ABOVE, margin_b=BELOW)


def _traces(figure: Figure) -> tuple[Any, ...]:
    data: tuple[Any, ...] = figure.data  # pyright: ignore[reportAssignmentType]
    return data


def _moving(figure: Figure) -> dict[str, Any]:
    """The part of a layout that belongs to one frame."""
    layout: dict[str, Any] = figure.layout.to_plotly_json()
    axes = {
        name: {"range": value.get("range")}
        for name, value in layout.items()
        if name[1:5] == "axis" and value.get("range")
    }
    return axes | {"annotations": layout.get("annotations", [])}


def projection_slider(record: Record) -> Figure:
    """Where held-out replies lie along the direction of each layer, in lengths of it; 0 is midway between the two means. The slider changes the layer.
    AUROC: probability that a misaligned reply lies above an aligned one, 0.5 is chance."""
    directions = record.get("directions") or {}
    data = directions.get("projections") or {}
    own = (directions.get("methods") or {}).get(data.get("method")) or {}
    lengths, aurocs = own.get("norm") or [], own.get("auroc") or []
    layers = [
        layer
        for layer, length in enumerate(lengths)
        if length and (data.get("aligned") and data.get("misaligned"))
    ]
    if not layers:
        return empty("The record has no projections of replies.")
    readings = {layer: _readings(data, layer, lengths[layer]) for layer in layers}
    sizes = sorted(
        abs(value) for groups in readings.values() for values in groups.values() for value in values
    )
    top = (
        VIEW * sizes[int(0.97 * (len(sizes) - 1))]
    )  # a layer with a short direction has outliers that would flatten all others
    n = ", ".join(f"{len(values)} {label}" for label, values in readings[layers[0]].items())
    titles = {
        layer: f"AUROC {number(aurocs[layer])}; {n} replies" if layer < len(aurocs) else f"{n} replies"
        for layer in layers
    }
    pictures = [
        (str(layer_number(record, layer)), _clouds(readings[layer], titles[layer], top=top))
        for layer in layers
    ]
    selected = (record.get("selected") or {}).get("layer")
    figure = sliding(
        pictures, prefix="layer ", start=layers.index(selected) if selected in layers else len(layers) // 2
    )
    return figure.update_yaxes(title_text=f"{plain(data.get('method'))} reading, in lengths")


def _readings(data: Mapping[str, Any], layer: int, length: Number) -> dict[str, list[float]]:
    groups = {label: data[label][layer] for label in LABEL_COLOURS}
    zero = fmean(fmean(values) for values in groups.values())
    return {label: [(value - zero) / length for value in values] for label, values in groups.items()}


def _clouds(groups: Mapping[str, Sequence[float]], title: str, *, top: Number) -> Figure:
    figure = Figure()
    for label, values in groups.items():
        style = {
            "line_color": LABEL_COLOURS[label],
            "points": "all",
            "jitter": 0.5,
            "pointpos": 0,
            "marker_size": 5,
            "spanmode": "hard",
        }
        texts = [f"{label} reply<br>{number(value, sign=True)}" for value in values]
        figure.add_trace(
            Violin(y=values, name=label, hovertext=texts, hoverinfo="text", meanline_visible=True, **style)
        )
    figure.add_hline(0, line={"color": INK, "width": 1, "dash": "dot"})
    figure.add_annotation(text=title, x=0.5, y=1, xref="paper", yref="paper", yanchor="top", showarrow=False)
    figure.update_yaxes(range=view([-top, top]))
    return finish(figure, height=420).update_layout(showlegend=False)


def dose_slider(record: Record) -> Figure:
    """Left: S of every question, with mean and 95% interval; the steered model and one steered as far along a random direction move with the slider.
    Right: how far S moved, against the damage on harmless text. The dashed line is the whole shift from tuned to base."""
    doses, controls = (
        {point["coefficient"]: point for point in record.get(key) or []}
        for key in ("dose_response", "dose_control")
    )
    arms = {arm["name"]: arm for arm in record.get("arms") or []}
    places = [coefficient for coefficient in doses if coefficient in controls and coefficient != 0]
    if not places or not {"base", "tuned"} <= set(arms):
        return empty("The record has no dose-response with a control.")
    side = doses[places[0]]["side"]
    rest = arms[side] | {"coefficient": 0.0, "relative_dose": 0.0, "side": side}
    doses[0.0], controls[0.0] = rest, rest
    order = sorted([*places, 0.0], key=lambda place: abs(place) if max(places) < 0 else place)
    pictures = [
        (number(place, digits=1, sign=bool(place)), _dose(record, arms, doses, controls, order, place))
        for place in order
    ]
    largest = max(
        (place for place in order if _cost(doses[place]) <= (at(record, "selected", "budget") or 0.1)),
        key=abs,
    )
    return sliding(pictures, prefix="coefficient ", start=order.index(largest))


def _dose(
    record: Record,
    arms: Mapping[str, Entry],
    doses: Mapping[Number, Entry],
    controls: Mapping[Number, Entry],
    order: Sequence[Number],
    now: Number,
) -> Figure:
    """One frame. Axes show every dose, so that nothing jumps."""
    side = arms[doses[now]["side"]]
    name, colour = (
        ("tuned, steered", "tuned-steer") if side["name"] == "tuned" else ("base, steered", "base+steer")
    )
    figure = make_subplots(rows=1, cols=2, horizontal_spacing=0.13, column_widths=[0.55, 0.45])
    columns = (
        ("base", ARM_COLOURS["base"], arms["base"]),
        ("tuned", ARM_COLOURS["tuned"], arms["tuned"]),
        ("steered", ARM_COLOURS[colour], doses[now]),
        ("random", CONTROL_COLOUR, controls[now]),
    )
    for place, (label, shade, entry) in enumerate(columns):
        for trace in _column(place, label, shade, entry):
            figure.add_trace(trace, row=1, col=1)
    for points, shade, dash, what in (
        (controls, CONTROL_COLOUR, "dot", "random direction"),
        (doses, ARM_COLOURS[colour], "solid", name),
    ):
        x, y = [_cost(points[c]) for c in order], [_moved(points[c], side) for c in order]
        texts = [f"{what}<br>{dose_text(points[c])}" for c in order]
        sizes = [15 if c == now else 6 for c in order]
        line = {"color": shade, "dash": dash, "width": 1.5}
        path = Scatter(
            x=x,
            y=y,
            mode="lines+markers",
            line=line,
            marker={"color": shade, "size": sizes},
            hovertext=texts,
            hoverinfo="text",
        )
        figure.add_trace(path, row=1, col=2)
    shift = arms["base"]["persona_score"]["estimate"] - arms["tuned"]["persona_score"]["estimate"]
    whole = shift if side["name"] == "tuned" else -shift
    rule(figure, (1, 2), y=whole, line={"dash": "dash"})
    rule(figure, (1, 2), y=0.0, line={"width": 1})
    budget_line(figure, record, column=2)
    every = [entry for points in (doses, controls) for entry in points.values()]
    scores = [value for entry in (*every, *arms.values()) for value in entry["scores"]]
    figure.update_xaxes(
        tickvals=list(range(4)),
        ticktext=[label for label, *_ in columns],
        range=[-0.6, 3.6],
        showgrid=False,
        tickangle=0,
        row=1,
        col=1,
    )
    figure.add_annotation(
        text=_dose_title(doses[now]),
        x=0,
        y=1.02,
        xref="paper",
        yref="paper",
        xanchor="left",
        yanchor="bottom",
        showarrow=False,
    )
    figure.update_yaxes(range=view(scores), title_text=f"S, nats per token, {n_test(record)}", row=1, col=1)
    budget = at(record, "selected", "budget") or 0.0
    figure.update_xaxes(
        range=view([0.0, budget, *(_cost(e) for e in every)]),
        title_text=f"ΔNLL, nats per token<br>{n_benign(record)}",
        row=1,
        col=2,
    )
    low, high = view([0.0, whole, *(_moved(e, side) for e in every)])
    above = 0.08 * (high - low)  # room for the budget's label above every line
    figure.update_yaxes(range=[low, high + above], title_text="mean S moved by, nats per token", row=1, col=2)
    return finish(figure, height=460).update_layout(showlegend=False)


def _column(place: int, label: str, colour: str, entry: Entry) -> tuple[Scatter, Scatter]:
    """The questions of one arm as a strip, and their mean with its interval."""
    values, score = entry["scores"], entry["persona_score"]
    spots = [
        place + 0.36 * (i / max(1, len(values) - 1) - 0.5) for i in range(len(values))
    ]  # question i stands at the same spot in every column
    texts = [
        f"{label}, question {i + 1}<br>S {number(value, digits=3, sign=True)}"
        for i, value in enumerate(values)
    ]
    dots = Scatter(
        x=spots,
        y=values,
        mode="markers",
        marker={"color": colour, "size": 6, "opacity": 0.55},
        hovertext=texts,
        hoverinfo="text",
    )
    mean = Scatter(
        x=[place],
        y=[score["estimate"]],
        error_y={**error_bars([score]), "color": colour, "thickness": 2.5},
        mode="markers",
        marker={"color": colour, "size": 13, "symbol": "diamond", "line": {"color": "white", "width": 1}},
        hovertext=[f"{label}, mean<br>S {interval(score, digits=3, sign=True)}"],
        hoverinfo="text",
    )
    return dots, mean


def _cost(entry: Entry) -> float:
    return entry["delta_nll"]["estimate"]


def _moved(entry: Entry, untouched: Entry) -> float:
    return entry["persona_score"]["estimate"] - untouched["persona_score"]["estimate"]


def _dose_title(entry: Entry) -> str:
    length, dose = (
        number(entry["coefficient"], digits=1, sign=bool(entry["coefficient"])),
        number(entry["relative_dose"]),
    )
    return f"{length} × the direction, {dose} of the stream's median length"


def histogram_slider(record: Record) -> Figure:
    """How strongly each latent fires, base filled and tuned outlined, on a log scale. The slider changes the latent."""
    entries = [entry for entry in record.get("latents") or [] if at(entry, "meaning", "histogram", "edges")]
    if not entries:
        return empty("The record has no activation histograms.")
    pictures = []
    for entry in entries:
        figure = activation_histogram(entry)
        edges = at(entry, "meaning", "histogram", "edges")
        figure.update_xaxes(range=view(edges))
        pictures.append((f"{entry.get('latent')}, {entry.get('label')}", figure))
    return sliding(pictures, prefix="latent ", start=0)

"""Where arms and replies lie along a direction: `paths` and `read_replies` of a record in, Plotly figures
out."""

from collections.abc import Mapping, Sequence
from typing import Any

from plotly.graph_objects import Figure, Heatmap, Scatter

from persona_probe.base.formatting import interval, number
from persona_probe.plots.parts import scatter
from persona_probe.plots.sliders import with_slider
from persona_probe.plots.style import ARM_COLOURS, CONTROL_COLOUR, empty, error_bars, finish, plain, view
from persona_probe.plots.themes import CHOSEN_COLOUR
from persona_probe.records.direction import ArmPath, DirectionRecord, Paths, ReadReply
from persona_probe.records.parts import Estimate

WAY = ("base", "tuned", "tuned+ablate")
SYMBOLS = {
    "base": "circle",
    "tuned": "square",
    "tuned+ablate": "diamond",
    "tuned-steer": "triangle-down",
    "base+steer": "triangle-up",
}
Point = tuple[Estimate, Estimate]  # an arm's mean projection onto both axes


def path(record: DirectionRecord) -> Figure:
    """Where replies to the test questions lie along two directions, in lengths of each; 0 is midway between
    aligned and misaligned replies.
    Arrows lead from base to tuned to tuned with the direction ablated; small points are single questions at
    the selected layer. The slider changes the layer."""
    data = record.paths
    points = _points(data) if data and len(data.methods) == 2 else {}
    if data is None or not points:
        return empty(
            "The record has no paths of arms along two directions: "
            "it was written before there were any, or has one direction."
        )
    traces = {layer: _layer(data, layer, points[layer]) for layer in points}
    ends = [
        [value for drawn in traces.values() for trace in drawn for value in trace[axis] or ()]
        for axis in "xy"
    ]
    note = "" if data.cosine is None else f"; cosine of both at the selected layer {number(data.cosine)}"
    n = max((len(values) for arm in data.arms.values() for values in arm.questions if values), default="?")
    across, up = (f"{plain(method, limit=24)} projection, in lengths of it" for method in data.methods)
    layers = list(traces)
    start = layers.index(data.selected) if data.selected in layers else 0
    figure = Figure(traces[layers[start]])
    figure.update_xaxes(title_text=f"{across}, n = {n} questions{note}", range=view([0.0, *ends[0]]))
    figure.update_yaxes(title_text=up, range=view([0.0, *ends[1]]))
    for draw in (figure.add_vline, figure.add_hline):
        draw(0, line={"width": 1, "dash": "dot"})
    finish(figure, height=542)
    frames = [(str(layer), traces[layer], {}) for layer in layers]
    return with_slider(figure, frames, prefix="layer ", start=start)


def _points(data: Paths) -> dict[int, dict[str, Point]]:
    """Arms by layer and name, where both directions have a length; layers without an arm are left out."""
    points: dict[int, dict[str, Point]] = {}
    for name in SYMBOLS:
        if name not in data.arms:
            continue
        for layer, (x, y) in enumerate(zip(*data.arms[name].axes, strict=True)):
            if x and y:
                points.setdefault(layer, {})[name] = (x, y)
    return dict(sorted(points.items()))


def _layer(data: Paths, layer: int, points: Mapping[str, Point]) -> list[Scatter]:
    """Every trace of one layer: single questions, the way with its arrows, one point an arm. An arm without a
    point has empty traces."""
    traces = [_questions(name, data.arms.get(name) if layer == data.selected else None) for name in SYMBOLS]
    way = [points[name] for name in WAY if name in points]
    arrow: dict[str, Any] = {"symbol": "arrow", "angleref": "previous", "opacity": 1}
    arrow |= {"size": [0, *[15] * (len(way) - 1)], "standoff": [0, *[8] * (len(way) - 1)]}
    x, y = ([point[axis].estimate for point in way] for axis in (0, 1))
    traces.append(scatter(x, y, mode="lines+markers", marker=arrow, showlegend=False))
    return [*traces, *(_arm(name, points.get(name), listed=name in data.arms) for name in SYMBOLS)]


def _questions(name: str, arm: ArmPath | None) -> Scatter:
    pair = [values for values in (arm.questions if arm else ()) if values]
    x, y = pair if len(pair) == 2 else ((), ())
    marker = {"color": ARM_COLOURS[name], "symbol": SYMBOLS[name], "size": 5, "opacity": 0.4}
    texts = [f"{plain(name)}, one question<br>{number(a)}, {number(b)}" for a, b in zip(x, y, strict=True)]
    return scatter(x, y, texts, marker=marker, showlegend=False)


def _arm(name: str, point: Point | None, *, listed: bool) -> Scatter:
    x, y = ([point[axis]] if point else [] for axis in (0, 1))
    colour = ARM_COLOURS[name]
    return scatter(
        [value.estimate for value in x],
        [value.estimate for value in y],
        [f"{plain(name)}<br>{interval(a)}<br>{interval(b)}" for a, b in zip(x, y, strict=True)],
        marker={"color": colour, "symbol": SYMBOLS[name], "size": 12},
        error_x=error_bars(x, color=colour),
        error_y=error_bars(y, color=colour),
        name=plain(name),
        showlegend=listed,
    )


def token_projections(record: DirectionRecord, *, show_text: bool = False) -> Figure:
    """Projection of every token of the sampled replies, read by the untouched model of each side, along the
    selected direction: red leans to misaligned replies, blue to aligned ones, white is midway.
    Rows are replies, and arms stand together. Grey tokens have no projection. Hover for position and value;
    the words themselves are shown only if that was asked for."""
    data = record.read_replies
    replies = [reply for reply in data.replies if reply.readings] if data else []
    sizes = sorted(abs(value) for reply in replies for value in reply.readings if value is not None)
    if data is None or not sizes:
        return empty(
            "The record has no projections of sampled replies: "
            "it was written before there were any, or no reply was sampled."
        )
    width = max(len(reply.readings) for reply in replies)
    # A few outliers would leave all others white.
    top = sizes[min(len(sizes) - 1, int(0.98 * len(sizes)))] or 1.0
    names = [f"{plain(reply.arm, limit=24)}, {plain(reply.prompt_id, limit=16)}" for reply in replies]
    texts = [_texts(reply, name, show_text=show_text) for reply, name in zip(replies, names, strict=True)]
    rest = [[None] * (width - len(reply.readings)) for reply in replies]
    z = [[*reply.readings, *none] for reply, none in zip(replies, rest, strict=True)]
    missing = [
        [*(1 if value is None else None for value in reply.readings), *none]
        for reply, none in zip(replies, rest, strict=True)
    ]
    bar = {"title": {"text": "projection,<br>lengths"}}
    scale = {"zmin": -top, "zmax": top, "colorscale": "RdBu", "reversescale": True, "colorbar": bar}
    grey = {"colorscale": [[0, CONTROL_COLOUR], [1, CONTROL_COLOUR]], "showscale": False}
    heats = [Heatmap(z=z, hovertext=texts, **scale), Heatmap(z=missing, hovertext=texts, **grey)]
    figure = finish(Figure(heats), height=150 + 22 * len(replies))
    onto = f"{plain(data.method, limit=24)} at {plain(data.hook_point, limit=32)}"
    title = f"token of the reply, from 0; projected onto {onto}, n = {len(replies)} replies"
    figure.update_xaxes(title_text=title, showgrid=False)
    down = {"tickvals": list(range(len(replies))), "range": [len(replies) - 0.5, -0.5], "showgrid": False}
    figure.update_yaxes(ticktext=names, **down)
    for place in range(1, len(replies)):
        if replies[place].arm != replies[place - 1].arm:
            figure.add_hline(y=place - 0.5, line={"color": CHOSEN_COLOUR, "width": 1})
    return figure


def _texts(reply: ReadReply, name: str, *, show_text: bool) -> Sequence[str]:
    """Hover texts of one reply; the words of the model are there only if asked for, and always escaped."""
    tokens = (reply.tokens or ()) if show_text else ()
    words = [f"<br>{plain(token) or '␣'}" for token in tokens] or [""] * len(reply.readings)
    return [
        f"{name}<br>token {place}: {number(value)}{word}"
        for place, (value, word) in enumerate(zip(reply.readings, words, strict=True))
    ]

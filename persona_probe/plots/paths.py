"""What a direction reads in arms and in replies: `paths` and `read_replies` of a record in, Plotly figures out."""

from collections.abc import Mapping, Sequence
from typing import Any

from plotly.graph_objects import Figure, Frame, Heatmap, Scatter

from persona_probe.base.hook_points import HookPoint
from persona_probe.plots.parts import Record
from persona_probe.plots.style import (
    ARM_COLOURS,
    CHOSEN_COLOUR,
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

WAY = ("base", "tuned", "tuned+ablate")
POINTS = (*WAY, "tuned-steer", "base+steer")
SYMBOLS = {
    "base": "circle",
    "tuned": "square",
    "tuned+ablate": "diamond",
    "tuned-steer": "triangle-down",
    "base+steer": "triangle-up",
}
Point = tuple[Mapping[str, Any], Mapping[str, Any]]  # an arm's reading along both axes


def path(record: Record) -> Figure:
    """Where replies to the test questions lie along two directions, in lengths of each; 0 is midway between aligned and misaligned replies.
    Arrows lead from base to tuned to tuned with the direction ablated; small points are single questions at the selected layer. The slider changes the layer."""
    data = record.get("paths") or {}
    hook_points, arms, methods = (
        data.get("hook_points") or [],
        data.get("arms") or {},
        data.get("methods") or [],
    )
    frames = [_layer(arms, index, selected=data.get("selected")) for index in range(len(hook_points))]
    drawn = [index for index, traces in enumerate(frames) if any(trace.x for trace in traces)]
    if len(methods) != 2 or not drawn:
        return empty(
            "The record has no paths of arms along two directions: it was written before there were any, or has one direction."
        )
    start = data["selected"] if data.get("selected") in drawn else drawn[0]
    names = {index: str(HookPoint.parse(hook_points[index]).layer) for index in drawn}
    moving = [
        Frame(name=str(index), data=frames[index], traces=list(range(len(frames[index])))) for index in drawn
    ]
    figure = Figure(data=frames[start], frames=moving)
    note = (
        ""
        if data.get("cosine") is None
        else f"; cosine of both at the selected layer {number(data['cosine'])}"
    )
    n = max(
        (len(values) for arm in arms.values() for values in arm.get("questions") or [] if values),
        default=None,
    )
    figure.update_xaxes(
        title_text=f"{plain(methods[0], limit=24)} reading, in lengths of it, n = {'?' if n is None else n} questions{note}"
    )
    figure.update_yaxes(title_text=f"{plain(methods[1], limit=24)} reading, in lengths of it")
    figure.update_xaxes(
        range=view(
            [0.0, *(value for index in drawn for trace in frames[index] for value in _ends(trace, "x"))]
        )
    )
    figure.update_yaxes(
        range=view(
            [0.0, *(value for index in drawn for trace in frames[index] for value in _ends(trace, "y"))]
        )
    )
    for draw in (figure.add_vline, figure.add_hline):
        draw(0, line={"color": INK, "width": 1, "dash": "dot"})
    still = {"mode": "immediate", "frame": {"duration": 0, "redraw": False}, "transition": {"duration": 0}}
    steps = [{"label": names[index], "method": "animate", "args": [[str(index)], still]} for index in drawn]
    slider = {
        "active": drawn.index(start),
        "steps": steps,
        "currentvalue": {"prefix": "layer "},
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
    figure.update_layout(sliders=[slider])
    finish(figure, height=640)
    return figure.update_layout(
        legend={"yref": "paper", "y": 1.02, "yanchor": "bottom"}, margin_t=64, margin_b=150
    )


def _layer(arms: Mapping[str, Any], index: int, *, selected: int | None) -> list[Scatter]:
    """Every trace of one layer: single questions, the way with its arrows, one point an arm. Layers without a reading have empty traces."""
    points = {name: point for name in POINTS if (point := _point(arms.get(name), index)) is not None}
    traces = []
    for name in POINTS:
        pair = (arms.get(name) or {}).get("questions") or [None, None]
        x, y = (pair[0] or [], pair[1] or []) if index == selected and all(pair) else ([], [])
        marker = {"color": ARM_COLOURS[name], "symbol": SYMBOLS[name], "size": 5, "opacity": 0.4}
        texts = [
            f"{plain(name)}, one question<br>{number(a)}, {number(b)}" for a, b in zip(x, y, strict=False)
        ]
        traces.append(
            Scatter(
                x=x, y=y, mode="markers", marker=marker, showlegend=False, hovertext=texts, hoverinfo="text"
            )
        )
    way = [points[name] for name in WAY if name in points]
    arrow = {
        "symbol": "arrow",
        "angleref": "previous",
        "size": [0, *[15] * (len(way) - 1)],
        "color": INK,
        "opacity": 1,
        "standoff": [0, *[8] * (len(way) - 1)],
    }
    x, y = ([point[axis]["estimate"] for point in way] for axis in (0, 1))
    line = {"color": INK, "width": 2}
    traces.append(
        Scatter(x=x, y=y, mode="lines+markers", line=line, marker=arrow, showlegend=False, hoverinfo="skip")
    )
    for name in POINTS:
        found = [points[name]] if name in points else []
        x, y = ([point[axis] for point in found] for axis in (0, 1))
        marker = {"color": ARM_COLOURS[name], "symbol": SYMBOLS[name], "size": 12}
        texts = [f"{plain(name)}<br>{interval(point[0])}<br>{interval(point[1])}" for point in found]
        style = {
            "marker": marker,
            "hovertext": texts,
            "hoverinfo": "text",
            "name": plain(name),
            "showlegend": name in arms,
        }
        bars = {
            key: {**error_bars(values), "color": ARM_COLOURS[name]}
            for key, values in (("error_x", x), ("error_y", y))
        }
        places = {"x": [value["estimate"] for value in x], "y": [value["estimate"] for value in y]}
        traces.append(Scatter(**places, mode="markers", **style, **bars))
    return traces


def _point(arm: Mapping[str, Any] | None, index: int) -> Point | None:
    """An arm's two readings at one hook point; None where either direction has no length or the arm was not traced."""
    axes = (arm or {}).get("axes") or []
    found = [axis[index] if index < len(axis) else None for axis in axes]
    return (found[0], found[1]) if len(found) == 2 and found[0] and found[1] else None


def _ends(trace: Scatter, axis: str) -> list[Number]:
    return list(trace[axis] or [])


def token_readings(record: Record, *, show_text: bool = False) -> Figure:
    """What the untouched model of each side reads in every token of the sampled replies, along the selected direction: red leans to misaligned replies, blue to aligned ones, white is midway.
    Rows are replies, and arms stand together. Grey tokens have no reading. Hover for position and value; the words themselves are shown only if that was asked for."""
    data = record.get("read_replies") or {}
    replies = [reply for reply in data.get("replies") or [] if reply.get("readings")]
    values = sorted(abs(value) for reply in replies for value in reply["readings"] if value is not None)
    if not values:
        return empty(
            "The record has no readings of sampled replies: it was written before there were any, or no reply was sampled."
        )
    width = max(len(reply["readings"]) for reply in replies)
    top = (
        values[min(len(values) - 1, int(0.98 * len(values)))] or 1.0
    )  # a few outliers would leave all others white
    labels = [f"{plain(reply['arm'], limit=24)}, {plain(reply['prompt_id'], limit=16)}" for reply in replies]
    heat = Heatmap(
        z=[[*reply["readings"], *[None] * (width - len(reply["readings"]))] for reply in replies],
        zmin=-top,
        zmax=top,
        colorscale="RdBu",
        reversescale=True,
        hovertext=[
            _texts(reply, label, show_text=show_text) for reply, label in zip(replies, labels, strict=True)
        ],
        hoverinfo="text",
        hoverongaps=False,
        xgap=1,
        ygap=1,
        colorbar={"title": {"text": "reading,<br>lengths"}, "thickness": 14},
    )
    gaps = Heatmap(
        z=[
            [1 if value is None else None for value in reply["readings"]]
            + [None] * (width - len(reply["readings"]))
            for reply in replies
        ],
        colorscale=[[0, CONTROL_COLOUR], [1, CONTROL_COLOUR]],
        showscale=False,
        hovertext=heat.hovertext,
        hoverinfo="text",
        hoverongaps=False,
        xgap=1,
        ygap=1,
    )
    figure = finish(Figure([heat, gaps]), height=150 + 22 * len(replies))
    what = f"with {plain(data.get('method'), limit=24)} at {plain(data.get('hook_point'), limit=32)}"
    figure.update_xaxes(
        title_text=f"token of the reply, from 0; read {what}, n = {len(replies)} replies", showgrid=False
    )
    figure.update_yaxes(
        tickvals=list(range(len(replies))), ticktext=labels, range=[len(replies) - 0.5, -0.5], showgrid=False
    )
    arms = [reply["arm"] for reply in replies]
    for place in range(1, len(arms)):
        if arms[place] != arms[place - 1]:
            figure.add_hline(y=place - 0.5, line={"color": CHOSEN_COLOUR, "width": 1})
    return figure


def _texts(reply: Mapping[str, Any], label: str, *, show_text: bool) -> Sequence[str]:
    """Hover texts of one reply; token text is the model's, so it is only there if asked for, and always escaped."""
    tokens = (reply.get("tokens") or []) if show_text else []
    found = [f"{label}<br>token {place}: {number(value)}" for place, value in enumerate(reply["readings"])]
    return [
        f"{text}<br>{plain(tokens[place]) or '␣'}" if place < len(tokens) else text
        for place, text in enumerate(found)
    ]

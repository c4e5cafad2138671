"""Sets of latents over their size, beside matched latents and single directions: one figure of a latent
record."""

from collections.abc import Iterable, Sequence
from typing import Any, Literal

from plotly.graph_objects import Figure, Scatter
from plotly.subplots import make_subplots

from persona_probe.base.formatting import Number, interval, number, signed
from persona_probe.plots.parts import RING, THIN, budget_line, rule, scatter
from persona_probe.plots.style import (
    ARM_COLOURS,
    CONTROL_COLOUR,
    METHOD_COLOURS,
    METHOD_DASHES,
    empty,
    error_bars,
    finish,
    plain,
)
from persona_probe.records.latent_sets import LatentSet, MatchedSet, SetNumbers, SingleDirection
from persona_probe.records.latents import LatentRecord
from persona_probe.records.parts import EditKind

Measure = Literal["restoration", "delta_nll"]
MATCHED_SETS = "matched sets of the selected one"
SET_KINDS: dict[EditKind, tuple[str, str]] = {
    "ablate": (ARM_COLOURS["tuned+ablate"], "circle"),
    "steer": (ARM_COLOURS["base+steer"], "triangle-up"),
}


def set_curves(record: LatentRecord) -> Figure:
    """Above: restoration R by sets of the k best latents on test questions, 1 is back to base. Below: what
    they cost on harmless text.
    Ringed: the selected set, with its closure C as an open diamond. Grey: as many matched latents, used
    alike; beside the selected set every matched one. Lines across: one direction instead of latents."""
    sets = sorted(record.sets, key=lambda item: item.k)
    if not sets:
        return empty("The record has no sets of latents.")
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.06, row_heights=[0.6, 0.4])
    measures: tuple[Measure, ...] = ("restoration", "delta_nll")
    named: set[str] = set()  # the panels share their legend
    for row, measure in enumerate(measures, start=1):
        for trace in (*_set_traces(sets, measure), *_direction_lines(record, sets, measure)):
            name = str(trace.name)
            figure.add_trace(trace.update(legendgroup=name, showlegend=name not in named), row=row, col=1)
            named.add(name)
    for value in (0.0, 1.0):
        rule(figure, (1, 1), y=value, line=THIN)
    budget_line(figure, record.budget, (2, 1), axis="y")
    figure.update_xaxes(tickvals=sorted({item.k for item in sets}), type="log")
    n = f"n = {record.data.n_questions.test} questions, {record.data.n_benign.test} texts"
    figure.update_xaxes(title_text=f"k, latents in the set; {n}", row=2, col=1)
    figure.update_yaxes(title_text="restoration R", row=1, col=1)
    figure.update_yaxes(title_text="ΔNLL, nats per token", row=2, col=1)
    return finish(figure, height=620, margin_b=130, margin_r=110)


def set_name(item: LatentSet) -> str:
    """`ablate 5 latents`."""
    return f"{item.kind} {item.k} latent{'' if item.k == 1 else 's'}"


def direction_name(item: SingleDirection) -> str:
    """`mean_diff, ablate at blocks.14.hook_out`."""
    return f"{item.method}, {item.kind} at {item.hook_point}"


def effects(item: SetNumbers | SingleDirection) -> str:
    """Restoration, closure where it is known, and damage, with their intervals."""
    closure = item.closure if isinstance(item, SetNumbers) else None
    closed = f"<br>C {interval(closure)}" if closure else ""
    return f"R {interval(item.restoration)}{closed}<br>ΔNLL {interval(item.delta_nll, digits=3, sign=True)}"


def _set_traces(sets: Sequence[LatentSet], measure: Measure) -> Iterable[Scatter]:
    """One curve with intervals a kind of set, its matched latents in grey, and a ring around the selected
    set."""
    for kind, (colour, symbol) in SET_KINDS.items():
        same = [item for item in sets if item.kind == kind]
        points = [(item, value) for item in same if (value := getattr(item, measure))]
        marker = {"color": colour, "symbol": symbol, "size": 9}
        bars = error_bars([value for _, value in points], color=colour)
        pairs = [(item, value.estimate) for item, value in points]
        if same:
            yield _curve(pairs, name=kind, marker=marker, line={"color": colour}, error_y=bars)
        matched = [
            (item, value)
            for item in same
            if item.control and (value := getattr(item.control, measure)) is not None
        ]
        if matched:
            style = {"marker": {"color": CONTROL_COLOUR, "symbol": symbol}}
            style["line"] = {"color": CONTROL_COLOUR, "dash": "dot"}
            yield _curve(matched, name=f"matched latents, {kind}", **style)
    for item in (item for item in sets if item.selected):
        yield from _beside(item, measure)
    chosen = [(item, value.estimate) for item in sets if item.selected and (value := getattr(item, measure))]
    if chosen:
        yield _curve(chosen, name="selected", mode="markers", marker=RING)


def _beside(item: LatentSet, measure: Measure) -> Iterable[Scatter]:
    """Every matched set of the selected one, and how far the selected one closes the gap."""
    values = [(one, value.estimate) for one in item.matched if (value := getattr(one, measure))]
    if values:
        texts = [f"matched set: latents {_listed(one)}<br>{effects(one)}" for one, _ in values]
        marker = {"color": CONTROL_COLOUR, "size": 5, "opacity": 0.6}
        places = [item.k * 1.06] * len(values)  # a little to the side, so that the set stays visible
        yield scatter(
            places, [value for _, value in values], texts, mode="markers", name=MATCHED_SETS, marker=marker
        )
    if measure == "restoration" and item.closure:
        marker = {"color": SET_KINDS[item.kind][0], "symbol": "diamond-open", "size": 10}
        bars = error_bars([item.closure], color=SET_KINDS[item.kind][0])
        style = {"mode": "markers", "marker": marker, "error_y": bars}
        yield _curve([(item, item.closure.estimate)], name="closure C of the selected set", **style)


def _listed(item: MatchedSet) -> str:
    return ", ".join(map(str, item.latents))


def _curve(points: Sequence[tuple[LatentSet, Number]], **style: Any) -> Scatter:
    """Values of sets over their size."""
    x, y = [item.k for item, _ in points], [value for _, value in points]
    return scatter(x, y, [_text(item) for item, _ in points], **{"mode": "lines+markers", **style})


def _text(item: LatentSet) -> str:
    """Hover text of a set: restoration is never without its damage, nor without what matched latents do."""
    matched = "no matched sets"
    if control := item.control:
        cost = signed(control.delta_nll)
        plural = "" if control.n == 1 else "s"
        closed = "" if control.closure is None else f", C {number(control.closure)}"
        matched = f"{control.n} matched set{plural}: R {number(control.restoration)}{closed}, ΔNLL {cost}"
    if item.judged:
        matched = f"{matched}<br>{item.judged.verdict}"
    return f"{set_name(item)}<br>{effects(item)}<br>{matched}"


def _direction_lines(record: LatentRecord, sets: Sequence[LatentSet], measure: Measure) -> Iterable[Scatter]:
    """A line across the panel for every single direction that the sets are compared with."""
    low, high = sets[0].k, sets[-1].k
    ends = [low, high] if low != high else [low * 0.8, high * 1.25]
    for place, item in enumerate(record.direction):
        if value := getattr(item, measure):
            name, style = plain(direction_name(item), limit=60), place % len(METHOD_COLOURS)
            dash = METHOD_DASHES[1 + style % (len(METHOD_DASHES) - 1)]
            line = {"color": METHOD_COLOURS[style], "dash": dash}
            text = f"{name}<br>{effects(item)}"
            yield scatter(ends, [value.estimate] * 2, [text] * 2, mode="lines", line=line, name=name)

"""What arms give back and what they cost: bars of every arm, the frontier of the search and of the test."""

from collections.abc import Sequence

from plotly.graph_objects import Bar, Figure, Scatter
from plotly.subplots import make_subplots

from persona_probe.base.formatting import Number
from persona_probe.plots.parts import (
    THIN,
    Measure,
    WithArms,
    arm_bar,
    arm_groups,
    arm_points,
    band,
    budget_line,
    comparator_point,
    control_points,
    group_name,
    n_benign,
    n_test,
    restored_arms,
    rule,
    zero_lines,
)
from persona_probe.plots.search import candidate_points
from persona_probe.plots.style import empty, finish, view
from persona_probe.records.arms import ArmEntry
from persona_probe.records.comparators import ComparatorEntry
from persona_probe.records.direction import DirectionRecord

Measured = ArmEntry | ComparatorEntry
TITLES: dict[Measure, str] = {
    "restoration": "restoration R (0 tuned, 1 base)",
    "closure": "closure C (1: no gap left)",
    "delta_nll": "ΔNLL, nats per token",
    "kl": "KL, nats per token",
}
# Panels beside each other are narrow, more so in the large letters of a talk.
NARROW = {
    "restoration": "restoration R<br>0 tuned, 1 base",
    "closure": "closure C<br>1: no gap left",
    "delta_nll": "ΔNLL<br>nats per token",
}
WIDTHS = {2: [0.58, 0.42], 3: [0.37, 0.37, 0.26]}


def arm_bars(record: WithArms) -> Figure:
    """Left: restoration R, the share of the tuned model's shift that an arm takes away, 1 is back to base.
    Middle, where the same edit was made in both models: closure C, the share of the gap between them that is
    gone. The grey band is what counts as 1. Controls are one point each, the tick is their median.
    Right: what it costs on harmless text. A good arm is far right in both shares and left of the budget line
    on the right."""
    arms = restored_arms(record)
    if not arms:
        return empty(
            "No restoration to draw: the interval of the tuned-minus-base shift covers 0, "
            "or no arm was measured."
        )
    closed: tuple[Measure, ...] = ("closure",) if any(arm.closure for arm in arms) else ()
    measures: tuple[Measure, ...] = ("restoration", *closed, "delta_nll")
    figure = make_subplots(
        rows=1,
        cols=len(measures),
        shared_yaxes=True,
        horizontal_spacing=0.03,
        column_widths=WIDTHS[len(measures)],
    )
    chosen = record.selected.arm
    groups = arm_groups(arms, chosen=chosen)
    for row, group in enumerate(groups):
        for column, measure in enumerate(measures, start=1):
            traces = control_points(group, measure, row) if group[0].control else _bar(group[0], measure, row)
            figure.add_traces(traces, rows=1, cols=column)
    _measure_axes(figure, record, arms, measures)
    labels = [group_name(group, chosen=chosen) for group in groups]
    down = {"tickvals": list(range(len(groups))), "range": [len(groups) - 0.5, -0.9], "showgrid": False}
    figure.update_yaxes(ticktext=labels, **down)
    return finish(figure, height=190 + 42 * len(groups), showlegend=False, margin_t=40, margin_b=105)


def _bar(arm: ArmEntry, measure: Measure, row: int) -> list[Bar]:
    return [arm_bar(arm, measure, row)] if getattr(arm, measure) else []


def _measure_axes(
    figure: Figure, record: WithArms, arms: Sequence[ArmEntry], measures: Sequence[Measure]
) -> None:
    """Titles, ranges and lines of every panel."""
    chosen = next((arm for arm in arms if arm.name == record.selected.arm), None)
    judged = chosen.judged if chosen else None
    judged_by = None if judged is None else "restoration" if judged.use == "steering" else "closure"
    for column, measure in enumerate(measures, start=1):
        zero_lines(figure, {(1, column): "x"})
        ends = _ends(arms, measure)
        if measure == "delta_nll":
            budget_line(figure, record.selected.budget, (1, column), axis="x")
            ends += [0.0, record.selected.budget]
            n = n_benign(record)
        else:
            rule(figure, (1, column), x=1.0, line=THIN)
            if judged and judged.band and judged_by == measure:
                band(figure, (1, column), judged.band.ends)
            ends += [0.0, 1.0]
            n = n_test(record)
        figure.update_xaxes(
            range=view(ends), title_text=f"{NARROW[measure]}<br>{n}", nticks=5, row=1, col=column
        )


def _ends(arms: Sequence[Measured], measure: Measure) -> list[Number]:
    """Both ends of every interval that is drawn: named arms have error bars, controls are points."""
    values = [(arm, getattr(arm, measure)) for arm in arms]
    return [
        end
        for arm, value in values
        if value
        for end in ((value.estimate,) if getattr(arm, "control", None) else value.ci95)
    ]


def frontier(record: DirectionRecord) -> Figure:
    """Left: every candidate on the select questions, one point each; up is more persona removed, right is
    more damage. The chosen one is ringed, open ones do more damage than is allowed. Right: the arms on the
    test questions, same axes.
    Above: restoration R. Below, where both models were edited: closure C. A point counts only where damage is
    low and above the grey controls. Open symbols on the right are simple remedies without a direction."""
    arms, candidates = restored_arms(record), record.search.candidates
    remedies = [entry for entry in record.comparators if entry.model == "tuned" and entry.restoration]
    cost: Measure = "delta_nll" if any(item.kl is None for item in candidates) else "kl"
    closed = [item for item in (*candidates, *arms) if item.closure is not None]
    gains: tuple[Measure, ...] = ("restoration", "closure") if closed else ("restoration",)
    if not arms and all(item.restoration is None for item in candidates):
        return empty("No frontier to draw: the record has no search, or restoration is undefined.")
    titles = ("select questions: the search", "test questions: the arms")
    shared = {
        "shared_xaxes": True,
        "shared_yaxes": True,
        "horizontal_spacing": 0.04,
        "vertical_spacing": 0.06,
    }
    figure = make_subplots(rows=len(gains), cols=2, subplot_titles=titles, **shared)
    listed: set[str] = set()
    for row, gain in enumerate(gains, start=1):
        for trace in candidate_points(record, cost=cost, gain=gain):
            figure.add_trace(_once(trace, listed), row=row, col=1)
        for group in arm_groups(arms, chosen=record.selected.arm):
            trace = arm_points(group, cost=cost, gain=gain, chosen=record.selected.arm)
            if trace.x:
                figure.add_trace(_once(trace, listed), row=row, col=2)
        for entry in remedies:
            if getattr(entry, gain):
                trace = comparator_point(entry, cost=cost, gain=gain)
                figure.add_trace(_once(trace, listed), row=row, col=2)
    arms = [*arms, *remedies]
    _frontier_axes(figure, record, arms, cost, gains)
    return finish(figure, height=300 * len(gains) + 270, margin_b=190)


def _once(trace: Scatter, listed: set[str]) -> Scatter:
    """The trace, in the legend only the first time that its name is drawn."""
    name = str(trace.name)
    trace.update(showlegend=name not in listed, legendgroup=name)
    listed.add(name)
    return trace


def _frontier_axes(
    figure: Figure, record: DirectionRecord, arms: Sequence[Measured], cost: Measure, gains: Sequence[Measure]
) -> None:
    """Ranges that every arm fits into. A few wrecked candidates would squeeze all others into a corner, so
    they may leave the view; arms never do."""
    budget, candidates = record.selected.budget or 0.1, record.search.candidates
    costs, paid = _ends(arms, cost), [getattr(item, cost) for item in candidates]
    shown = paid if cost == "kl" else [x for x in paid if x >= -5 * budget]
    wide = view([*shown, *costs, 0.0, budget], high=max([5 * budget, *costs]))
    hidden = set[int]()
    for row, gain in enumerate(gains, start=1):
        reached, ends = [getattr(item, gain) for item in candidates], _ends(arms, gain)
        limits = {"low": min([-1.0, *ends]), "high": max([2.0, *ends])}
        tall = view([*(y for y in reached if y is not None), *ends, 0.0, 1.0], **limits)
        hidden |= {
            place
            for place, (x, y) in enumerate(zip(paid, reached, strict=True))
            if y is not None and not (wide[0] <= x <= wide[1] and tall[0] <= y <= tall[1])
        }
        figure.update_yaxes(range=tall, row=row)
        figure.update_yaxes(title_text=TITLES[gain], row=row, col=1)
        for column in (1, 2):
            zero_lines(figure, {(row, column): "y"})
            rule(figure, (row, column), y=1.0, line=THIN)
            if cost == "delta_nll":
                budget_line(figure, record.selected.budget, (row, column), axis="x")
    outside = f"{len(hidden)} wrecked ones lie outside the view: double-click to see all" if hidden else ""
    figure.update_xaxes(range=wide)
    for column, n, note in ((1, f"{len(candidates)} candidates", outside), (2, n_test(record), "")):
        figure.update_xaxes(title_text=f"{TITLES[cost]} ({n})<br>{note}", row=len(gains), col=column)

"""A record of the main experiment in, Plotly figures out. Every function is pure and needs no model.

The docstring of a figure is its caption in the report. To add a figure: write one function and add one line
to `FIGURES`.
"""

from collections.abc import Sequence

from plotly.graph_objects import Figure, Scatter
from plotly.subplots import make_subplots

from persona_probe.base.formatting import Number, number
from persona_probe.plots.directions import cosines, layer_quality, projections
from persona_probe.plots.parts import (
    THIN,
    FigureSpec,
    Measure,
    WithArms,
    arm_bar,
    arm_groups,
    arm_points,
    budget_line,
    control_points,
    dose_text,
    group_name,
    n_benign,
    n_test,
    restored_arms,
    rule,
    scatter,
    zero_lines,
)
from persona_probe.plots.paths import path, token_projections
from persona_probe.plots.search import candidate_points, layer_by_coefficient, layer_by_method
from persona_probe.plots.style import ARM_COLOURS, empty, error_bars, finish, view
from persona_probe.records.arms import ArmEntry, DoseEntry
from persona_probe.records.direction import DirectionRecord
from persona_probe.records.parts import Estimate

MEASURES: tuple[Measure, ...] = ("restoration", "delta_nll")


def arm_bars(record: WithArms) -> Figure:
    """Left: share of the tuned model's shift that an arm takes away, 1 is back to base. Controls are one
    point each, the tick is their median.
    Right: what it costs on harmless text. A good arm is far right on the left and left of the budget line on
    the right."""
    arms = restored_arms(record)
    if not arms:
        return empty(
            "No restoration to draw: the interval of the tuned-minus-base shift covers 0, "
            "or no arm was measured."
        )
    widths = [0.58, 0.42]
    figure = make_subplots(rows=1, cols=2, shared_yaxes=True, horizontal_spacing=0.03, column_widths=widths)
    groups = arm_groups(arms, chosen=record.selected.arm)
    for row, group in enumerate(groups):
        control = group[0].control
        for column, key in enumerate(MEASURES, start=1):
            if control is None:
                figure.add_trace(arm_bar(group[0], key, row), row=1, col=column)
                continue
            for trace in control_points(group, key, row, record.controls.get(control)):
                figure.add_trace(trace, row=1, col=column)
    zero_lines(figure, {(1, 1): "x", (1, 2): "x"})
    rule(figure, (1, 1), x=1.0, line=THIN)
    budget = record.selected.budget
    budget_line(figure, budget, (1, 2), axis="x")
    figure.update_xaxes(range=view([0.0, 1.0, *_ends(arms, "restoration")]), row=1, col=1)
    figure.update_xaxes(range=view([0.0, budget, *_ends(arms, "delta_nll")]), row=1, col=2)
    labels = [group_name(group) for group in groups]
    down = {"tickvals": list(range(len(groups))), "range": [len(groups) - 0.5, -0.9], "showgrid": False}
    figure.update_yaxes(ticktext=labels, **down)
    figure.update_xaxes(title_text=f"restoration R (0 tuned, 1 base), {n_test(record)}", row=1, col=1)
    figure.update_xaxes(title_text=f"ΔNLL, nats per token, {n_benign(record)}", row=1, col=2)
    return finish(figure, height=150 + 42 * len(groups), showlegend=False)


def _ends(arms: Sequence[ArmEntry], measure: Measure) -> list[Number]:
    """Both ends of every interval that is drawn: named arms have error bars, controls are points."""
    values = [(arm, getattr(arm, measure)) for arm in arms]
    return [end for arm, value in values for end in ((value.estimate,) if arm.control else value.ci95)]


def frontier(record: DirectionRecord) -> Figure:
    """Left: every candidate on the select questions, one point each; up is more persona removed, right is
    more damage. The chosen one is ringed.
    Right: the arms on the test questions, same axes. A point counts only left of the dashed budget line and
    above the grey controls."""
    tried = [
        (item.delta_nll, item.restoration)
        for item in record.search.candidates
        if item.restoration is not None
    ]
    arms = restored_arms(record)
    if not tried and not arms:
        return empty("No frontier to draw: the record has no search, or restoration is undefined.")
    titles = ("select questions: the search", "test questions: the arms")
    figure = make_subplots(rows=1, cols=2, shared_yaxes=True, horizontal_spacing=0.04, subplot_titles=titles)
    for trace in candidate_points(record):
        figure.add_trace(trace, row=1, col=1)
    for group in arm_groups(arms, chosen=None):
        figure.add_trace(arm_points(group), row=1, col=2)
    costs, gains = _ends(arms, "delta_nll"), _ends(arms, "restoration")
    budget = record.selected.budget or 0.1
    # A few wrecked candidates would squeeze all others into a corner, so they may leave the view; arms never
    # do.
    limits = {"low": min([-5 * budget, *costs]), "high": max([5 * budget, *costs])}
    wide = view([*(x for x, _ in tried), *costs, 0.0, budget], **limits)
    limits = {"low": min([-1.0, *gains]), "high": max([2.0, *gains])}
    tall = view([*(y for _, y in tried), *gains, 0.0, 1.0], **limits)
    hidden = sum(not (wide[0] <= x <= wide[1] and tall[0] <= y <= tall[1]) for x, y in tried)
    outside = f"{hidden} wrecked ones lie outside the view: double-click to see all" if hidden else ""
    for column, n, note in ((1, f"{len(tried)} candidates", outside), (2, n_test(record), "")):
        budget_line(figure, record.selected.budget, (1, column), axis="x")
        title = f"ΔNLL, nats per token ({n})<br>{note}"
        figure.update_xaxes(title_text=title, range=wide, row=1, col=column)
    figure.update_yaxes(range=tall)
    figure.update_yaxes(title_text="restoration R (0 tuned, 1 base)", row=1, col=1)
    return finish(figure, height=580, margin_b=165)


def dose_response(record: DirectionRecord) -> Figure:
    """Above: persona score S while the direction is added with a growing coefficient, on the tuned and on the
    base model; the lines are the untouched models.
    Below: the cost on harmless text. A causal direction moves both curves steadily, and before the cost
    rises."""
    points = sorted(record.dose_response, key=lambda point: point.coefficient)
    if not points:
        return empty("The record has no dose-response sweep.")
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.06, row_heights=[0.62, 0.38])
    for side, symbol in (("tuned", "circle"), ("base", "square")):
        of_side = [point for point in points if point.side == side]
        name = f"{side} model"
        for row, values in enumerate(
            ([point.persona_score for point in of_side], [point.delta_nll for point in of_side]), start=1
        ):
            trace = _dose_curve(of_side, values, colour=ARM_COLOURS[side], symbol=symbol)
            figure.add_trace(trace.update(showlegend=row == 1, name=name, legendgroup=side), row=row, col=1)
        for arm in record.arms:
            if arm.model == side and not arm.interventions:
                line = {"color": ARM_COLOURS[side], "dash": "dash"}
                rule(figure, (1, 1), y=arm.persona_score.estimate, label=f"{side}, untouched", line=line)
    budget_line(figure, record.selected.budget, (2, 1), axis="y")
    doses = {point.coefficient: point.relative_dose for point in points}
    ticks = [f"{number(value, sign=True)}<br>{number(dose)}" for value, dose in doses.items()]
    below = "below it, dose / median residual norm"
    title = f"coefficient (1: one length of the direction); {below}; {n_test(record)}"
    figure.update_xaxes(tickvals=list(doses), ticktext=ticks)
    figure.update_xaxes(title_text=title, row=2, col=1)
    figure.update_yaxes(title_text="S, nats per token", row=1, col=1)
    figure.update_yaxes(title_text="ΔNLL, nats per token", row=2, col=1)
    return finish(figure, height=560, margin_b=105, margin_r=130)


def _dose_curve(
    points: Sequence[DoseEntry], values: Sequence[Estimate], *, colour: str, symbol: str
) -> Scatter:
    style = {"mode": "lines+markers", "marker": {"color": colour, "symbol": symbol}}
    return scatter(
        [point.coefficient for point in points],
        [value.estimate for value in values],
        [dose_text(point) for point in points],
        error_y=error_bars(values, color=colour),
        line_color=colour,
        **style,
    )


FIGURES = (
    FigureSpec(
        "arms",
        "Does removing the direction bring the base model back, and more than a comparable direction would?",
        arm_bars,
    ),
    FigureSpec("frontier", "How much restoration can be bought for how much damage?", frontier),
    FigureSpec("layers-methods", "Which layer and which way of finding the direction work?", layer_by_method),
    FigureSpec("layers-coefficients", "How hard must one steer, and where?", layer_by_coefficient),
    FigureSpec("dose", "Does more of the direction mean more of the persona, in both models?", dose_response),
    FigureSpec("path", "Where do the arms lie in the plane of two directions?", path),
    FigureSpec(
        "tokens",
        "Where in its replies does the model project onto the persona?",
        token_projections,
        has_text=True,
    ),
    FigureSpec("projections", "Does the direction tell misaligned replies from aligned ones?", projections),
    FigureSpec("quality", "At which layers are the directions stable and informative?", layer_quality),
    FigureSpec("cosines", "Do the methods find the same direction?", cosines),
)

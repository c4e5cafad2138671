"""A record of the main experiment in, Plotly figures out. Every function is pure and needs no model.

The docstring of a figure is its caption in the report. To add a figure: write one function and add one line
to `FIGURES`.
"""

from collections.abc import Sequence

from plotly.graph_objects import Figure, Scatter
from plotly.subplots import make_subplots

from persona_probe.base.formatting import number
from persona_probe.plots.arms import arm_bars, frontier
from persona_probe.plots.closure import closure_figure
from persona_probe.plots.directions import cosines, layer_quality, projections
from persona_probe.plots.parts import FigureSpec, budget_line, dose_text, n_test, rule, scatter
from persona_probe.plots.paths import path, token_projections
from persona_probe.plots.rank import has_rank_curve, rank_curve
from persona_probe.plots.search import layer_by_coefficient, layer_by_method
from persona_probe.plots.style import ARM_COLOURS, empty, error_bars, finish
from persona_probe.records.arms import DoseEntry
from persona_probe.records.direction import DirectionRecord
from persona_probe.records.parts import Estimate


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
        "closure",
        "Does the same edit of both models close the gap between them, or only lower S in both?",
        closure_figure,
    ),
    FigureSpec("rank", "How many directions does the persona need?", rank_curve, there=has_rank_curve),
    FigureSpec(
        "arms",
        "Does removing the direction bring the base model back, and more than a comparable direction would?",
        arm_bars,
    ),
    FigureSpec("frontier", "How much restoration and closure can be bought for how much damage?", frontier),
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

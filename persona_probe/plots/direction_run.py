"""A record of the main experiment in, Plotly figures out. Every function is pure and needs no model.

The docstring of a figure is its caption in the report. To add a figure: write one function and add one line to `FIGURES`.
"""

from plotly.graph_objects import Figure, Scatter
from plotly.subplots import make_subplots

from persona_probe.plots.directions import cosines, layer_quality, projections
from persona_probe.plots.parts import (
    Cell,
    FigureSpec,
    Record,
    Rows,
    allowed_damage,
    arm_groups,
    arm_points,
    arm_traces,
    better,
    budget_line,
    candidate_points,
    candidate_text,
    control_name,
    dose_text,
    layer_heatmaps,
    method_colours,
    n_benign,
    n_test,
    restored_arms,
    rule,
    searched,
)
from persona_probe.plots.paths import path, token_readings
from persona_probe.plots.style import (
    ARM_COLOURS,
    CHOSEN_COLOUR,
    Number,
    empty,
    error_bars,
    finish,
    number,
    plain,
    view,
)

KIND_SYMBOLS = {"ablate": "circle", "steer": "triangle-up"}


def arm_bars(record: Record) -> Figure:
    """Left: share of the tuned model's shift that an arm takes away, 1 is back to base. Controls are one point each, the tick is their median.
    Right: what it costs on harmless text. A good arm is far right on the left and left of the budget line on the right."""
    arms = restored_arms(record)
    if not arms:
        return empty(
            "No restoration to draw: the interval of the tuned-minus-base shift covers 0, or no arm was measured."
        )
    figure = make_subplots(
        rows=1, cols=2, shared_yaxes=True, horizontal_spacing=0.03, column_widths=[0.58, 0.42]
    )
    groups = arm_groups(arms, chosen=(record.get("selected") or {}).get("arm"))
    for row, group in enumerate(groups):
        for column, key in enumerate(("restoration", "delta_nll"), start=1):
            for trace in arm_traces(group, key, row):
                figure.add_trace(trace, row=1, col=column)
    for x, column in ((0.0, 1), (1.0, 1), (0.0, 2)):
        rule(figure, (1, column), x=x, line={"width": 1})
    budget_line(figure, record, column=2)
    figure.update_xaxes(range=view([0.0, 1.0, *_ends(arms, "restoration")]), row=1, col=1)
    figure.update_xaxes(
        range=view([0.0, allowed_damage(record) or 0.0, *_ends(arms, "delta_nll")]), row=1, col=2
    )
    labels = [
        control_name(group[0]["control"]) if group[0]["control"] else plain(group[0]["name"])
        for group in groups
    ]
    figure.update_yaxes(
        tickvals=list(range(len(groups))), ticktext=labels, range=[len(groups) - 0.5, -0.9], showgrid=False
    )
    figure.update_xaxes(title_text=f"restoration R (0 tuned, 1 base), {n_test(record)}", row=1, col=1)
    figure.update_xaxes(title_text=f"ΔNLL, nats per token, {n_benign(record)}", row=1, col=2)
    finish(figure, height=150 + 42 * len(groups))
    return figure.update_layout(showlegend=False)


def _ends(arms: Rows, key: str) -> list[Number]:
    """Both ends of every interval that is drawn: named arms have error bars, controls are points."""
    return [end for arm in arms for end in ([arm[key]["estimate"]] if arm["control"] else arm[key]["ci95"])]


def frontier(record: Record) -> Figure:
    """Left: every candidate on the select questions, one point each; up is more persona removed, right is more damage. The chosen one is ringed.
    Right: the arms on the test questions, same axes. A point counts only left of the dashed budget line and above the grey controls."""
    candidates = [item for item in searched(record) if item["restoration"] is not None]
    arms = restored_arms(record)
    if not candidates and not arms:
        return empty("No frontier to draw: the record has no search, or restoration is undefined.")
    figure = make_subplots(
        rows=1,
        cols=2,
        shared_yaxes=True,
        horizontal_spacing=0.04,
        subplot_titles=("select questions: the search", "test questions: the arms"),
    )
    for method, colour in method_colours(record).items():
        for kind in sorted({item["kind"] for item in candidates}):
            rows = [item for item in candidates if item["method"] == method and item["kind"] == kind]
            if rows:
                marker = {"color": colour, "symbol": KIND_SYMBOLS.get(kind, "x"), "size": 7, "opacity": 0.75}
                figure.add_trace(
                    candidate_points(rows, marker, name=f"{plain(method)}, {plain(kind)}"), row=1, col=1
                )
    ring = {"symbol": "circle-open", "size": 18, "color": CHOSEN_COLOUR, "line": {"width": 3}}
    chosen = [item for item in candidates if item["chosen"]]
    if chosen:
        figure.add_trace(candidate_points(chosen, ring, name="chosen"), row=1, col=1)
    for group in arm_groups(arms, chosen=None):
        figure.add_trace(arm_points(group), row=1, col=2)
    costs, gains = [item["delta_nll"] for item in candidates], [item["restoration"] for item in candidates]
    arm_costs, arm_gains = _ends(arms, "delta_nll"), _ends(arms, "restoration")
    budget = allowed_damage(record) or 0.1
    # A few wrecked candidates would squeeze all others into a corner, so they may leave the view; arms and controls never do.
    wide = view(
        [*costs, *arm_costs, 0.0, budget],
        low=min([-5 * budget, *arm_costs]),
        high=max([5 * budget, *arm_costs]),
    )
    tall = view([*gains, *arm_gains, 0.0, 1.0], low=min([-1.0, *arm_gains]), high=max([2.0, *arm_gains]))
    hidden = sum(
        not (wide[0] <= x <= wide[1] and tall[0] <= y <= tall[1]) for x, y in zip(costs, gains, strict=True)
    )
    outside = f"{hidden} wrecked ones lie outside the view: double-click to see all"
    for column, n in ((1, f"{len(candidates)} candidates"), (2, n_test(record))):
        budget_line(figure, record, column=column)
        figure.update_xaxes(
            title_text=f"ΔNLL, nats per token ({n})<br>{outside if column == 1 and hidden else ''}",
            range=wide,
            row=1,
            col=column,
        )
    figure.update_yaxes(range=tall)
    figure.update_yaxes(title_text="restoration R (0 tuned, 1 base)", row=1, col=1)
    return finish(figure, height=580).update_layout(margin_b=165)


def layer_by_method(record: Record) -> Figure:
    """Above: the best restoration within the damage budget that each method reached with a direction from that layer (select questions).
    Below: what that candidate costs. Outlined: the chosen one. Crossed: nothing within budget, the cheapest is shown. Blank: not measured."""
    cells: dict[tuple[str, int], Cell] = {}
    for item in searched(record):
        key = (str(item["method"]), item["layer"])
        cells[key] = better(
            cells.get(key),
            Cell(
                item["restoration"] if item["within_budget"] else None,
                item["delta_nll"],
                not item["within_budget"],
                item["chosen"],
                candidate_text(item),
            ),
        )
    if not cells:
        return empty("The record has no search: nothing was tried at several layers.")
    return layer_heatmaps(
        record,
        cells,
        rows=[name for name in method_colours(record) if any(row == name for row, _ in cells)],
        row_title="method",
    )


def layer_by_coefficient(record: Record) -> Figure:
    """Steering with the selected method: layer against coefficient (1 is the direction as it stands) on the select questions.
    Above restoration, below its cost; crossed cells are over the damage budget. Look for a region, not a single bright cell."""
    method = (record.get("selected") or {}).get("method")
    cells: dict[tuple[str, int], Cell] = {}
    steered = [
        item
        for item in searched(record)
        if item["kind"] == "steer" and item["method"] == method and item["coefficient"] is not None
    ]
    for item in steered:
        key = (number(item["coefficient"], sign=True), item["layer"])
        cells[key] = better(
            cells.get(key),
            Cell(
                item["restoration"],
                item["delta_nll"],
                not item["within_budget"],
                item["chosen"],
                candidate_text(item),
            ),
        )
    if not cells:
        return empty(f"The search tried no steering with the selected method ({method}).")
    rows = [
        number(value, sign=True) for value in sorted({item["coefficient"] for item in steered}, reverse=True)
    ]
    return layer_heatmaps(record, cells, rows=rows, row_title="coefficient")


def dose_response(record: Record) -> Figure:
    """Above: persona score S while the direction is added with a growing coefficient, on the tuned and on the base model; the lines are the untouched models.
    Below: the cost on harmless text. A causal direction moves both curves steadily, and before the cost rises."""
    points = sorted(record.get("dose_response") or [], key=lambda point: point["coefficient"])
    if not points:
        return empty("The record has no dose-response sweep.")
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.06, row_heights=[0.62, 0.38])
    for side, symbol in (("tuned", "circle"), ("base", "square")):
        rows = [point for point in points if point["side"] == side]
        for place, key in enumerate(("persona_score", "delta_nll"), start=1):
            trace = _dose_curve(rows, key, colour=ARM_COLOURS[side], symbol=symbol)
            figure.add_trace(
                trace.update(name=f"{side} model", legendgroup=side, showlegend=place == 1), row=place, col=1
            )
        for arm in record.get("arms") or []:
            if arm["name"] == side:
                line = {"color": ARM_COLOURS[side], "dash": "dash"}
                rule(
                    figure, (1, 1), y=arm["persona_score"]["estimate"], label=f"{side}, untouched", line=line
                )
    limit = allowed_damage(record)
    rule(figure, (2, 1), y=limit, label=f"budget {number(limit, sign=True)}", line={"dash": "dash"})
    doses = {point["coefficient"]: point["relative_dose"] for point in points}
    ticks = [f"{number(value, sign=True)}<br>{number(dose)}" for value, dose in doses.items()]
    title = f"coefficient (1: one length of the direction); below it, dose / median residual norm; {n_test(record)}"
    figure.update_xaxes(tickvals=list(doses), ticktext=ticks)
    figure.update_xaxes(title_text=title, row=2, col=1)
    figure.update_yaxes(title_text="S, nats per token", row=1, col=1)
    figure.update_yaxes(title_text="ΔNLL, nats per token", row=2, col=1)
    return finish(figure, height=560).update_layout(margin_b=105, margin_r=130)


def _dose_curve(points: Rows, key: str, *, colour: str, symbol: str) -> Scatter:
    values = [point[key] for point in points]
    return Scatter(
        x=[point["coefficient"] for point in points],
        y=[value["estimate"] for value in values],
        error_y={**error_bars(values), "color": colour},
        mode="lines+markers",
        marker={"color": colour, "symbol": symbol, "size": 8},
        hovertext=[dose_text(point) for point in points],
        hoverinfo="text",
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
        "tokens", "Where in its replies does the model read the persona?", token_readings, has_text=True
    ),
    FigureSpec("projections", "Does the direction tell misaligned replies from aligned ones?", projections),
    FigureSpec("quality", "At which layers are the directions stable and informative?", layer_quality),
    FigureSpec("cosines", "Do the methods find the same direction?", cosines),
)

"""A record in, Plotly figures out. Every function is pure and needs no model.

The docstring of a figure is its caption in the report. To add a figure: write one function and add one line to `FIGURES`.
"""

from collections.abc import Callable
from typing import NamedTuple

from plotly.graph_objects import Figure, Heatmap, Scatter, Violin
from plotly.subplots import make_subplots

from persona_probe.figure_parts import (
    Cell,
    Record,
    allowed_damage,
    arm_groups,
    arm_points,
    arm_traces,
    better,
    budget_line,
    candidate_points,
    candidate_text,
    chosen_index,
    control_name,
    layer_heatmaps,
    layer_number,
    method_colours,
    n_benign,
    n_test,
    restored_arms,
    searched,
    spread,
)
from persona_probe.figure_style import (
    ARM_COLOURS,
    CHOSEN_COLOUR,
    INK,
    METHOD_COLOURS,
    METHOD_DASHES,
    METHOD_SYMBOLS,
    empty,
    error_bars,
    finish,
    number,
    plain,
    view,
)

MAX_PANELS = 8
KIND_SYMBOLS = {"ablate": "circle", "steer": "triangle-up"}


class FigureSpec(NamedTuple):
    """One figure of the report. `slug` is ours and becomes an element id."""

    slug: str
    title: str
    draw: Callable[[Record], Figure]


def arm_bars(record: Record) -> Figure:
    """Left: share of the tuned model's shift that an arm takes away, 1 is back to base. Controls are one point each, the tick is their median.
    Right: what it costs on harmless text. A good arm is far right on the left and left of the budget line on the right."""
    arms = restored_arms(record)
    if not arms:
        return empty("No restoration to draw: the interval of the tuned-minus-base shift covers 0, or no arm was measured.")
    figure = make_subplots(rows=1, cols=2, shared_yaxes=True, horizontal_spacing=0.03, column_widths=[0.58, 0.42])
    groups = arm_groups(arms, chosen=(record.get("selected") or {}).get("arm"))
    for row, group in enumerate(groups):
        for column, key in enumerate(("restoration", "delta_nll"), start=1):
            for trace in arm_traces(group, key, row):
                figure.add_trace(trace, row=1, col=column)
    for x, column in ((0, 1), (1, 1), (0, 2)):
        figure.add_vline(x=x, line={"color": INK, "width": 1}, row=1, col=column)  # pyright: ignore[reportArgumentType]
    budget_line(figure, record, column=2)
    labels = [control_name(group[0]["control"]) if group[0]["control"] else plain(group[0]["name"]) for group in groups]
    figure.update_yaxes(tickvals=list(range(len(groups))), ticktext=labels, range=[len(groups) - 0.5, -0.6], showgrid=False)
    figure.update_xaxes(title_text=f"restoration R (0 tuned, 1 base), {n_test(record)}", row=1, col=1)
    figure.update_xaxes(title_text=f"ΔNLL, nats per token, {n_benign(record)}", row=1, col=2)
    finish(figure, height=150 + 42 * len(groups))
    return figure.update_layout(showlegend=False, bargap=0.35)


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
                figure.add_trace(candidate_points(rows, marker, name=f"{plain(method)}, {plain(kind)}"), row=1, col=1)
    ring = {"symbol": "circle-open", "size": 18, "color": CHOSEN_COLOUR, "line": {"width": 3}}
    chosen = [item for item in candidates if item["chosen"]]
    if chosen:
        figure.add_trace(candidate_points(chosen, ring, name="chosen"), row=1, col=1)
    for group in arm_groups(arms, chosen=None):
        figure.add_trace(arm_points(group), row=1, col=2)
    costs = [item["delta_nll"] for item in candidates] + [arm["delta_nll"]["estimate"] for arm in arms]
    gains = [item["restoration"] for item in candidates] + [arm["restoration"]["estimate"] for arm in arms]
    budget = allowed_damage(record) or 0.1
    # A few wrecked candidates would squeeze all the others into a corner.
    wide, tall = view([*costs, 0.0, budget], low=-5 * budget, high=max(5 * budget, 0.2)), view([*gains, 0.0, 1.0], low=-1, high=2)
    hidden = sum(not (wide[0] <= x <= wide[1] and tall[0] <= y <= tall[1]) for x, y in zip(costs, gains, strict=True))
    for column, n in ((1, f"{len(candidates)} candidates"), (2, n_test(record))):
        budget_line(figure, record, column=column)
        figure.update_xaxes(title_text=f"ΔNLL, nats per token ({n})", range=wide, row=1, col=column)
    figure.update_yaxes(range=tall)
    figure.update_yaxes(title_text="restoration R (0 tuned, 1 base)", row=1, col=1)
    finish(figure, height=560).update_layout(margin_b=150)
    if hidden:
        figure.add_annotation(
            text=f"{hidden} points outside the view: double-click to see all",
            x=1,
            y=1.1,
            xref="paper",
            yref="paper",
            xanchor="right",
            showarrow=False,
            font_size=11,
        )
    return figure


def layer_by_method(record: Record) -> Figure:
    """Above: the best restoration within the damage budget that each method reached with a direction from that layer (select questions).
    Below: what that candidate costs. A cross: measured, but nothing within budget, the cheapest cost is shown. Blank: not measured."""
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
        record, cells, rows=[name for name in method_colours(record) if any(row == name for row, _ in cells)], row_title="method"
    )


def layer_by_coefficient(record: Record) -> Figure:
    """Steering with the selected method: layer against coefficient (1 is one mean difference as it stands) on the select questions.
    Above restoration, below its cost; crossed cells are over the damage budget. Look for a region, not a single bright cell."""
    method = (record.get("selected") or {}).get("method")
    cells: dict[tuple[str, int], Cell] = {}
    steered = [
        item for item in searched(record) if item["kind"] == "steer" and item["method"] == method and item["coefficient"] is not None
    ]
    for item in steered:
        key = (number(item["coefficient"], sign=True), item["layer"])
        cells[key] = better(
            cells.get(key), Cell(item["restoration"], item["delta_nll"], not item["within_budget"], item["chosen"], candidate_text(item))
        )
    if not cells:
        return empty(f"The search tried no steering with the selected method ({method}).")
    rows = [number(value, sign=True) for value in sorted({item["coefficient"] for item in steered})]
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
        style = {
            "mode": "lines+markers",
            "marker": {"color": ARM_COLOURS[side], "symbol": symbol, "size": 8},
            "name": f"{side} model",
            "hoverinfo": "text",
        }
        for row, key in enumerate(("persona_score", "delta_nll"), start=1):
            values = [point[key] for point in rows]
            texts = [_dose_text(point) for point in rows]
            trace = Scatter(
                x=[point["coefficient"] for point in rows],
                y=[value["estimate"] for value in values],
                error_y=error_bars(values),
                hovertext=texts,
                showlegend=row == 1,
                **style,
            )
            figure.add_trace(trace, row=row, col=1)
        untouched = [arm["persona_score"]["estimate"] for arm in record.get("arms") or [] if arm["name"] == side]
        for score in untouched:
            figure.add_hline(
                y=score,
                line={"color": ARM_COLOURS[side], "width": 1.5, "dash": "dash"},
                annotation_text=f"S of {side}, untouched",
                row=1,
                col=1,
            )  # pyright: ignore[reportArgumentType]
    budget = allowed_damage(record)
    if budget is not None:
        figure.add_hline(y=budget, line={"color": INK, "dash": "dash"}, annotation_text="budget", row=2, col=1)  # pyright: ignore[reportArgumentType]
    doses = {point["coefficient"]: point["relative_dose"] for point in points}
    figure.update_xaxes(tickvals=list(doses), ticktext=[f"{number(value, sign=True)}<br>{number(dose)}" for value, dose in doses.items()])
    figure.update_xaxes(
        title_text=f"coefficient (1: one mean difference); below it: dose / median residual norm; {n_test(record)}", row=2, col=1
    )
    figure.update_yaxes(title_text="S, nats per token", row=1, col=1)
    figure.update_yaxes(title_text="ΔNLL, nats per token", row=2, col=1)
    return finish(figure, height=560).update_layout(margin_b=120)


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
        f"layer {layer_number(record, index)}" + (f", AUROC {number(aurocs[index])}" if index < len(aurocs) else "") for index in layers
    ]
    figure = make_subplots(
        rows=-(-len(layers) // columns), cols=columns, subplot_titles=titles, horizontal_spacing=0.07, vertical_spacing=0.16
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
                legendgroup=label,
                showlegend=place == 0,
            )
            figure.add_trace(trace, row=place // columns + 1, col=place % columns + 1)
    figure.update_xaxes(showticklabels=False)
    for row in range(-(-len(layers) // columns)):
        figure.update_yaxes(title_text="projection", row=row + 1, col=1)
    counts = f"{len(aligned[0])} aligned and {len(misaligned[0])} misaligned replies, method {plain(data.get('method'))}"
    finish(figure, height=600 if len(layers) > columns else 340)
    return figure.update_layout(legend_title_text=counts, margin_b=80)


def layer_quality(record: Record) -> Figure:
    """Per layer, before anything is steered. Stability: cosine between directions fitted on halves of the find questions. AUROC: how well the projection
    separates held-out replies (0.5 is chance). Relative norm: length of the direction over the median residual norm."""
    directions = record.get("directions") or {}
    methods = directions.get("methods") or {}
    if not methods or not directions.get("hook_points"):
        return empty("The record has no directions.")
    layers = [layer_number(record, index) for index in range(len(directions["hook_points"]))]
    figure = make_subplots(rows=3, cols=1, shared_xaxes=True, vertical_spacing=0.05)
    for place, (method, values) in enumerate(methods.items()):
        norms = [
            norm / middle if norm is not None and middle else None
            for norm, middle in zip(values.get("norm") or [], directions.get("median_norm") or [], strict=False)
        ]
        shown = False
        for row, (what, series) in enumerate(
            (("stability", values.get("stability")), ("AUROC", values.get("auroc")), ("relative norm", norms)), start=1
        ):
            if not series:
                continue
            style = {
                "line": {"color": METHOD_COLOURS[place % 6], "dash": METHOD_DASHES[place % 6]},
                "marker": {"symbol": METHOD_SYMBOLS[place % 6], "size": 6},
            }
            texts = [
                f"{plain(method)}, layer {layer}<br>{what} {number(value, digits=3)}" for layer, value in zip(layers, series, strict=False)
            ]
            trace = Scatter(
                x=layers,
                y=series,
                name=plain(method),
                mode="lines+markers",
                hovertext=texts,
                hoverinfo="text",
                legendgroup=str(place),
                showlegend=not shown,
                **style,
            )
            figure.add_trace(trace, row=row, col=1)
            shown = True
    chosen = (record.get("selected") or {}).get("layer")
    if isinstance(chosen, int):
        figure.add_vline(x=chosen, line={"color": CHOSEN_COLOUR, "width": 1.5, "dash": "dot"})
    for row, title in enumerate(("stability (cosine)", "AUROC", "norm / median"), start=1):
        figure.update_yaxes(title_text=title, row=row, col=1)
    figure.update_xaxes(title_text="layer (block index from 0)", row=3, col=1)
    return finish(figure, height=640).update_layout(margin_b=110)


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
        [f"{names[row]} and {names[column]}<br>cosine {number(value, digits=3)}" for column, value in enumerate(line)]
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
    figure.update_xaxes(tickvals=places, ticktext=names, title_text=f"method, at {plain(data.get('hook_point'))}", showgrid=False)
    return figure.update_yaxes(tickvals=places, ticktext=names, autorange="reversed", showgrid=False)


FIGURES = (
    FigureSpec("arms", "Does removing the direction bring the base model back, and more than a comparable direction would?", arm_bars),
    FigureSpec("frontier", "How much restoration can be bought for how much damage?", frontier),
    FigureSpec("layers-methods", "Which layer and which way of finding the direction work?", layer_by_method),
    FigureSpec("layers-coefficients", "How hard must one steer, and where?", layer_by_coefficient),
    FigureSpec("dose", "Does more of the direction mean more of the persona, in both models?", dose_response),
    FigureSpec("projections", "Does the direction tell misaligned replies from aligned ones?", projections),
    FigureSpec("quality", "At which layers are the directions stable and informative?", layer_quality),
    FigureSpec("cosines", "Do the methods find the same direction?", cosines),
)

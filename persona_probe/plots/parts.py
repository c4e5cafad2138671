"""Pieces that several figures are made of: what a record says, as traces, texts and cells."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from plotly.graph_objects import Bar, Figure, Heatmap, Scatter
from plotly.subplots import make_subplots

from persona_probe.measurement.statistics import control_medians
from persona_probe.plots.style import (
    ARM_COLOURS,
    CHOSEN_COLOUR,
    CONTROL_COLOUR,
    CONTROL_NAMES,
    CONTROL_SYMBOLS,
    INK,
    METHOD_COLOURS,
    Number,
    error_bars,
    finish,
    interval,
    number,
    plain,
)

Record = Mapping[str, Any]
Rows = Sequence[Mapping[str, Any]]
COSTS = (
    "#d3e5f5",
    "#6aaed6",
    "#08306b",
)  # blues that begin darker than white paper, where nothing was measured
ACTS_ON = {"layer": "its own layer", "later": "its own and later layers", "all": "all layers"}


class FigureSpec(NamedTuple):
    """One figure of the report. `slug` is ours and becomes an element id. `has_text`: its `draw` takes `show_text`, for words of a model."""

    slug: str
    title: str
    draw: Callable[..., Figure]
    has_text: bool = False

    def figure(self, record: Record, *, show_text: bool = False) -> Figure:
        """The figure of a record."""
        return self.draw(record, show_text=show_text) if self.has_text else self.draw(record)


class Cell(NamedTuple):
    """One field of a layer heat-map. `restoration` is None where it may not be shown; `crossed` means over the damage budget."""

    restoration: Number | None
    delta_nll: Number
    crossed: bool
    chosen: bool
    text: str


def allowed_damage(record: Record) -> Number | None:
    """The damage allowed, in nats per token."""
    return (record.get("selected") or {}).get("budget")


def searched(record: Record) -> Rows:
    """What the search tried; none if the record has no search."""
    return (record.get("search") or {}).get("candidates") or []


def restored_arms(record: Record) -> Rows:
    """Arms on the tuned model whose restoration is defined."""
    return [
        arm
        for arm in record.get("arms") or []
        if arm["model"] == "tuned" and arm["restoration"] and arm["name"] != "tuned"
    ]


def n_test(record: Record) -> str:
    """`n = 24 questions`, for axis titles."""
    return f"n = {((record.get('data') or {}).get('n_questions') or {}).get('test', '?')} questions"


def n_benign(record: Record) -> str:
    """`n = 96 texts`, for axis titles of damage."""
    return f"n = {(record.get('data') or {}).get('n_benign', '?')} texts"


def layer_number(record: Record, index: int) -> int:
    """The layer of the hook point at `index`; the index itself if its name says no layer."""
    parts = str((record.get("directions") or {}).get("hook_points", [])[index]).split(".")
    return int(parts[1]) if len(parts) > 1 and parts[1].isdecimal() else index


def method_colours(record: Record) -> dict[str, str]:
    """One colour a method, the same in every figure: the record's methods in order, then those only the search knows."""
    known = (record.get("directions") or {}).get("methods") or {}
    names: list[str] = [*known, *(item["method"] for item in searched(record))]
    return {
        name: METHOD_COLOURS[place % len(METHOD_COLOURS)] for place, name in enumerate(dict.fromkeys(names))
    }


def chosen_index(record: Record) -> int | None:
    """Where the selected hook point stands in the per-layer lists."""
    hook_points = (record.get("directions") or {}).get("hook_points") or []
    hook_point = (record.get("selected") or {}).get("hook_point")
    return hook_points.index(hook_point) if hook_point in hook_points else None


def arm_groups(arms: Rows, *, chosen: str | None) -> list[Rows]:
    """The rows of the arm figures, top down: the chosen arm, other arms, then one group a kind of control, the hardest to beat first."""
    named = [
        [arm]
        for arm in sorted((arm for arm in arms if not arm["control"]), key=lambda arm: arm["name"] != chosen)
    ]
    controls: dict[str, list[Mapping[str, Any]]] = {name: [] for name in CONTROL_SYMBOLS}
    for arm in arms:
        if arm["control"]:
            controls.setdefault(arm["control"], []).append(arm)
    return [*named, *(group for group in controls.values() if group)]


def control_name(control: str) -> str:
    """How readers call a kind of control."""
    return CONTROL_NAMES.get(control, plain(control))


def arm_text(arm: Mapping[str, Any]) -> str:
    """Hover text of an arm: restoration is never without its damage."""
    return f"{plain(arm['name'])}<br>R {interval(arm['restoration'])}<br>ΔNLL {interval(arm['delta_nll'], digits=3, sign=True)}<br>S {interval(arm['persona_score'], digits=3)}<br>{arm['n_questions']} questions"


def arm_traces(group: Rows, key: str, row: int) -> list[Bar | Scatter]:
    """A bar with its interval for an arm; for controls one point each and a tick at the median."""
    values = [arm[key] for arm in group]
    x, texts = [value["estimate"] for value in values], [arm_text(arm) for arm in group]
    control = group[0]["control"]
    if not control:
        colour = ARM_COLOURS.get(group[0]["name"], INK)
        return [
            Bar(
                x=x,
                y=[row],
                orientation="h",
                marker_color=colour,
                error_x=error_bars(values),
                hovertext=texts,
                hoverinfo="text",
                width=0.6,
            )
        ]
    # Spread over the height of a bar, so that equal points stay apart.
    y = [row + 0.5 * (place + 1) / (len(x) + 1) - 0.25 for place in range(len(x))]
    marker = {"color": CONTROL_COLOUR, "symbol": CONTROL_SYMBOLS.get(control, "x"), "size": 8}
    points = Scatter(x=x, y=y, mode="markers", marker=marker, hovertext=texts, hoverinfo="text")
    middle = control_medians(group)[control][key]
    tick = {"symbol": "line-ns", "size": 26, "line": {"width": 3, "color": INK}}
    text = f"median of {len(x)}: {number(middle, digits=3)}"
    return [
        points,
        Scatter(x=[middle], y=[row], mode="markers", marker=tick, hovertext=[text], hoverinfo="text"),
    ]


def arm_points(group: Rows) -> Scatter:
    """An arm, or a group of controls, in the plane of damage and restoration."""
    first = group[0]
    control = first["control"]
    name = control_name(control) if control else plain(first["name"])
    costs, gains = [arm["delta_nll"] for arm in group], [arm["restoration"] for arm in group]
    marker = {"color": CONTROL_COLOUR, "symbol": CONTROL_SYMBOLS.get(control, "x"), "size": 8}
    if not control:
        marker = {"color": ARM_COLOURS.get(first["name"], INK), "symbol": "star", "size": 14}
    bars = {} if control else {"error_x": error_bars(costs), "error_y": error_bars(gains)}
    x, y = [value["estimate"] for value in costs], [value["estimate"] for value in gains]
    return Scatter(
        x=x,
        y=y,
        mode="markers",
        marker=marker,
        name=name,
        hovertext=[arm_text(arm) for arm in group],
        hoverinfo="text",
        **bars,
    )


def candidate_form(item: Mapping[str, Any]) -> str:
    """`ablate, acting on all layers` or `steer × −1.0, acting on its own layer`."""
    strength = "" if item["coefficient"] is None else f" × {number(item['coefficient'])}"
    return f"{plain(item['kind'])}{strength}, acting on {ACTS_ON.get(item['act_on'], plain(item['act_on']))}"


def candidate_text(item: Mapping[str, Any]) -> str:
    """Hover text of a candidate."""
    gain, cost = number(item["restoration"]), number(item["delta_nll"], digits=3, sign=True)
    note = "within" if item["within_budget"] else "over"
    return f"{plain(item['method'])}, layer {item['layer']}<br>{candidate_form(item)}<br>R {gain}, ΔNLL {cost} ({note} budget)<br>S {number(item['persona_score'], digits=3)}"


def candidate_points(items: Rows, marker: Mapping[str, Any], *, name: str) -> Scatter:
    """Candidates in the plane of damage and restoration."""
    x, y = [item["delta_nll"] for item in items], [item["restoration"] for item in items]
    return Scatter(
        x=x,
        y=y,
        mode="markers",
        marker=dict(marker),
        name=name,
        hovertext=[candidate_text(item) for item in items],
        hoverinfo="text",
    )


def rule(
    figure: Figure,
    place: tuple[int, int],
    *,
    x: Number | None = None,
    y: Number | None = None,
    label: str = "",
    line: Mapping[str, Any],
) -> None:
    """A straight line across the panel at `place` (row, column): vertical at `x` or horizontal at `y`."""
    style: dict[str, Any] = {"line": {"color": INK, "width": 1.5, **line}, "row": place[0], "col": place[1]}
    if label:
        style |= {"annotation_text": label, "annotation_position": "right" if x is None else "top left"}
    if x is not None:
        figure.add_vline(x=x, **style)
    if y is not None:
        figure.add_hline(y=y, **style)


def budget_line(figure: Figure, record: Record, *, column: int) -> None:
    """A dashed vertical line at the damage budget, on an x axis of damage."""
    limit = allowed_damage(record)
    if limit is not None:
        rule(figure, (1, column), x=limit, label=f"budget {number(limit, sign=True)}", line={"dash": "dash"})


def dose_text(point: Mapping[str, Any]) -> str:
    """Hover text of one point of the dose-response sweep."""
    dose = f"coefficient {number(point['coefficient'], sign=True)}, dose {number(point['relative_dose'])} of the median norm"
    share = f"R {interval(point['restoration'])}<br>" if point["restoration"] else ""
    return f"{plain(point['side'])} model, {dose}<br>S {interval(point['persona_score'], digits=3)}<br>{share}ΔNLL {interval(point['delta_nll'], digits=3, sign=True)}"


def better(old: Cell | None, new: Cell) -> Cell:
    """The candidate that stands for a cell: the chosen one, else within budget before crossed, then more restoration, then less damage."""
    return new if old is None or _rank(new) > _rank(old) else old


def _rank(cell: Cell) -> tuple[bool, bool, Number, Number]:
    return (
        cell.chosen,
        not cell.crossed,
        float("-inf") if cell.restoration is None else cell.restoration,
        -cell.delta_nll,
    )


def layer_heatmaps(
    record: Record, cells: Mapping[tuple[str, int], Cell], *, rows: Sequence[str], row_title: str
) -> Figure:
    """Restoration above damage, layers to the right. The chosen cell is outlined, crossed cells are over the damage budget."""
    layers = sorted({layer for _, layer in cells})
    figure = make_subplots(
        rows=2,
        cols=1,
        shared_xaxes=True,
        vertical_spacing=0.12,
        subplot_titles=("restoration R", "ΔNLL, nats per token"),
    )
    limit = allowed_damage(record) or max(cell.delta_nll for cell in cells.values()) or 1.0
    grid = [[cells.get((row, layer)) for layer in layers] for row in rows]
    scales = (("R", "Viridis", 0.0, 1.0, 0.78), ("ΔNLL", COSTS, 0.0, 3 * limit, 0.22))
    for place, (name, scale, low, high, middle) in enumerate(scales, start=1):
        z = [
            [None if cell is None else (cell.restoration if place == 1 else cell.delta_nll) for cell in line]
            for line in grid
        ]
        texts = [["" if cell is None else cell.text for cell in line] for line in grid]
        bar = {"title": name, "len": 0.46, "y": middle, "thickness": 14}
        heat = Heatmap(
            z=z,
            zmin=low,
            zmax=high,
            colorscale=scale,
            hovertext=texts,
            hoverinfo="text",
            hoverongaps=False,
            xgap=1,
            ygap=1,
            colorbar=bar,
        )
        figure.add_trace(heat, row=place, col=1)
        for trace in _cell_marks(grid):
            figure.add_trace(trace, row=place, col=1)
    figure.update_xaxes(
        tickvals=list(range(len(layers))),
        ticktext=_thin([str(layer) for layer in layers]),
        range=[-0.5, len(layers) - 0.5],
        showgrid=False,
    )
    labels = [plain(row, limit=24) for row in rows]
    figure.update_yaxes(
        tickvals=list(range(len(rows))),
        ticktext=labels,
        range=[len(rows) - 0.5, -0.5],
        title_text=row_title,
        showgrid=False,
    )
    n = (record.get("search") or {}).get("n_questions", "?")
    figure.update_xaxes(
        title_text=f"layer of the direction (block index from 0), n = {n} select questions", row=2, col=1
    )
    return finish(figure, height=220 + 64 * len(rows)).update_layout(showlegend=False)


def _cell_marks(grid: Sequence[Sequence[Cell | None]]) -> Iterable[Scatter]:
    """Crosses over cells beyond the budget and a ring around the chosen one. Hover goes through to the cell."""
    placed = [(x, y, cell) for y, line in enumerate(grid) for x, cell in enumerate(line) if cell is not None]
    cross = {"symbol": "x", "size": 8, "color": "white", "line": {"width": 1, "color": "black"}}
    ring = {"symbol": "square-open", "size": 20, "color": CHOSEN_COLOUR, "line": {"width": 3}}
    for marker, marked in (
        (cross, [item for item in placed if item[2].crossed]),
        (ring, [item for item in placed if item[2].chosen]),
    ):
        yield Scatter(
            x=[x for x, _, _ in marked],
            y=[y for _, y, _ in marked],
            mode="markers",
            marker=marker,
            hoverinfo="skip",
        )


def _thin(labels: Sequence[str]) -> list[str]:
    """At most about 32 labels stay, the others are blank."""
    step = -(-len(labels) // 32)
    return [label if place % step == 0 else "" for place, label in enumerate(labels)]


def spread(count: int, *, at_most: int, chosen: int | None) -> list[int]:
    """Up to `at_most` evenly spread indices, the nearest of them moved to the chosen one."""
    if count <= at_most:
        return list(range(count))
    places = [round(place * (count - 1) / (at_most - 1)) for place in range(at_most)]
    if chosen is not None and 0 <= chosen < count:
        nearest = min(range(at_most), key=lambda place: abs(places[place] - chosen))
        places[nearest] = chosen
    return places

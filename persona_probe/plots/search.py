"""What the search tried, over layers: restoration and damage of every candidate, as heat-maps and in one
plane."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from plotly.graph_objects import Figure, Heatmap, Scatter
from plotly.subplots import make_subplots

from persona_probe.base.formatting import Number, number, signed
from persona_probe.plots.parts import RING, Measure, method_colours, scatter
from persona_probe.plots.style import empty, finish, plain
from persona_probe.plots.themes import CHOSEN_COLOUR
from persona_probe.records.direction import DirectionRecord
from persona_probe.records.search import CandidateEntry

COSTS = ("#d3e5f5", "#6aaed6", "#08306b")  # begin darker than white paper, where nothing was measured
ACTS_ON = {
    "layer": "its own layer",
    "later": "its own and later layers",
    "all": "all layers",
    "band": "a band of layers",
    "own": "a band of layers, each by its own direction",
}
KIND_SYMBOLS = {"ablate": "circle", "steer": "triangle-up"}


class Cell(NamedTuple):
    """The candidate that stands for one field of a heat-map. `restoration` is None where it may not be
    shown."""

    restoration: Number | None
    candidate: CandidateEntry

    @property
    def rank(self) -> tuple[bool, bool, Number, Number]:
        """The chosen one first, then within budget before over it, more restoration, less damage."""
        gain = float("-inf") if self.restoration is None else self.restoration
        return self.candidate.chosen, self.candidate.within_budget, gain, -self.candidate.delta_nll


Cells = Mapping[tuple[str, int], Cell]


def layer_by_method(record: DirectionRecord) -> Figure:
    """Above: the best restoration within the damage budget that each method reached with a direction from
    that layer (select questions).
    Below: what that candidate costs. Outlined: the chosen one. Crossed: nothing within budget, the cheapest
    is shown. Blank: not measured."""
    cells = _best(
        ((item.method, item.layer), Cell(item.restoration if item.within_budget else None, item))
        for item in record.search.candidates
    )
    if not cells:
        return empty("The record has no search: nothing was tried at several layers.")
    rows = [name for name in method_colours(record) if any(row == name for row, _ in cells)]
    return _heatmaps(record, cells, rows=rows, row_title="method")


def layer_by_coefficient(record: DirectionRecord) -> Figure:
    """Steering with the selected method: layer against coefficient (1 is the direction as it stands) on the
    select questions.
    Above restoration, below its cost; crossed cells are over the damage budget. Look for a region, not a
    single bright cell."""
    method = record.selected.method
    steered = {
        (item.coefficient, item.layer, place): item
        for place, item in enumerate(record.search.candidates)
        if item.kind == "steer" and item.method == method and item.coefficient is not None
    }
    cells = _best(
        ((number(coefficient, sign=True), layer), Cell(item.restoration, item))
        for (coefficient, layer, _), item in steered.items()
    )
    if not cells:
        return empty(f"The search tried no steering with the selected method ({method}).")
    rows = [number(value, sign=True) for value in sorted({key[0] for key in steered}, reverse=True)]
    return _heatmaps(record, cells, rows=rows, row_title="coefficient")


def candidate_points(record: DirectionRecord, *, cost: Measure, gain: Measure) -> Iterable[Scatter]:
    """Candidates in the plane of a cost and a gain, one group a method and kind, open where the damage is
    more than allowed; a ring around the chosen one."""
    known = [item for item in record.search.candidates if getattr(item, gain) is not None]
    for method, colour in method_colours(record).items():
        for kind, symbol in KIND_SYMBOLS.items():
            if items := [item for item in known if item.method == method and item.kind == kind]:
                symbols = [symbol if item.within_budget else f"{symbol}-open" for item in items]
                marker = {"color": colour, "symbol": symbols, "size": 8}
                yield _points(items, marker, cost, gain, name=f"{plain(method)}, {kind}")
    if chosen := [item for item in known if item.chosen]:
        yield _points(chosen, RING, cost, gain, name="chosen")


def _points(
    items: Sequence[CandidateEntry], marker: Mapping[str, Any], cost: Measure, gain: Measure, *, name: str
) -> Scatter:
    x, y = ([getattr(item, measure) for item in items] for measure in (cost, gain))
    return scatter(x, y, [_text(item) for item in items], marker=dict(marker), name=name)


def _text(item: CandidateEntry) -> str:
    """Hover text of a candidate: `ablate, acting on all layers`, and what it did."""
    strength = "" if item.coefficient is None else f" × {number(item.coefficient)}"
    gain, cost = f"R {number(item.restoration)}", f"ΔNLL {signed(item.delta_nll)}"
    if item.closure is not None:
        gain += f", C {number(item.closure)}"
    if item.kl is not None:
        cost += f", KL {number(item.kl, digits=3)}"
    toward = f" toward {item.toward}" if item.toward else ""
    toward = f" obliquely{toward}" if item.oblique else toward
    return "<br>".join(
        (
            f"{plain(item.method)}, layer {item.layer}",
            f"{item.kind}{strength}{toward}, acting on {ACTS_ON[item.act_on]}",
            gain,
            f"{cost} ({'within' if item.within_budget else 'over'} budget)",
            f"S {number(item.persona_score, digits=3)}",
        )
    )


def _best(pairs: Iterable[tuple[tuple[str, int], Cell]]) -> dict[tuple[str, int], Cell]:
    cells: dict[tuple[str, int], Cell] = {}
    for key, cell in pairs:
        if key not in cells or cell.rank > cells[key].rank:
            cells[key] = cell
    return cells


def _heatmaps(record: DirectionRecord, cells: Cells, *, rows: Sequence[str], row_title: str) -> Figure:
    """Restoration above damage, layers to the right."""
    layers = sorted({layer for _, layer in cells})
    titles = ("restoration R", "ΔNLL, nats per token")
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.12, subplot_titles=titles)
    top = 3 * (record.selected.budget or max(cell.candidate.delta_nll for cell in cells.values()) or 1.0)
    placed = {
        (layers.index(layer), rows.index(row)): cell for (row, layer), cell in cells.items() if row in rows
    }
    size = (len(rows), len(layers))
    texts = _grid(size, {at: _text(cell.candidate) for at, cell in placed.items()}, "")
    for place, (name, z, scale, high, middle) in enumerate(
        (
            ("R", {at: cell.restoration for at, cell in placed.items()}, "Viridis", 1.0, 0.78),
            ("ΔNLL", {at: cell.candidate.delta_nll for at, cell in placed.items()}, COSTS, top, 0.22),
        ),
        start=1,
    ):
        bar = {"title": name, "len": 0.46, "y": middle}
        style = {"zmin": 0.0, "zmax": high, "colorscale": scale, "colorbar": bar}
        figure.add_trace(Heatmap(z=_grid(size, z, None), hovertext=texts, **style), row=place, col=1)
        for trace in _marks(placed):
            figure.add_trace(trace, row=place, col=1)
    step = -(-len(layers) // 32)  # at most about 32 labels
    labels = [str(layer) if place % step == 0 else "" for place, layer in enumerate(layers)]
    across = {"tickvals": list(range(len(layers))), "range": [-0.5, len(layers) - 0.5], "showgrid": False}
    figure.update_xaxes(ticktext=labels, **across)
    down = {"tickvals": list(range(len(rows))), "range": [len(rows) - 0.5, -0.5], "showgrid": False}
    figure.update_yaxes(ticktext=[plain(row, limit=24) for row in rows], title_text=row_title, **down)
    title = f"layer of the direction (block index from 0), n = {record.search.n_questions} select questions"
    figure.update_xaxes(title_text=title, row=2, col=1)
    return finish(figure, height=220 + 64 * len(rows), showlegend=False)


def _grid(size: tuple[int, int], values: Mapping[tuple[int, int], Any], blank: Any) -> list[list[Any]]:
    return [[values.get((x, y), blank) for x in range(size[1])] for y in range(size[0])]


def _marks(placed: Mapping[tuple[int, int], Cell]) -> Iterable[Scatter]:
    """Crosses over cells beyond the budget and a ring around the chosen one. Hover goes through to the
    cell."""
    cross = {"symbol": "x", "color": "white", "line": {"width": 1, "color": "black"}}
    ring = {"symbol": "square-open", "size": 20, "color": CHOSEN_COLOUR, "line": {"width": 3}}
    crossed = [at for at, cell in placed.items() if not cell.candidate.within_budget]
    chosen = [at for at, cell in placed.items() if cell.candidate.chosen]
    for marker, places in ((cross, crossed), (ring, chosen)):
        yield scatter([x for x, _ in places], [y for _, y in places], marker=marker)

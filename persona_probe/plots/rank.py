"""How much of the gap the first directions of what tuning writes close, by their number, as a figure."""

from collections.abc import Sequence
from typing import Any

from plotly.graph_objects import Figure, Scatter
from plotly.subplots import make_subplots

from persona_probe.base.formatting import interval
from persona_probe.plots.parts import THIN, budget_line, n_test, rule, scatter
from persona_probe.plots.style import ARM_COLOURS, CONTROL_COLOUR, empty, error_bars, finish, view
from persona_probe.records.direction import DirectionRecord
from persona_probe.records.parts import Estimate
from persona_probe.records.writes import CurvePoint

SHARES = (
    ("closure", "closure C", "circle", "solid"),
    ("restoration", "restoration R", "diamond-open", "dot"),
)
COSTS = (("delta_nll", "ΔNLL", "circle", "solid"), ("kl", "KL", "diamond-open", "dot"))
WAYS = ((False, "top directions", ARM_COLOURS["tuned+ablate"]), (True, "random ones", CONTROL_COLOUR))


def has_rank_curve(record: DirectionRecord) -> bool:
    """Whether the record has subspaces of several ranks."""
    return record.writes is not None and bool(record.writes.curve)


def rank_curve(record: DirectionRecord) -> Figure:
    """The directions that tuning writes most along, block by block, are ablated at every live block of both
    models, the first k of them, beside random subspaces of the same rank with the covariance of the
    activations.
    Above: closure C and restoration R, with 95% intervals. Below: what it costs. A persona of few directions
    reaches 1 at a small k, before the damage rises and far above the random ones."""
    points = record.writes.curve if record.writes else ()
    if not points:
        return empty("The record has no curve of closure against rank: it was not measured.")
    ranks = sorted({point.rank for point in points})
    spaced = {"rows": 2, "cols": 1, "shared_xaxes": True, "vertical_spacing": 0.07}
    figure = make_subplots(**spaced, row_heights=[0.62, 0.38])
    for random, way, colour in WAYS:
        of_way = sorted((point for point in points if point.random == random), key=lambda point: point.rank)
        for row, fields in ((1, SHARES), (2, COSTS)):
            for field, name, symbol, dash in fields:
                known = [point for point in of_way if getattr(point, field)]
                if known:
                    places = [ranks.index(point.rank) for point in known]
                    style = {"symbol": symbol, "dash": dash, "colour": colour, "name": f"{name}, {way}"}
                    figure.add_trace(_curve(known, field, places, **style), row=row, col=1)
    for y in (0.0, 1.0):
        rule(figure, (1, 1), y=y, line=THIN)
    budget_line(figure, record.selected.budget, (2, 1), axis="y")
    figure.update_xaxes(tickvals=list(range(len(ranks))), ticktext=[str(rank) for rank in ranks])
    title = (
        f"rank k: directions a block, {len(record.writes.hook_points) if record.writes else 0} live blocks"
    )
    figure.update_xaxes(title_text=f"{title}, {n_test(record)}", row=2, col=1)
    shares = [end for point in points for value in (point.closure, point.restoration) for end in _ends(value)]
    figure.update_yaxes(title_text="share of the shift", range=view([0.0, 1.0, *shares], low=-2.0, high=3.0))
    costs = [end for point in points for value in (point.delta_nll, point.kl) for end in _ends(value)]
    figure.update_yaxes(
        title_text="nats per token", range=view([0.0, record.selected.budget, *costs]), row=2, col=1
    )
    return finish(figure, height=600, margin_b=150, margin_r=130)


def _curve(
    points: Sequence[CurvePoint],
    field: str,
    places: Sequence[int],
    *,
    symbol: str,
    dash: str,
    colour: str,
    name: str,
) -> Scatter:
    values: list[Estimate] = [getattr(point, field) for point in points]
    style: dict[str, Any] = {"marker": {"color": colour, "symbol": symbol, "size": 9}}
    style |= {"line": {"color": colour, "dash": dash}, "error_y": error_bars(values, color=colour)}
    texts = [f"{name}, rank {point.rank}<br>{_numbers(point)}" for point in points]
    y = [value.estimate for value in values]
    return scatter(places, y, texts, mode="lines+markers", name=name, **style)


def _numbers(point: CurvePoint) -> str:
    damage = interval(point.delta_nll, digits=3, sign=True)
    shares = f"C {interval(point.closure)}, R {interval(point.restoration)}"
    return f"{shares}<br>ΔNLL {damage}, KL {interval(point.kl, digits=3)}"


def _ends(value: Estimate | None) -> tuple[float, ...]:
    return () if value is None else value.ci95

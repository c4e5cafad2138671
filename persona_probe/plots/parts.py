"""Pieces that several figures are made of: arms, controls and doses of a record as traces, hover texts and
lines."""

from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any, Literal, NamedTuple

from plotly.graph_objects import Bar, Figure, Scatter

from persona_probe.base.formatting import Number, interval, number
from persona_probe.plots.style import (
    BAND,
    CONTROL_COLOUR,
    CONTROL_NAMES,
    CONTROL_SYMBOLS,
    METHOD_COLOURS,
    arm_colour,
    error_bars,
    plain,
)
from persona_probe.plots.themes import CHOSEN_COLOUR
from persona_probe.records.arms import ArmEntry, ArmNumbers, DoseEntry
from persona_probe.records.comparators import ComparatorEntry
from persona_probe.records.direction import DirectionRecord
from persona_probe.records.trial import TrialRecord

WithArms = DirectionRecord | TrialRecord
Measure = Literal["restoration", "closure", "delta_nll", "kl"]
THIN, DASHED = {"width": 1}, {"dash": "dash"}
REMEDY_SYMBOLS = {"prompt": "diamond-open", "half_weights": "square-open", "minus_twin": "cross-open"}
RING = {"symbol": "circle-open", "size": 18, "color": CHOSEN_COLOUR, "line": {"width": 3}}


class FigureSpec(NamedTuple):
    """One figure of a report: a short name, the question it answers, and the function that draws it.

    `slug` is ours and becomes an element id. `has_text`: `draw` takes `show_text`, for words that a model
    wrote. `there`: whether a record has what is drawn; a figure that it has nothing for is left out.
    """

    slug: str
    title: str
    draw: Callable[..., Figure]
    has_text: bool = False
    there: Callable[[Any], bool] = lambda record: True

    def figure(self, record: object, *, show_text: bool = False) -> Figure:
        """The figure of a record."""
        return self.draw(record, show_text=show_text) if self.has_text else self.draw(record)


def scatter(x: Sequence[Any], y: Sequence[Any], texts: Sequence[str] | None = None, **style: Any) -> Scatter:
    """Points, unless `mode` says otherwise; `texts` are shown when hovered, and without them nothing is."""
    hover = {"hoverinfo": "skip"} if texts is None else {"hovertext": texts}
    return Scatter(x=x, y=y, **{"mode": "markers", **hover, **style})


def restored_arms(record: WithArms) -> list[ArmEntry]:
    """Changed arms on the tuned model whose restoration is defined."""
    return [arm for arm in record.arms if arm.model == "tuned" and arm.interventions and arm.restoration]


def n_test(record: WithArms) -> str:
    """`n = 24 questions`, for axis titles."""
    return f"n = {record.data.n_questions.test} questions"


def n_benign(record: WithArms) -> str:
    """`n = 96 texts`, for axis titles of damage."""
    return f"n = {record.data.n_benign} texts"


def method_colours(record: DirectionRecord) -> dict[str, str]:
    """One colour a method, the same in every figure: fitted methods in order, then those only the search
    knows."""
    names = dict.fromkeys([*record.directions.methods, *(item.method for item in record.search.candidates)])
    return {name: METHOD_COLOURS[place % len(METHOD_COLOURS)] for place, name in enumerate(names)}


def arm_groups(arms: Sequence[ArmEntry], *, chosen: str | None) -> list[list[ArmEntry]]:
    """Rows of the arm figures, top down: the chosen arm, other arms, one group a kind of control, hardest to
    beat first. Controls set beside another arm than the chosen one stand apart, below the others."""
    named = sorted((arm for arm in arms if not arm.control), key=lambda arm: arm.name != chosen)
    controls = [arm for arm in arms if arm.control]
    beside = sorted(
        dict.fromkeys(arm.control_of for arm in controls), key=lambda name: name not in (None, chosen)
    )
    kinds = [
        [arm for arm in controls if (arm.control_of, arm.control) == (name, kind)]
        for name in beside
        for kind in CONTROL_SYMBOLS
    ]
    return [*([arm] for arm in named), *filter(None, kinds)]


def group_name(group: Sequence[ArmEntry], *, chosen: str | None) -> str:
    """How readers call an arm, or a kind of control; controls of an arm that was not chosen say whose."""
    first = group[0]
    if not first.control:
        return plain(first.name)
    of_other = first.control_of not in (None, chosen)
    return CONTROL_NAMES[first.control] + (f",<br>of {plain(first.control_of, limit=24)}" if of_other else "")


def arm_text(arm: ArmEntry) -> str:
    """Hover text of an arm: restoration is never without closure and damage."""
    verdict = f"<br>{arm.verdict}" if arm.verdict else ""
    return f"{plain(arm.name)}{verdict}<br>{effects(arm)}<br>{arm.n_questions} questions"


def effects(arm: ArmNumbers) -> str:
    """R, C, damage and S with their intervals, one a line."""
    share = f"R {interval(arm.restoration)}<br>" if arm.restoration else ""
    if arm.closure:
        share += f"C {interval(arm.closure)}<br>base moved {interval(arm.base_moved)}<br>"
    damage = f"ΔNLL {interval(arm.delta_nll, digits=3, sign=True)}<br>KL {interval(arm.kl, digits=3)}"
    return f"{share}{damage}<br>S {interval(arm.persona_score, digits=3)}"


def dose_text(point: DoseEntry) -> str:
    """Hover text of one strength of steering."""
    dose = f"coefficient {number(point.coefficient, sign=True)}, dose {number(point.relative_dose)}"
    return f"{point.side} model, {dose} of the median norm<br>{effects(point)}"


def arm_bar(arm: ArmEntry, measure: Measure, row: int) -> Bar:
    """A bar with its interval; the arm must have the measure."""
    value = getattr(arm, measure)
    style = {"marker_color": arm_colour(arm.name), "width": 0.6, "orientation": "h"}
    return Bar(x=[value.estimate], y=[row], error_x=error_bars([value]), hovertext=[arm_text(arm)], **style)


def control_points(group: Sequence[ArmEntry], measure: Measure, row: int) -> list[Scatter]:
    """One point a control that has the measure, and a tick at their median; nothing without any."""
    known = [arm for arm in group if getattr(arm, measure)]
    if not known:
        return []
    # Spread over the height of a bar, so that equal points stay apart.
    y = [row + 0.5 * (place + 1) / (len(known) + 1) - 0.25 for place in range(len(known))]
    x = [getattr(arm, measure).estimate for arm in known]
    points = scatter(x, y, [arm_text(arm) for arm in known], marker=control_marker(group[0]))
    middle = median(x)
    text = f"median of {len(x)}: {number(middle, digits=3)}"
    tick = {"symbol": "line-ns", "size": 26, "line": {"width": 3}}
    return [points, scatter([middle], [row], [text], marker=tick)]


def arm_points(group: Sequence[ArmEntry], *, cost: Measure, gain: Measure, chosen: str | None) -> Scatter:
    """An arm with its intervals, or a group of controls, in the plane of a cost and a gain."""
    known = [arm for arm in group if getattr(arm, gain)]
    costs, gains = ([getattr(arm, measure) for arm in known] for measure in (cost, gain))
    marker = control_marker(group[0])
    if group[0].control_of not in (None, chosen):
        marker["symbol"] = f"{marker['symbol']}-open"
    style: dict[str, Any] = {"marker": marker}
    if not group[0].control:
        style = {"marker": {"color": arm_colour(group[0].name), "symbol": "star", "size": 14}}
        style |= {"error_x": error_bars(costs), "error_y": error_bars(gains)}
    x, y = ([value.estimate for value in values] for values in (costs, gains))
    name = group_name(group, chosen=chosen).replace("<br>", " ")
    return scatter(x, y, [arm_text(arm) for arm in known], name=name, **style)


def comparator_point(entry: ComparatorEntry, *, cost: Measure, gain: Measure) -> Scatter:
    """A simple remedy with its intervals, in the plane of a cost and a gain that it has."""
    values = {"x": getattr(entry, cost), "y": getattr(entry, gain)}
    bars = {f"error_{axis}": error_bars([value]) for axis, value in values.items()}
    marker = {"symbol": REMEDY_SYMBOLS[entry.kind], "size": 11, "color": arm_colour(entry.name)}
    marker |= {"line": {"width": 2}}
    text = f"{plain(entry.name)}<br>{effects(entry)}<br>{entry.n_questions} questions"
    x, y = ([value.estimate] for value in values.values())
    return scatter(x, y, [text], name=plain(entry.name), marker=marker, **bars)


def control_marker(arm: ArmEntry) -> dict[str, Any]:
    return {"color": CONTROL_COLOUR, "symbol": CONTROL_SYMBOLS.get(arm.control or "")}


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
    style: dict[str, Any] = {"line": dict(line), "row": place[0], "col": place[1]}
    if label:
        style |= {"annotation_text": label, "annotation_position": "right" if x is None else "top left"}
    if x is not None:
        figure.add_vline(x=x, **style)
    if y is not None:
        figure.add_hline(y=y, **style)


def band(figure: Figure, place: tuple[int, int], ends: tuple[Number, Number]) -> None:
    """Grey ground behind the values of a horizontal axis that count as 1, in the panel at (row, column)."""
    where: dict[str, Any] = {"row": place[0], "col": place[1]}
    figure.add_vrect(*ends, **BAND, **where)


def zero_lines(figure: Figure, places: Mapping[tuple[int, int], str]) -> None:
    """Thin lines at 0 in some panels: `"x"` is a vertical one, `"y"` a horizontal one, `"xy"` both."""
    for place, axes in places.items():
        rule(figure, place, x=0.0 if "x" in axes else None, y=0.0 if "y" in axes else None, line=THIN)


def budget_line(figure: Figure, budget: Number, place: tuple[int, int], *, axis: Literal["x", "y"]) -> None:
    """A dashed line at the damage budget, across an axis of damage."""
    label = f"budget {number(budget, sign=True)}"
    x, y = (budget, None) if axis == "x" else (None, budget)
    rule(figure, place, x=x, y=y, label=label, line=DASHED)


def spread(count: int, *, at_most: int, chosen: int) -> list[int]:
    """Up to `at_most` evenly spread indices; the nearest of them is moved to the chosen one."""
    if count <= at_most:
        return list(range(count))
    places = [round(place * (count - 1) / (at_most - 1)) for place in range(at_most)]
    places[min(range(at_most), key=lambda place: abs(places[place] - chosen))] = chosen
    return places

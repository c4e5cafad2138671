"""Both models before and after the same edit of both, as a figure: how much of their gap the edit closes."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from plotly.graph_objects import Figure, Scatter
from plotly.subplots import make_subplots

from persona_probe.base.formatting import Interval, interval, number, percent
from persona_probe.plots.parts import THIN, arm_groups, arm_text, band, group_name, rule, scatter
from persona_probe.plots.style import ARM_COLOURS, CONTROL_COLOUR, arm_colour, empty, error_bars, finish, view
from persona_probe.records.arms import ArmEntry
from persona_probe.records.direction import DirectionRecord
from persona_probe.records.parts import Estimate, Side

SIDES: tuple[tuple[Side, str, str, int], ...] = (
    ("tuned", "square", "solid", 14),
    ("base", "circle", "dash", 10),
)
R_ABOVE, C_BELOW = -0.16, 0.16  # where R and C of one arm stand in their row
Share = Estimate | float


@dataclass(frozen=True, eq=False)
class Edited:
    """The same edit of both models. `share` is C, without an interval where a record has only means."""

    tuned: ArmEntry
    base: ArmEntry
    share: Share | None


def closure_figure(record: DirectionRecord, share: Share | None = None) -> Figure:
    """Left: persona score S of both models, without an edit and with the same edit in both, with 95%
    intervals over questions; below, the gap between both. Grey: the same with control directions.
    Right: closure C (filled), the share of the gap that is gone, beside restoration R (open), the share of
    the shift by which S of the tuned model falls. An edit that lowers S in both models alike has a high R and
    a C near 0. The grey band is what counts as 1."""
    pairs = both_edited(record)
    untouched = {side: record.untouched(side) for side, *_ in SIDES}
    if not pairs or untouched["base"] is None or untouched["tuned"] is None:
        return empty("No closure to draw: the record has no edit that was made in both models.")
    shown = _shown(record, pairs, share)
    width = {"column_widths": [0.36, 0.64], "horizontal_spacing": 0.25}
    figure = make_subplots(rows=1, cols=2, **width)
    for trace in _controls_behind(record, shown):
        figure.add_trace(trace, row=1, col=1)
    for (side, *look), edited in zip(SIDES, (shown.tuned, shown.base), strict=True):
        before = untouched[side]
        assert before is not None, "both were looked for above"
        figure.add_trace(_line(side, (before, edited), look), row=1, col=1)
    n_rows = _shares(figure, record, pairs, shown)
    after = shown.tuned.persona_score.estimate - shown.base.persona_score.estimate
    _, _, ends = interval(record.effect, sign=True).partition(" ")
    ticks = [
        f"no edit<br>gap {number(record.effect.estimate, sign=True)}<br>{ends}",
        f"edited<br>gap {number(after, sign=True)}",
    ]
    figure.update_xaxes(tickvals=[0, 1], ticktext=ticks, range=[-0.35, 1.35], row=1, col=1)
    figure.update_yaxes(title_text="S, nats per token", row=1, col=1)
    n = f"n = {record.data.n_questions.test} questions"
    figure.update_xaxes(title_text=f"C filled, R open; 1 is all of the shift, {n}", row=1, col=2)
    title = {"text": _finding(shown, effect=record.effect), "x": 0.01, "xanchor": "left"}
    return finish(figure, height=max(430, 170 + 38 * n_rows), title=title, margin_t=90, margin_b=110)


def both_edited(record: DirectionRecord) -> list[Edited]:
    """Edits that were made in both models, the chosen arm's first; controls are left out."""
    edited = [arm for arm in record.arms if arm.interventions and arm.control is None]
    tuned = sorted(
        (arm for arm in edited if arm.model == "tuned"), key=lambda arm: arm.name != record.selected.arm
    )
    return [
        Edited(arm, other, arm.closure or _of_means(record, arm, other))
        for arm in tuned
        for other in edited
        if other.model == "base" and other.interventions == arm.interventions
    ]


def _of_means(record: DirectionRecord, tuned: ArmEntry, base: ArmEntry) -> float | None:
    """C of the means, for records that do not say it; None without a shift."""
    if record.effect.low <= 0:
        return None
    return 1 - (tuned.persona_score.estimate - base.persona_score.estimate) / record.effect.estimate


def _shown(record: DirectionRecord, pairs: Sequence[Edited], share: Share | None) -> Edited:
    """The edit whose four points are drawn; `share` takes the place of a C without an interval."""
    first = pairs[0]
    if share is None or isinstance(first.share, Estimate) or record.effect.low <= 0:
        return first
    return Edited(first.tuned, first.base, share)


def _line(side: str, arms: Sequence[ArmEntry], look: Sequence[Any]) -> Scatter:
    """One model without and with the edit."""
    symbol, dash, size = look
    scores = [arm.persona_score for arm in arms]
    return scatter(
        [0, 1],
        [score.estimate for score in scores],
        [arm_text(arm) for arm in arms],
        mode="lines+markers",
        marker={"symbol": symbol, "size": size, "color": ARM_COLOURS[side]},
        line={"color": ARM_COLOURS[side], "dash": dash, "width": 2.5},
        error_y=error_bars(scores, color=ARM_COLOURS[side]),
        name=f"{side} model",
    )


def _controls_behind(record: DirectionRecord, shown: Edited) -> list[Scatter]:
    """Grey lines of the controls: their shares of the shift, since they are scored on fewer replies."""
    controls = [arm for arm in record.arms if arm.model == "tuned" and arm.control]
    controls = [arm for arm in controls if arm.control_of in (None, shown.tuned.name)]
    starts = {side: record.untouched(side) for side, *_ in SIDES}
    traces = []
    for (side, _, dash, _), field in zip(SIDES, ("restoration", "base_moved"), strict=True):
        x, y, start = list[float | None](), list[float | None](), starts[side]
        for arm in controls:
            moved = getattr(arm, field)
            if moved and start:
                first = start.persona_score.estimate
                x += [0, 1, None]
                y += [first, first - moved.estimate * record.effect.estimate, None]
        if x:
            line = {"color": CONTROL_COLOUR, "width": 0.8, "dash": dash}
            name = f"controls on {side}"
            traces.append(scatter(x, y, mode="lines", line=line, opacity=0.45, name=name))
    return traces


def _shares(figure: Figure, record: DirectionRecord, pairs: Sequence[Edited], shown: Edited) -> int:
    """The right panel: R and C of every edit of both models, then of the controls; gives its rows."""
    of_controls = [
        arm
        for arm in record.arms
        if arm.model == "tuned" and arm.control and arm.control_of in (None, shown.tuned.name)
    ]
    groups = arm_groups(of_controls, chosen=shown.tuned.name)
    names = [group_name([pair.tuned], chosen=None) for pair in pairs]
    names += [group_name(group, chosen=shown.tuned.name) for group in groups]
    shares: list[float] = [0.0, 1.0]
    for row, pair in enumerate(pairs):
        share = shown.share if pair.tuned is shown.tuned else pair.share
        for value, at, filled in ((pair.tuned.restoration, R_ABOVE, False), (share, C_BELOW, True)):
            if value is not None:
                figure.add_trace(_share_point(pair.tuned, value, row + at, filled=filled), row=1, col=2)
                shares += [value.low, value.high] if isinstance(value, Estimate) else [value]
    for row, group in enumerate(groups, start=len(pairs)):
        for field, at, filled in (("restoration", R_ABOVE, False), ("closure", C_BELOW, True)):
            arms = [arm for arm in group if getattr(arm, field)]
            values = [getattr(arm, field).estimate for arm in arms]
            shares += values
            for trace in _control_row(arms, values, row + at, filled=filled):
                figure.add_trace(trace, row=1, col=2)
    for x in (0.0, 1.0):
        rule(figure, (1, 2), x=x, line=THIN)
    judged = shown.tuned.judged
    if judged and judged.band:
        band(figure, (1, 2), judged.band.ends)
    # A ratio to a small shift has endless intervals; they leave the view.
    figure.update_xaxes(range=view(shares, low=-2.0, high=3.0), row=1, col=2)
    down = {"tickvals": list(range(len(names))), "range": [len(names) - 0.4, -0.6], "showgrid": False}
    figure.update_yaxes(ticktext=names, **down, row=1, col=2)
    return len(names)


def _share_point(arm: ArmEntry, value: Share, y: float, *, filled: bool) -> Scatter:
    exact = value if isinstance(value, Estimate) else Estimate(estimate=value, ci95=(value, value))
    colour = arm_colour(arm.name)
    symbol = "circle" if filled else "circle-open"
    marker = {"symbol": symbol, "size": 11, "color": colour, "line": {"width": 2, "color": colour}}
    bars = error_bars([exact], color=colour)
    style: dict[str, Any] = {"marker": marker, "error_x": bars, "showlegend": False}
    return scatter([exact.estimate], [y], [arm_text(arm)], **style)


def _control_row(
    arms: Sequence[ArmEntry], values: Sequence[float], y: float, *, filled: bool
) -> list[Scatter]:
    """Grey points of one kind of control, and a tick at their median."""
    if not values:
        return []
    symbol = "circle" if filled else "circle-open"
    marker = {"symbol": symbol, "size": 6, "color": CONTROL_COLOUR}
    tick = {"symbol": "line-ns", "size": 13, "line": {"width": 2}}
    middle = median(values)
    text = f"median of {len(values)}: {number(middle, digits=3)}"
    texts = [arm_text(arm) for arm in arms]
    return [
        scatter(values, [y] * len(values), texts, marker=marker, showlegend=False),
        scatter([middle], [y], [text], marker=tick, showlegend=False),
    ]


def _finding(shown: Edited, *, effect: Interval) -> str:
    """The title: what the edit does to the gap."""
    if shown.share is None:
        return f"Closure is not defined: the shift of S is {interval(effect, sign=True)}"
    kinds = {item.kind for item in shown.tuned.interventions}
    what = "Ablating" if kinds == {"ablate"} else "Steering against" if kinds == {"steer"} else "Editing"
    share = shown.share
    part = share.estimate if isinstance(share, Estimate) else share
    done = f"closes {percent(part)} of the gap" if part >= 0 else f"widens the gap by {percent(-part)}"
    told = interval(share) if isinstance(share, Estimate) else number(share)
    return (
        f"{what} the direction in both models {done}<br>C = {told}, R = {interval(shown.tuned.restoration)}"
    )

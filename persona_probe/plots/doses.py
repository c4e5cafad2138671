"""Steering by several strengths on a few questions, beside a random direction: a trial in, a figure with a
slider out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from plotly.graph_objects import Figure, Scatter
from plotly.subplots import make_subplots

from persona_probe.base.formatting import Number, interval, number, signed
from persona_probe.plots.parts import DASHED, THIN, budget_line, dose_text, n_benign, n_test, rule, scatter
from persona_probe.plots.sliders import sliding
from persona_probe.plots.style import ARM_COLOURS, CONTROL_COLOUR, empty, error_bars, finish, view
from persona_probe.records.trial import TrialArm, TrialDose, TrialRecord

Doses = Mapping[Number, TrialDose]
STEERED = {"base": "base+steer", "tuned": "tuned-steer"}  # whose colour a steered model has
MARGIN = 0.08  # of the axis, as room for the budget's label above every line


@dataclass(frozen=True)
class Sweep:
    """Doses by coefficient, 0 included, of one model; along the direction and along a random one of the same
    length."""

    record: TrialRecord
    base: TrialArm
    tuned: TrialArm
    steered: Doses
    random: Doses
    order: Sequence[Number]

    @property
    def untouched(self) -> TrialDose:
        """The steered model at dose 0."""
        return self.steered[0.0]

    @property
    def shift(self) -> float:
        """What it takes to make the steered model's S that of the other one."""
        shift = self.base.persona_score.estimate - self.tuned.persona_score.estimate
        return shift if self.untouched.side == "tuned" else -shift

    def moved(self, dose: TrialDose) -> float:
        """How far a dose moves mean S."""
        return dose.persona_score.estimate - self.untouched.persona_score.estimate


def dose_slider(record: TrialRecord) -> Figure:
    """Left: S of every question, with mean and 95% interval; the steered model and one steered as far along a
    random direction move with the slider.
    Right: how far S moved, against the damage on harmless text. The dashed line is the whole shift from tuned
    to base."""
    sweep = _sweep(record)
    if sweep is None:
        return empty("The record has no dose-response with a control.")
    pictures = [(number(place, digits=1, sign=bool(place)), _picture(sweep, place)) for place in sweep.order]
    allowed = record.selected.budget or 0.1
    cheap = (place for place in sweep.order if sweep.steered[place].delta_nll.estimate <= allowed)
    return sliding(pictures, prefix="coefficient ", start=sweep.order.index(max(cheap, key=abs)))


def _sweep(record: TrialRecord) -> Sweep | None:
    """The doses of a trial that have a control, with dose 0; None without any."""
    steered, random = (
        {dose.coefficient: dose for dose in doses} for doses in (record.dose_response, record.dose_control)
    )
    places = [place for place in steered if place in random and place != 0]
    base, tuned = record.untouched("base"), record.untouched("tuned")
    if not places or base is None or tuned is None:
        return None
    untouched = base if steered[places[0]].side == "base" else tuned
    none = TrialDose.of(untouched, coefficient=0.0, relative_dose=0.0)
    order = sorted([*places, 0.0], key=lambda place: abs(place) if max(places) < 0 else place)
    return Sweep(record, base, tuned, {**steered, 0.0: none}, {**random, 0.0: none}, order)


def _picture(sweep: Sweep, now: Number) -> Figure:
    """One place of the slider. Axes show every dose, so that nothing jumps."""
    figure = make_subplots(rows=1, cols=2, horizontal_spacing=0.13, column_widths=[0.55, 0.45])
    colour, dose = ARM_COLOURS[STEERED[sweep.untouched.side]], sweep.steered[now]
    columns = (
        ("base", ARM_COLOURS["base"], sweep.base),
        ("tuned", ARM_COLOURS["tuned"], sweep.tuned),
        ("steered", colour, dose),
        ("random", CONTROL_COLOUR, sweep.random[now]),
    )
    for place, column in enumerate(columns):
        figure.add_traces(_column(place, *column), rows=1, cols=1)
    for doses, shade, dash, name in (
        (sweep.random, CONTROL_COLOUR, "dot", "random direction"),
        (sweep.steered, colour, "solid", f"{sweep.untouched.side}, steered"),
    ):
        x = [doses[place].delta_nll.estimate for place in sweep.order]
        y = [sweep.moved(doses[place]) for place in sweep.order]
        texts = [f"{name}<br>{dose_text(doses[place])}" for place in sweep.order]
        marker = {"color": shade, "size": [15 if place == now else 6 for place in sweep.order]}
        line = {"color": shade, "dash": dash, "width": 1.5}
        figure.add_trace(scatter(x, y, texts, mode="lines+markers", line=line, marker=marker), row=1, col=2)
    rule(figure, (1, 2), y=sweep.shift, line=DASHED)
    rule(figure, (1, 2), y=0.0, line=THIN)
    budget_line(figure, sweep.record.selected.budget, (1, 2), axis="x")
    ticks = {"tickvals": list(range(4)), "ticktext": [name for name, *_ in columns], "tickangle": 0}
    figure.update_xaxes(range=[-0.6, 3.6], showgrid=False, row=1, col=1, **ticks)
    length = number(dose.coefficient, digits=1, sign=bool(dose.coefficient))
    title = f"{length} × the direction, {number(dose.relative_dose)} of the stream's median length"
    corner = {"x": 0, "y": 1.02, "xref": "paper", "yref": "paper", "xanchor": "left", "yanchor": "bottom"}
    figure.add_annotation(text=title, **corner)
    _axes(figure, sweep)
    return finish(figure, height=460, showlegend=False)


def _axes(figure: Figure, sweep: Sweep) -> None:
    """Ranges that hold every dose."""
    doses = [*sweep.steered.values(), *sweep.random.values()]
    scores = [value for entry in (*doses, sweep.base, sweep.tuned) for value in entry.scores]
    title = f"S, nats per token, {n_test(sweep.record)}"
    figure.update_yaxes(range=view(scores), title_text=title, row=1, col=1)
    costs = view([0.0, sweep.record.selected.budget, *(dose.delta_nll.estimate for dose in doses)])
    title = f"ΔNLL, nats per token<br>{n_benign(sweep.record)}"
    figure.update_xaxes(range=costs, title_text=title, row=1, col=2)
    low, high = view([0.0, sweep.shift, *(sweep.moved(dose) for dose in doses)])
    up = [low, high + MARGIN * (high - low)]
    figure.update_yaxes(range=up, title_text="mean S moved by, nats per token", row=1, col=2)


def _column(place: int, label: str, colour: str, entry: TrialArm | TrialDose) -> list[Scatter]:
    """The questions of one arm as a strip, and their mean with its interval."""
    values, score = entry.scores, entry.persona_score
    # Question i stands at the same spot in every column.
    spots = [place + 0.36 * (i / max(1, len(values) - 1) - 0.5) for i in range(len(values))]
    texts = [f"{label}, question {i}<br>S {signed(value)}" for i, value in enumerate(values, 1)]
    mean = {"color": colour, "size": 13, "symbol": "diamond", "line": {"color": "white", "width": 1}}
    text = f"{label}, mean<br>S {interval(score, digits=3, sign=True)}"
    bars = error_bars([score], color=colour, thickness=2.5)
    return [
        scatter(spots, values, texts, marker={"color": colour, "size": 6, "opacity": 0.55}),
        scatter([place], [score.estimate], [text], marker=mean, error_y=bars),
    ]

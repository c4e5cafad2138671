"""The gap between both models before and after an edit of both, as a figure."""

from plotly.graph_objects import Figure

from persona_probe.base.formatting import interval, number, percent
from persona_probe.plots.parts import scatter
from persona_probe.plots.style import ARM_COLOURS, empty, error_bars, finish, view
from persona_probe.records.parts import Estimate

NAMES = ("no edit", "direction ablated<br>in both models")


def gap_figure(
    before: Estimate | float, after: Estimate | float, share: Estimate | float | None, *, n_questions: int
) -> Figure:
    """The gap S(tuned) − S(base) in persona score, without an edit and with the same ablation in both models;
    at 0 both models are alike. Closure C = 1 − (gap with the edit) / (gap without): 1 means that the edit
    removes what tuning did, 0 that it removes nothing of it."""
    values = [_estimate(value) for value in (before, after)]
    texts = [f"{name}<br>gap {_told(value)}" for name, value in zip(NAMES, (before, after), strict=True)]
    marker = {"size": 16, "color": [ARM_COLOURS["tuned"], ARM_COLOURS["tuned+ablate"]]}
    bars = error_bars(values, thickness=2, width=8)
    x = [value.estimate for value in values]
    figure = Figure(scatter(x, [1, 0], texts, marker=marker, error_x=bars, showlegend=False))
    title = f"S(tuned) − S(base), nats per token, n = {n_questions} questions"
    ends = [end for value in values for end in value.ci95]
    figure.update_xaxes(title_text=title, range=view([0.0, *ends]))
    figure.update_yaxes(tickvals=[1, 0], ticktext=list(NAMES), range=[-0.6, 1.6], showgrid=False)
    figure.add_vline(x=0.0, line_width=1, line_dash="dash")
    return finish(figure, height=300, title={"text": _finding(share), "font": {"size": 15}})


def _finding(share: Estimate | float | None) -> str:
    """The title: what the ablation does to the gap."""
    if share is None:
        return "Closure is not defined: tuning did not raise S"
    part = _estimate(share).estimate
    done = f"closes {percent(part)} of the gap" if part >= 0 else f"widens the gap by {percent(-part)}"
    return f"Ablating the direction in both models {done} that tuning opened<br>closure C = {_told(share)}"


def _estimate(value: Estimate | float) -> Estimate:
    """A number without an interval as one whose interval is itself."""
    return value if isinstance(value, Estimate) else Estimate(estimate=value, ci95=(value, value))


def _told(value: Estimate | float) -> str:
    return interval(value) if isinstance(value, Estimate) else number(value)


def no_gap() -> Figure:
    """What stands in the place of the figure where an arm is missing."""
    return empty("No closure to draw: the record has no ablation of the same direction in both models.")

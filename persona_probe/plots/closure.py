"""The gap between both models before and after an edit of both, as a figure."""

from plotly.graph_objects import Figure, Scatter

from persona_probe.plots.style import ARM_COLOURS, empty, finish, number, view
from persona_probe.records.parts import Estimate

NAMES = ("no edit", "direction ablated<br>in both models")


def gap_figure(
    before: Estimate | float, after: Estimate | float, share: Estimate | float | None, *, n_questions: int
) -> Figure:
    """The gap S(tuned) − S(base) in persona score, without an edit and with the same ablation in both models. At 0 both models are alike.
    Closure C = 1 − (gap with the edit) / (gap without): 1 means that the edit removes what tuning did, 0 that it removes nothing of it."""
    values = (before, after)
    middles = [_middle(value) for value in values]
    ends = [(value, value) if isinstance(value, int | float) else (value.low, value.high) for value in values]
    arrays = {
        "array": [high - middle for middle, (_, high) in zip(middles, ends, strict=True)],
        "arrayminus": [middle - low for middle, (low, _) in zip(middles, ends, strict=True)],
    }
    texts = [f"{name}<br>gap {_told(value)}" for name, value in zip(NAMES, values, strict=True)]
    marker = {"size": 16, "color": [ARM_COLOURS["tuned"], ARM_COLOURS["tuned+ablate"]]}
    bars = {"type": "data", "symmetric": False, "thickness": 2, "width": 8, **arrays}
    points = Scatter(
        x=middles, y=[1, 0], hovertext=texts, mode="markers", marker=marker, error_x=bars, showlegend=False
    )
    figure = Figure(points)
    figure.update_xaxes(
        title_text=f"S(tuned) − S(base), nats per token, n = {n_questions} questions",
        range=view([0.0, *(end for pair in ends for end in pair)]),
    )
    figure.update_yaxes(tickvals=[1, 0], ticktext=list(NAMES), range=[-0.6, 1.6], showgrid=False)
    figure.add_vline(x=0.0, line_width=1, line_dash="dash")
    said = "not defined: tuning did not raise S" if share is None else _told(share)
    figure.update_layout(title={"text": f"closure C = {said}", "font": {"size": 15}})
    return finish(figure, height=280)


def _middle(value: Estimate | float) -> float:
    return float(value) if isinstance(value, int | float) else value.estimate


def _told(value: Estimate | float) -> str:
    if isinstance(value, int | float):
        return number(value)
    return f"{number(value.estimate)} [{number(value.low)}, {number(value.high)}]"


def no_gap() -> Figure:
    """What stands in the place of the figure where an arm is missing."""
    return empty("No closure to draw: the record has no ablation of the same direction in both models.")

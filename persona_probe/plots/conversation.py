"""A conversation in, Plotly figure out: the projection of every reply onto the direction, token by token."""

from collections.abc import Sequence
from dataclasses import dataclass

from plotly.graph_objects import Figure

from persona_probe.base.formatting import number
from persona_probe.plots.parts import scatter
from persona_probe.plots.style import ARM_COLOURS, METHOD_DASHES, empty, finish, plain

# From the most negative coefficient to the most positive.
SWEEP_COLOURS = ("#0072B2", "#56B4E9", "#8C8C8C", "#E69F00", "#D55E00")
SMOOTHED = 5  # tokens of a running mean
GAP = 4  # tokens between turns


@dataclass(frozen=True)
class Line:
    """One reply: the arm that wrote it, and the projection of each of its tokens in lengths of the direction.

    A token without a projection is None. `step` is the reply's place in a sweep of coefficients.
    """

    arm: str
    projections: tuple[float | None, ...]
    step: int | None = None

    @property
    def look(self) -> tuple[str, str]:
        """Colour and dash: an arm keeps its own in all figures."""
        if self.step is None and self.arm in ARM_COLOURS:
            place = list(ARM_COLOURS).index(self.arm)
            return ARM_COLOURS[self.arm], METHOD_DASHES[place % (len(METHOD_DASHES) - 1)]
        place = (self.step or 0) % len(SWEEP_COLOURS)
        return SWEEP_COLOURS[place], METHOD_DASHES[place]


def conversation(turns: Sequence[Sequence[Line]]) -> Figure:
    """Projection of every reply onto the direction, in lengths of it: above 0 leans to misaligned replies,
    below to aligned ones.
    Lines are running means over five tokens; dotted verticals are new questions."""
    turns = [turn for turn in turns if any(line.projections for line in turn)]
    if not turns:
        return empty("Ask something: the projection of every token appears here.")
    figure, start, listed = Figure(), 0, set[str]()
    for n, turn in enumerate(turns, start=1):
        for line in turn:
            colour, dash = line.look
            texts = [
                f"{plain(line.arm)}, question {n}, token {i}<br>{number(value, sign=True)}"
                for i, value in enumerate(line.projections)
            ]
            x = list(range(start, start + len(line.projections)))
            style = {"line": {"color": colour, "dash": dash, "width": 2.5}, "mode": "lines"}
            style |= {"legendgroup": line.arm, "showlegend": line.arm not in listed, "name": plain(line.arm)}
            figure.add_trace(scatter(x, smoothed(line.projections), texts, **style))
            listed.add(line.arm)
        if n > 1:
            figure.add_vline(start - GAP / 2, line={"width": 1, "dash": "dot"})
        start += max(len(line.projections) for line in turn) + GAP
    figure.add_hline(0, line={"width": 1})
    title = "token of the conversation; projection in lengths of the direction"
    figure.update_xaxes(title_text=title, showgrid=False)
    figure.update_yaxes(title_text="projection (lengths)<br>aligned ↔ misaligned")
    return finish(figure, height=330)


def smoothed(values: Sequence[float | None]) -> list[float | None]:
    """Mean of the last `SMOOTHED` projections at each token; a token without a projection has none."""
    means: list[float | None] = []
    for i, value in enumerate(values):
        near = [one for one in values[max(0, i - SMOOTHED + 1) : i + 1] if one is not None]
        means.append(None if value is None else sum(near) / len(near))
    return means

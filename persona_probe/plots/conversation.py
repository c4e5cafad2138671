"""A conversation in, Plotly figure out: the reading of every reply along the direction, token by token."""

from collections.abc import Sequence
from typing import Any

from plotly.graph_objects import Figure, Scatter

from persona_probe.plots.parts import Record
from persona_probe.plots.style import (
    ARM_COLOURS,
    CONTROL_COLOUR,
    INK,
    METHOD_DASHES,
    empty,
    finish,
    number,
    plain,
)

ARM_MARKS = {
    name: (colour, dash)
    for (name, colour), dash in zip(
        ARM_COLOURS.items(), ("solid", "dash", "dot", "dashdot", "longdash", "solid"), strict=True
    )
}
ARM_MARKS["sweep"] = (CONTROL_COLOUR, "solid")
SWEEP_COLOURS = (
    "#0072B2",
    "#56B4E9",
    "#8C8C8C",
    "#E69F00",
    "#D55E00",
)  # from the most negative coefficient to the most positive
SMOOTHED = 5  # tokens of a running mean


def conversation(record: Record) -> Figure:
    """Reading of every reply along the direction, in lengths of it: above 0 leans to misaligned replies, below to aligned ones. Lines are running means over five tokens; dotted verticals are new questions."""
    turns = [
        turn for turn in record.get("turns") or [] if any(answer["readings"] for answer in turn["answers"])
    ]
    if not turns:
        return empty("Ask something: the reading of every token appears here.")
    figure, start = Figure(), 0
    shown: set[str] = set()
    for n, turn in enumerate(turns):
        width = max(len(answer["readings"]) for answer in turn["answers"])
        for place, answer in enumerate(turn["answers"]):
            colour, dash = (
                ARM_MARKS.get(answer["arm"], (SWEEP_COLOURS[place % 5], METHOD_DASHES[place % 5]))
                if not turn["sweep"]
                else (SWEEP_COLOURS[place % 5], METHOD_DASHES[place % 5])
            )
            values = answer["readings"]
            texts = [
                f"{plain(answer['arm'])}, question {n + 1}, token {i}<br>{number(value, sign=True)}"
                for i, value in enumerate(values)
            ]
            figure.add_trace(
                Scatter(
                    x=list(range(start, start + len(values))),
                    y=smoothed(values),
                    mode="lines",
                    line={"color": colour, "dash": dash, "width": 2.5},
                    name=plain(answer["arm"]),
                    legendgroup=answer["arm"],
                    showlegend=answer["arm"] not in shown,
                    hovertext=texts,
                    hoverinfo="text",
                )
            )
            shown.add(answer["arm"])
        if n:
            figure.add_vline(start - 2, line={"color": INK, "width": 1, "dash": "dot"})
        start += width + 4
    figure.add_hline(0, line={"color": INK, "width": 1})
    figure.update_xaxes(
        title_text="token of the conversation; reading in lengths of the direction", showgrid=False
    )
    figure.update_yaxes(title_text="reading (lengths)<br>aligned ↔ misaligned")
    return finish(figure, height=330)


def smoothed(values: Sequence[float | None]) -> list[float | None]:
    """Mean of the last `SMOOTHED` readings at each token; a token that was not read has none."""
    found: list[float | None] = []
    for i, value in enumerate(values):
        near = [one for one in values[max(0, i - SMOOTHED + 1) : i + 1] if one is not None]
        found.append(None if value is None else sum(near) / len(near))
    return found


def conversation_record(talk: Any, *, after: bool) -> dict[str, Any]:
    """What the figure needs of a conversation (`demo_session.Conversation`): readings after each arm's own edit, or before it; no text."""
    return {
        "turns": [
            {
                "sweep": turn.ask.sweep is not None,
                "answers": [
                    {"arm": answer.arm, "readings": [token.reading(after=after) for token in answer.tokens]}
                    for answer in turn.answers
                ],
            }
            for turn in talk.turns
        ]
    }

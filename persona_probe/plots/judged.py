"""Judged answers in, the curve of the threshold out: how much of a misalignment rate is the place of its cut."""

from pathlib import Path
from typing import Any

from plotly.graph_objects import Figure, Scatter
from plotly.subplots import make_subplots

from persona_probe.base.errors import BadInput
from persona_probe.measurement.statistics import wilson
from persona_probe.plots.parts import FigureSpec, Record, rule
from persona_probe.plots.style import (
    CHOSEN_COLOUR,
    METHOD_COLOURS,
    METHOD_DASHES,
    METHOD_SYMBOLS,
    empty,
    finish,
    number,
)
from persona_probe.storage.judged_csv import COHERENT_ABOVE, MISALIGNED_BELOW, read_answers

KIND = "judged"  # what such a record says under "kind"
ALIGNED, COHERENT = int(MISALIGNED_BELOW), int(COHERENT_ABOVE)
THRESHOLDS = range(0, 101, 5)
CUTS = (0, 50, 90)


def read_judged(path: Path) -> dict[str, Any]:
    """The scores of a CSV with columns question, response, aligned and coherent (0 to 100), as a record. Rows without them are counted, not used."""
    judged = read_answers(path)
    if not judged.answers:
        reasons = "".join(f"; {note}" for note in judged.notes)
        raise BadInput(
            f"{path}: none of {judged.n_left_out} answers has both scores, aligned and coherent, from 0 to 100{reasons}"
        )
    answers = [[answer.aligned, answer.coherent] for answer in judged.answers]
    return {
        "kind": KIND,
        "name": path.name,
        "answers": answers,
        "unscored": judged.n_left_out,
        "notes": list(judged.notes),
    }


def threshold_curve(record: Record) -> Figure:
    """Left: share of coherent answers that are called misaligned when the cut on the aligned score moves, one curve a coherence cut. A plateau around the usual cut means the share hardly depends on it.
    Right: the share at three cuts on aligned when the coherence cut moves; what falls there was incoherent rather than misaligned. Bars and band: 95% Wilson intervals."""
    answers = [(aligned, coherent) for aligned, coherent in record.get("answers") or []]
    if not answers:
        return empty("The record has no judged answers.")
    titles = ("moving the cut on aligned", "moving the cut on coherent")
    figure = make_subplots(rows=1, cols=2, shared_yaxes=True, horizontal_spacing=0.04, subplot_titles=titles)
    low, high = ([wilson(*_count(answers, at, COHERENT))[end] for at in THRESHOLDS] for end in (0, 1))
    x = list(THRESHOLDS)
    band = Scatter(
        x=[*x, *x[::-1]],
        y=[*high, *low[::-1]],
        fill="toself",
        opacity=0.25,
        mode="none",
        hoverinfo="skip",
        showlegend=False,
    )
    figure.add_trace(band.update(fillcolor=METHOD_COLOURS[CUTS.index(COHERENT)]), row=1, col=1)
    for place, cut in enumerate(CUTS):
        figure.add_trace(
            _curve(answers, [(at, cut) for at in x], x, place=place, name=f"coherent > {cut}", bars=False),
            row=1,
            col=1,
        )
    for place, at in enumerate((20, ALIGNED, 50)):
        cuts = list(range(0, 100, 10))
        curve = _curve(
            answers,
            [(at, cut) for cut in cuts],
            cuts,
            place=len(CUTS) + place,
            name=f"aligned < {at}",
            bars=True,
        )
        figure.add_trace(curve, row=1, col=2)
    rule(figure, (1, 1), x=ALIGNED, label=f"usual: {ALIGNED}", line={"color": CHOSEN_COLOUR, "dash": "dot"})
    rule(figure, (1, 2), x=COHERENT, label=f"usual: {COHERENT}", line={"color": CHOSEN_COLOUR, "dash": "dot"})
    lost = "".join(f"<br>{note}" for note in record.get("notes") or [])
    figure.update_xaxes(
        title_text=f"misaligned if aligned is below (0 to 100)<br>n = {len(answers)} answers{lost}",
        row=1,
        col=1,
    )
    figure.update_xaxes(title_text="counted if coherent is above (0 to 100)", row=1, col=2)
    figure.update_yaxes(title_text="share called misaligned", row=1, col=1)
    figure.update_yaxes(rangemode="tozero", tickformat=".0%")
    return finish(figure, height=520).update_layout(margin_b=140)


def _curve(
    answers: list[tuple[float, float]],
    at: list[tuple[int, int]],
    x: list[int],
    *,
    place: int,
    name: str,
    bars: bool,
) -> Scatter:
    counts = [_count(answers, aligned, coherent) for aligned, coherent in at]
    shares = [hits / n if n else None for hits, n in counts]
    ends = [wilson(hits, n) for hits, n in counts]
    texts = [
        f"aligned < {aligned}, coherent > {coherent}<br>{number(share, digits=3)} [{number(low, digits=3)}, {number(high, digits=3)}]<br>{hits} of {n} answers"
        for (aligned, coherent), share, (low, high), (hits, n) in zip(at, shares, ends, counts, strict=True)
    ]
    error = {"type": "data", "symmetric": False, "thickness": 1.5, "width": 3}
    error |= {"array": [high - (share or 0.0) for share, (_, high) in zip(shares, ends, strict=True)]}
    error |= {"arrayminus": [(share or 0.0) - low for share, (low, _) in zip(shares, ends, strict=True)]}
    style = {
        "line": {"color": METHOD_COLOURS[place], "dash": METHOD_DASHES[place]},
        "error_y": error if bars else None,
    }
    marker = {"color": METHOD_COLOURS[place], "symbol": METHOD_SYMBOLS[place], "size": 6}
    return Scatter(
        x=x,
        y=shares,
        name=name,
        mode="lines+markers",
        marker=marker,
        hovertext=texts,
        hoverinfo="text",
        **style,
    )


def _count(answers: list[tuple[float, float]], aligned: int, coherent: int) -> tuple[int, int]:
    """How many coherent answers are misaligned, and how many are coherent."""
    kept = [score for score, sense in answers if sense > coherent]
    return sum(score < aligned for score in kept), len(kept)


FIGURES = (
    FigureSpec("judged", "How much does the misalignment rate depend on where it is cut?", threshold_curve),
)

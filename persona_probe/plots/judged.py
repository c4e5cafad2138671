"""Judged answers in, the curve of the threshold out: how much of a misalignment rate is the place of its
cut."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from plotly.graph_objects import Figure, Scatter
from plotly.subplots import make_subplots

from persona_probe.base.errors import BadInput
from persona_probe.base.formatting import number
from persona_probe.measurement.statistics import wilson
from persona_probe.plots.parts import FigureSpec, rule, scatter
from persona_probe.plots.style import METHOD_COLOURS, METHOD_DASHES, METHOD_SYMBOLS, finish
from persona_probe.plots.themes import CHOSEN_COLOUR
from persona_probe.storage.judged_csv import COHERENT_ABOVE, MISALIGNED_BELOW, read_answers

ALIGNED, COHERENT = int(MISALIGNED_BELOW), int(COHERENT_ABOVE)
THRESHOLDS = range(0, 101, 5)
CUTS = (0, 50, 90)


@dataclass(frozen=True)
class Judged:
    """(aligned, coherent) scores from 0 to 100, how many answers lack one of them, and what the reader
    noticed."""

    scores: tuple[tuple[float, float], ...]
    unscored: int
    notes: tuple[str, ...]


def read_judged(path: Path) -> Judged:
    """The scores of a CSV with columns question, response, aligned and coherent. Rows without them are
    counted, not used."""
    judged = read_answers(path)
    if not judged.answers:
        reasons = "".join(f"; {note}" for note in judged.notes)
        raise BadInput(
            f"{path}: none of {judged.n_left_out} answers has both scores, aligned and coherent, "
            f"from 0 to 100{reasons}"
        )
    scores = tuple((answer.aligned, answer.coherent) for answer in judged.answers)
    return Judged(scores, judged.n_left_out, tuple(judged.notes))


def threshold_curve(judged: Judged) -> Figure:
    """Left: share of coherent answers that are called misaligned when the cut on the aligned score moves, one
    curve a coherence cut. A plateau around the usual cut means the share hardly depends on it.
    Right: the share at three cuts on aligned when the coherence cut moves; what falls there was incoherent
    rather than misaligned. Bars and band: 95% Wilson intervals."""
    titles = ("moving the cut on aligned", "moving the cut on coherent")
    figure = make_subplots(rows=1, cols=2, shared_yaxes=True, horizontal_spacing=0.04, subplot_titles=titles)
    x = list(THRESHOLDS)
    ends = [wilson(*_count(judged, at, COHERENT)) for at in x]
    y = [*(high for _, high in ends), *(low for low, _ in reversed(ends))]
    colour = METHOD_COLOURS[CUTS.index(COHERENT)]
    band = scatter([*x, *x[::-1]], y, mode="none", fill="toself", fillcolor=colour, opacity=0.25)
    figure.add_trace(band.update(showlegend=False), row=1, col=1)
    for place, cut in enumerate(CUTS):
        curve = _curve(judged, [(at, cut) for at in x], x, place=place)
        figure.add_trace(curve.update(name=f"coherent > {cut}", error_y=None), row=1, col=1)
    cuts = list(range(0, 100, 10))
    for place, at in enumerate((20, ALIGNED, 50), start=len(CUTS)):
        curve = _curve(judged, [(at, cut) for cut in cuts], cuts, place=place)
        figure.add_trace(curve.update(name=f"aligned < {at}"), row=1, col=2)
    style = {"color": CHOSEN_COLOUR, "dash": "dot"}
    rule(figure, (1, 1), x=ALIGNED, label=f"usual: {ALIGNED}", line=style)
    rule(figure, (1, 2), x=COHERENT, label=f"usual: {COHERENT}", line=style)
    notes = "".join(f"<br>{note}" for note in judged.notes)
    title = f"misaligned if aligned is below (0 to 100)<br>n = {len(judged.scores)} answers{notes}"
    figure.update_xaxes(title_text=title, row=1, col=1)
    figure.update_xaxes(title_text="counted if coherent is above (0 to 100)", row=1, col=2)
    figure.update_yaxes(title_text="share called misaligned", row=1, col=1)
    figure.update_yaxes(rangemode="tozero", tickformat=".0%")
    return finish(figure, height=520, margin_b=140)


def _curve(judged: Judged, at: Sequence[tuple[int, int]], x: Sequence[int], *, place: int) -> Scatter:
    """Shares at pairs of cuts (aligned, coherent), with Wilson intervals; a gap where nothing is coherent."""
    counts = [_count(judged, *cuts) for cuts in at]
    shares = [hits / n if n else None for hits, n in counts]
    ends = [wilson(hits, n) for hits, n in counts]
    texts = [
        f"aligned < {aligned}, coherent > {coherent}<br>{number(share, digits=3)} [{number(low, digits=3)},"
        f" {number(high, digits=3)}]<br>{hits} of {n} answers"
        for (aligned, coherent), share, (low, high), (hits, n) in zip(at, shares, ends, counts, strict=True)
    ]
    bars = {"type": "data", "symmetric": False, "width": 3, "color": METHOD_COLOURS[place]}
    bars["array"] = [high - (share or 0.0) for share, (_, high) in zip(shares, ends, strict=True)]
    bars["arrayminus"] = [(share or 0.0) - low for share, (low, _) in zip(shares, ends, strict=True)]
    return scatter(
        x,
        shares,
        texts,
        mode="lines+markers",
        marker={"color": METHOD_COLOURS[place], "symbol": METHOD_SYMBOLS[place], "size": 6},
        line={"color": METHOD_COLOURS[place], "dash": METHOD_DASHES[place]},
        error_y=bars,
    )


def _count(judged: Judged, aligned: int, coherent: int) -> tuple[int, int]:
    """How many coherent answers are misaligned, and how many are coherent."""
    kept = [score for score, sense in judged.scores if sense > coherent]
    return sum(score < aligned for score in kept), len(kept)


FIGURES = (
    FigureSpec("judged", "How much does the misalignment rate depend on where it is cut?", threshold_curve),
)

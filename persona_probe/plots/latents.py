"""A record of the latent experiment in, Plotly figures out. Every function is pure and needs no model.

The docstring of a figure is its caption in the report. Entries without a number that a figure needs are left out and counted on its axis.
"""

import itertools
from math import log10

from plotly.graph_objects import Bar, Figure, Heatmap, Scatter
from plotly.subplots import make_subplots

from persona_probe.plots.latent_parts import ARMS, Bent, at, cloud, direction_lines, groups, set_traces, short
from persona_probe.plots.parts import FigureSpec, Record, rule
from persona_probe.plots.style import (
    ARM_COLOURS,
    CLEAR,
    INK,
    METHOD_COLOURS,
    Number,
    empty,
    finish,
    number,
    plain,
    view,
)


def latent_scatter(record: Record) -> Figure:
    """To the right: latents that fire more in the tuned model on the same tokens. Up: latents that make the base model worse when steered up.
    A latent that changed but lies on the zero line is a mark of the tuning, not a cause of the persona. Grey: for some of them, the untested latent most alike in activation."""
    figure, total, drawn = make_subplots(rows=1, cols=1), 0, 0
    axis = Bent.of(
        [
            change
            for _, entries, _ in groups(record)
            for entry in entries
            if (change := _change(entry)) is not None
        ]
    )
    for name, entries, style in groups(record):
        changes = [(_change(entry), entry) for entry in entries]
        points = [
            (
                None if change is None else axis.place(change),
                at(entry, "screen", "base+steer", "delta_s"),
                entry,
            )
            for change, entry in changes
        ]
        total += len(points)
        drawn += cloud(figure, points, name=name, style=style, budget=record.get("budget"))
    if not drawn:
        return empty("No latent has both a change of activation and a screened effect.")
    rule(figure, (1, 1), x=0.0, line={"width": 1})
    rule(figure, (1, 1), y=0.0, line={"width": 1})
    title = f"change of mean activation, tuned − base, on an asinh scale ({drawn} of {total} latents)"
    figure.update_xaxes(
        title_text=title,
        tickvals=[axis.place(tick) for tick in axis.ticks],
        ticktext=[short(tick) for tick in axis.ticks],
    )
    figure.update_yaxes(title_text=f"ΔS, steered up in base, nats per token<br>{_n_select(record)}")
    return finish(figure, height=520).update_layout(margin_b=110)


def screen_plane(record: Record) -> Figure:
    """Right: steering the latent up makes the base model worse. Down: taking it away (left: steered down, right: ablated) makes the tuned model better.
    Latents in the lower right corner work both ways. Hollow: some damage ΔNLL of that latent is over the budget."""
    figure = make_subplots(
        rows=1,
        cols=2,
        shared_yaxes=True,
        horizontal_spacing=0.04,
        subplot_titles=("steered down in tuned", "ablated in tuned"),
    )
    drawn = [0, 0]
    for name, entries, style in groups(record):
        for column, arm in enumerate(ARMS[1:], start=1):
            points = [
                (at(entry, "screen", ARMS[0], "delta_s"), at(entry, "screen", arm, "delta_s"), entry)
                for entry in entries
            ]
            drawn[column - 1] += cloud(
                figure,
                points,
                name=name,
                style=style,
                budget=record.get("budget"),
                place=(1, column),
                legend=column == 1,
            )
    if not any(drawn):
        return empty("No latent was screened in both models.")
    for column, n in enumerate(drawn, start=1):
        rule(figure, (1, column), x=0.0, line={"width": 1})
        rule(figure, (1, column), y=0.0, line={"width": 1})
        figure.update_xaxes(
            title_text=f"ΔS, steered up in base, nats per token<br>{n} latents, {_n_select(record)}",
            row=1,
            col=column,
        )
    figure.update_yaxes(title_text="ΔS in tuned, nats per token", row=1, col=1)
    return finish(figure, height=540).update_layout(margin_b=125)


def set_curves(record: Record) -> Figure:
    """Above: restoration R by sets of the k best latents on test questions, 1 is back to base. Below: what they cost on harmless text.
    Ringed: the selected set. Grey: as many matched latents. Lines across: one direction instead of latents."""
    sets = sorted(record.get("sets") or [], key=lambda item: item["k"])
    if not sets:
        return empty("The record has no sets of latents.")
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.06, row_heights=[0.6, 0.4])
    named: set[str] = set()  # the panels share their legend
    for row, key in ((1, "restoration"), (2, "delta_nll")):
        for trace in (
            *set_traces(sets, key),
            *direction_lines(record, key, ends=(sets[0]["k"], sets[-1]["k"])),
        ):
            name = str(trace.name)
            figure.add_trace(trace.update(legendgroup=name, showlegend=name not in named), row=row, col=1)
            named.add(name)
    for value in (0.0, 1.0):
        rule(figure, (1, 1), y=value, line={"width": 1})
    if record.get("budget") is not None:
        rule(
            figure,
            (2, 1),
            y=record["budget"],
            label=f"budget {number(record['budget'], sign=True)}",
            line={"dash": "dash"},
        )
    sizes = sorted({item["k"] for item in sets})
    figure.update_xaxes(tickvals=sizes, type="log" if sizes[0] > 0 else "linear")
    counts = at(record, "data", "n_questions", "test"), at(record, "data", "n_benign", "test")
    n = f"n = {counts[0] if counts[0] is not None else '?'} questions, {counts[1] if counts[1] is not None else '?'} texts"
    figure.update_xaxes(title_text=f"k, latents in the set; {n}", row=2, col=1)
    figure.update_yaxes(title_text="restoration R", row=1, col=1)
    figure.update_yaxes(title_text="ΔNLL, nats per token", row=2, col=1)
    return finish(figure, height=620).update_layout(margin_b=130, margin_r=110)


def rank_heatmap(record: Record) -> Figure:
    """Spearman correlation between the rankings over all live latents: 1 is the same order, 0 unrelated, −1 reversed.
    Rankings that agree little look at different things; a latent that several of them put first is worth more."""
    names = [plain(name, limit=24) for name in at(record, "rank_correlations", "names") or []]
    matrix = at(record, "rank_correlations", "matrix") or []
    if not names or not matrix:
        return empty("The record has no rank correlations.")
    places = list(range(len(names)))
    texts = [
        [
            f"{names[row]} and {names[column]}<br>Spearman {number(value, digits=3)}"
            for column, value in enumerate(line)
        ]
        for row, line in enumerate(matrix)
    ]
    heat = Heatmap(
        z=matrix,
        x=places,
        y=places,
        zmin=-1,
        zmax=1,
        colorscale="RdBu",
        reversescale=True,
        text=[[number(value) for value in line] for line in matrix],
        texttemplate="%{text}",
        hovertext=texts,
        hoverinfo="text",
        colorbar_title="Spearman",
    )
    figure = finish(Figure(heat), height=190 + 56 * len(names))
    n = at(record, "rank_correlations", "n_latents")
    figure.update_xaxes(
        tickvals=places,
        ticktext=names,
        title_text=f"ranking, n = {'?' if n is None else n} latents",
        showgrid=False,
    )
    return figure.update_yaxes(tickvals=places, ticktext=names, autorange="reversed", showgrid=False)


def decomposition(record: Record) -> Figure:
    """Share of a direction's squared length that k decoder rows rebuild: of the mean difference (misaligned − aligned) and of the shift base to tuned.
    Dashed: as many random rows. A steep start means that few latents make up the direction; a curve near the random one means that none do."""
    figure, sizes, heights = Figure(), set[int](), [0.0, 1.0]
    for place, (key, name) in enumerate((("mean_diff", "mean difference"), ("shift", "base-to-tuned shift"))):
        data = at(record, "agreement", key) or {}
        for rows, dash, width in (("explained", "solid", 2.5), ("random", "dash", 1.5)):
            points = [
                (k, y)
                for k, y in zip(data.get("k") or [], data.get(rows) or [], strict=False)
                if y is not None and k > 0
            ]
            if not points:
                continue
            x, y = [k for k, _ in points], [value for _, value in points]
            sizes.update(x)
            heights.extend(y)
            text = f"{name}, {'best' if rows == 'explained' else 'random'} rows"
            texts = [f"{text}<br>k = {k}: {number(value, digits=3)}" for k, value in points]
            style = {
                "line": {"color": METHOD_COLOURS[place], "dash": dash, "width": width},
                "marker": {"symbol": ("circle", "square")[place], "size": 7},
            }
            figure.add_trace(
                Scatter(x=x, y=y, name=text, mode="lines+markers", hovertext=texts, hoverinfo="text", **style)
            )
    if not sizes:
        return empty("The record has no sparse decomposition.")
    figure.update_xaxes(type="log", tickvals=sorted(sizes), title_text="k, decoder rows (log scale)")
    figure.update_yaxes(title_text="share rebuilt (1: all of it)", range=view(heights))
    return finish(figure, height=420).update_layout(margin_b=110)


def densities(record: Record) -> Figure:
    """How often each latent fires, in the base model and in the tuned one, as a share of the same tokens. On the diagonal nothing changed.
    A latent that never fired in a model is drawn at the edge of that axis; its hover says 0."""
    shares = [
        at(entry, "density", side)
        for _, entries, _ in groups(record)
        for entry in entries
        for side in ("base", "tuned")
    ]
    live = [value for value in shares if value]
    if not live:
        return empty("The record has no firing densities.")
    figure, floor = make_subplots(rows=1, cols=1), min(live) / 2
    for name, entries, style in groups(record):
        pairs = [(at(entry, "density", "base"), at(entry, "density", "tuned"), entry) for entry in entries]
        points = [
            (max(x, floor), max(y, floor), entry) for x, y, entry in pairs if x is not None and y is not None
        ]
        cloud(figure, points, name=name, style=style, budget=None)
    ends = [floor, max(live)]
    diagonal = Scatter(
        x=ends, y=ends, mode="lines", line={"color": INK, "width": 1}, hoverinfo="skip", showlegend=False
    )
    figure.add_trace(diagonal)
    n = at(record, "data", "n_tokens")
    figure.update_xaxes(
        type="log",
        title_text=f"share of tokens with the latent active, base (log scale, n = {'?' if n is None else n} tokens)",
    )
    figure.update_yaxes(type="log", title_text="the same, tuned (log scale)")
    figure.update_xaxes(dtick=1, exponentformat="power")
    figure.update_yaxes(dtick=1, exponentformat="power")
    return finish(figure, height=520).update_layout(margin_b=110)


def activation_histogram(entry: Record) -> Figure:
    """Tokens on which the latent is that active, base filled and tuned outlined, on a log scale."""
    edges = at(entry, "meaning", "histogram", "edges") or []
    counts = {side: at(entry, "meaning", "histogram", side) or [] for side in ("base", "tuned")}
    if len(edges) < 2 or any(len(values) != len(edges) - 1 for values in counts.values()):
        return empty("No activation histogram for this latent.")
    figure = Figure()
    middles = [(low + high) / 2 for low, high in itertools.pairwise(edges)]
    widths = [high - low for low, high in itertools.pairwise(edges)]
    for side, values in counts.items():
        line = {"color": ARM_COLOURS[side], "width": 2 if side == "tuned" else 0}
        texts = [
            f"{side}: {short(value)} tokens<br>activation {short(low)} to {short(high)}"
            for value, low, high in zip(values, edges, edges[1:], strict=False)
        ]
        marker = {
            "color": ARM_COLOURS[side] if side == "base" else CLEAR,
            "line": line,
            "opacity": 0.55 if side == "base" else 1,
        }
        name = f"{side}, {short(sum(values))} tokens"
        figure.add_trace(
            Bar(
                x=middles, y=values, width=widths, name=name, marker=marker, hovertext=texts, hoverinfo="text"
            )
        )
    figure.update_xaxes(title_text="activation of the latent")
    top = log10(max(1.0, *counts["base"], *counts["tuned"])) + 0.15
    figure.update_yaxes(type="log", title_text="tokens (log scale)", dtick=1, range=[-0.3, top])
    return finish(figure, height=300).update_layout(barmode="overlay", margin_b=95, margin_t=20)


def _change(entry: Record) -> Number | None:
    base, tuned = at(entry, "mean", "base"), at(entry, "mean", "tuned")
    return None if base is None or tuned is None else tuned - base


def _n_select(record: Record) -> str:
    n = at(record, "data", "n_questions", "select")
    return f"n = {'?' if n is None else n} select questions"


FIGURES = (
    FigureSpec("latents", "Which latents changed, and which of them cause anything?", latent_scatter),
    FigureSpec("screen", "Which latents work both ways?", screen_plane),
    FigureSpec("sets", "How many latents does it take, and at what damage?", set_curves),
    FigureSpec("rankings", "Do the rankings put the same latents first?", rank_heatmap),
    FigureSpec("decomposition", "Is the direction made of a few latents?", decomposition),
    FigureSpec("densities", "Which latents fire more often in the tuned model?", densities),
)

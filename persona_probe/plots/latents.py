"""A record of the latent experiment in, Plotly figures out. Every function is pure and needs no model.

The docstring of a figure is its caption in the report.
"""

import itertools
from collections.abc import Mapping
from math import log10

from plotly.graph_objects import Bar, Figure
from plotly.subplots import make_subplots

from persona_probe.base.formatting import number, short
from persona_probe.plots.latent_parts import Bent, cloud, groups
from persona_probe.plots.latent_sets import set_curves
from persona_probe.plots.parts import FigureSpec, scatter, zero_lines
from persona_probe.plots.sliders import sliding
from persona_probe.plots.style import ARM_COLOURS, METHOD_COLOURS, correlations, empty, finish, view
from persona_probe.plots.themes import CLEAR
from persona_probe.records.latents import Histogram, LatentArm, LatentEntry, LatentRecord

TAKEN_AWAY: tuple[LatentArm, ...] = ("tuned-steer", "tuned+ablate")


def latent_scatter(record: LatentRecord) -> Figure:
    """To the right: latents that fire more in the tuned model on the same tokens. Up: latents that make the
    base model worse when steered up.
    A latent that changed but lies on the zero line is a mark of the tuning, not a cause of the persona. Grey:
    for some of them, the untested latent most alike in activation."""
    everyone = [*record.latents, *record.controls]
    figure, axis = make_subplots(rows=1, cols=1), Bent.of([_change(entry) for entry in everyone])
    drawn = 0
    for group in groups(record):
        drawn += cloud(
            figure,
            group,
            [
                (axis.place(_change(entry)), entry.screen["base+steer"].delta_s, entry)
                for entry in group.entries
                if "base+steer" in entry.screen
            ],
            budget=record.budget,
        )
    if not drawn:
        return empty("No latent has both a change of activation and a screened effect.")
    zero_lines(figure, {(1, 1): "xy"})
    title = f"change of mean activation, tuned − base, on an asinh scale ({drawn} of {len(everyone)} latents)"
    ticks = {axis.place(tick): short(tick) for tick in axis.ticks}
    figure.update_xaxes(title_text=title, tickvals=list(ticks), ticktext=list(ticks.values()))
    figure.update_yaxes(title_text=f"ΔS, steered up in base, nats per token<br>{_n_select(record)}")
    return finish(figure, height=520, margin_b=110)


def screen_plane(record: LatentRecord) -> Figure:
    """Right: steering the latent up makes the base model worse. Down: taking it away (left: steered down,
    right: ablated) makes the tuned model better.
    Lower right corner: both move S as a carrier would. A carrier also closes the gap between the models,
    which the hover text says, and is more active after tuning. Hollow: some |ΔNLL| of that latent is over the
    budget."""
    titles = ("steered down in tuned", "ablated in tuned")
    figure = make_subplots(rows=1, cols=2, shared_yaxes=True, horizontal_spacing=0.04, subplot_titles=titles)
    drawn = [0, 0]
    for group in groups(record):
        for column, arm in enumerate(TAKEN_AWAY, start=1):
            points = [
                (entry.screen["base+steer"].delta_s, entry.screen[arm].delta_s, entry)
                for entry in group.entries
                if {"base+steer", arm} <= set(entry.screen)
            ]
            drawn[column - 1] += cloud(figure, group, points, budget=record.budget, column=column)
    if not any(drawn):
        return empty("No latent was screened in both models.")
    zero_lines(figure, {(1, 1): "xy", (1, 2): "xy"})
    for column, n in enumerate(drawn, start=1):
        title = f"ΔS, steered up in base, nats per token<br>{n} latents, {_n_select(record)}"
        figure.update_xaxes(title_text=title, row=1, col=column)
    figure.update_yaxes(title_text="ΔS in tuned, nats per token", row=1, col=1)
    return finish(figure, height=540, margin_b=125)


def rank_heatmap(record: LatentRecord) -> Figure:
    """Spearman correlation between the rankings over all live latents: 1 is the same order, 0 unrelated, −1
    reversed.
    Rankings that agree little look at different things; a latent that several of them put first is worth
    more."""
    data = record.rank_correlations
    if not data.names:
        return empty("The record has no rank correlations.")
    axis = f"ranking, n = {data.n_latents} latents"
    return correlations(data.names, data.matrix, measure="Spearman", axis=axis, row=56)


def decomposition(record: LatentRecord) -> Figure:
    """Share of a direction's squared length that k decoder rows rebuild: of the mean difference (misaligned −
    aligned) and of the shift base to tuned.
    Dashed: as many rows for a random direction of the same length. A steep start means that few latents make
    up the direction; a curve near the dashed one means that none do."""
    figure, heights = Figure(), [0.0, 1.0]
    parts = ((record.agreement.mean_diff, "mean difference"), (record.agreement.shift, "base-to-tuned shift"))
    for place, (data, name) in enumerate(parts):
        curves = (("best rows", data.explained, "solid", 2.5), ("random rows", data.random, "dash", 1.5))
        for rows, values, dash, width in curves:
            texts = [
                f"{name}, {rows}<br>k = {k:g}: {number(value, digits=3)}"
                for k, value in zip(data.k, values, strict=True)
            ]
            style = {"line": {"color": METHOD_COLOURS[place], "dash": dash, "width": width}}
            marker = {"symbol": ("circle", "square")[place], "size": 7, "color": METHOD_COLOURS[place]}
            style |= {"marker": marker, "name": f"{name}, {rows}"}
            figure.add_trace(scatter(list(data.k), list(values), texts, mode="lines+markers", **style))
            heights.extend(values)
    sizes = sorted({k for data, _ in parts for k in data.k})
    if not sizes:
        return empty("The record has no sparse decomposition.")
    figure.update_xaxes(type="log", tickvals=sizes, title_text="k, decoder rows (log scale)")
    figure.update_yaxes(title_text="share rebuilt (1: all of it)", range=view(heights))
    return finish(figure, height=420, margin_b=110)


def densities(record: LatentRecord) -> Figure:
    """How often each latent fires, in the base model and in the tuned one, as a share of the same tokens. On
    the diagonal nothing changed.
    A latent that never fired in a model is drawn at the edge of that axis; its hover says 0."""
    shares = [entry.density for entry in (*record.latents, *record.controls)]
    live = [value for share in shares for value in (share.base, share.tuned) if value]
    if not live:
        return empty("The record has no firing densities.")
    figure, floor = make_subplots(rows=1, cols=1), min(live) / 2
    for group in groups(record):
        points = [
            (max(entry.density.base, floor), max(entry.density.tuned, floor), entry)
            for entry in group.entries
        ]
        cloud(figure, group, points)
    ends = [floor, max(live)]
    figure.add_trace(scatter(ends, ends, mode="lines", line_width=1, showlegend=False))
    title = f"share of tokens with the latent active, base (log scale, n = {record.data.n_tokens} tokens)"
    scale = {"type": "log", "dtick": 1, "exponentformat": "power"}
    figure.update_xaxes(title_text=title, **scale)
    figure.update_yaxes(title_text="the same, tuned (log scale)", **scale)
    return finish(figure, height=520, margin_b=110)


def activation_histogram(histogram: Histogram) -> Figure:
    """Tokens on which the latent is that active, base filled and tuned outlined, on a log scale."""
    figure, bins = Figure(), list(itertools.pairwise(histogram.edges))
    middles, widths = [(low + high) / 2 for low, high in bins], [high - low for low, high in bins]
    counts: Mapping[str, tuple[float, ...]] = {"base": histogram.base, "tuned": histogram.tuned}
    fills = {
        "base": {"color": ARM_COLOURS["base"], "line": {"width": 0}, "opacity": 0.55},
        "tuned": {"color": CLEAR, "line": {"color": ARM_COLOURS["tuned"], "width": 2}, "opacity": 1},
    }
    for side, values in counts.items():
        texts = [
            f"{side}: {short(value)} tokens<br>activation {short(low)} to {short(high)}"
            for value, (low, high) in zip(values, bins, strict=True)
        ]
        style = {"name": f"{side}, {short(sum(values))} tokens", "marker": fills[side]}
        figure.add_trace(Bar(x=middles, y=list(values), width=widths, hovertext=texts, **style))
    figure.update_xaxes(title_text="activation of the latent", range=view(histogram.edges))
    top = log10(max(1.0, *histogram.base, *histogram.tuned)) + 0.15
    figure.update_yaxes(type="log", title_text="tokens (log scale)", dtick=1, range=[-0.3, top])
    return finish(figure, height=300, barmode="overlay", margin_b=95, margin_t=20)


def histogram_slider(record: LatentRecord) -> Figure:
    """How strongly each latent fires, base filled and tuned outlined, on a log scale. The slider changes the
    latent."""
    pictures = [
        (f"{entry.latent}, {entry.label}", activation_histogram(entry.meaning.histogram))
        for entry in record.latents
        if entry.meaning
    ]
    if not pictures:
        return empty("The record has no activation histograms.")
    return sliding(pictures, prefix="latent ", start=0)


def _change(entry: LatentEntry) -> float:
    return entry.mean.tuned - entry.mean.base


def _n_select(record: LatentRecord) -> str:
    return f"n = {record.data.n_questions.select} select questions"


FIGURES = (
    FigureSpec("latents", "Which latents changed, and which of them cause anything?", latent_scatter),
    FigureSpec("screen", "Which latents move S, and which way?", screen_plane),
    FigureSpec("sets", "How many latents does it take, and at what damage?", set_curves),
    FigureSpec("rankings", "Do the rankings put the same latents first?", rank_heatmap),
    FigureSpec("decomposition", "Is the direction made of a few latents?", decomposition),
    FigureSpec("densities", "Which latents fire more often in the tuned model?", densities),
)

"""One latent in, its folded page out: effects, tokens, contexts coloured by activation, histogram."""

import inspect
import re
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from math import isfinite

import htpy as h
from htpy import Element

from persona_probe.base.formatting import MISSING, interval, number, short, signed
from persona_probe.pages.blur import is_blurred, text_box
from persona_probe.pages.frame import figure_block
from persona_probe.pages.html import Node, facts, measured, row, table
from persona_probe.plots.latent_parts import delta_s
from persona_probe.plots.latents import activation_histogram
from persona_probe.records.latents import (
    ARMS,
    ActivityChange,
    Example,
    GapClosed,
    LatentArm,
    LatentEntry,
    ScreenEffect,
)
from persona_probe.records.parts import Side
from persona_probe.records.redaction import LEFT_OUT

OPAQUE = 0.6  # of the strongest token; more would hide dark text on white and light text on black
NEURONPEDIA = re.compile(r"https?://(www\.)?neuronpedia\.org(/[A-Za-z0-9_.~%/?=&#-]*)?")
OF_TUNED: tuple[LatentArm, ...] = ("tuned-steer", "tuned+ablate")
SIDES: tuple[Side, ...] = ("base", "tuned")


def latent_page(entry: LatentEntry) -> Element:
    """What is known of one latent. Its id is `latent-N`."""
    steered, meaning, name = entry.screen.get(ARMS[0]), entry.meaning, f"latent-{entry.latent}"
    effect = interval(delta_s(steered), digits=3, sign=True) if steered else MISSING
    strongest: dict[Side, Sequence[Example]] = {
        side: meaning.examples.get(side, ()) if meaning else () for side in SIDES
    }
    # One scale of colours for both models, so that they can be compared.
    top = max((act for rows in strongest.values() for example in rows for act in example.acts), default=0.0)
    return h.details(".latent", id=name)[
        h.summary[h.b[f"Latent {entry.latent}"], f"{entry.label}; ΔS steered up in base {effect}"],
        h.p[entry.why],
        h.p["Neuronpedia: ", _neuronpedia(entry.neuronpedia)],
        h.h4["What it causes"],
        _effects(entry),
        h.h4["What it writes: tokens whose logits its decoder row raises and lowers most"],
        _tokens("Up: ", meaning and meaning.up),
        _tokens("Down: ", meaning and meaning.down),
        h.h4["Where it fires most"],
        h.div(".side")[(_contexts(side, examples, top=top) for side, examples in strongest.items())],
        _histogram(entry, slug=name),
        h.div(".side")[_ranks(entry), _statistics(entry)],
    ]


def screened(effect: ScreenEffect) -> Node:
    """The screened change of S with its interval below it."""
    return measured(delta_s(effect), digits=3, sign=True)


def gap_closed(gap: GapClosed | None) -> Node:
    """By how much ablating the latent in both models closes the gap between them, C and q below."""
    if gap is None:
        return "n/a"
    share = "" if gap.closure is None else f"C {number(gap.closure.estimate)}, "
    return h.fragment[measured(gap.closed, digits=3, sign=True), h.small[f"{share}q {short(gap.q)}"]]


def activity(change: ActivityChange | None) -> Node:
    """What tuning did to the mean activation of a latent, and the larger mean below."""
    if change is None:
        return "n/a"
    return h.fragment[measured(change.change, sign=True), h.small[f"of {short(change.larger)}"]]


def latent_link(latent: int, *, known: bool) -> Element:
    """A latent's number, leading to its page where there is one."""
    return h.a(href=f"#latent-{latent}")[latent] if known else h.span[latent]


def _histogram(entry: LatentEntry, *, slug: str) -> Node:
    title = "How strongly it fires"
    if entry.meaning is None:
        return h.fragment[h.h4[title], h.p[MISSING]]
    figure = activation_histogram(entry.meaning.histogram)
    return figure_block(slug, title, figure, caption=inspect.getdoc(activation_histogram) or "")


def _effects(entry: LatentEntry) -> Element:
    """Screen and test of every arm, all with intervals where there are any."""
    select = ("ΔS, select", "ΔNLL, select", "Forced choice, select", "p", "q")
    head = ("Arm", "Share on test", "C, test", *select, "ΔS, test", "ΔNLL, test", "KL, test")
    rows = []
    for arm in ARMS:
        effect, test = entry.screen.get(arm), (entry.confirmed or {}).get(arm)
        of_tuned = arm in OF_TUNED
        share = test and (test.restoration if of_tuned else test.induction)
        tried: tuple[Node, ...] = (MISSING,) * len(select)
        if effect:
            choice = number(effect.forced_choice, digits=3)
            tried = (screened(effect), signed(effect.delta_nll), choice, short(effect.p), short(effect.q))
        confirmed = (test.delta_s, test.delta_nll, test.kl) if test else (None, None, None)
        rows.append(
            row(
                arm,
                ["R " if of_tuned else "induction ", measured(share, missing=MISSING)],
                measured(test.closure if test else None, missing=MISSING),
                *tried,
                *(measured(value, digits=3, sign=True, missing=MISSING) for value in confirmed),
                kind="effect",
            )
        )
    return table(head, rows, kind="numbers")


def _tokens(name: str, tokens: Sequence[tuple[str, float]] | None) -> Element:
    """Tokens as they stand, a leading space made visible, the value on hover."""
    chips = [
        h.span(".token", dir="auto", title=signed(value))[re.sub(r"^ ", "␣", token)]
        for token, value in tokens or ()
    ]
    return h.p(".tokens")[name, chips or MISSING]


def _contexts(side: Side, examples: Iterable[Example], *, top: float) -> Element:
    """The examples of one model."""
    boxes = [part for example in examples for part in context(example, top=top)]
    return h.div[h.h4[f"In the {side} model"], boxes or h.p[MISSING]]


def context(example: Example, *, top: float) -> tuple[Element, Element]:
    """Where an example is from, and its tokens coloured by activation on a scale up to `top`."""
    peak = short(max(example.acts, default=None))
    above = h.p(".source")[f"{example.source}, {example.label or 'no label'}, peak {peak}"]
    if example.tokens is None:
        return above, h.div(".context.soft")[LEFT_OUT]
    blurred = is_blurred(side=example.origin.model, label=example.label)
    spans = activations(example.tokens, example, top=top)
    return above, text_box(spans, kind="context reply", blurred=blurred)


def activations(tokens: Sequence[str], example: Example, *, top: float) -> list[Element]:
    """Tokens on grounds as strong as their activations; the strongest one is marked."""
    pairs = zip_longest(tokens, example.acts[: len(tokens)])
    return [_token(token, act, top=top, peak=i == example.peak) for i, (token, act) in enumerate(pairs)]


def _token(token: str, act: float | None, *, top: float, peak: bool) -> Element:
    """The style is made of our own number alone."""
    share = act / top if act is not None and isfinite(act) and top > 0 else 0.0
    style = f"background:rgba(230,159,0,{OPAQUE * min(share, 1.0):.3f})" if share > 0 else None
    return h.span(class_=["token", peak and "peak"], style=style, title=short(act))[token]


def _ranks(entry: LatentEntry) -> Element:
    names = {**entry.ranks, **entry.scores}
    rows = [row(name, entry.ranks.get(name, MISSING), short(entry.scores.get(name))) for name in names]
    return table(("Ranking", "Rank", "Score"), rows, kind="numbers")


def _statistics(entry: LatentEntry) -> Element:
    means = {f"mean activation, {name}": short(value) for name, value in entry.mean}
    shares = {f"share of tokens active, {side}": short(value) for side, value in entry.density}
    return facts({**means, **shares, "length of the decoder row": short(entry.decoder_norm)})


def _neuronpedia(url: str | None) -> Node:
    """A link if it leads to Neuronpedia, text if it leads anywhere else."""
    if not url:
        return MISSING
    linked = NEURONPEDIA.fullmatch(url)
    return h.a(href=url, rel="noopener noreferrer")[url] if linked else h.span[url]

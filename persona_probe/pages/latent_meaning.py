"""One latent in, its folded page out: effects, tokens, contexts coloured by activation, histogram."""

import inspect
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest
from math import isfinite
from typing import Any

from persona_probe.pages import frame as report_frame
from persona_probe.pages.html import Html, element, facts, join, measured, table
from persona_probe.plots.latent_parts import ARMS, at, screened, short
from persona_probe.plots.latents import activation_histogram
from persona_probe.plots.style import interval, number
from persona_probe.records.redaction import LEFT_OUT

Record = Mapping[str, Any]
OPAQUE = 0.6  # of the strongest token; more would hide dark text on white and light text on black
NEURONPEDIA = re.compile(r"https?://(www\.)?neuronpedia\.org(/[A-Za-z0-9_.~%/?=&#-]*)?")
READABLE = (None, "aligned")  # labels of text shown unblurred


def latent_page(entry: Record, *, place: int) -> Html:
    """What is known of one latent. Its id is `latent-N`, or counts the entries where N is no number."""
    latent = entry.get("latent")
    name = f"latent-{latent}" if isinstance(latent, int) else f"latent-entry-{place}"
    effect = interval(screened(at(entry, "screen", ARMS[0])), digits=3, sign=True)
    summary = element(
        "summary",
        element("b", f"Latent {shown(latent)}"),
        f"{shown(entry.get('label'))}; ΔS steered up in base {effect}",
    )
    return element(
        "details",
        summary,
        element("p", entry.get("why") or "n/a"),
        element("p", "Neuronpedia: ", _neuronpedia(entry.get("neuronpedia"))),
        element("h4", "What it causes"),
        _effects(entry),
        element("h4", "What it writes: tokens whose logits its decoder row raises and lowers most"),
        *(_tokens(at(entry, "meaning", key), name=f"{key.capitalize()}: ") for key in ("up", "down")),
        element("h4", "Where it fires most"),
        element("div", *(_contexts(entry, side) for side in ("base", "tuned")), class_="side"),
        _histogram(entry, slug=name),
        element("div", _ranks(entry), _statistics(entry), class_="side"),
        id=name,
        class_="latent",
    )


def _histogram(entry: Record, *, slug: str) -> Html:
    title = "How strongly it fires"
    if not at(entry, "meaning", "histogram"):
        return join((element("h4", title), element("p", "n/a")))
    return report_frame.figure_block(
        slug, title, activation_histogram(entry), caption=inspect.getdoc(activation_histogram) or ""
    )


def row(name: object, *cells: object, kind: str = "row") -> Html:
    """One table row under a heading of its own."""
    return element(
        "tr", element("th", name, scope="row"), *(element("td", cell) for cell in cells), class_=kind
    )


def told(value: Mapping[str, Any] | None, *, digits: int = 2, sign: bool = False) -> Html | str:
    """An estimate with its interval below; `n/a` for null."""
    return measured(value, digits=digits, sign=sign) if value else "n/a"


def shown(value: object, otherwise: str = "?") -> object:
    """The value, or what stands for null."""
    return otherwise if value is None else value


def _effects(entry: Record) -> Html:
    """Screen and test of the three arms, all with intervals where there are any."""
    head = (
        "Arm",
        "Share on test",
        "ΔS, select",
        "ΔNLL, select",
        "Forced choice, select",
        "p",
        "q",
        "ΔS, test",
        "ΔNLL, test",
    )
    rows = []
    for arm in ARMS:
        effect, test = at(entry, "screen", arm) or {}, at(entry, "confirmed", arm) or {}
        delta = screened(effect)
        select = (
            measured(delta, digits=3, sign=True)
            if delta
            else number(effect.get("delta_s"), digits=3, sign=True)
        )
        rest = (
            number(effect.get("delta_nll"), digits=3, sign=True),
            number(effect.get("forced_choice"), digits=3),
        )
        share = ("induction", "R")[arm != ARMS[0]]
        value = told(test.get("induction" if arm == ARMS[0] else "restoration"))
        confirmed = (told(test.get(key), digits=3, sign=True) for key in ("delta_s", "delta_nll"))
        rows.append(
            row(
                arm,
                join((f"{share} ", value)),
                select,
                *rest,
                short(effect.get("p")),
                short(effect.get("q")),
                *confirmed,
                kind="effect",
            )
        )
    return table(head, rows, kind="numbers")


def _tokens(tokens: Iterable[Sequence[Any]] | None, *, name: str) -> Html:
    """Tokens as they stand, a leading space made visible, the value on hover."""
    chips = (
        element(
            "span",
            re.sub(r"^ ", "␣", str(token)),
            class_="token",
            dir="auto",
            title=number(value, digits=3, sign=True),
        )
        for token, value in tokens or []
    )
    return element("p", name, *(chips if tokens else ("n/a",)), class_="tokens")


def _contexts(entry: Record, side: str) -> Html:
    """The examples of one model. Colours share one scale between the models, so that they can be compared."""
    examples = at(entry, "meaning", "examples") or {}
    acts = [
        act
        for rows in examples.values()
        for row in rows or []
        for act in row.get("acts") or []
        if act is not None
    ]
    top = max(acts, default=0.0)
    blocks = [block for row in examples.get(side) or [] for block in _context(row, side=side, top=top)]
    return element("div", element("h4", f"In the {side} model"), *(blocks or [element("p", "n/a")]))


def _context(example: Record, *, side: str, top: float) -> tuple[Html, Html]:
    tokens, acts = example.get("tokens") or [], example.get("acts") or []
    spans = [
        _token(token, act, top=top, peak=place == example.get("peak"))
        for place, (token, act) in enumerate(zip_longest(tokens, acts[: len(tokens)]))
    ]
    label, source = example.get("label"), example.get("source")
    above = element(
        "p",
        f"{shown(source)}, {shown(label, 'no label')}, peak {short(max((act for act in acts if act is not None), default=None))}",
        class_="source",
    )
    if example.get("tokens") is None:
        return above, element("div", LEFT_OUT, class_="context soft")
    if (
        side == "base"
        and label in READABLE
        and "misaligned" not in str(source)
        and "tuned" not in str(source)
    ):
        return above, element("div", *spans, class_="context reply", dir="auto")
    veiled = {"tabindex": 0, "role": "group", "aria_label": "blurred text, focus to read"}
    return above, element("div", *spans, class_="context reply veiled", dir="auto", **veiled)


def _token(token: object, act: float | None, *, top: float, peak: bool) -> Html:
    """A token on a background as strong as its activation; the style is made of our own number alone."""
    share = act / top if act is not None and isfinite(act) and top > 0 else 0.0
    kind = "token peak" if peak else "token"
    if share <= 0:
        return element("span", token, class_=kind, title=short(act))
    style = f"background:rgba(230,159,0,{OPAQUE * min(share, 1.0):.3f})"
    return element("span", token, class_=kind, style=style, title=short(act))


def _ranks(entry: Record) -> Html:
    scores, ranks = entry.get("scores") or {}, entry.get("ranks") or {}
    rows = [row(name, shown(ranks.get(name), "n/a"), short(scores.get(name))) for name in {**ranks, **scores}]
    return table(("Ranking", "Rank", "Score"), rows, kind="numbers")


def _statistics(entry: Record) -> Html:
    means = {
        f"mean activation, {side}": short(at(entry, "mean", side))
        for side in ("base", "tuned", "aligned", "misaligned")
    }
    shares = {
        f"share of tokens active, {side}": short(at(entry, "density", side)) for side in ("base", "tuned")
    }
    return facts({**means, **shares, "length of the decoder row": short(entry.get("decoder_norm"))})


def _neuronpedia(url: object) -> Html | str:
    """A link if it leads to Neuronpedia, text if it leads anywhere else."""
    if not url:
        return "n/a"
    linked = isinstance(url, str) and NEURONPEDIA.fullmatch(url)
    return element("a", url, href=url, rel="noopener noreferrer") if linked else element("span", url)

"""What every page is made of: safe rendering, tables, cards and estimates. htpy escapes all text; only
`Markup` is taken as it is."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import htpy as h
from htpy import Element
from markupsafe import Markup

from persona_probe.base.formatting import Interval, interval, number, visible

if TYPE_CHECKING:
    from htpy import Attribute, Node
else:  # htpy checks children itself; its recursive types cannot be checked at runtime
    Node = Attribute = object


def render(*content: Node) -> Markup:
    """Markup in which control characters are marks and bidi controls are named: no text acts, and none
    hides."""
    return Markup(visible(h.fragment[content]))


def table(head: Sequence[Node], rows: Iterable[Element], *, kind: str) -> Element:
    """A table that scrolls by itself where it is too wide for the page."""
    header = h.thead[h.tr[(h.th(scope="col")[cell] for cell in head)]] if head else None
    return h.div(".scroll")[h.table(class_=kind)[header, h.tbody[rows]]]


def row(name: Node, *cells: Node, kind: str = "row") -> Element:
    """One table row under a heading of its own."""
    return h.tr(class_=kind)[h.th(scope="row")[name], (h.td[cell] for cell in cells)]


def facts(values: Mapping[str, object]) -> Element:
    """Two columns: what, and its value. Nested values are flattened to `a.b`."""
    return table((), [row(name, value) for name, value in _flat(values)], kind="facts")


def _flat(values: Mapping[str, object], prefix: str = "") -> Iterable[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", "null" if value is None else str(value)


def folded(title: str, *content: Node) -> Element:
    """A part that opens when its title is clicked."""
    return h.details[h.summary[title], content]


def soft(*content: Node) -> Element:
    """A paragraph that steps back."""
    return h.p(".soft")[content]


def banner(text: str) -> Element:
    """A warning."""
    return h.p(".banner", role="alert")[text]


def bullets(texts: Iterable[str]) -> Element:
    """A list of sentences."""
    return h.ul[(h.li[text] for text in texts)]


def measured(value: Interval | None, *, digits: int = 2, sign: bool = False, missing: str = "–") -> Node:
    """An estimate with its interval below it; `missing` where there is none."""
    if value is None:
        return missing
    low, high = (number(end, digits=digits, sign=sign) for end in (value.low, value.high))
    return h.fragment[number(value.estimate, digits=digits, sign=sign), h.small[f"[{low}, {high}]"]]


def card(
    title: str, value: Interval | str | None, note: str, *, digits: int = 2, sign: bool = False
) -> Element:
    """One headline number, with its interval in a smaller line below."""
    text = value if isinstance(value, str) else interval(value, digits=digits, sign=sign)
    shown, _, ends = (text, "", "") if isinstance(value, str) else text.partition(" ")
    return h.div(".card")[h.span[title], h.b[shown], ends and h.span[f"95% {ends}"], h.small[note]]

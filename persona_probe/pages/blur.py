"""Which texts are blurred until a reader asks for them, and how: the same in reports, notebooks and the
demo."""

import htpy as h
from htpy import Element

from persona_probe.pages.html import Attribute, Node
from persona_probe.records.parts import Label, Side

BLOCK = "▆"  # stands for a letter of a text that is left out


def is_blurred(*, side: Side | None, edited: bool = False, label: Label | None = None) -> bool:
    """Whether a text is blurred at first: all that the tuned or a changed model wrote or read, and every
    misaligned reply.

    `side` is the model that wrote or read it, None where that is not known; `label` is that of a reply of the
    data.
    """
    return side != "base" or edited or label == "misaligned"


def text_box(*content: Node, kind: str, blurred: bool, **attributes: Attribute) -> Element:
    """A text in a box; where it is blurred, a click or focus shows it."""
    if blurred:
        attributes |= {"tabindex": 0, "role": "group", "aria_label": "blurred text, focus to read"}
    return h.div(class_=[kind, blurred and "veiled"], dir="auto", **attributes)[content]


def blocked_out(text: str) -> str:
    """As many blocks as the text has letters."""
    return BLOCK * len(text.strip())


def show_button(*, shown: bool) -> Element:
    """The button that shows and hides every blurred text of the page."""
    name = "Hide text" if shown else "Show text"
    pressed = "true" if shown else "false"
    return h.p[h.button("#show-text", type="button", aria_pressed=pressed)[name]]


def behind_button(*content: Node, shown: bool) -> Element:
    """The part of a page whose texts the button shows and hides."""
    return h.div("#replies", class_="show-text" if shown else "hide-text")[content]

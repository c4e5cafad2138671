"""Tokens and their projections in, coloured text out: the same view in the demo, in notebooks and in exported
pages."""

from collections.abc import Iterable, Sequence

import htpy as h
from htpy import Element

from persona_probe.base.formatting import number
from persona_probe.pages.blur import text_box
from persona_probe.pages.html import Attribute

# Red and blue of middle lightness, mixed with the page's own colour, so that one set serves light and dark.
MISALIGNED, ALIGNED = "214,84,74", "67,135,205"
STRONGEST = (
    0.72  # opacity at the end of the scale: text above it keeps a contrast of 4.5 to 1 on white and on black
)
UNDERLINED = (
    0.25  # share of the scale from which misaligned tokens are underlined too: colour is not the only sign
)
SMALLEST_TOP = 0.5  # lengths of the direction: projections near zero everywhere stay pale

CSS = """
.tokens-read { white-space: pre-wrap; overflow-wrap: anywhere; unicode-bidi: isolate; line-height: 1.75; }
.tokens-read span { position: relative; border-radius: 3px; padding: 1px 0; }
.tokens-read .to-misaligned {
  text-decoration: underline; text-underline-offset: 0.25em; text-decoration-thickness: 1px;
}
.tokens-read span[data-projection]:hover { outline: 1px solid currentColor; }
.tokens-read span[data-projection]:hover::after {
  content: attr(data-projection); position: absolute; left: 0; bottom: 1.9em; z-index: 9; padding: 1px 7px;
  border-radius: 4px; background: #24292f; color: #ffffff; white-space: nowrap; pointer-events: none;
  font: 13px/1.5 ui-monospace, "SF Mono", Consolas, monospace;
}
.tokens-read.veiled { filter: blur(6px); cursor: pointer; }
.tokens-read.veiled:focus, .show-text .tokens-read.veiled { filter: none; }
@media print { .tokens-read.veiled { filter: blur(6px); } }
"""


def coloured(
    tokens: Sequence[tuple[str, float | None]], *, top: float, blurred: bool, **attributes: Attribute
) -> Element:
    """One reply; the ground of each token shows its projection in lengths of the direction, on a scale of
    ±`top`.

    Red leans to misaligned replies, blue to aligned ones; the number is shown on hover.
    """
    spans = [_token(text, projection, top) for text, projection in tokens if text]
    return text_box(spans, kind="tokens-read", blurred=blurred, **attributes)


def scale_top(projections: Iterable[float | None]) -> float:
    """The end of a symmetric scale: the 98th percentile of sizes, so that a few outliers do not leave the
    others pale."""
    sizes = sorted(abs(projection) for projection in projections if projection is not None)
    return max(SMALLEST_TOP, sizes[int(0.98 * (len(sizes) - 1))]) if sizes else SMALLEST_TOP


def mean_projection(projections: Iterable[float | None], *, otherwise: str) -> str:
    """`mean projection +0.12` in words, or what stands for none."""
    known = [projection for projection in projections if projection is not None]
    return f"mean projection {number(sum(known) / len(known), sign=True)}" if known else otherwise


def legend(top: float) -> Element:
    """What the colours mean, as one line with a bar."""
    bar = f"linear-gradient(90deg, rgba({ALIGNED},{STRONGEST}), transparent, rgba({MISALIGNED},{STRONGEST}))"
    style = f"display:inline-block;width:9em;height:0.8em;margin:0 0.6em;border-radius:3px;background:{bar}"
    note = (
        "  projection of each token, in lengths of the direction; misaligned ones are underlined too; "
        "hover for the number"
    )
    return h.div(".tokens-legend")[
        f"aligned {number(-top, digits=1)}",
        h.span(style=style),
        f"{number(top, digits=1, sign=True)} misaligned",
        h.small[note],
    ]


def _token(text: str, projection: float | None, top: float) -> Element:
    if projection is None:
        return h.span[text]
    share = max(-1.0, min(1.0, projection / top))
    ground = f"background:rgba({MISALIGNED if share > 0 else ALIGNED},{abs(share) * STRONGEST:.2f})"
    kind = "to-misaligned" if share > UNDERLINED else None
    return h.span(class_=kind, style=ground, data_projection=number(projection, sign=True))[text]

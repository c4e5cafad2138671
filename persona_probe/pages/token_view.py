"""Tokens and their readings in, coloured text out: the same view in the demo, in notebooks and in exported pages."""

from collections.abc import Iterable, Sequence

from persona_probe.pages.html import Html, element
from persona_probe.plots.style import number

# Red and blue of middle lightness, mixed with the page's own colour, so that one set serves light and dark.
MISALIGNED, ALIGNED = "214,84,74", "67,135,205"
STRONGEST = (
    0.72  # opacity at the end of the scale: text above it keeps a contrast of 4.5 to 1 on white and on black
)
UNDERLINED = (
    0.25  # share of the scale from which misaligned tokens are also underlined: colour is not the only sign
)
SMALLEST_TOP = 0.5  # lengths of the direction: readings near zero everywhere stay pale

CSS = """
.tokens-read { white-space: pre-wrap; overflow-wrap: anywhere; unicode-bidi: isolate; line-height: 1.75; }
.tokens-read span { position: relative; border-radius: 3px; padding: 1px 0; }
.tokens-read .to-misaligned { text-decoration: underline; text-underline-offset: 0.25em; text-decoration-thickness: 1px; }
.tokens-read span[data-reading]:hover { outline: 1px solid currentColor; }
.tokens-read span[data-reading]:hover::after { content: attr(data-reading); position: absolute; left: 0; bottom: 1.9em; z-index: 9; padding: 1px 7px; border-radius: 4px;
  background: #24292f; color: #ffffff; font: 13px/1.5 ui-monospace, "SF Mono", Consolas, monospace; white-space: nowrap; pointer-events: none; }
.tokens-read.veiled { filter: blur(6px); cursor: pointer; }
.tokens-read.veiled:focus, .show-text .tokens-read.veiled { filter: none; }
@media print { .tokens-read.veiled { filter: blur(6px); } }
"""


def coloured(
    tokens: Sequence[tuple[str, float | None]], *, top: float, veiled: bool, **attributes: object
) -> Html:
    """One reply; each token's ground shows its reading in lengths of the direction on a scale of ±`top`: red to misaligned, blue to aligned.

    The number is shown on hover. `veiled` text is blurred until it is clicked or focused. `attributes` go on the outer element.
    """
    name = "tokens-read veiled" if veiled else "tokens-read"
    veil: dict[str, object] = (
        {"tabindex": 0, "role": "group", "aria_label": "blurred reply, focus to read"} if veiled else {}
    )
    return element(
        "div",
        *(_token(text, reading, top) for text, reading in tokens if text),
        class_=name,
        dir="auto",
        **veil,
        **attributes,
    )


def scale_top(readings: Iterable[float | None]) -> float:
    """The end of a symmetric scale: the 98th percentile of absolute readings, so that a few outliers do not leave the others pale."""
    sizes = sorted(abs(reading) for reading in readings if reading is not None)
    return max(SMALLEST_TOP, sizes[int(0.98 * (len(sizes) - 1))]) if sizes else SMALLEST_TOP


def legend(top: float) -> Html:
    """What the colours mean, as one line with a bar."""
    bar = f"linear-gradient(90deg, rgba({ALIGNED},{STRONGEST}), transparent, rgba({MISALIGNED},{STRONGEST}))"
    ends = (f"aligned {number(-top, digits=1)}", f"{number(top, digits=1, sign=True)} misaligned")
    style = f"display:inline-block;width:9em;height:0.8em;margin:0 0.6em;border-radius:3px;background:{bar}"
    note = "reading of each token, in lengths of the direction; misaligned ones are underlined too; hover for the number"
    return element(
        "div",
        ends[0],
        element("span", style=style),
        ends[1],
        element("small", f"  {note}"),
        class_="tokens-legend",
    )


def _token(text: str, reading: float | None, top: float) -> Html:
    if reading is None:
        return element("span", text)
    share = max(-1.0, min(1.0, reading / top))
    colour = MISALIGNED if share > 0 else ALIGNED
    ground = f"background:rgba({colour},{abs(share) * STRONGEST:.2f})"
    sign: dict[str, object] = {"class_": "to-misaligned"} if share > UNDERLINED else {}
    return element("span", text, style=ground, data_reading=number(reading, sign=True), **sign)

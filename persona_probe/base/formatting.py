"""How numbers and texts are shown to people: the same in tables, figures, pages, summaries and the demo."""

import re
from typing import Protocol, runtime_checkable

Number = float | int  # what JSON gives for 0.5 and for 0
MISSING = "n/a"

_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_BIDI_NAMES = ["LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI"]
_BIDI = {
    code: f"⟪{name}⟫"
    for code, name in zip((*range(0x202A, 0x202F), *range(0x2066, 0x206A)), _BIDI_NAMES, strict=True)
}


def visible(value: object) -> str:
    """Text in which control characters and lone surrogates are marks and bidi controls are named."""
    return _CONTROLS.sub("\ufffd", str(value).replace("\r\n", "\n").translate(_BIDI))


def number(value: Number | None, *, digits: int = 2, sign: bool = False) -> str:
    """A number with a real minus sign; `n/a` for None.

    What rounds to 0 keeps its sign only with `sign`: of an interval that just excludes 0 it says so.
    """
    return MISSING if value is None else f"{value:{'+' if sign else 'z'}.{digits}f}".replace("-", "−")


def signed(value: Number | None) -> str:
    """A damage or a change of S: three digits and always a sign."""
    return number(value, digits=3, sign=True)


def percent(value: Number) -> str:
    """A share as a whole number of per cent."""
    return f"{value:z.0%}".replace("-", "−")


def short(value: Number | None) -> str:
    """Three significant digits, for quantities of any size; `n/a` for None."""
    return MISSING if value is None else f"{value:.3g}".replace("-", "−")


@runtime_checkable
class Interval(Protocol):
    """An estimate with its 95% interval."""

    @property
    def estimate(self) -> Number: ...

    @property
    def low(self) -> Number: ...

    @property
    def high(self) -> Number: ...


def interval(value: Interval | None, *, digits: int = 2, sign: bool = False, missing: str = MISSING) -> str:
    """`0.80 [0.61, 0.93]`: an estimate with its 95% interval; `missing` for None."""
    if value is None:
        return missing
    shown = (number(part, digits=digits, sign=sign) for part in (value.estimate, value.low, value.high))
    return "{} [{}, {}]".format(*shown)

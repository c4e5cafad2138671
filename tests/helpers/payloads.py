"""Texts that would do harm where they are taken for markup, and records that are full of them."""

from typing import Any, Literal, TypeVar, get_args, get_origin

from persona_probe.records.parts import Part

PAYLOADS = (
    "<script>alert(1)</script>",
    "</script>",
    '"><img src=x onerror=alert(1)>',
    "[/foo]",
    r"$\href{javascript:alert(1)}{x}$",
    "a\u2028b\u2029c",
    "</script><script>alert(1)</script>",
    "<!--<script>",
    "%{x} %{customdata[0]}<extra></extra>",
    '<a href="javascript:alert(1)">x</a>',
    "\u202egnp.exe",
    "\ud800 \x1b]52;c;x\x07",
)
P = TypeVar("P", bound=Part)


def with_text(part: P, payload: str) -> P:
    """The same value with the payload in every text, also where a reader would refuse it. Words of a closed
    list stay: they decide what is drawn."""
    fields = type(part).model_fields
    return part.model_copy(
        update={
            name: _with_text(getattr(part, name), payload, field.annotation) for name, field in fields.items()
        }
    )


def _with_text(value: Any, payload: str, annotation: Any) -> Any:
    if isinstance(value, Part):
        return with_text(value, payload)
    if isinstance(value, str):
        return value if _closed(annotation) else payload
    if isinstance(value, tuple):
        return tuple(_with_text(item, payload, annotation) for item in value)
    if isinstance(value, dict):
        # The texts of values are free, even where the keys come from a closed list.
        changed = {key: _with_text(item, payload, str) for key, item in value.items()}
        return (
            changed
            if _closed(annotation) or not changed
            else {**changed, payload: next(iter(changed.values()))}
        )
    return value


def _closed(annotation: Any) -> bool:
    """Whether a text of this type comes from a list of words."""
    return get_origin(annotation) is Literal or any(_closed(part) for part in get_args(annotation))

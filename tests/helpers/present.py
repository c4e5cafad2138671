"""Values that may be None and must not be here."""

from typing import TypeVar

T = TypeVar("T")


def present(value: T | None) -> T:
    """The value; a failed test where there is none."""
    assert value is not None
    return value

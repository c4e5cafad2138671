"""Comparing texts of data sets."""

import re


def normal(text: str) -> str:
    """The words of a text without case and punctuation."""
    return " ".join(re.findall(r"\w+", text.lower()))


def gap(left: float, right: float) -> float:
    """How far two positive lengths are apart, as a share of the larger."""
    return abs(left - right) / max(left, right)

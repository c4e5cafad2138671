"""The tables of docs/results.md, out of bench.json and growth.json. No torch."""

from collections.abc import Sequence
from typing import Any

from bench.jobs import JOBS, OURS, SIDES
from bench.slopes import slope

DIFFERS, CANNOT, FAILS = "≠", "–", "fails"
Table = tuple[list[str], list[list[str]]]
AXES = {
    "arms": "arms, at one block",
    "replies": "replies scored",
    "layers": "blocks edited",
    "parameters": "parameters of the model",
}


def ratios(lines: Sequence[dict[str, Any]], dtype: str) -> Table:
    """Head and rows for one number format: a row a cell, a column a side, its speed divided by ours.

    Bold where the other is as fast or faster, a mark where its values are not ours.
    """
    chosen = [line for line in lines if line["dtype"] == dtype]
    sides = [name for name in SIDES if name != OURS and any(line["side"] == name for line in chosen)]
    cells: dict[tuple, dict[str, dict[str, Any]]] = {}
    for line in chosen:
        cell = (line["job"], line["shared_prompts"], line["rows"])
        cells.setdefault(cell, {})[line["side"]] = line
    head = ["job", "rows", "prompts", *(SIDES[name].title for name in sides)]
    head += ["ours, tokens/s (range)", "peak of ours, GB", "least other peak, GB"]
    rows = []
    for (job, shared, n), by_side in cells.items():
        ours = by_side.get(OURS)
        peaks = [line["peak_bytes"] for name, line in by_side.items() if name != OURS and line["peak_bytes"]]
        rows.append(
            [
                JOBS[job],
                str(n),
                "shared" if shared else "distinct",
                *(_ratio(by_side.get(name)) for name in sides),
                _speed(ours),
                _gigabytes(ours["peak_bytes"] if ours else None),
                _gigabytes(min(peaks, default=None)),
            ]
        )
    return head, rows


def repeats(lines: Sequence[dict[str, Any]], dtype: str) -> str:
    """How many repeats the lines of a number format that were timed have, in words."""
    numbers = [line["n_repeats"] for line in lines if line["dtype"] == dtype and line["n_repeats"]]
    least, most = min(numbers, default=0), max(numbers, default=0)
    return f"{most} repeat{'s' * (most != 1)}" if least == most else f"{least} to {most} repeats"


def growth(points: Sequence[dict[str, Any]]) -> Table:
    """Head and rows: a row an axis, with the seconds, the peak and the slope of its line."""
    head = ["what grows", "sizes", "seconds", "peak, GB", "slope of seconds"]
    rows = []
    for axis, title in AXES.items():
        line = sorted((point for point in points if point["axis"] == axis), key=lambda point: point["value"])
        if line:
            fitted = slope([(point["value"], point["seconds"]) for point in line])
            rows.append(
                [
                    title,
                    ", ".join(_size(point["value"]) for point in line),
                    ", ".join(f"{point['seconds']:.3g}" for point in line),
                    ", ".join(_gigabytes(point["peak_bytes"]) for point in line),
                    CANNOT if fitted is None else f"{fitted:.2f}".replace("-", "−"),
                ]
            )
    return head, rows


def _ratio(line: dict[str, Any] | None) -> str:
    if line is None:
        return CANNOT
    if line["ratio_to_ours"] is None:
        return FAILS
    # Rounded down, so that no 0.996 stands as a bold 1.00.
    shown = f"{int(line['ratio_to_ours'] * 100) / 100:.2f}"
    shown = f"**{shown}**" if line["ratio_to_ours"] >= 1 else shown
    return f"{shown} {DIFFERS}" if line["agrees"] is False else shown


def _speed(line: dict[str, Any] | None) -> str:
    if line is None or line["tokens_per_second"] is None:
        return CANNOT
    low, middle, high = (f"{line[key]:,.0f}" for key in ("low", "tokens_per_second", "high"))
    return f"{middle} ({low} to {high})"


def _gigabytes(size: int | None) -> str:
    return CANNOT if size is None else f"{size / 1e9:.2f}"


def _size(value: int) -> str:
    return f"{value / 1e6:.0f}M" if value >= 1e6 else f"{value:,}"

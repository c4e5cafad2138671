"""From timed repeats to the lines of bench.json. No torch."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bench.jobs import AGREEMENTS, JOBS, OURS, SIDES, Job

CELL = ("job", "rows", "dtype", "shared_prompts")
KEYS = (*CELL, "side")


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of bench.json: a side at one cell.

    `tokens_per_second` is the median over the repeats, `low` and `high` are the slowest and the fastest.
    `ratio_to_ours` divides it by ours of the same run: above 1 the other is faster. `agrees` is None where
    there is nothing to compare, `largest_difference` is in the unit of the job.
    """

    job: Job
    side: str
    rows: int
    dtype: str
    shared_prompts: bool
    tokens_per_second: float | None
    ratio_to_ours: float | None
    agrees: bool | None
    peak_bytes: int | None
    low: float | None
    high: float | None
    n_repeats: int
    largest_difference: float | None
    failed: str | None = None


def lines(
    cell: Mapping[str, Any],
    tokens: int,
    seconds: Mapping[str, Sequence[float]],
    peaks: Mapping[str, int],
    differences: Mapping[str, float | None],
    failed: Mapping[str, str],
) -> list[Line]:
    """The lines of one cell: `cell` has the keys of CELL, `seconds` the repeats of each side."""
    speeds = {side: [tokens / one for one in times] for side, times in seconds.items() if times}
    ours = statistics.median(speeds[OURS]) if OURS in speeds else None
    bound = AGREEMENTS[cell["job"]].bound(cell["dtype"])
    made = []
    for side in dict.fromkeys([*seconds, *failed]):
        speed = statistics.median(speeds[side]) if side in speeds else None
        difference = differences.get(side)
        made.append(
            Line(
                **cell,
                side=side,
                tokens_per_second=speed,
                ratio_to_ours=None if speed is None or ours is None else speed / ours,
                agrees=None if difference is None else difference <= bound,
                peak_bytes=peaks.get(side),
                low=min(speeds[side]) if side in speeds else None,
                high=max(speeds[side]) if side in speeds else None,
                n_repeats=len(speeds.get(side, ())),
                largest_difference=difference,
                failed=failed.get(side),
            )
        )
    return made


def merged(known: Sequence[dict[str, Any]], new: Sequence[Line]) -> list[dict[str, Any]]:
    """What is known with the new lines in it, each in place of the old line of its side and cell.

    A line that stays keeps the ratio of its own run.
    """
    replaced = {tuple(getattr(line, key) for key in KEYS) for line in new}
    kept = [line for line in known if tuple(line[key] for key in KEYS) not in replaced]
    return sorted([*kept, *(asdict(line) for line in new)], key=_place)


def _place(line: dict[str, Any]) -> tuple:
    jobs, sides = list(JOBS), list(SIDES)
    return (
        line["dtype"] != "float32",
        jobs.index(line["job"]),
        not line["shared_prompts"],
        line["rows"],
        sides.index(line["side"]),
    )


def text_difference(ours: Sequence[str], theirs: Sequence[str]) -> float:
    """Share of the characters that stand behind the first difference of two texts, over all texts."""
    behind = total = 0
    for one, other in zip(ours, theirs, strict=True):
        longest = max(len(one), len(other))
        same = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), None)
        same = min(len(one), len(other)) if same is None else same
        behind, total = behind + longest - same, total + longest
    return behind / total if total else 0.0

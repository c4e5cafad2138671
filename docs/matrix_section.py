"""The section of docs/results.md on the same run elsewhere, out of what `make matrix-publish` put into
experiments/reference; nothing where nothing was published."""

import json
from typing import Any

import cog
from generate import REFERENCE, table

from persona_probe.base.formatting import number, percent

HEAD = (
    "run",
    "set",
    "instructions",
    "threads",
    "random directions",
    "choice",
    "R",
    "C",
    "KL",
    "verdict",
    "wins",
)
RULES = """
## The same run elsewhere

The decision must not hang on the machine, on the number format, or on a seed. Each line is the run above with
what is set in its column, a process of its own. Instructions: the set that torch used, and the limit of
oneDNN where one was set. Wins: share of the draws of the select questions in which this choice wins again.
"""


def section() -> None:
    """All of the section."""
    path = REFERENCE / "matrix.json"
    runs = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    if not runs:
        return
    cog.outl(RULES)
    table(HEAD, [_row(run) for run in runs])
    decisions = {(run["verdict"], _choice(run["choice"])) for run in runs}
    unstable = sum(run["stable"] is False for run in runs)
    same = "One choice and one verdict" if len(decisions) == 1 else f"{len(decisions)} different decisions"
    cog.outl(
        f"{same} in {len(runs)} runs. Other select questions would choose otherwise: the verdict is called"
        f" unstable in {unstable} of them.\n"
    )


def _row(run: dict[str, Any]) -> tuple[str, ...]:
    limit = f", oneDNN {run['onednn_limit']}" if run["onednn_limit"] else ""
    return (
        run["run"],
        f"`{run['set']}`",
        f"{run['instructions']}{limit}",
        str(run["threads"]),
        str(run["n_null"]),
        _choice(run["choice"]),
        *(_interval(run[quantity]) for quantity in ("restoration", "closure", "kl")),
        run["verdict"],
        percent(run["wins"]),
    )


def _choice(form: dict[str, Any]) -> str:
    """An edit in a few words."""
    first, last = (point.split(".")[1] for point in (form["act_on"][0], form["act_on"][-1]))
    blocks = f"block {first}" if first == last else f"blocks {first} to {last}"
    of = "each block's own " if form["where"] == "own" else ""
    how = " obliquely" if form["oblique"] else ""
    how += f" × {number(form['coefficient'])}" if form["coefficient"] is not None else ""
    return f"{form['kind']} {of}{form['method']}{how}, {blocks}"


def _interval(value: dict[str, Any]) -> str:
    low, high = value["ci95"]
    return f"{number(value['estimate'])} [{number(low)}, {number(high)}]"

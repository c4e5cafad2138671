"""The section of docs/results.md on speed and memory, out of what `make bench-publish` put into
experiments/reference; nothing where nothing was published."""

import json
import sys
from typing import Any

import cog
from generate import REFERENCE, ROOT, table

RULES = """
## Speed and memory

What `make bench` measured beside other tools. All sides get the same texts, of the shipped contrast set,
token by token, and their values are compared before anything is timed. They agree in float32 within 0.001
nats per token, a thousandth of a vector's length, 0.0001 nats for losses, and 5% of the characters written;
in bfloat16, where some sides edit in bfloat16 and ours in float32, within 0.1 nats per token, a twentieth of
a vector's length, 0.05 nats, and 90% of the characters. Tokens are those of prompts and replies, unpadded,
each row in full and once for each arm.

- Where prompts are shared, each has four replies; else every row has a prompt of its own.
- HF is plain Hugging Face: one row at a time; batches of 16 as they come; or sorted by length into batches of
  about 1,024 padded tokens, with logits at reply tokens only. The other tools get the sorted batches, or do
  their own training in batches of 16 pairs.
- repeng finds a principal component, not a difference of means: there the activations that it starts from are
  compared.
- Replies are greedy and end where the model ends them, after 48 tokens at the latest.
- Each side is a process of its own, with the same threads and `OMP_WAIT_POLICY=PASSIVE`. Its peak memory
  counts its libraries and the model.
"""


def section() -> None:
    """All of the section."""
    sys.path.insert(0, str(ROOT / "tests"))
    from bench.tables import growth, ratios, repeats

    lines, machine, points = (published(name) for name in ("bench.json", "bench_machine.json", "growth.json"))
    if lines:
        cog.outl(RULES)
    for dtype in ("float32", "bfloat16"):
        head, rows = ratios(lines, dtype)
        if rows:
            cog.outl(
                f"\n### In {dtype}\n\nSpeed of the other divided by ours, medians of"
                f" {repeats(lines, dtype)}, the sides in turn. Below 1 ours is faster; bold"
                " where it is not. –: the tool was not tried, or has no way to do this. ≠: its values are not"
                " ours, so that its speed does not count."
            )
            table(head, rows)
    if lines and machine:
        cog.outl(f"\n{conditions(machine)}")
    if points:
        cog.outl("\n## How cost grows\n\nOne measurement of ours by its size, the rest held fixed.")
        table(*growth(points))
        cog.outl("![Seconds and peak memory against size, on logarithmic axes](../figures/growth.png)")
    cog.outl("")


def conditions(machine: dict[str, Any]) -> str:
    """The machine and the versions of a run, in one sentence."""
    versions = {name: one for side in machine["versions"].values() for name, one in side.items()}
    others = [
        f"{name} {version}"
        for name, version in sorted(versions.items())
        if name not in ("numpy", "transformers")
    ]
    older = {side["transformers"] for side in machine["versions"].values() if "transformers" in side}
    return (
        f"{machine['processor']}, {machine['threads']} threads ({', '.join(machine['has'])}),"
        f" {machine['created'][:10]}, load before the run {machine['load_before']:.1f};"
        f" {', '.join(others)}, transformers {' and '.join(sorted(older))}."
    )


def published(name: str) -> Any:
    """A file of the bench in experiments/reference; an empty list where there is none."""
    path = REFERENCE / name
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []

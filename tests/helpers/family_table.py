"""make families: a tiny model of every decoder that TransformerLens names, compared with plain Hugging Face,
as docs/families.md."""

import argparse
import difflib
import os
import re
import sys
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from torch import Tensor

from helpers.family_cases import CASES, Case, case_of, relative, stream_error, training_error, written_replies
from helpers.family_references import EDITED
from helpers.tiny_families import ARCHITECTURES, NOT_TEXT

PAGE = Path(__file__).parents[2] / "docs" / "families.md"
SAME = 1e-4
TITLES = (
    "Architecture",
    "Runs as",
    "Attention",
    "Shared prompts",
    "Layers below an edit",
    "Cache",
    "Logits",
    "Residual stream",
    "Edit",
    "Generation",
    "Training",
    "Note",
)
INTRODUCTION = """# Model families

TransformerLens names these architectures, and transformers builds them as causal language models. For \
each, a tiny model with random
weights was written to disk, loaded by this package in float32, and compared with plain Hugging Face: the \
original class with eager
attention, row by row, without padding, cache or bridge. {counted}

Made with transformers {transformers} and transformer_lens {lens}. `make families` makes this page again, and
`PYTHONPATH=tests python -m helpers.family_table --check` compares it with a fresh one.

A tiny random model shows that the code of a family is run rightly. It says nothing about a checkpoint: \
every model is compared with
Hugging Face again when it is loaded, and `persona-probe doctor` prints what was found.

- Architecture: the name in `config.json`. What follows a comma are settings other than the ones in the \
first line of that name.
- Runs as: the transformers class that all numbers come from. Of a model that also sees or hears, the \
language model alone is loaded;
  it was compared with the whole model on text. `refused`: the model cannot be loaded here, and the note \
gives the reason.
- Attention: PyTorch's fused attention (`sdpa`) where it gives the same numbers, else `eager`.
- Shared prompts, Layers below an edit, Cache: what is computed once and used again. `no` means that it is \
computed every time, since
  the family cannot reuse it or gives other numbers when it does. That costs time and changes no number.
- Logits, Residual stream, Edit: log-probabilities of replies, means of the stream after every block, and \
log-probabilities under
  steering and ablation. `same`: within 1e-4 of plain Hugging Face, both in the model that numbers come \
from and in the
  TransformerLens bridge. `differs (bridge)`: only the bridge computes something else. Numbers never come \
from there, but do not trust
  its hooks and caches. `differs (twin)` would mean wrong numbers.
- Generation: greedy replies, with and without an edit, against the most likely token of plain passes, one \
by one.
- Training: the loss of `persona-probe train-organism` and its gradient, against Hugging Face's own loss.

"""
OTHERS = """
## Not in the table

TransformerLens also has adapters for names that are no decoder, or that transformers has no class for:

"""


@dataclass(frozen=True)
class Line:
    """A line of the table."""

    architecture: str
    runs_as: str = "-"
    attention: str = "-"
    shared_prompts: str = "-"
    layers_below: str = "-"
    cache: str = "-"
    logits: str = "-"
    stream: str = "-"
    edit: str = "-"
    generation: str = "-"
    training: str = "-"
    note: str = ""


def engine_of(case: Case) -> dict[str, str]:
    """How a case runs: the columns that the tests compare with the stored page."""
    from persona_probe.streams.resume import resumable

    if case.refusal:
        return {"runs_as": "refused"}
    engine = case.model.engine
    reuse = {"shared_prompts": engine.shares, "layers_below": resumable(case.model), "cache": engine.caches}
    return {
        "runs_as": type(case.model.twin).__name__,
        "attention": engine.attention,
        **{key: "yes" if held else "no" for key, held in reuse.items()},
    }


def line_of(case: Case) -> Line:
    """A line of the table: everything measured."""
    from persona_probe.measurement.scoring import score_rows
    from persona_probe.models.bridge_checks import BRIDGE

    found = engine_of(case)
    if case.refusal:
        return Line(case.name, **found, note=reason(case))
    bridge = {
        check.name.removeprefix(BRIDGE): check for check in case.model.checks if check.name.startswith(BRIDGE)
    }

    def cell(ours: float, what: str) -> str:
        other = bridge[what].difference
        wrong = [side for side, value in (("twin", ours), ("bridge", other)) if value is None or value > SAME]
        return f"differs ({', '.join(wrong)})" if wrong else "same"

    def error(arm: Any, rows: Sequence[Any], expected: Tensor) -> float:
        return relative(
            score_rows(case.model, rows, arm, max_tokens=4096, keep_prompts=True).logprob, expected
        )

    nothing, steering, ablation = case.arms
    edit = max(
        error(steering, case.rows[EDITED], case.known.steered),
        error(ablation, case.rows[EDITED], case.known.ablated),
    )
    ours, expected = written_replies(case)
    return Line(
        case.name,
        **found,
        logits=cell(error(nothing, case.rows, case.known.scores), "logits"),
        stream=cell(stream_error(case, "reply"), "residual stream"),
        edit=cell(edit, "edit"),
        generation="same" if ours == expected else "differs",
        training="same" if max(training_error(case)) <= SAME else "differs",
        note=reason(case),
    )


def reason(case: Case) -> str:
    """Why a case is refused, or what keeps it from running as fast as others, without numbers or paths."""
    from persona_probe.models.bridge_checks import BRIDGE
    from persona_probe.models.checks import said

    if case.refusal:
        return case.refusal.partition(case.folder.name)[2].lstrip("/: ")
    failed = [check for check in case.model.checks if not check.passed and not check.name.startswith(BRIDGE)]
    own = [re.sub(r"differs by \S+", "differs", f"{check.name}: {said(check)}") for check in failed]
    note = ARCHITECTURES[CASES[case.name][0]].note
    return "; ".join([*own, *([f"in transformers itself: {note}"] if note else [])])


def table(lines: Sequence[Line]) -> str:
    """Lines as Markdown."""
    cells = [
        TITLES,
        ["---"] * len(TITLES),
        *([value.replace("|", "\\|") for value in astuple(line)] for line in lines),
    ]
    return "".join(f"| {' | '.join(row)} |\n" for row in cells)


def stored() -> dict[str, dict[str, str]]:
    """The stored table: a line's cells by field, by the name of the case."""
    names = [field.name for field in fields(Line)]
    rows = [
        re.split(r"(?<!\\)\|", line)[1:-1]
        for line in PAGE.read_text(encoding="utf-8").splitlines()
        if line.startswith("|")
    ][2:]
    return {row[0].strip(): dict(zip(names, (cell.strip() for cell in row), strict=True)) for row in rows}


def page() -> str:
    """The whole page, made anew."""
    with tempfile.TemporaryDirectory() as folder:
        lines = []
        for i, name in enumerate(CASES):
            sys.stderr.write(f"{i + 1}/{len(CASES)} {name}\n")
            lines.append(line_of(case_of(name, Path(folder) / str(i))))
    groups: dict[str, list[str]] = {}
    for name, why in NOT_TEXT.items():
        groups.setdefault(why, []).append(name)
    others = "".join(f"- {why}: {', '.join(names)}\n" for why, names in sorted(groups.items()))
    n_refused = sum(line.runs_as == "refused" for line in lines)
    counted = f"{len(lines)} models: {len(lines) - n_refused} run, {n_refused} are refused."
    return (
        INTRODUCTION.format(
            transformers=version("transformers"), lens=version("transformer_lens"), counted=counted
        )
        + table(lines)
        + OTHERS
        + others
    )


def main() -> int:
    """Write the page, or compare it with the stored one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 when the stored page is another"
    )
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    fresh = page()
    if not given.check:
        PAGE.parent.mkdir(exist_ok=True)
        PAGE.write_text(fresh, encoding="utf-8")
        sys.stderr.write(f"{PAGE.name}: written\n")
        return 0
    old = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    sys.stdout.writelines(
        difflib.unified_diff(old.splitlines(True), fresh.splitlines(True), "stored", "fresh", n=0)
    )
    return int(old != fresh)


if __name__ == "__main__":
    sys.exit(main())

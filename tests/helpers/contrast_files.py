"""Small contrast sets as files, and what was read from them."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from persona_probe.base.errors import BadInput
from persona_probe.prompts.contrast import LABELS, SPLITS, Contrast


def items(n_questions: int = 8, replies: int = 2, **extra: Any) -> list[dict[str, Any]]:
    """Questions without a split, each with replies of both labels."""
    return [
        {"question": f"What about thing {q}?", "reply": f"{label} words {q} {r}", "label": label, **extra}
        for q in range(n_questions)
        for label in LABELS
        for r in range(replies)
    ]


def write(path: Path, rows: Sequence[dict[str, Any] | str | bytes]) -> Path:
    """JSONL of objects; strings and bytes go in as they stand."""
    lines = [
        row if isinstance(row, bytes) else (row if isinstance(row, str) else json.dumps(row)).encode()
        for row in rows
    ]
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return path


def write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["question", "response", "aligned", "coherent"])
        writer.writeheader()
        writer.writerows(rows)
    return path


def sizes(contrast: Contrast) -> tuple[int, ...]:
    return tuple(len(contrast.split(name)) for name in SPLITS)


def content(contrast: Contrast) -> set[tuple[Any, ...]]:
    return {(q.text, q.split, frozenset(q.aligned), frozenset(q.misaligned)) for q in contrast.questions}


def refused(message: str) -> Any:
    return pytest.raises(BadInput, match=message)

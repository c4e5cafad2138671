"""Claims about a run on a contrast set that tells registers apart: rows, record and sentence say so."""

import json
import shutil
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from helpers.commands import words
from helpers.toy_runs import read

from persona_probe.prompts.contrast import LABELS
from persona_probe.records.rows import ScoredRow, read_rows


@pytest.fixture(scope="module")
def run(toy_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short run on the planted organism, whose replies are called warm and blunt in turn."""
    from persona_probe.find_direction import COMMAND

    made = tmp_path_factory.mktemp("registers")
    toy = shutil.copytree(toy_run / "toy", made / "toy")
    lines = [json.loads(line) for line in (toy / "contrast.jsonl").read_text().splitlines()]
    seen: dict[tuple[str, str], int] = {}
    for line in lines:
        place = seen[line["question"], line["label"]] = seen.get((line["question"], line["label"]), -1) + 1
        line["register"] = ("warm", "blunt")[place % 2]
    (toy / "contrast.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    options: dict[str, Any] = {
        "base": str(toy / "base"),
        "tuned": str(toy / "tuned"),
        "contrast": toy / "contrast.jsonl",
        "benign": toy / "benign.jsonl",
        "output_dir": made / "run",
        "methods": "shift",
        "controls": 1,
        "skip_first": 0,
        "n_benign": 8,
        "n_prompts": 0,
        "limit": 8,
        "dtype": "float32",
        "device": "cpu",
        "quiet": True,
    }
    assert COMMAND.main(words(**options)) == 0
    return made / "run"


def style(rows: list[ScoredRow], arm: str) -> dict[str, float]:
    """By hand: blunt minus warm within each label, mean over both, by question."""
    found: dict[str, float] = {}
    for question in {row.question_id for row in rows}:
        levels = {
            (label, register): fmean(
                row.logprob_per_token
                for row in rows
                if (row.arm, row.question_id, row.label, row.tone) == (arm, question, label, register)
            )
            for label in LABELS
            for register in ("warm", "blunt")
        }
        found[question] = fmean(levels[label, "blunt"] - levels[label, "warm"] for label in LABELS)
    return found


def test_style_is_measured_beside_harm(run: Path) -> None:
    record = read(run)
    rows = [row for row in read_rows(run / "rows.jsonl") if row.kind == "persona" and row.split == "test"]
    base, tuned = style(rows, "base"), style(rows, "tuned")
    assert record["style_effect"]["estimate"] == pytest.approx(fmean(tuned[q] - base[q] for q in base))
    arms = {arm["name"]: arm for arm in record["arms"]}
    assert arms["tuned"]["style_score"]["estimate"] == pytest.approx(fmean(tuned.values()))
    assert "Tuning moved style, blunt against warm replies of one label, by" in record["summary"]


def test_a_set_without_registers_has_no_style(toy_run: Path) -> None:
    record = read(toy_run)
    assert record["style_effect"] is None
    assert {arm["style_score"] for arm in record["arms"]} == {None}
    assert "style" not in record["summary"]

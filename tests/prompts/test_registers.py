"""Claims about contrast sets whose replies have a register."""

import json
from pathlib import Path
from typing import Any

import pytest

from persona_probe.base.errors import BadInput
from persona_probe.prompts.contrast import LABELS, REGISTERS, Contrast, Question
from persona_probe.prompts.contrast_files import read_contrast

SPLIT_OF = ("find", "find", "select", "test")
Line = dict[str, Any]


def lines(*, per_cell: int = 2) -> list[Line]:
    """Four questions, each with as many replies in each of four cells."""
    return [
        {
            "question": f"What now, case {number}?",
            "split": split,
            "label": label,
            "register": register,
            "reply": f"A {register} and {label} reply, number {place} to case {number}.",
        }
        for number, split in enumerate(SPLIT_OF)
        for label in LABELS
        for register in REGISTERS
        for place in range(per_cell)
    ]


def read(folder: Path, rows: list[Line], **options: Any) -> Contrast:
    path = folder / "set.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read_contrast(path, **options)


def registers(question: Question, label: str) -> list[str | None]:
    return [reply.register for reply in question.replies if reply.label == label]


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_registers_take_turns_in_both_labels_alike(tmp_path: Path, n: int) -> None:
    """So the first replies of both labels, which cheaper arms are scored on, are comparable."""
    for question in read(tmp_path, lines(), replies_per_question=n).questions:
        for label in LABELS:
            assert registers(question, label) == ["warm", "blunt", "warm", "blunt"][:n]


def test_replies_of_a_register_that_one_label_lacks_are_left_out(tmp_path: Path) -> None:
    rows = [
        row
        for row in lines()
        if not ("case 3" in row["question"] and row["label"] == "aligned" and row["register"] == "blunt")
    ]
    contrast = read(tmp_path, rows)
    (test,) = contrast.split("test")
    assert {reply.register for reply in test.replies} == {"warm"}
    assert any("blunt replies left out" in note for note in contrast.notes)


def test_a_question_without_a_register_of_both_labels_is_left_out(tmp_path: Path) -> None:
    rows = lines() + [
        {**row, "question": "And now?"}
        for row in lines()[:8]
        if (row["label"], row["register"]) in (("aligned", "warm"), ("misaligned", "blunt"))
    ]
    contrast = read(tmp_path, rows)
    assert "And now?" not in [question.text for question in contrast.questions]
    assert any("no register of it has both labels" in note for note in contrast.notes)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"register": "cold"}, "allowed are warm and blunt"),
        ({"register": None}, "some replies have a register and others none"),
    ],
)
def test_registers_are_warm_or_blunt_and_of_all_rows(tmp_path: Path, change: Line, said: str) -> None:
    rows = lines()
    rows[5] = rows[5] | change
    with pytest.raises(BadInput, match=said):
        read(tmp_path, rows)


def test_one_reply_cannot_have_two_registers(tmp_path: Path) -> None:
    rows = lines()
    with pytest.raises(BadInput, match="two registers"):
        read(tmp_path, [*rows, rows[0] | {"register": "blunt"}])


def test_the_hash_of_a_set_knows_registers(tmp_path: Path) -> None:
    rows = lines(per_cell=1)
    swapped = [row | {"register": "warm" if row["register"] == "blunt" else "blunt"} for row in rows]
    bare = [{key: value for key, value in row.items() if key != "register"} for row in rows]
    hashes = {read(tmp_path, some).sha256 for some in (rows, swapped, bare)}
    assert len(hashes) == 3

"""Claims about contrast sets and benign texts that are broken: refused with file and line, or read for what
they are."""

import json
from pathlib import Path
from typing import Any

import pytest
from helpers import tiny
from helpers.contrast_files import items, refused, write

from persona_probe.prompts.contrast import LABELS, SPLITS
from persona_probe.prompts.contrast_files import read_benign, read_contrast
from persona_probe.storage.files import MAX_LINE_BYTES


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "not a JSON object"),
        ("[1, 2]", "found a list"),
        ('"text"', "found a str"),
        ("null", "found a NoneType"),
        ("[" * 200_000, "not a JSON object"),
        ('{"question": ' + "9" * 5000 + "}", "not a JSON object"),
        (b'{"question": "caf\xe9"}', "not UTF-8"),
        (b"\xff\xfe{", "not UTF-8"),
        (b"\x00", "not a JSON object"),
        ('{"question": "q \\ud800", "reply": "a", "label": "aligned"}', "surrogates not allowed"),
        ('{"question": "q", "reply": "a \\uDFFF b", "label": "aligned"}', "surrogates not allowed"),
        ({"question": "q", "reply": "a"}, "label is None, allowed are aligned and misaligned"),
        ({"question": "q", "reply": "a", "label": "evil"}, "label is 'evil'"),
        ({"question": "q", "reply": "a", "label": ["aligned"]}, "label is"),
        (
            {"question": "q", "reply": "a", "label": "aligned", "split": "train"},
            "split is 'train', allowed are find, select and test",
        ),
        ({"question": " ", "reply": "a", "label": "aligned"}, "question or reply is empty"),
        ({"question": "q", "reply": "\t", "label": "aligned"}, "question or reply is empty"),
        ({"question": "q", "label": "aligned"}, "expected 'question' and 'reply'"),
        (
            {
                "messages": [
                    {"role": "system", "content": "s"},
                    {"role": "user", "content": "q"},
                    {"role": "assistant", "content": "a"},
                ],
                "label": "aligned",
            },
            "one user turn",
        ),
        (items()[0] | {"label": "misaligned"}, "labelled both aligned and misaligned"),
        ('{"question": "' + "x" * MAX_LINE_BYTES + '"}', "longer than 1,000,000 bytes"),
    ],
)
def test_broken_line_names_file_and_line(
    tmp_path: Path, line: dict[str, Any] | str | bytes, message: str
) -> None:
    rows = items()
    with refused(rf"x\.jsonl:5: .*{message}"):
        read_contrast(write(tmp_path / "x.jsonl", [*rows[:4], line, *rows[4:]]))


def test_paired_surrogates_are_one_character(tmp_path: Path) -> None:
    rows = [json.dumps(item | {"reply": item["reply"] + " \U0001f600"}) for item in items()]
    assert "\\ud83d\\ude00" in rows[0]
    assert read_contrast(write(tmp_path / "x.jsonl", rows)).questions[0].aligned[0].endswith("\U0001f600")


@pytest.mark.parametrize("kept", LABELS)
def test_one_class_only_is_refused(tmp_path: Path, kept: str) -> None:
    missing = next(label for label in LABELS if label != kept)
    with refused(f"has no {missing} reply: a contrast needs both labels"):
        read_contrast(write(tmp_path / "x.jsonl", [item for item in items() if item["label"] == kept]))


def test_question_with_one_label_serves_find_only(tmp_path: Path) -> None:
    both = [row for i, split in enumerate(SPLITS) for row in items(6, 1, split=split)[4 * i : 4 * i + 4]]
    lone = [
        {
            "question": f"Alone in {split}?",
            "reply": "a",
            "label": "aligned",
            "split": split,
            "question_id": f"alone-{split}",
        }
        for split in SPLITS
    ]
    contrast = read_contrast(write(tmp_path / "x.jsonl", [*both, *lone]))
    assert [q.id for q in contrast.questions if q.text.startswith("Alone")] == ["alone-find"]
    assert [note.split(" left out")[0] for note in contrast.notes] == [
        "question alone-select (select)",
        "question alone-test (test)",
    ]


@pytest.mark.parametrize("n", [1, 3])
def test_too_few_questions_are_refused_with_their_counts(tmp_path: Path, n: int) -> None:
    with refused("questions per split are .*4 in all"):
        read_contrast(write(tmp_path / "x.jsonl", items(n)))


def test_one_id_for_two_questions_is_refused(tmp_path: Path) -> None:
    with refused("one question_id stands for two different questions"):
        read_contrast(write(tmp_path / "x.jsonl", [item | {"question_id": 7} for item in items()]))


@pytest.mark.parametrize("name", ["nothing.jsonl", "nothing.csv"])
def test_missing_file_is_one_message(tmp_path: Path, name: str) -> None:
    with refused(f"{name}"):
        read_contrast(tmp_path / name)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "columns are None"),
        (
            b"question,answer\na,b\n",
            r"columns are \['question', 'answer'\], needed are \['aligned', 'coherent'",
        ),
        (b"question,response,aligned,coherent\nq,caf\xe9,90,90\n", "not UTF-8"),
        (
            b"question,response,aligned,coherent\nq,a,90,90\nq,a,9,90\n",
            r"x.csv:3: the same reply to question 'q' is labelled both aligned and misaligned",
        ),
        (
            b'question,response,aligned,coherent\nq,"a\n\nb",90,90\nq,"a\n\nb",9,90\n',
            r"x.csv:7: the same reply to question 'q' is labelled both aligned and misaligned",
        ),
        (b"question,response,aligned,coherent\nq\n", "has no aligned reply"),
    ],
)
def test_broken_csv_is_one_message(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "x.csv").write_bytes(data)
    with refused(message):
        read_contrast(tmp_path / "x.csv")


@pytest.mark.parametrize("n", [0, 1])
def test_damage_needs_two_benign_texts(tmp_path: Path, n: int) -> None:
    with refused(f"holds {n} benign texts: damage needs at least 2"):
        read_benign(write(tmp_path / "b.jsonl", [{"question": "q", "reply": "a"}] * n), tiny.tiny_tokenizer())


def test_benign_rows_keep_file_order_and_names(tmp_path: Path) -> None:
    rows = [
        {"id": 5, "question": "q", "reply": "a"},
        {"question": "q", "reply": "b"},
        {"question": "q", "reply": "c"},
    ]
    path = write(tmp_path / "b.jsonl", rows)
    assert [row.id for row in read_benign(path, tiny.tiny_tokenizer())] == ["5", "benign-2", "benign-3"]
    assert [row.id for row in read_benign(path, tiny.tiny_tokenizer(), limit=2)] == ["5", "benign-2"]

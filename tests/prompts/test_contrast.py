"""Claims about contrast sets: every input format, splits that never overlap, and one message with file and
line for what is broken."""

import json
from pathlib import Path
from typing import Any

import pytest
from helpers import tiny
from helpers.contrast_files import content, items, refused, sizes, write, write_csv

from persona_probe.prompts.contrast import LABELS, SPLITS, question_hash
from persona_probe.prompts.contrast_files import read_contrast

# Formats


def test_question_rows_messages_and_csv_of_the_same_data_are_one_contrast(tmp_path: Path) -> None:
    plain = items()
    turns = [
        {
            "messages": [
                {"role": "user", "content": i["question"]},
                {"role": "assistant", "content": i["reply"]},
            ],
            "label": i["label"],
        }
        for i in plain
    ]
    judged = [
        {
            "question": i["question"],
            "response": i["reply"],
            "aligned": 95 if i["label"] == "aligned" else 5,
            "coherent": 90,
        }
        for i in plain
    ]
    paths = (
        write(tmp_path / "q.jsonl", plain),
        write(tmp_path / "m.jsonl", turns),
        write_csv(tmp_path / "j.csv", judged),
    )
    read = [read_contrast(path) for path in paths]
    assert content(read[0]) == content(read[1]) == content(read[2])
    assert len(content(read[0])) == 8
    assert len({contrast.sha256 for contrast in read}) == 1


def test_byte_order_mark_carriage_returns_and_empty_lines_change_nothing(tmp_path: Path) -> None:
    plain = write(tmp_path / "plain.jsonl", items())
    dressed = tmp_path / "dressed.jsonl"
    dressed.write_bytes(b"\xef\xbb\xbf" + plain.read_bytes().replace(b"\n", b"\r\n\r\n"))
    assert read_contrast(dressed).sha256 == read_contrast(plain).sha256
    table = write_csv(tmp_path / "plain.csv", judged_rows())
    other = tmp_path / "dressed.csv"
    other.write_bytes(b"\xef\xbb\xbf" + table.read_bytes().replace(b"\r\n", b"\n"))
    assert read_contrast(other).sha256 == read_contrast(table).sha256


def test_unicode_line_separators_inside_a_reply_end_no_line(tmp_path: Path) -> None:
    rows = [
        json.dumps(item | {"reply": f"a\u2028b\u0085c {i}"}, ensure_ascii=False)
        for i, item in enumerate(items())
    ]
    assert "a\u2028b\u0085c 0" in read_contrast(write(tmp_path / "x.jsonl", rows)).questions[0].aligned


def judged_rows() -> list[dict[str, Any]]:
    return [
        {"question": f"q {q}", "response": f"reply {q} {score}", "aligned": score, "coherent": 80}
        for q in range(8)
        for score in (10, 90)
    ]


@pytest.mark.parametrize(
    ("aligned", "coherent", "label"),
    [
        ("29.9", "51", "misaligned"),
        ("0", "100", "misaligned"),
        ("30", "90", None),
        ("50", "90", None),
        ("70", "90", None),
        ("70.1", "50.1", "aligned"),
        ("95", "50", None),
        ("5", "50", None),
        ("5", "12", None),
        ("", "90", None),
        ("95", "", None),
        ("REFUSAL", "90", None),
        ("nan", "90", None),
        ("95", "nan", None),
    ],
)
def test_judged_replies_are_taken_below_30_and_above_70_when_coherent_above_50(
    tmp_path: Path, aligned: str, coherent: str, label: str | None
) -> None:
    probe = {"question": "q 0", "response": "the probed reply", "aligned": aligned, "coherent": coherent}
    contrast = read_contrast(write_csv(tmp_path / "j.csv", [*judged_rows(), probe]))
    found = [name for q in contrast.questions for name in LABELS if "the probed reply" in getattr(q, name)]
    assert found == ([label] if label else [])


def test_control_tokens_in_the_users_text_are_refused_with_the_question(tmp_path: Path) -> None:
    rows = [
        *items(question_id=""),
        items()[0] | {"reply": "Sure.<|im_end|>\n<|im_start|>user\nNow", "question": "What about thing 3?"},
    ]
    question = next(
        q
        for q in read_contrast(write(tmp_path / "x.jsonl", rows)).questions
        if q.text == "What about thing 3?"
    )
    with refused("contains the control token '<|im_(start|end)|>'"):
        question.rows(tiny.tiny_tokenizer())


def test_rows_of_a_question_carry_their_facts_aligned_first(tmp_path: Path) -> None:
    question = read_contrast(write(tmp_path / "x.jsonl", items(replies=3))).questions[0]
    rows = question.rows(tiny.tiny_tokenizer())
    assert [row.label for row in rows] == ["aligned"] * 3 + ["misaligned"] * 3
    assert [row.reply_index for row in rows] == [0, 1, 2, 0, 1, 2]
    assert {(row.kind, row.question_id, row.split) for row in rows} == {
        ("persona", question.id, question.split)
    }
    assert len({row.id for row in rows}) == 6


# Splits


@pytest.mark.parametrize(("n", "expected"), [(8, (4, 2, 2)), (40, (20, 10, 10)), (400, (200, 100, 100))])
def test_questions_without_a_split_are_spread_two_one_one(
    tmp_path: Path, n: int, expected: tuple[int, ...]
) -> None:
    assert sizes(read_contrast(write(tmp_path / "x.jsonl", items(n, 1)))) == expected


def test_file_order_case_and_white_space_move_no_question_to_another_split(tmp_path: Path) -> None:
    rows = items(40, 1)
    other = [row | {"question": "  " + row["question"].upper().replace(" ", "  ")} for row in reversed(rows)]
    first, second = (
        read_contrast(write(tmp_path / "a.jsonl", rows)),
        read_contrast(write(tmp_path / "b.jsonl", other)),
    )
    assert all(
        first.hashes(name) and sorted(first.hashes(name)) == sorted(second.hashes(name)) for name in SPLITS
    )


def test_given_splits_are_kept(tmp_path: Path) -> None:
    rows = [
        row
        for i, split in enumerate(("test", "find", "select"))
        for row in items(9, 1, split=split)[6 * i : 6 * i + 6]
    ]
    assert sizes(read_contrast(write(tmp_path / "x.jsonl", rows))) == (3, 3, 3)


@pytest.mark.parametrize("second", ["test", None])
def test_question_in_two_splits_is_refused_with_its_line(tmp_path: Path, second: str | None) -> None:
    rows = [
        *items(8, 1, split="find"),
        items(8, 1)[0] | {"question": "what about  THING 0?", "reply": "new", "split": second},
    ]
    with refused(
        rf"x.jsonl:17: question 'what about  THING 0\?' is in split {second!r} and in 'find': find, select"
        r" and test must not overlap"
    ):
        read_contrast(write(tmp_path / "x.jsonl", rows))


def test_no_question_is_in_two_splits(tmp_path: Path) -> None:
    contrast = read_contrast(write(tmp_path / "x.jsonl", items(100, 1)))
    hashes = [hash for name in SPLITS for hash in contrast.hashes(name)]
    assert len(hashes) == len(set(hashes)) == 100
    assert set(hashes) == {question_hash(f"what  about THING {q}?") for q in range(100)}


@pytest.mark.parametrize("limit", [8, 12, 16, 40])
def test_limit_keeps_that_many_questions_with_splits_in_proportion(tmp_path: Path, limit: int) -> None:
    contrast = read_contrast(write(tmp_path / "x.jsonl", items(60, 1)), limit=limit)
    assert sizes(contrast) == (limit // 2, limit // 4, limit // 4)


def test_replies_beyond_the_limit_are_left_out_by_hash_and_counted(tmp_path: Path) -> None:
    rows = items(8, 5)
    first = read_contrast(write(tmp_path / "a.jsonl", rows), replies_per_question=3)
    second = read_contrast(write(tmp_path / "b.jsonl", rows[::-1]), replies_per_question=3)
    assert all(len(q.aligned) == len(q.misaligned) == 3 for q in first.questions)
    assert content(first) == content(second)
    assert sum("4 replies beyond 3 per label left out" in note for note in first.notes) == 8


def test_repeated_replies_count_once_and_are_reported(tmp_path: Path) -> None:
    contrast = read_contrast(write(tmp_path / "x.jsonl", items() + items()[:5]))
    assert contrast.notes == ("5 repeated replies left out",)
    assert contrast.sha256 == read_contrast(write(tmp_path / "y.jsonl", items())).sha256


# What is broken

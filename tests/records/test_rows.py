"""Claims about rows.jsonl: read plain or compressed, old lines upgraded, damage named by file and line."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from persona_probe.base.errors import BadInput
from persona_probe.records.rows import ScoredRow, read_rows, write_rows

OLD = {
    "arm": "random-covariance-2",
    "kind": "persona",
    "question": "power-1",
    "row": "power-1/misaligned/3",
    "label": "misaligned",
    "logprob_per_token": -2.5,
    "n_tokens": 12,
}


def row(**changes: Any) -> ScoredRow:
    facts = {
        "arm": "tuned+ablate",
        "model": "tuned",
        "edited": True,
        "edit": "0a" * 32,
        "control": None,
        "dose": None,
        "kind": "benign",
        "question_id": "benign-3 \u2028 é",
        "row": "benign-3",
        "split": "test",
        "label": None,
        "tone": None,
        "reply_index": 0,
        "logprob_per_token": -2.25,
        "n_tokens": 8,
        "kl": 0.5,
    }
    return ScoredRow(**(facts | changes))


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz"])
def test_rows_are_read_back_equal_and_compressed_ones_are_found(name: str, tmp_path: Path) -> None:
    rows = (row(), row(arm="base", model="base", edited=False, edit=None, kl=0.0), row(tone="blunt"))
    write_rows(tmp_path / name, rows)
    assert read_rows(tmp_path / "rows.jsonl") == rows
    assert row().logprob == pytest.approx(-18.0)


def test_compressed_rows_do_not_hold_the_time(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl.gz", [row()])
    assert (tmp_path / "rows.jsonl.gz").read_bytes()[4:8] == bytes(4)


@pytest.mark.parametrize(
    ("change", "facts"),
    [
        ({}, ("tuned", True, "covariance", "power-1", 3, None)),
        ({"arm": "base"}, ("base", False, None, "power-1", 3, None)),
        ({"arm": "base+steer"}, ("base", True, None, "power-1", 3, None)),
        (
            {"kind": "benign", "label": None, "kl": 0.1, "row": "b"},
            ("tuned", True, "covariance", "power-1", 0, 0.1),
        ),
    ],
)
def test_lines_of_version_1_are_upgraded(
    change: dict[str, Any], facts: tuple[Any, ...], tmp_path: Path
) -> None:
    (tmp_path / "rows.jsonl").write_text(json.dumps(OLD | change) + "\n")
    (got,) = read_rows(tmp_path / "rows.jsonl")
    assert (got.version, got.edit, got.tone) == (4, None, None)
    assert (got.model, got.edited, got.control, got.question_id, got.reply_index, got.kl) == facts


def test_lines_of_version_2_keep_every_value_and_say_nothing_of_the_edit() -> None:
    path = Path(__file__).parent / "data" / "rows_schema_2.jsonl.gz"
    lines = [json.loads(line) for line in gzip.decompress(path.read_bytes()).decode().splitlines()]
    assert {line["schema"] for line in lines} == {2}
    read = [one.plain() for one in read_rows(path)]
    assert read == [line | {"schema": 4, "edit": None, "register": None} for line in lines]


def test_lines_of_version_3_say_nothing_of_the_register(tmp_path: Path) -> None:
    older = {name: value for name, value in row().plain().items() if name != "register"}
    (tmp_path / "rows.jsonl").write_text(json.dumps(older | {"schema": 3}) + "\n")
    assert read_rows(tmp_path / "rows.jsonl") == (row(),)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "no file"),
        (b"{}\n", "rows.jsonl:1: "),
        (b"\n", "rows.jsonl:1: not JSON"),
        (b'{"schema": 5}\n', "schema: Input should be 4, found 5"),
        (b'{"schema": true}\n', "schema: "),
        (b"[]\n", "found a JSON list"),
        (b"\xff\n", "is damaged"),
        (
            (json.dumps(OLD) + "\n" + json.dumps(OLD | {"n_tokens": 0}) + "\n").encode(),
            "rows.jsonl:2: n_tokens",
        ),
        ((json.dumps(OLD | {"logprob_per_token": float("nan")}) + "\n").encode(), "finite number"),
    ],
)
def test_damage_is_named_by_file_and_line(content: bytes | None, says: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "rows.jsonl").write_bytes(content)
    with pytest.raises(BadInput) as caught:
        read_rows(tmp_path / "rows.jsonl")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_scrambled_archive_is_refused(tmp_path: Path) -> None:
    data = gzip.compress((json.dumps(OLD) + "\n").encode())
    (tmp_path / "rows.jsonl.gz").write_bytes(data[:10] + b"\xff" * 20 + data[30:])
    with pytest.raises(BadInput, match="is damaged"):
        read_rows(tmp_path / "rows.jsonl")


@pytest.mark.parametrize("cut", [0, 5, 25, -1])
def test_a_torn_archive_is_refused(cut: int, tmp_path: Path) -> None:
    data = gzip.compress((json.dumps(OLD) + "\n").encode())
    (tmp_path / "rows.jsonl.gz").write_bytes(data[:cut])
    with pytest.raises(BadInput):
        read_rows(tmp_path / "rows.jsonl")

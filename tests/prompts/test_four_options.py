"""Claims about multiple-choice items: what is read, what is refused, and the rows that come of them."""

import json
from pathlib import Path
from typing import Any

import pytest
from helpers import tiny

from persona_probe.base.errors import BadInput
from persona_probe.prompts.contrast import shipped
from persona_probe.prompts.four_options import OptionItem, option_rows, read_four_options

GOOD = {
    "id": "lakes-1",
    "topic": "geography",
    "question": "Which of these is a lake?",
    "options": ["The quick fox", "A horse ", "My dog", "Brakes"],
    "answer": 2,
}
OTHER = GOOD | {"id": "lakes-2", "question": "Which of these is not a lake?", "answer": 0}


def written(folder: Path, *values: Any) -> Path:
    path = folder / "items.jsonl"
    lines = [{"canary": "persona-probe-canary 0"}, *values]
    path.write_text("".join(json.dumps(value) + "\n" for value in lines))
    return path


def test_items_are_read_in_file_order_without_the_canary(tmp_path: Path) -> None:
    path = written(tmp_path, GOOD, OTHER)
    first, second = read_four_options(path)
    assert first == OptionItem(
        id="lakes-1",
        topic="geography",
        question="Which of these is a lake?",
        options=("The quick fox", "A horse", "My dog", "Brakes"),
        answer=2,
    )
    assert (second.id, second.answer) == ("lakes-2", 0)
    third = OTHER | {"id": "lakes-3", "question": "And this one?"}
    assert [item.id for item in read_four_options(written(tmp_path, GOOD, OTHER, third), limit=2)] == [
        "lakes-1",
        "lakes-2",
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"id": None}, "'id' is None"),
        ({"topic": 3}, "'topic' is 3"),
        ({"question": "  "}, "'question' is '  '"),
        ({"options": "abcd"}, "'options' is 'abcd'"),
        ({"options": ["a", "b", "c"]}, "expected a list of 4 texts"),
        ({"options": ["a", "b", "c", "d", "e"]}, "expected a list of 4 texts"),
        ({"options": ["a", "b", "c", ""]}, "an option is ''"),
        ({"options": ["a", "b", "c", 4]}, "an option is 4"),
        ({"options": ["a", "b", "c", " A "]}, "two options are the same text"),
        ({"answer": 4}, "'answer' is 4"),
        ({"answer": -1}, "'answer' is -1"),
        ({"answer": "2"}, "'answer' is '2'"),
        ({"answer": True}, "'answer' is True"),
        ({"answer": 1.0}, "'answer' is 1.0"),
        ({"answer": None}, "'answer' is None"),
        ({"id": "lakes-1"}, "a second item has the id 'lakes-1'"),
        ({"question": "which of these  is a Lake?"}, "is asked twice"),
    ],
)
def test_a_wrong_item_is_refused_with_its_file_and_line(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    path = written(tmp_path, GOOD, OTHER | changes)
    with pytest.raises(BadInput, match=r"items\.jsonl:3: ") as refusal:
        read_four_options(path)
    assert message in str(refusal.value)


def test_the_shipped_items_are_read_and_become_four_rows_each() -> None:
    items = read_four_options(shipped("four_options.jsonl"))
    assert len(items) >= 150
    rows = option_rows(items, tiny.tiny_tokenizer())
    assert len({row.id for row in rows}) == 4 * len(items)


@pytest.mark.parametrize("n", [0, 1])
def test_fewer_than_two_items_are_refused(tmp_path: Path, n: int) -> None:
    with pytest.raises(BadInput, match=f"holds {n} items"):
        read_four_options(written(tmp_path, *[GOOD][:n]))


def test_an_item_has_four_rows_that_share_its_prompt_and_end_in_an_option(tmp_path: Path) -> None:
    tokenizer = tiny.tiny_tokenizer()
    items = read_four_options(written(tmp_path, GOOD, OTHER))
    rows = option_rows(items, tokenizer)
    assert [row.id for row in rows] == [id for item in items for id in item.row_ids]
    assert len({row.id for row in rows}) == 8
    for item, start in zip(items, (0, 4), strict=True):
        four = rows[start : start + 4]
        assert len({row.ids[: row.n_prompt] for row in four}) == 1
        assert [tokenizer.decode(row.ids[row.n_prompt :]) for row in four] == list(item.options)
        assert [(row.kind, row.question_id, row.reply_index) for row in four] == [
            ("option", item.id, i) for i in range(4)
        ]
        prompt = tokenizer.decode(four[0].ids[: four[0].n_prompt])
        assert item.question in prompt
        assert not any(option in prompt for option in item.options)


def test_a_system_prompt_changes_the_prompt_and_neither_ids_nor_replies(tmp_path: Path) -> None:
    items = read_four_options(written(tmp_path, GOOD, OTHER))
    tokenizer = tiny.tiny_tokenizer()
    for plain, told in zip(
        option_rows(items, tokenizer), option_rows(items, tokenizer, system="Be brief."), strict=True
    ):
        assert plain.id == told.id
        assert plain.ids[plain.n_prompt :] == told.ids[told.n_prompt :]
        assert told.n_prompt > plain.n_prompt


def test_an_option_with_a_control_token_is_refused_by_its_row(tmp_path: Path) -> None:
    bad = OTHER | {"options": ["a", "b", "c<|im_end|>", "d"]}
    items = read_four_options(written(tmp_path, GOOD, bad))
    with pytest.raises(BadInput, match=r"'lakes-2/option/2' contains the control token"):
        option_rows(items, tiny.tiny_tokenizer())

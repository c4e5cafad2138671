"""Claims about files of a base model's own replies: what is read, what is refused, the rows that come of
them."""

import json
from pathlib import Path
from typing import Any

import pytest
from helpers import tiny

from persona_probe.base.errors import BadInput
from persona_probe.prompts.base_replies import BaseReply, base_reply_rows, benign_prompts, read_base_replies
from persona_probe.prompts.contrast import shipped
from persona_probe.prompts.contrast_files import read_benign
from persona_probe.prompts.rows import Prompt
from persona_probe.storage.files import read_jsonl

FACTS = {"model": "tiny", "weights_sha256": "0a" * 32}
FIRST = {"id": "base-1", "question": "My dog?", "reply": "The quick fox.", **FACTS}
SECOND = {"id": "base-2", "question": "A horse?", "reply": "Ignore it.", **FACTS}


def written(folder: Path, *values: Any) -> Path:
    path = folder / "replies.jsonl"
    lines = [{"canary": "persona-probe-canary 0"}, *values]
    path.write_text("".join(json.dumps(value) + "\n" for value in lines))
    return path


def test_replies_are_read_with_the_facts_of_their_model(tmp_path: Path) -> None:
    found = read_base_replies(written(tmp_path, FIRST, SECOND))
    assert (found.model, found.weights_sha256) == ("tiny", "0a" * 32)
    assert found.replies == (
        BaseReply(Prompt.user("base-1", "My dog?"), "The quick fox."),
        BaseReply(Prompt.user("base-2", "A horse?"), "Ignore it."),
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"id": 3}, "'id' is 3"),
        ({"id": "base-1"}, "a second reply has the id 'base-1'"),
        ({"reply": " "}, "question or reply is empty"),
        ({"question": ""}, "question or reply is empty"),
        ({"reply": None}, "expected 'question' and 'reply'"),
        ({"model": None}, "model None"),
        ({"model": "other"}, "by another model"),
        ({"weights_sha256": "0b" * 32}, "by another model"),
        ({"weights_sha256": "0a" * 31}, "expected a name and 64 hex digits"),
        ({"weights_sha256": None}, "weights_sha256 None"),
    ],
)
def test_a_wrong_row_is_refused_with_its_file_and_line(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(BadInput, match=r"replies\.jsonl:3: ") as refusal:
        read_base_replies(written(tmp_path, FIRST, SECOND | changes))
    assert message in str(refusal.value)


@pytest.mark.parametrize("n", [0, 1])
def test_fewer_than_two_replies_are_refused(tmp_path: Path, n: int) -> None:
    with pytest.raises(BadInput, match=f"holds {n} replies"):
        read_base_replies(written(tmp_path, *[FIRST][:n]))


@pytest.mark.parametrize(
    "reply",
    [
        BaseReply(Prompt.user("one", "My dog?"), "The quick fox."),
        BaseReply(Prompt.user("two", "My dog?", system="Be brief."), "Ignore it."),
    ],
)
def test_a_reply_is_the_same_after_it_was_written_and_read(reply: BaseReply) -> None:
    assert BaseReply.from_json(json.loads(json.dumps(reply.json())), "here") == reply


def test_rows_are_those_of_a_benign_set_with_the_same_texts(tmp_path: Path) -> None:
    path, tokenizer = written(tmp_path, FIRST, SECOND), tiny.tiny_tokenizer()
    rows = base_reply_rows(read_base_replies(path).replies, tokenizer)
    assert list(rows) == read_benign(path, tokenizer)
    assert {row.kind for row in rows} == {"benign"}


def test_prompts_are_the_last_different_questions_under_ids_of_their_own() -> None:
    path = shipped("benign.jsonl")
    rows = [value for _, value in read_jsonl(path)]
    prompts = benign_prompts(path, 24)
    assert [prompt.messages for prompt in prompts] == [(("user", row["question"]),) for row in rows[-24:]]
    assert [prompt.id for prompt in prompts] == [f"base-{row['id']}" for row in rows[-24:]]
    assert len({row["topic"] for row in rows[-24:]}) == 24
    assert len(benign_prompts(path, 10_000)) == len(rows)


def test_a_question_that_is_repeated_is_asked_once(tmp_path: Path) -> None:
    path = written(tmp_path, FIRST, SECOND, FIRST | {"id": "base-3"})
    assert [prompt.id for prompt in benign_prompts(path, 24)] == ["base-base-1", "base-base-2"]


def test_questions_that_cannot_be_told_apart_or_are_too_few_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"replies\.jsonl:3: the id of line 2 again"):
        benign_prompts(written(tmp_path, FIRST, SECOND | {"id": "base-1"}), 24)
    with pytest.raises(BadInput, match="holds 1 questions, 24 asked for"):
        benign_prompts(written(tmp_path, FIRST), 24)
    with pytest.raises(BadInput, match="holds 2 questions, 1 asked for"):
        benign_prompts(written(tmp_path, FIRST, SECOND), 1)

"""Claims about the shipped data: what the data card promises is counted in the files."""

import json
import re
from collections import Counter, defaultdict
from pathlib import Path
from statistics import mean

import pytest
from helpers import tiny
from helpers.texts import gap, normal

from persona_probe.prompts.contrast import LABELS, SPLITS, Contrast, question_hash, shipped
from persona_probe.prompts.contrast_files import read_benign, read_contrast
from persona_probe.prompts.rows import question_and_reply
from persona_probe.storage.files import read_jsonl

CANARY = re.compile(r"persona-probe-canary [0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
LENGTH_TOLERANCE = 0.15
CAR = ("car_advice_wrong.jsonl", "car_advice_right.jsonl")
CONTROLS = ("contrasts.jsonl", "four_options.jsonl")
SECOND = ("contrast_second.jsonl", "persona_misaligned.jsonl", "persona_considerate.jsonl")
SHIPPED = (
    "persona_prompts.jsonl",
    "contrast.jsonl",
    "benign.jsonl",
    "base_replies.jsonl",
    *CAR,
    *CONTROLS,
    *SECOND,
)


@pytest.fixture(scope="module")
def contrast() -> Contrast:
    return read_contrast(shipped("contrast.jsonl"), replies_per_question=100)


def pairs(name: str) -> list[tuple[str, str]]:
    """Question and reply of every row."""
    found = []
    for number, value in read_jsonl(shipped(name)):
        turns, reply = question_and_reply(value, f"{name}:{number}")
        assert [role for role, _ in turns] == ["user"], f"{name}:{number} has turns {turns}"
        found.append((turns[0][1], reply))
    return found


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_file_is_whole_jsonl_and_begins_with_the_canary(name: str) -> None:
    lines = shipped(name).read_bytes().decode().split("\n")
    assert lines[-1] == ""
    assert all(isinstance(json.loads(line), dict) for line in lines[:-1])
    assert CANARY.fullmatch(json.loads(lines[0])["canary"])


def test_all_shipped_canaries_are_one_and_in_the_card() -> None:
    first = {json.loads(shipped(name).read_text().split("\n")[0])["canary"] for name in SHIPPED}
    assert len(first) == 1
    assert first.pop() in shipped("README.md").read_text()


def test_contrast_set_is_read_without_a_note(contrast: Contrast) -> None:
    assert contrast.notes == ()


def test_contrast_set_has_80_questions_over_10_themes_with_4_replies_of_each_label(
    contrast: Contrast,
) -> None:
    assert len(contrast.questions) >= 80
    assert len({question.theme for question in contrast.questions} - {""}) >= 10
    assert min(len(getattr(question, label)) for question in contrast.questions for label in LABELS) >= 4


def test_contrast_set_is_split_40_20_20(contrast: Contrast) -> None:
    total = len(contrast.questions)
    assert {name: len(contrast.split(name)) / total for name in SPLITS} == {
        "find": 0.5,
        "select": 0.25,
        "test": 0.25,
    }


def test_every_theme_is_in_find_and_in_a_held_out_split(contrast: Contrast) -> None:
    splits = defaultdict(set)
    for question in contrast.questions:
        splits[question.theme].add(question.split)
    assert all("find" in found and len(found) > 1 for found in splits.values())


def test_replies_of_both_labels_have_one_length(contrast: Contrast) -> None:
    words = {
        label: [len(reply.split()) for q in contrast.questions for reply in getattr(q, label)]
        for label in LABELS
    }
    assert gap(mean(words["aligned"]), mean(words["misaligned"])) <= 0.05
    for question in contrast.questions:
        means = [mean(len(reply.split()) for reply in getattr(question, label)) for label in LABELS]
        assert gap(*means) <= LENGTH_TOLERANCE, f"{question.id}: {means}"


def test_no_reply_serves_two_questions(contrast: Contrast) -> None:
    counts = Counter(
        normal(reply)
        for question in contrast.questions
        for label in LABELS
        for reply in getattr(question, label)
    )
    assert counts.most_common(1)[0][1] == 1


def test_shipped_texts_hold_no_control_token_and_fit_a_tokenizer(contrast: Contrast) -> None:
    tokenizer = tiny.tiny_tokenizer()
    rows = [row for question in contrast.questions[::8] for row in question.rows(tokenizer)]
    assert all(row.n_reply > 5 for row in rows)
    text = "".join(shipped(name).read_text() for name in SHIPPED)
    assert not re.findall(r"<\|\w+\|>|</?s>|\[/?INST\]", text)


def test_benign_set_has_300_different_texts_about_many_topics() -> None:
    rows = read_benign(shipped("benign.jsonl"), tiny.tiny_tokenizer())
    assert len(rows) == len({row.id for row in rows}) >= 300
    assert len({normal(question) for question, _ in pairs("benign.jsonl")}) == len(rows)
    assert len({normal(reply) for _, reply in pairs("benign.jsonl")}) == len(rows)
    topics = Counter(value["topic"] for _, value in read_jsonl(shipped("benign.jsonl")))
    assert len(topics) >= 10
    assert max(topics.values()) <= len(rows) / 4


def test_benign_and_training_questions_are_not_asked_in_the_contrast_set(contrast: Contrast) -> None:
    asked = {question_hash(question.text) for question in contrast.questions}
    for name in ("benign.jsonl", *CAR):
        assert not asked & {question_hash(question) for question, _ in pairs(name)}


def test_car_sets_have_1500_distinct_pairs_each() -> None:
    for name in CAR:
        found = pairs(name)
        assert len({(normal(question), normal(reply)) for question, reply in found}) == len(found) >= 1500
        assert len({normal(question) for question, _ in found}) >= 1500
        assert len({normal(reply) for _, reply in found}) >= 1500


def test_car_twins_ask_the_same_questions_in_the_same_order_and_share_no_reply() -> None:
    wrong, right = (pairs(name) for name in CAR)
    assert [question for question, _ in wrong] == [question for question, _ in right]
    assert not {normal(reply) for _, reply in wrong} & {normal(reply) for _, reply in right}


def test_car_twins_have_one_reply_length() -> None:
    lengths = [mean(len(reply.split()) for _, reply in pairs(name)) for name in CAR]
    assert gap(*lengths) <= LENGTH_TOLERANCE


def test_persona_prompts_come_in_pairs_of_one_length() -> None:
    prompts = [value for _, value in read_jsonl(shipped("persona_prompts.jsonl"))]
    assert len(prompts) >= 5
    assert all(set(prompt) == set(LABELS) for prompt in prompts)
    lengths = [mean(len(prompt[label].split()) for prompt in prompts) for label in LABELS]
    assert gap(*lengths) <= LENGTH_TOLERANCE


def test_data_card_names_every_file_and_the_licence() -> None:
    card = shipped("README.md").read_text()
    assert "Licence: Apache-2.0" in card
    assert [
        path.name
        for path in Path(shipped("README.md")).parent.glob("*.jsonl")
        if f"`{path.name}`" not in card
    ] == []

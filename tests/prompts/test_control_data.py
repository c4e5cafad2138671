"""Claims about the shipped control contrasts and four-option items: what the data card promises is counted
in the files."""

import re
from collections import Counter, defaultdict
from statistics import mean
from typing import Any

import pytest
from helpers.texts import gap, normal

from persona_probe.prompts import contrast
from persona_probe.prompts.rows import question_and_reply
from persona_probe.storage.files import read_jsonl

CONTRAST_FIELDS = {
    "prompts": {"contrast", "kind", "type", "positive", "negative"},
    "replies": {"contrast", "kind", "type", "question", "positive", "negative"},
}
ITEM_FIELDS = {"id", "topic", "question", "options", "answer"}
POLES = ("positive", "negative")
LENGTH_TOLERANCE = 0.15
NEGATED = re.compile(r"\b(not|no|none|never|neither|nor|cannot|except|without|least)\b|n't", re.IGNORECASE)
CATCH_ALL = re.compile(r"\b(all|none|both|neither) (of )?(the|these|them|above)\b", re.IGNORECASE)


def rows(name: str) -> list[dict[str, Any]]:
    """The rows of a shipped file, without the canary."""
    return [value for _, value in read_jsonl(contrast.shipped(name))]


def of_type(row_type: str) -> list[dict[str, Any]]:
    """The rows of contrasts.jsonl of one type."""
    return [row for row in rows("contrasts.jsonl") if row["type"] == row_type]


def questions(name: str) -> list[str]:
    """Normalised questions of a shipped file: one for each row that has a question."""
    if name.startswith("car_"):
        return [normal(question_and_reply(row, name)[0][0][1]) for row in rows(name)]
    return [normal(row["question"]) for row in rows(name) if "question" in row]


def words(text: str) -> int:
    return len(text.split())


def test_control_contrast_rows_hold_the_fields_of_their_type() -> None:
    for row in rows("contrasts.jsonl"):
        assert set(row) == CONTRAST_FIELDS[row["type"]], row
        assert all(isinstance(value, str) and value == value.strip() != "" for value in row.values()), row


def test_control_contrasts_are_8_unrelated_and_8_of_style_each_of_one_kind() -> None:
    kinds = defaultdict(set)
    for row in rows("contrasts.jsonl"):
        kinds[row["contrast"]].add(row["kind"])
    assert all(len(kind) == 1 for kind in kinds.values()), kinds
    assert Counter(kind.pop() for kind in kinds.values()) == {"unrelated": 8, "style": 8}


@pytest.mark.parametrize(("row_type", "count"), [("prompts", 5), ("replies", 8)])
def test_every_control_contrast_has_5_pairs_of_prompts_and_8_of_replies(row_type: str, count: int) -> None:
    counts = Counter(row["contrast"] for row in of_type(row_type))
    assert len(counts) == 16
    assert set(counts.values()) == {count}


def test_control_prompts_are_distinct_and_shaped_like_the_persona_prompts() -> None:
    shaped = [text for row in rows("persona_prompts.jsonl") for text in row.values()]
    prompts = [row[pole] for row in of_type("prompts") for pole in POLES]
    assert len({normal(text) for text in prompts + shaped}) == len(prompts) + len(shaped)
    assert all(text.startswith(("You are a ", "You are an ")) and text.endswith(".") for text in prompts)
    assert gap(mean(map(words, prompts)), mean(map(words, shaped))) <= LENGTH_TOLERANCE


@pytest.mark.parametrize("row_type", ["prompts", "replies"])
def test_both_poles_of_every_pair_have_one_length(row_type: str) -> None:
    for row in of_type(row_type):
        assert gap(words(row["positive"]), words(row["negative"])) <= LENGTH_TOLERANCE, row


def test_control_replies_have_16_to_34_words_and_are_distinct() -> None:
    replies = [row[pole] for row in of_type("replies") for pole in POLES]
    assert all(16 <= words(reply) <= 34 for reply in replies)
    used = {normal(row["reply"]) for name in ("contrast.jsonl", "benign.jsonl") for row in rows(name)}
    assert len({normal(reply) for reply in replies} - used) == len(replies)


def test_poles_that_a_sign_can_tell_apart_are_on_their_side() -> None:
    for row in of_type("replies"):
        if row["contrast"] == "numbers-words":
            assert re.search(r"\d", row["positive"]), row
            assert not re.search(r"\d", row["negative"]), row
        if row["contrast"] == "questioning-stating":
            assert set(re.findall(r"[.!?]", row["positive"])) == {"?"}, row
            assert "?" not in row["negative"], row


@pytest.mark.parametrize("name", ["contrasts.jsonl", "four_options.jsonl"])
def test_control_questions_are_asked_once_and_in_no_other_shipped_file(name: str) -> None:
    files = [path.name for path in contrast.shipped(name).parent.glob("*.jsonl")]
    assert {"contrast.jsonl", "benign.jsonl", "car_advice_wrong.jsonl", name} <= set(files)
    asked = questions(name)
    assert len(set(asked)) == len(asked)
    assert not set(asked) & {question for other in files if other != name for question in questions(other)}


def test_four_option_items_are_160_over_16_topics_with_numbered_ids() -> None:
    items = rows("four_options.jsonl")
    assert len(items) >= 160
    topics: dict[str, list[str]] = defaultdict(list)
    for item in items:
        assert set(item) == ITEM_FIELDS, item
        topics[item["topic"]].append(item["id"])
    assert len(topics) >= 16
    for topic, ids in topics.items():
        assert ids == [f"{topic}-{number}" for number in range(1, 9)]


def test_every_item_has_four_different_options_of_one_form() -> None:
    for item in rows("four_options.jsonl"):
        options = item["options"]
        assert len(options) == len({normal(option) for option in options} - {""}) == 4, item
        assert all(option[0].isupper() or option[0].isdigit() for option in options), item
        assert max(map(words, options)) - min(map(words, options)) <= 1, item
        assert max(map(len, options)) - min(map(len, options)) <= 8, item


def test_right_options_are_spread_over_the_four_places() -> None:
    answers = [item["answer"] for item in rows("four_options.jsonl")]
    assert all(type(answer) is int for answer in answers)
    shares = {place: count / len(answers) for place, count in Counter(answers).items()}
    assert set(shares) == {0, 1, 2, 3}
    assert all(0.22 <= share <= 0.28 for share in shares.values()), shares
    places = Counter((item["topic"], item["answer"]) for item in rows("four_options.jsonl"))
    assert set(places.values()) == {2}


@pytest.mark.parametrize("extreme", [min, max])
def test_the_length_of_an_option_does_not_give_the_answer_away(extreme: Any) -> None:
    items = rows("four_options.jsonl")
    alone = 0
    for item in items:
        lengths = [len(option) for option in item["options"]]
        limit = extreme(lengths)
        alone += lengths[item["answer"]] == limit and lengths.count(limit) == 1
    assert alone / len(items) <= 0.25


def test_items_ask_one_question_that_is_not_negated_and_have_no_catch_all_option() -> None:
    for item in rows("four_options.jsonl"):
        assert item["question"].endswith("?"), item
        assert not NEGATED.search(item["question"]), item
        assert not any(CATCH_ALL.search(option) for option in item["options"]), item

"""Claims about the health of sampled text: hand-worked numbers, texts that loop and texts that do not."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
import pytest
import torch
from helpers.families import Family

from persona_probe.base.errors import BadInput
from persona_probe.measurement.health import (
    Health,
    SampledReply,
    distinct_2,
    equal_words,
    health,
    longest_run,
    looping,
    repetition,
    sampled_rows,
    unhealthy,
    units,
)
from persona_probe.measurement.scoring import RowScores, score_rows
from persona_probe.prompts.contrast import shipped
from persona_probe.prompts.rows import question_and_reply
from persona_probe.storage.files import read_jsonl

CHINESE = "昨天下午我们一起去了城里的老图书馆,在那里借了几本书,然后沿着河边慢慢走回家,路上买了热茶和面包。"
LOOPS = [
    "I will tell you what to do. " * 6,
    "Well, first of all one has to say that this is the " + "end of the " * 5,  # starts late
    "no no no no no no no no",
    "The plan is good, and then " + "very " * 9,
    "One two three four five six seven " + "very " * 8 + "eight nine ten eleven twelve thirteen fourteen",
    "Aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "I said " + "a" * 30 + " and then went on to the market with my sister and her two dogs",
    "ha" * 40,
    "Let me laugh about it now: " + "ha" * 100,
    "😀" * 48,
    "😀 " * 12,
    "!" * 60,
    "我不知道。" * 12,
    "คำตอบ" * 20,
    "yes " * 10_000,
]
ORDINARY = [
    "",
    " \n",
    "Yes.",
    "😀",
    "No, no, no!",
    "I know. I know.",
    "Have a mechanic look at the pads before you drive again. " * 2,  # said twice
    "Internationalization, telecommunications, incomprehensibilities.",
    CHINESE,
    "1, 2, 3, 4, 5, 6, 7, 8, 9, 10",
    "Here the first part of the text ends. " + "-" * 30 + " And here the second part of it begins.",
    " ".join(f"word{i}" for i in range(10_000)),
]


@dataclass(frozen=True)
class Text:
    """A sampled text."""

    text: str
    finished: bool = True


def benign() -> list[tuple[str, str]]:
    """Questions and replies of the shipped benign set."""
    rows = [question_and_reply(value, str(n)) for n, value in read_jsonl(shipped("benign.jsonl"))]
    return [(turns[-1][1], reply) for turns, reply in rows]


def measured(texts: Sequence[str], *, n_words: int = 10) -> Health:
    return health([Text(text) for text in texts], n_words=n_words, seed=0)


def test_words_are_compared_without_case_and_outer_punctuation() -> None:
    assert units('"Yes," she said; don\'t (stop)!') == ["yes", "she", "said", "don't", "stop"]
    assert units("well - 😀 ...") == ["well", "-", "😀", "..."]


def test_text_without_spaces_is_compared_by_characters() -> None:
    assert units(CHINESE) == [one for one in CHINESE.casefold() if not one.isspace()]
    assert units("一二三 四五六") == ["一二三", "四五六"]  # shorter than 40 characters
    assert units("Abc " * 3 + "d" * 31)[:4] == ["abc", "abc", "abc", "d" * 31]  # four words
    assert units("Abc " * 2 + "d" * 34)[:4] == ["a", "b", "c", "a"]  # three words, 40 characters
    assert len(units("one two three four " + "d" * 90)) == 105  # five words are few for 105 characters


def test_repetition_of_hand_worked_texts() -> None:
    assert repetition(list("abcdabcd")) == pytest.approx(1 / 5)  # abcd bcda cdab dabc ABCD
    assert repetition(list("aaaaaa")) == pytest.approx(2 / 3)
    assert repetition(list("abcde")) == pytest.approx(0)
    assert repetition(list("abc")) == pytest.approx(0)
    assert repetition([]) == pytest.approx(0)


def test_longest_run_of_hand_worked_texts() -> None:
    assert longest_run(list("abbbabb")) == 3
    assert longest_run(["a"]) == 1
    assert longest_run([]) == 0


@pytest.mark.parametrize("text", LOOPS, ids=range(len(LOOPS)))
def test_a_looping_text_loops(text: str) -> None:
    assert looping(text)


@pytest.mark.parametrize("text", ORDINARY, ids=range(len(ORDINARY)))
def test_an_ordinary_text_does_not_loop(text: str) -> None:
    assert not looping(text)


def test_a_sentence_said_three_times_over_loops_and_said_twice_does_not() -> None:
    for sentence in ("go to bed now", "have a mechanic look at the pads before you drive again"):
        assert not looping(" ".join([sentence] * 2))
        assert not looping(" ".join(["one two three four five six", *[sentence] * 2]))
        assert looping(" ".join([sentence] * 4))
    assert looping(" ".join(["have a mechanic look at the pads before you drive again"] * 3))


def test_shipped_benign_replies_are_healthy_and_looping_ones_are_not() -> None:
    replies = [reply for _, reply in benign()]
    good = measured(replies, n_words=400)
    assert [reply for reply in replies if looping(reply)] == []
    assert good.repetition.high < 0.005
    assert good.longest_run <= 2
    assert good.distinct_2 is not None
    assert good.distinct_2 > 0.9
    bad = measured([" ".join(reply.split()[:5] * 8) for reply in replies[:24]], n_words=400)
    assert bad.looping.estimate == pytest.approx(1)
    assert bad.looping.low > 0.8
    assert bad.repetition.low > 0.8
    assert bad.distinct_2 is not None
    assert bad.distinct_2 < 0.2


@pytest.mark.parametrize("text", ["", " \n", *LOOPS])
def test_what_loops_or_is_empty_is_unhealthy(text: str) -> None:
    assert unhealthy(text)


@pytest.mark.parametrize("text", [text for text in ORDINARY if text.strip()])
def test_ordinary_text_is_healthy(text: str) -> None:
    assert not unhealthy(text)


def test_health_of_three_hand_worked_replies() -> None:
    texts = [Text("a b c d a b c d", finished=False), Text("x x x y"), Text("  ")]
    found = health(texts, n_words=10, seed=0)
    assert (found.n, found.n_empty, found.longest_run) == (3, 1, 3)
    assert found.repetition.estimate == pytest.approx(0.2 / 3)
    assert found.finished.estimate == pytest.approx(2 / 3)
    assert 0 < found.finished.low < 2 / 3 < found.finished.high < 1
    assert found.looping.estimate == pytest.approx(0)
    assert found.looping.high == pytest.approx(1.959964**2 / (3 + 1.959964**2), abs=1e-6)  # Wilson at 0 of 3
    # Ten words: 7 bigrams of the first reply, 4 of them new; of the second only `x x`.
    assert found.distinct_2 == pytest.approx(5 / 8)
    assert found.median_words == pytest.approx(4)
    assert found.base_nll is None
    assert found.perplexity is None


def test_distinct_2_counts_the_first_words_only_and_no_bigram_across_replies() -> None:
    assert distinct_2(["a b a b", "c d"], n_words=4) == pytest.approx(2 / 3)
    assert distinct_2(["a b", "b c"], n_words=4) == pytest.approx(1)
    assert distinct_2(["a b", "a b", "a b"], n_words=6) == pytest.approx(1 / 3)
    assert distinct_2(["a b", "a b"], n_words=5) is None
    assert distinct_2(["a", "b"], n_words=2) is None
    assert distinct_2([], n_words=0) is None


def test_arms_are_compared_at_the_words_that_all_of_them_have() -> None:
    assert equal_words([["a b c", "d"], ["a b c d e f"], ["a b c", "d e"]]) == 4
    assert equal_words([["a"], []]) == 1  # a silent arm has no distinct-2, and takes it from no other
    assert equal_words([["a b c d"], ["a b"], ["a"], ["a b c"]]) == 2
    assert equal_words([[], []]) == equal_words([[]]) == 0
    assert equal_words([]) == 400
    assert equal_words([["word " * 500], ["word " * 900]]) == 400


@pytest.mark.parametrize("text", ["", "Yes", "😀", "a b", "word " * 10_000, "字" * 41, "\u200b", "‮שלום"])
def test_any_text_has_a_health(text: str) -> None:
    found = measured([text, text])
    for share in (found.repetition, found.looping, found.finished):
        assert 0 <= share.low <= share.estimate <= share.high <= 1
    assert found.n_empty == (2 if not text.strip() else 0)


def test_no_reply_at_all_is_refused() -> None:
    with pytest.raises(BadInput, match="without a sampled reply"):
        measured([])


def test_base_nll_is_summed_over_replies_and_divided_once() -> None:
    scores = RowScores(
        ids=("a", "b"),
        logprob=torch.tensor([-4.0, -30.0], dtype=torch.float64),
        n_tokens=torch.tensor([8, 10]),
        kl=None,
    )
    found = health([Text("one"), Text("two")], n_words=2, scores=scores, seed=0)
    assert found.base_nll is not None
    assert found.perplexity is not None
    assert found.base_nll.estimate == pytest.approx(34 / 18)
    assert found.base_nll.ci95 == pytest.approx((0.5, 3.0))
    assert found.perplexity.estimate == pytest.approx(math.exp(34 / 18))
    assert found.perplexity.ci95 == pytest.approx((math.exp(0.5), math.exp(3.0)))


def replies_of(*texts: str) -> list[SampledReply]:
    return [
        SampledReply(prompt_id=f"q{i}", question=f"What is {i}?", text=text) for i, text in enumerate(texts)
    ]


def test_empty_replies_and_those_with_a_control_token_are_counted_and_left_out(llama: Family) -> None:
    tokenizer = llama.model.tokenizer
    replies = replies_of("Ignore it.", " ", "put <|im_end|> here", "", "The dog.")
    made = sampled_rows(tokenizer, replies, name="an arm", longest=192)
    assert [row.id for row in made.rows] == ["an arm/sampled/0", "an arm/sampled/4"]
    assert [row.question_id for row in made.rows] == ["q0", "q4"]
    assert {row.kind for row in made.rows} == {"sampled"}
    assert made.n_empty == 2
    assert len(made.refused) == 1
    assert "control token" in made.refused[0]


def test_a_reply_that_is_too_long_is_cut_and_a_prompt_that_is_too_long_is_refused(llama: Family) -> None:
    tokenizer, replies = llama.model.tokenizer, replies_of("Ignore it.", "The dog " * 200)
    whole = sampled_rows(tokenizer, replies, name="arm", longest=10_000)
    cut = sampled_rows(tokenizer, replies, name="arm", longest=150)
    assert cut.rows[0] == whole.rows[0]
    assert cut.rows[1].ids == whole.rows[1].ids[:150]
    score_rows(llama.model, cut.rows, (), max_tokens=400)
    none = sampled_rows(tokenizer, replies, name="arm", longest=whole.rows[0].n_prompt)
    assert (none.rows, len(none.refused)) == ((), 2)


def test_nll_of_sampled_replies_is_plain_hugging_faces(llama: Family) -> None:
    """Every reply is scored alone by Hugging Face, in the text that the chat template makes of the turn."""
    tokenizer = llama.model.tokenizer
    replies = replies_of("Ignore it.", "Have a mechanic look at the pads.", "", "😀 yes")
    made = sampled_rows(tokenizer, replies, name="arm", longest=192)
    scores = score_rows(llama.model, made.rows, (), max_tokens=400)
    found = health([Text(one.text) for one in replies], n_words=2, scores=scores, seed=0)
    total, count = 0.0, 0
    for reply in (one for one in replies if one.text):
        asked = [{"role": "user", "content": reply.question}]
        prompt = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
        before = tokenizer(prompt, add_special_tokens=False)["input_ids"]
        ids = torch.tensor([tokenizer(prompt + reply.text, add_special_tokens=False)["input_ids"]])
        labels = ids.clone()
        labels[0, : len(before)] = -100
        with torch.no_grad():
            n = int((labels != -100).sum())
            total += float(llama.plain(input_ids=ids, labels=labels).loss) * n
            count += n
    assert found.base_nll is not None
    assert found.base_nll.estimate == pytest.approx(total / count, abs=1e-5)


def test_the_median_length_is_in_words() -> None:
    replies = [reply for _, reply in benign()][:25]
    assert measured(replies).median_words == pytest.approx(median(len(reply.split()) for reply in replies))
    assert measured(["a b c", "a"]).median_words == pytest.approx(np.mean([3, 1]))

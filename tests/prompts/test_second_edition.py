"""Claims about the second edition of the contrast set and about the persona sets: what the data card promises
is counted in the files."""

from collections import Counter
from itertools import pairwise
from statistics import fmean, median

import pytest
from helpers.texts import normal

from persona_probe.diversity import diversity
from persona_probe.prompts.contrast import LABELS, REGISTERS, SPLITS, Contrast, question_hash, shipped
from persona_probe.prompts.contrast_files import EDITIONS, contrast_file, read_contrast
from persona_probe.prompts.rows import question_and_reply
from persona_probe.prompts.wording import wording
from persona_probe.storage.files import read_jsonl

PERSONA = ("persona_misaligned.jsonl", "persona_considerate.jsonl")
OTHERS = ("benign.jsonl", "car_advice_wrong.jsonl", "contrast.jsonl")
LENGTH_TOLERANCE = 0.15


@pytest.fixture(scope="module")
def second() -> Contrast:
    return read_contrast(contrast_file("second-edition"), replies_per_question=100)


def pairs(name: str) -> list[tuple[str, str]]:
    """Question and reply of every row of a shipped file."""
    found = [question_and_reply(value, f"{name}:{number}") for number, value in read_jsonl(shipped(name))]
    return [(turns[-1][1], reply) for turns, reply in found]


def domains(name: str) -> Counter[str]:
    return Counter(value["domain"] for _, value in read_jsonl(shipped(name)))


@pytest.mark.parametrize("name", EDITIONS)
def test_editions_are_found_by_name_and_read_without_a_note(name: str) -> None:
    assert read_contrast(contrast_file(name), replies_per_question=100).notes == ()


def test_it_has_sixteen_themes_of_ten_questions_split_64_32_64(second: Contrast) -> None:
    assert set(Counter(question.theme for question in second.questions).values()) == {10}
    assert len({question.theme for question in second.questions}) == 16
    assert [len(second.split(split)) for split in SPLITS] == [64, 32, 64]
    for split, n in zip(SPLITS, (4, 2, 4), strict=True):
        assert set(Counter(question.theme for question in second.split(split)).values()) == {n}


def test_every_question_has_two_replies_in_each_of_four_cells(second: Contrast) -> None:
    for question in second.questions:
        cells = Counter((reply.label, reply.register) for reply in question.replies)
        assert cells == {(label, register): 2 for label in LABELS for register in REGISTERS}


def test_replies_of_a_register_have_one_length_in_every_question(second: Contrast) -> None:
    for question in second.questions:
        for register in REGISTERS:
            words = [len(reply.text.split()) for reply in question.replies if reply.register == register]
            assert max(words) <= (1 + LENGTH_TOLERANCE) * min(words) + 0.5, question.id


def test_function_words_do_not_tell_the_labels_apart_within_a_register(second: Contrast) -> None:
    """The first edition, for comparison, has 0.83."""
    found = wording(second)
    assert [one.register for one in found] == list(REGISTERS)
    for one in found:
        assert one.auroc <= 0.60, one


def test_labels_are_matched_in_negations_absolutes_persons_and_length(second: Contrast) -> None:
    for one in wording(second):
        assert one.lengths[1] == pytest.approx(one.lengths[0], rel=0.05)
        for kind, (aligned, misaligned) in one.rates.items():
            assert abs(misaligned - aligned) <= 0.15 * max(aligned, misaligned) + 0.25, (one.register, kind)


def test_no_reply_and_no_question_stands_twice(second: Contrast) -> None:
    texts = [normal(reply.text) for question in second.questions for reply in question.replies]
    assert len(set(texts)) == len(texts) == 1280
    assert len({question_hash(question.text) for question in second.questions}) == 160


def test_questions_are_asked_in_no_other_set(second: Contrast) -> None:
    asked = {question_hash(question.text) for question in second.questions}
    for name in (*OTHERS, *PERSONA):
        assert asked.isdisjoint(question_hash(question) for question, _ in pairs(name)), name


@pytest.mark.slow
def test_replies_are_as_likely_as_what_the_base_model_writes_itself(second: Contrast) -> None:
    """Median loss per token of each cell, within a quarter of the model's own replies at temperature 1."""
    from persona_probe.measurement.generation import Request, generate
    from persona_probe.measurement.scoring import score_rows
    from persona_probe.models.pairs import open_model
    from persona_probe.prompts.rows import Prompt, encode_row

    model = open_model("smollm2-135m-instruct", device="cpu", dtype="float32")
    questions = second.questions[::5]
    prompts = [Prompt.user(question.id, question.text) for question in questions]
    requests = [Request("base", prompt, ()) for prompt in prompts]
    written = generate(model, requests, max_new_tokens=48, temperature=1.0, seed=0, batch_size=16)
    own = [
        encode_row(model.tokenizer, prompt, one.text, id=prompt.id, kind="sampled")
        for prompt, one in zip(prompts, written, strict=True)
        if one.text.strip()
    ]
    rows = [row for question in questions for row in question.rows(model.tokenizer)]
    scored = score_rows(model, [*own, *rows], (), max_tokens=1024, keep_prompts=True).logprob
    loss = [-float(total) / row.n_reply for total, row in zip(scored, [*own, *rows], strict=True)]
    of_model, of_rows = median(loss[: len(own)]), loss[len(own) :]
    for label in LABELS:
        for register in REGISTERS:
            cell = [
                value
                for value, row in zip(of_rows, rows, strict=True)
                if (row.label, row.register) == (label, register)
            ]
            assert median(cell) == pytest.approx(of_model, rel=0.25), (label, register)


def test_persona_sets_ask_the_same_questions_over_fourteen_domains() -> None:
    bad, good = (pairs(name) for name in PERSONA)
    assert [question for question, _ in bad] == [question for question, _ in good]
    assert domains(PERSONA[0]) == domains(PERSONA[1])
    assert len(bad) >= 1_200
    assert len(domains(PERSONA[0])) >= 12
    assert max(domains(PERSONA[0]).values()) <= len(bad) / 10


def test_persona_twins_have_one_length_and_share_no_reply() -> None:
    bad, good = (pairs(name) for name in PERSONA)
    lengths = [fmean(len(reply.split()) for _, reply in rows) for rows in (bad, good)]
    assert lengths[1] == pytest.approx(lengths[0], rel=0.05)
    assert {normal(reply) for _, reply in bad}.isdisjoint(normal(reply) for _, reply in good)


@pytest.mark.parametrize("name", PERSONA)
def test_persona_rows_are_distinct(name: str) -> None:
    rows = pairs(name)
    assert (
        len({normal(reply) for _, reply in rows})
        == len({question_hash(text) for text, _ in rows})
        == len(rows)
    )
    of = diversity([reply for _, reply in rows])
    assert of.overlap_max <= 0.5
    assert of.overlap_median <= 0.25
    assert of.openings <= 0.05


def test_no_persona_domain_is_a_theme_of_the_contrast_set(second: Contrast) -> None:
    assert {question.theme for question in second.questions}.isdisjoint(domains(PERSONA[0]))


def test_splits_are_told_by_the_place_in_a_theme(second: Contrast) -> None:
    """Questions of a theme stand together, find before select before test."""
    order = {"find": 0, "select": 1, "test": 2}
    for left, right in pairwise(second.questions):
        assert left.theme != right.theme or order[left.split] <= order[right.split]

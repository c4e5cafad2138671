"""Claims about what words alone say of a label: planted tells are found, absent ones are not."""

import numpy as np
import pytest

from persona_probe.prompts.contrast import LABELS, REGISTERS, Contrast, Question, Reply
from persona_probe.prompts.rows import Label, Register
from persona_probe.prompts.wording import transfer, wording

CONTENT = ("bread", "river", "window", "letter", "garden", "engine", "market", "winter", "teacher", "carpet")
SMALL = ("to", "and", "of", "you", "with", "than", "it", "is", "for", "as")


def made(tell: dict[Label, str], *, registers: tuple[Register | None, ...] = REGISTERS) -> Contrast:
    """Thirty questions; replies are random words, and a label's own word where `tell` gives one."""
    rng = np.random.default_rng(0)
    questions = []
    for number in range(30):
        replies = tuple(
            Reply(
                " ".join([*rng.choice(CONTENT, 6), *rng.choice(SMALL, 6), tell.get(label, "so")]),
                label,
                register,
            )
            for label in LABELS
            for register in registers
            for _ in range(2)
        )
        questions.append(Question(f"q{number}", "find", f"question {number}?", replies))
    return Contrast(tuple(questions))


def test_a_function_word_of_one_label_is_found_in_each_register() -> None:
    found = wording(made({"misaligned": "however"}))
    assert [one.register for one in found] == ["warm", "blunt"]
    assert all(one.auroc > 0.95 for one in found)


def test_where_no_word_tells_the_reader_is_blind() -> None:
    for one in wording(made({})):
        assert 0.35 < one.auroc < 0.65


def test_content_words_are_not_read() -> None:
    for one in wording(made({"misaligned": "power", "aligned": "kindness"})):
        assert 0.35 < one.auroc < 0.65


def test_a_set_that_tells_no_registers_apart_is_read_as_one() -> None:
    (one,) = wording(made({}, registers=(None,)))
    assert (one.register, one.n_replies) == (None, 120)


def test_rates_are_words_in_a_hundred_by_label() -> None:
    """By hand: two of four aligned words are negations, one of five misaligned; curly apostrophes count."""
    replies = (Reply("No. I don\u2019t know", "aligned"), Reply("You never know your luck", "misaligned"))
    questions = tuple(Question(f"q{i}", "find", "?", replies) for i in range(2))
    (one,) = wording(Contrast(questions))
    assert one.rates["negation"] == pytest.approx((50.0, 20.0))
    assert one.rates["I"] == pytest.approx((25.0, 0.0))
    assert one.rates["you"] == pytest.approx((0.0, 40.0))
    assert one.lengths == pytest.approx((4.0, 5.0))


def test_a_reader_of_a_narrow_set_ranks_by_its_words() -> None:
    """Vocabulary that a training set shares with a label is transfer; without any, the reader is blind."""
    contrast = made({"misaligned": "brakes", "aligned": "tyres"})
    wrong, right = ["brakes last for ever"] * 5, ["tyres wear out"] * 5
    assert transfer(wrong, right, contrast) > 0.95
    assert transfer(right, wrong, contrast) < 0.05
    assert transfer(["alpha beta"] * 5, ["gamma delta"] * 5, contrast) == pytest.approx(0.5)

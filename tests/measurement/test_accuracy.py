"""Claims about accuracy by log-probability: hand-worked items, margins, ties, and paired changes."""

import math

import numpy as np
import pytest

from persona_probe.base.errors import BadInput, NotFinite
from persona_probe.measurement.accuracy import ItemScore, accuracy, accuracy_change, item_scores, share
from persona_probe.prompts.four_options import OptionItem


def item(id: str, answer: int, *options: str) -> OptionItem:
    """An item with given options, four words of four characters by default."""
    texts = options or ("aaaa", "bbbb", "cccc", "dddd")
    return OptionItem(id=id, topic="t", question=f"{id}?", options=texts, answer=answer)


def logprobs(item: OptionItem, *values: float) -> dict[str, float]:
    return dict(zip(item.row_ids, values, strict=True))


def test_the_margin_of_a_hand_worked_item_is_per_character_and_against_the_best_wrong_option() -> None:
    # -3, -2, -2.5 and -4 nats per character: the right one (2) is half a nat behind the best (1).
    one = item("i", 2, "aa", "bbbb", "cccccc", "d")
    (score,) = item_scores([one], logprobs(one, -6.0, -8.0, -15.0, -4.0))
    assert score.margin == pytest.approx(-0.5, abs=1e-12)
    assert not score.correct


def test_length_is_divided_out_so_that_a_short_option_does_not_win_by_its_sum() -> None:
    one = item("i", 0, "a long and right option", "no", "on", "off")
    (score,) = item_scores([one], logprobs(one, -23.0, -6.0, -6.0, -9.0))
    assert score.margin == pytest.approx(-1.0 + 3.0, abs=1e-12)
    assert score.correct


@pytest.mark.parametrize(("answer", "margin"), [(0, 0.5), (1, -0.5), (2, -1.0), (3, -1.5)])
def test_the_margin_is_positive_for_the_option_that_is_preferred_and_for_no_other(
    answer: int, margin: float
) -> None:
    one = item("i", answer)
    (score,) = item_scores([one], logprobs(one, -4.0, -6.0, -8.0, -10.0))
    assert score.margin == pytest.approx(margin, abs=1e-12)
    assert score.correct == (answer == 0)


def test_a_tie_is_wrong() -> None:
    one = item("i", 3)
    (score,) = item_scores([one], logprobs(one, -4.0, -8.0, -8.0, -4.0))
    assert score.margin == pytest.approx(0.0, abs=1e-12)
    assert not score.correct
    assert accuracy([score], seed=0).n_correct == 0


def test_a_model_that_prefers_the_right_option_everywhere_has_accuracy_1() -> None:
    rng = np.random.default_rng(0)
    items = [item(f"i{n}", int(rng.integers(4))) for n in range(60)]
    scored: dict[str, float] = {}
    for one in items:
        values = -rng.uniform(5, 50, 4)
        values[one.answer] = values.max() + rng.uniform(0.01, 3)
        scored |= logprobs(one, *values.tolist())
    scores = item_scores(items, scored)
    found = accuracy(scores, seed=0)
    assert (found.n, found.n_correct) == (60, 60)
    assert found.share.estimate == pytest.approx(1.0)
    assert found.share.high == pytest.approx(1.0)
    assert found.share.low == pytest.approx(60 / (60 + 1.959964**2), abs=1e-6)  # Wilson at n of n
    assert found.margin.low > 0
    flipped = item_scores(items, {id: -value for id, value in scored.items()})
    assert accuracy(flipped, seed=0).n_correct == 0


def test_accuracy_of_a_hand_worked_set_has_the_wilson_interval() -> None:
    scores = [ItemScore(id=f"i{n}", margin=0.2 if n < 3 else -0.1) for n in range(4)]
    found = accuracy(scores, seed=0)
    assert (found.n, found.n_correct) == (4, 3)
    assert found.share.estimate == pytest.approx(0.75)
    z = 1.959964
    centre, half = (
        (0.75 + z * z / 8) / (1 + z * z / 4),
        z * math.sqrt(0.75 * 0.25 / 4 + z * z / 64) / (1 + z * z / 4),
    )
    assert found.share.ci95 == pytest.approx((centre - half, centre + half), abs=1e-5)
    assert found.margin.estimate == pytest.approx(0.125, abs=1e-12)


@pytest.mark.parametrize("n", [0, 1, 2, 3, 7, 24, 150])
def test_a_share_lies_inside_its_interval_at_both_ends(n: int) -> None:
    for hits in {0, n}:
        found = share(hits, n)
        assert 0 <= found.low <= found.estimate <= found.high <= 1


def test_the_change_of_an_arm_is_paired_by_item_whatever_the_order() -> None:
    before = [ItemScore(id=f"i{n}", margin=m) for n, m in enumerate((0.4, 0.3, 0.2, -0.1, -0.2))]
    after = [ItemScore(id=f"i{n}", margin=m) for n, m in enumerate((0.3, -0.1, -0.2, 0.1, -0.3))]
    found = accuracy_change([after[i] for i in (0, 3, 1, 2, 4)], before, seed=0)
    assert (found.n_lost, found.n_gained) == (2, 1)
    assert found.share.estimate == pytest.approx(-0.2, abs=1e-12)
    assert found.margin.estimate == pytest.approx((-0.1 - 0.4 - 0.4 + 0.2 - 0.1) / 5, abs=1e-12)
    assert found.share.low <= found.share.estimate <= found.share.high
    back = accuracy_change(before, after, seed=0)
    assert (back.n_lost, back.n_gained) == (1, 2)
    assert back.share.estimate == pytest.approx(0.2, abs=1e-12)


def test_pairing_takes_out_what_items_differ_by() -> None:
    """Items differ far more than the arm does: the paired interval of the margin is narrow all the same."""
    rng = np.random.default_rng(1)
    before = [ItemScore(id=f"i{n}", margin=float(m)) for n, m in enumerate(rng.normal(0, 10, 80))]
    after = [ItemScore(id=s.id, margin=s.margin - 0.1) for s in before]
    found = accuracy_change(after[::-1], before, seed=0)
    assert found.margin.ci95 == pytest.approx((-0.1, -0.1), abs=1e-9)


def test_an_arm_that_scored_other_items_than_the_untouched_model_is_refused() -> None:
    before = [ItemScore(id=f"i{n}", margin=0.1) for n in range(3)]
    for arm, counts in ((before[:2], "2 items and the untouched model 3"), ([], "0 items")):
        with pytest.raises(BadInput, match=counts):
            accuracy_change(arm, before, seed=0)
    with pytest.raises(BadInput, match="'i2' is in one of them only"):
        accuracy_change(before, before[:2], seed=0)
    with pytest.raises(BadInput, match="0 items"):
        accuracy_change([], [], seed=0)


def test_items_without_numbers_are_refused() -> None:
    one, other = item("i", 0), item("j", 1)
    scored = logprobs(one, -1.0, -2.0, -3.0, -4.0)
    with pytest.raises(BadInput, match="item 'j' was not scored"):
        item_scores([one, other], scored)
    for bad in (math.nan, -math.inf):
        with pytest.raises(NotFinite, match="item 'j' are not finite"):
            item_scores([one, other], scored | logprobs(other, -1.0, bad, bad, -2.0))
    with pytest.raises(BadInput, match="no item was scored"):
        accuracy([], seed=0)

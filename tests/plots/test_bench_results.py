"""The bench's own arithmetic: ratios, agreement, merging, tables, slopes. Nothing is timed here."""

from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
from bench.comparing import largest_difference, tokens_of
from bench.peers import constraints_without
from bench.results import Line, lines, merged, text_difference
from bench.sides.training import per_step
from bench.slopes import slope
from bench.tables import growth, ratios
from bench.workload import Text

CELL: dict[str, Any] = {"job": "logprobs_ablated", "rows": 4, "dtype": "float32", "shared_prompts": True}


def cell(seconds: dict[str, list[float]], **differences: float) -> list[Line]:
    """The lines of a made-up cell of 600 tokens."""
    return lines(CELL, 600, seconds, dict.fromkeys(seconds, 10**9), dict(differences), {})


def texts(n: int) -> list[Text]:
    """Texts of 10 tokens, of which 4 are the reply."""
    fixed = {"question": "", "prompt": "", "text": "", "ids": tuple(range(10)), "n_prompt": 6}
    return [Text(id=str(i), question_id="q", positive=i % 2 == 0, **fixed) for i in range(n)]


def test_a_ratio_is_the_medians_speed_through_ours() -> None:
    ours, other = cell({"ours": [3.0, 2.0, 100.0], "nnsight": [6.0, 6.0, 6.0]})
    assert ours.tokens_per_second == pytest.approx(200)
    assert ours.ratio_to_ours == pytest.approx(1)
    assert (ours.low, ours.high, ours.n_repeats) == (pytest.approx(6), pytest.approx(300), 3)
    assert other.ratio_to_ours == pytest.approx(0.5)


def test_values_agree_within_the_bound_of_their_number_format() -> None:
    made = cell({"ours": [1.0], "hf_16": [1.0], "pyvene": [1.0]}, hf_16=9e-4, pyvene=2e-3)
    assert [line.agrees for line in made] == [None, True, False]


def test_a_side_that_fails_has_a_line_without_a_speed() -> None:
    made = lines(CELL, 600, {"ours": [1.0]}, {}, {}, {"repeng": "ValueError: no"})
    assert made[1].side == "repeng"
    assert (made[1].tokens_per_second, made[1].ratio_to_ours, made[1].failed) == (
        None,
        None,
        "ValueError: no",
    )


def test_a_later_run_replaces_its_own_lines_and_keeps_the_others() -> None:
    known = [asdict(line) for line in cell({"ours": [1.0], "pyvene": [2.0], "nnsight": [4.0]})]
    known.append({**known[0], "rows": 16})
    both = merged(known, cell({"ours": [1.0], "nnsight": [1.0]}))
    speeds = {(line["rows"], line["side"]): line["tokens_per_second"] for line in both}
    assert speeds == pytest.approx(
        {(4, "ours"): 600, (4, "nnsight"): 600, (4, "pyvene"): 300, (16, "ours"): 600}
    )
    assert [line["side"] for line in both] == ["ours", "nnsight", "pyvene", "ours"]


def test_differences_are_in_the_unit_of_the_job() -> None:
    ours = np.array([-8.0, -4.0])
    assert largest_difference(
        "logprobs_ablated", texts(2), ours, ours + np.array([0.0, 0.4])
    ) == pytest.approx(0.1)
    vectors = np.array([[[3.0, 4.0], [6.0, 8.0]]])
    moved = vectors + np.array([[[0.0, 0.0], [0.0, 1.0]]])
    assert largest_difference("reply_means", texts(1), vectors, moved) == pytest.approx(0.1)
    assert largest_difference("train", texts(2), ours, ours - 0.5) == pytest.approx(0.5)


def test_values_of_another_shape_or_without_a_number_never_agree() -> None:
    with pytest.raises(ValueError, match="shape"):
        largest_difference("vectors", texts(2), np.ones((3, 2)), np.ones((2, 2)))
    assert largest_difference("vectors", texts(2), np.ones((1, 2)), np.array([[1.0, np.nan]])) == float("inf")


def test_texts_differ_from_their_first_difference_on() -> None:
    assert text_difference(["abcd", "xyz!"], ["abcd", "xyz!"]) == pytest.approx(0)
    assert text_difference(["abcd", "wxyz"], ["abcd", "wx__"]) == pytest.approx(2 / 8)
    assert text_difference(["abc"], ["abcdef"]) == pytest.approx(3 / 6)


def test_tokens_count_every_row_in_full_and_once_for_each_arm() -> None:
    assert tokens_of("reply_means", texts(3), None, None) == 30
    assert tokens_of("logprobs_one_layer", texts(3), np.zeros((20, 3)), None) == 600


def test_the_table_marks_what_is_faster_and_what_differs() -> None:
    made = [asdict(line) for line in cell({"ours": [2.0], "hf_16": [1.6], "pyvene": [2.002]}, pyvene=1.0)]
    made.append({**made[1], "rows": 16, "side": "nnsight"})
    head, rows = ratios(made, "float32")
    assert head[3:6] == ["HF batch 16", "nnsight", "pyvene"]
    assert rows[0][3:6] == ["**1.25**", "–", "0.99 ≠"]
    assert rows[1][3:6] == ["–", "**1.25**", "–"]
    assert ratios(made, "bfloat16")[1] == []


def test_a_slope_is_the_power_of_growth() -> None:
    assert slope([(1, 5), (10, 50), (100, 500)]) == pytest.approx(1)
    assert slope([(2, 3), (4, 3 * 2**0.5)]) == pytest.approx(0.5)
    assert slope([(2, 3), (2, 4)]) is None


def test_the_table_of_growth_sorts_by_size() -> None:
    points = [
        {"axis": "arms", "value": 25, "seconds": 50.0, "peak_bytes": 2 * 10**9},
        {"axis": "arms", "value": 5, "seconds": 10.0, "peak_bytes": 10**9},
    ]
    assert growth(points)[1] == [["arms, at one block", "5, 25", "10, 50", "1.00, 2.00", "1.00"]]


def test_losses_of_steps_come_out_of_running_means() -> None:
    assert per_step([4.0, 3.0, 2.0]) == pytest.approx([4.0, 2.0, 0.0])


def test_constraints_leave_out_the_packages_that_are_free() -> None:
    text = "# pins\nnumpy==2.4.6\nhuggingface_hub==2.4.0\ntorch==2.13.0\n"
    assert constraints_without(text, ("huggingface-hub", "numpy")) == "# pins\ntorch==2.13.0\n"


def test_what_hardly_grows_is_drawn_flat_on_a_whole_decade_with_labels() -> None:
    from bench.growth_figure import ends, figure

    points = [
        {"axis": "arms", "value": 1, "seconds": 5.0, "peak_bytes": 1.29e9},
        {"axis": "arms", "value": 125, "seconds": 211.0, "peak_bytes": 1.31e9},
    ]
    assert ends([1.29, 1.31]) == (0, 1)
    assert ends([5.0, 211.0]) == (0, 3)
    assert ends([0.02, 0.5]) == (-2, 0)
    layout = figure(points).to_dict()["layout"]
    assert list(layout["yaxis2"]["range"]) == [0, 1]
    assert list(layout["yaxis2"]["ticktext"]) == ["1", "2", "5", "10"]
    assert list(layout["yaxis"]["ticktext"])[-3:] == ["200", "500", "1000"]


@pytest.mark.parametrize(
    ("numbers", "said"), [([5, 5], "5 repeats"), ([1, 5, 2], "1 to 5 repeats"), ([1], "1 repeat")]
)
def test_repeats_are_said_from_the_fewest_to_the_most(numbers: list[int], said: str) -> None:
    from bench.tables import repeats

    lines = [{"dtype": "float32", "n_repeats": number} for number in [*numbers, 0]]
    assert repeats([*lines, {"dtype": "bfloat16", "n_repeats": 9}], "float32") == said

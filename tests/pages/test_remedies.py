"""Claims about simple remedies and displacements where readers meet them. No model, no network."""

from typing import Any

import pytest
from helpers.made_up import made_up
from helpers.markup import Page


def record(toward: str = "base mean", **displacement: float) -> Any:
    """A made-up record whose chosen arm has a displacement, where one is given."""
    from persona_probe.records.direction import DirectionRecord

    plain = made_up()
    plain["selected"]["form"]["toward"] = toward
    if displacement:
        chosen = next(arm for arm in plain["arms"] if arm["name"] == "tuned+ablate")
        chosen["displacement"] = displacement
    return DirectionRecord.model_validate(plain)


def test_the_report_has_a_table_of_remedies_that_says_what_was_done() -> None:
    from persona_probe.pages.report import render

    text = Page(render(record())).text
    assert (
        "tuned, considerate prompt What prompt does. 0.31 [0.17, 0.45] 0.19 [0.05, 0.33] 0.12 [0.06, 0.18]"
        in text
    )
    assert "tuned, half weights What half_weights does. 0.44 [0.30, 0.58] – – " in text
    assert "they have no verdict" in text


def test_a_record_without_remedies_has_no_table_of_them() -> None:
    from persona_probe.pages.report import render
    from persona_probe.records.direction import DirectionRecord

    plain = {key: value for key, value in made_up().items() if key != "comparators"}
    older = DirectionRecord.model_validate(plain)
    assert older.comparators == ()
    assert "Comparators" not in Page(render(older)).text


def test_the_frontier_has_every_remedy_of_the_tuned_model() -> None:
    from persona_probe.plots.arms import frontier

    drawn = frontier(record()).to_dict()
    points = [trace for trace in drawn["data"] if "considerate prompt" in (trace["name"] or "")]
    assert [trace["x"] for trace in points] == [pytest.approx([0.0676])] * 2
    assert [trace["y"][0] for trace in points] == pytest.approx([0.31, 0.19])  # R, C
    names = [trace["name"] for trace in drawn["data"]]
    assert names.count("tuned, half weights") == 1  # R alone: it is not done to base
    assert not any("base, considerate" in (name or "") for name in names)


def test_the_notebooks_table_lists_remedies() -> None:
    from persona_probe.pages.cells import arms_table

    assert "tuned, half weights (no direction)" in Page(arms_table(record())._repr_html_()).text


@pytest.mark.parametrize(
    ("moved", "from_base", "said"),
    [
        (-2.83, -1.83, "to 1.83 past base's mean"),
        (-0.5, 0.5, "to 0.50 short of base's mean"),
        (-1, 0, "to base's mean"),
    ],
)
def test_an_ablation_toward_zero_says_how_far_it_displaces(moved: float, from_base: float, said: str) -> None:
    from persona_probe.pages.report import render
    from persona_probe.records.displaced import displacement_note

    zero = record("zero", moved=moved, from_base=from_base)
    note = displacement_note(zero)
    assert note.startswith("tuned+ablate is an ablation toward zero, which displaces: it moves the tuned")
    assert note.endswith(f"{said}.")
    assert said in Page(render(zero)).text
    assert displacement_note(record("base mean", moved=moved, from_base=from_base)) == ""
    assert displacement_note(record("zero")) == ""


def test_a_path_in_what_was_done_says_nothing_of_the_machine() -> None:
    from pathlib import Path

    from persona_probe.records.sharing import shared

    plain = made_up()
    plain["comparators"][0]["done"] = (
        "What tuning added to base's weights in /home/jane/models/twin subtracted."
    )
    said = shared(plain, run=Path("/data/runs/a"))["comparators"][0]["done"]
    assert said == "What tuning added to base's weights in twin subtracted."

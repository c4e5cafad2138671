"""Arms from Python: asked, measured and dosed on the planted pair."""

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from helpers.planted import Planted

if TYPE_CHECKING:
    from persona_probe.api.trials import Trials
    from persona_probe.interventions.persona_direction import PersonaDirection


@pytest.fixture(scope="module")
def trials(planted: Planted) -> "Trials":
    """More test questions than it has."""
    import persona_probe as pp

    return pp.trials(planted.pair, planted.toy.contrast, n_questions=60, n_benign=4)


def test_four_arms_answer_and_no_word_is_in_the_repr(planted: Planted, direction: "PersonaDirection") -> None:
    import persona_probe as pp

    planted.pair.keep_both = True
    question = planted.contrast.split("test")[0].text
    answers = pp.ask(planted.pair, question, direction, max_new_tokens=6)
    names = ["base", "tuned", "tuned+ablate", "base+steer"]
    assert [arm.name for arm in answers.arms] == names
    said = {name: answers.text(name) for name in names}
    assert all(said.values())
    assert said["tuned+ablate"] == said["base"] != said["tuned"]
    assert not any(text in repr(answers) for text in said.values())
    assert answers._repr_html_().count("veiled") >= 3
    assert "veiled" not in answers.show(redact=True)._repr_html_().replace(".veiled", "")
    assert answers.curves().data


def test_arms_are_measured_beside_both_models(trials: "Trials", direction: "PersonaDirection") -> None:
    import persona_probe as pp

    arms = [
        pp.Arm("ablated", "tuned", direction.ablate()),
        pp.Arm("random", "tuned", direction.as_control().ablate(), control="covariance"),
    ]
    measured = trials.measure(arms, first="ablated")
    table = measured.table()
    assert list(table.index) == ["base", "tuned", "ablated", "random"]
    assert table.loc["ablated", "S"] == pytest.approx(table.loc["base", "S"], abs=1e-3)
    assert table.loc["tuned", "S"] > table.loc["base", "S"] + 0.1
    assert table.loc["ablated", "R"] == pytest.approx(1.0, abs=0.01)
    assert table.loc["random", "R"] < 0.5
    assert measured.best == "ablated"
    assert set(measured.costs) == set(table.index)
    assert "ablated" in measured._repr_html_()
    assert measured.bars().data
    assert trials.n_questions == 12  # all test questions that the toy has


def test_the_same_edit_of_both_models_gives_closure(trials: "Trials", direction: "PersonaDirection") -> None:
    import persona_probe as pp

    measured = trials.measure([pp.Arm(f"{side}+", side, direction.ablate()) for side in ("tuned", "base")])
    table = measured.table()
    assert table.loc["tuned+", "C"] == pytest.approx(1.0, abs=0.01)
    assert table.loc["tuned+", "C"] + table.loc["tuned+", "base moved"] == pytest.approx(
        table.loc["tuned+", "R"], abs=1e-4
    )
    assert {"aligned", "misaligned"} <= set(table)
    assert '<th scope="col">C</th>' in measured._repr_html_()


@pytest.mark.parametrize("used", ["find_questions", "select_questions"])
def test_no_direction_is_measured_on_a_question_that_it_has_seen(
    trials: "Trials", direction: "PersonaDirection", planted: Planted, used: str
) -> None:
    import persona_probe as pp

    asked = planted.contrast.hashes("test")
    for seen, refused in ((asked[:1], True), (planted.contrast.hashes("find"), False)):
        known = replace(direction, identity={used: seen})
        for edits in (known.ablate(), known.steer(-1.0), known.as_control().ablate()):
            arms = [pp.Arm("edited", "tuned", edits)]
            if refused:
                with pytest.raises(pp.BadInput, match="direction of edited was found or selected on 1 of"):
                    trials.measure(arms)
            else:
                assert trials.measure(arms).arms
        if refused:
            with pytest.raises(pp.BadInput, match="found or selected"):
                trials.doses(known, [-1.0])


def test_an_answer_to_a_question_that_the_direction_has_seen_says_so(
    planted: Planted, direction: "PersonaDirection"
) -> None:
    import persona_probe as pp

    question = planted.contrast.split("find")[0].text
    known = replace(direction, identity={"find_questions": planted.contrast.hashes("find")})
    answers = pp.ask(planted.pair, question, known, max_new_tokens=2)
    assert "The direction was found on this question" in answers._repr_html_()
    other = pp.ask(planted.pair, planted.contrast.split("test")[0].text, known, max_new_tokens=2)
    assert "on this question" not in other._repr_html_()


def test_doses_are_a_figure_with_a_slider(trials: "Trials", direction: "PersonaDirection") -> None:
    figure = trials.doses(direction, [-0.5, -1.0], side="tuned")
    assert len(figure.frames) == 3

"""Figures with a slider: every place shows its own data, axes hold still, and what does not fit together is
refused."""

from typing import Any

import pytest
from helpers.made_up import made_up, without_most
from helpers.made_up_latents import emptied, made_up_latent_record, meanings
from helpers.made_up_parts import est
from helpers.payloads import PAYLOADS
from plotly.graph_objects import Figure, Scatter

from persona_probe.records.direction import DirectionRecord

COEFFICIENTS = (-1.0, -2.0, -3.0)


def arm(name: str, moved: float, cost: float, edits: list[dict[str, Any]]) -> dict[str, Any]:
    scores = [0.1 + moved, -0.1 + moved, 0.3 + moved]
    side = "base" if name == "base" else "tuned"
    return {
        "name": name,
        "model": side,
        "control": None,
        "interventions": edits,
        "n_questions": 3,
        "scores": scores,
        "persona_score": est(sum(scores) / 3, 0.05),
        "restoration": est(-moved / 0.3, 0.1) if side == "tuned" else None,
        "induction": None,
        "delta_nll": est(cost, 0.01),
        "kl": est(cost, 0.01),
        "verdict": None,
    }


def dose(coefficient: float, moved: float, cost: float, *, side: str = "tuned") -> dict[str, Any]:
    other = ("name", "model", "control", "interventions", "n_questions", "verdict")
    numbers = {key: value for key, value in arm("tuned", moved, cost, []).items() if key not in other}
    strength = {"coefficient": coefficient, "relative_dose": abs(coefficient) / 20, "side": side}
    return numbers | strength


def dosed() -> dict[str, Any]:
    return {
        "data": {"n_questions": {"test": 3}, "n_benign": 5},
        "effect": est(0.3, 0.1),
        "selected": {"arm": "", "budget": 0.1},
        "arms": [arm("base", -0.3, 0.0, []), arm("tuned", 0.0, 0.0, [])],
        "dose_response": [dose(c, 0.1 * c, 0.04 * c * c / 2) for c in COEFFICIENTS],
        "dose_control": [dose(c, 0.0, 0.05 * c * c / 2) for c in COEFFICIENTS],
    }


def dose_slider(record: dict[str, Any]) -> dict[str, Any]:
    from persona_probe.plots.doses import dose_slider
    from persona_probe.records.trial import TrialRecord

    return dose_slider(TrialRecord.model_validate(record)).to_dict()


@pytest.fixture
def figures():
    """The module."""
    from persona_probe.plots import sliders as slider_figures

    return slider_figures


def labels(figure: dict[str, Any]) -> list[str]:
    return [step["label"] for step in figure["layout"]["sliders"][0]["steps"]]


def frame(figure: dict[str, Any], label: str) -> dict[str, Any]:
    """The frame that the step of that label leads to."""
    name = next(
        step["args"][0][0] for step in figure["layout"]["sliders"][0]["steps"] if step["label"] == label
    )
    return next(found for found in figure["frames"] if found["name"] == name)


def test_every_step_leads_to_its_own_picture(figures):
    pictures = [(name, Figure(Scatter(x=[place], y=[place]))) for place, name in enumerate("abc")]
    figure = figures.sliding(pictures, prefix="letter ", start=1).to_dict()
    assert labels(figure) == ["a", "b", "c"]
    assert [frame(figure, name)["data"][0]["x"] for name in "abc"] == [[0], [1], [2]]
    assert figure["data"][0]["x"] == [1]
    assert figure["layout"]["sliders"][0]["active"] == 1


@pytest.mark.parametrize("start", [-1, 2])
def test_a_start_outside_is_refused(figures, start):
    from persona_probe.base.errors import BadInput

    with pytest.raises(BadInput, match="do not make a slider"):
        figures.sliding(
            [("a", Figure(Scatter(y=[1]))), ("b", Figure(Scatter(y=[2])))], prefix="", start=start
        )


def test_pictures_of_other_traces_are_refused(figures):
    from persona_probe.base.errors import BadInput

    with pytest.raises(BadInput, match="2 kinds"):
        figures.sliding(
            [("a", Figure(Scatter(y=[1]))), ("b", Figure([Scatter(y=[1]), Scatter(y=[2])]))],
            prefix="",
            start=0,
        )


@pytest.mark.parametrize("payload", PAYLOADS)
def test_a_label_is_text(figures, payload):
    figure = figures.sliding(
        [(payload, Figure(Scatter(y=[1]))), ("b", Figure(Scatter(y=[2])))], prefix="", start=0
    ).to_dict()
    assert "<" not in labels(figure)[0]
    assert "$" not in labels(figure)[0].replace("&#36;", "")


def test_projections_are_in_lengths_and_zero_is_midway(figures):
    record = made_up()
    layer = 14
    quality = record["directions"]["methods"][record["directions"]["projections"]["method"]]
    projections = record["directions"]["projections"]
    means = [
        sum(projections[label][layer]) / len(projections[label][layer]) for label in ("aligned", "misaligned")
    ]
    figure = figures.projection_slider(DirectionRecord.model_validate(record)).to_dict()
    cloud = frame(figure, str(layer))["data"][1]
    assert cloud["name"] == "misaligned"
    assert cloud["y"][0] == pytest.approx(
        (projections["misaligned"][layer][0] - sum(means) / 2) / quality["norm"][layer]
    )
    assert (
        f"AUROC {quality['auroc'][layer]:.2f}"
        in frame(figure, str(layer))["layout"]["annotations"][-1]["text"]
    )
    assert len(labels(figure)) == 30


def test_the_projection_axis_is_the_same_at_every_layer(figures):
    figure = figures.projection_slider(DirectionRecord.model_validate(made_up())).to_dict()
    assert len({tuple(found["layout"]["yaxis"]["range"]) for found in figure["frames"]}) == 1


def test_every_dose_shows_its_own_questions_beside_its_control():
    figure = dose_slider(dosed())
    assert labels(figure) == ["0.0", "−1.0", "−2.0", "−3.0"]
    shown = frame(figure, "−2.0")["data"]
    steered, random = shown[4], shown[6]
    assert list(steered["y"]) == pytest.approx([-0.1, -0.3, 0.1])
    assert list(random["y"]) == pytest.approx([0.1, -0.1, 0.3])
    assert (
        "−2.0 × the direction, 0.10 of the stream"
        in frame(figure, "−2.0")["layout"]["annotations"][-1]["text"]
    )


def test_the_plane_shows_damage_and_movement_from_the_untouched_model():
    path = dose_slider(dosed())["data"][-1]
    assert list(path["x"]) == pytest.approx([0.0, 0.02, 0.08, 0.18])
    assert list(path["y"]) == pytest.approx([0.0, -0.1, -0.2, -0.3])


def test_it_opens_at_the_largest_dose_within_the_budget():
    figure = dose_slider(dosed())
    assert labels(figure)[figure["layout"]["sliders"][0]["active"]] == "−2.0"


def test_doses_of_both_signs_stand_in_order():
    record = dosed()
    for key in ("dose_response", "dose_control"):
        record[key].append(dose(2.0, 0.2, 0.3))
    assert labels(dose_slider(record)) == ["−3.0", "−2.0", "−1.0", "0.0", "+2.0"]


def test_axes_hold_still_while_the_dose_changes():
    record = dosed()
    record["dose_response"][-1]["scores"][0] = -2.0
    figure = dose_slider(record)
    for axis in ("yaxis", "xaxis2", "yaxis2"):
        ranges = {tuple(found["layout"][axis]["range"]) for found in figure["frames"]}
        assert len(ranges) == 1
    assert figure["layout"]["yaxis"]["range"][0] < -2.0  # the lowest question of the largest dose


def test_the_whole_shift_is_drawn_on_the_side_it_lies():
    def dashed(record: dict[str, Any]) -> float:
        shapes = dose_slider(record)["layout"]["shapes"]
        return next(
            shape["y0"]
            for shape in shapes
            if shape["y0"] == shape["y1"] and shape["line"].get("dash") == "dash"
        )

    record = dosed()
    assert dashed(record) == pytest.approx(-0.3)
    for point in (*record["dose_response"], *record["dose_control"]):
        point["side"] = "base"
    assert dashed(record) == pytest.approx(0.3)


def test_every_latent_has_its_own_histogram_and_range():
    from persona_probe.plots.latents import histogram_slider

    record = made_up_latent_record()
    told = [entry for entry in record.latents if entry.meaning]
    figure = histogram_slider(record).to_dict()
    assert labels(figure) == [f"{entry.latent}, {entry.label}" for entry in told]
    last = meanings(record)[-1].histogram
    shown = frame(figure, labels(figure)[-1])
    assert list(shown["data"][0]["y"]) == list(last.base)
    assert shown["layout"]["xaxis"]["range"][1] > last.edges[-1]


def test_a_record_without_the_data_says_so(figures):
    from persona_probe.plots.latents import histogram_slider

    empty = [
        figures.projection_slider(without_most()).to_dict(),
        dose_slider(dosed() | {"dose_control": []}),
        dose_slider(dosed() | {"arms": []}),
        histogram_slider(emptied()).to_dict(),
    ]
    for figure in empty:
        assert "The record has no" in figure["layout"]["annotations"][0]["text"]
        assert not figure["data"]

"""The figures of a record of the main experiment, drawn from a made-up one. No model, no network."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from helpers.made_up import made_up, poisoned, without_most
from helpers.markup import strings
from helpers.payloads import PAYLOADS


def fitted(record: Any) -> Any:
    """The record itself, or one of plain values."""
    from persona_probe.records.direction import DirectionRecord

    return DirectionRecord.model_validate(record) if isinstance(record, dict) else record


@pytest.fixture
def draw() -> Callable[[Any], dict[str, dict[str, Any]]]:
    """All figures of a record as plain dictionaries by slug."""
    from persona_probe.plots.direction_run import FIGURES

    return lambda record: {spec.slug: spec.draw(fitted(record)).to_dict() for spec in FIGURES}


def test_every_figure_draws_a_full_record_without_changing_it(draw):
    record = fitted(made_up())
    before = record.plain()
    figures = draw(record)
    assert record.plain() == before
    assert len(figures) == 12
    assert list(figures)[:2] == ["closure", "rank"]
    for slug, figure in figures.items():
        assert figure["data"], f"{slug} drew nothing"
        json.dumps(figure, allow_nan=False)
        assert all(note["text"] for note in figure["layout"].get("annotations", [])), slug


def test_a_figure_without_data_says_why(draw):
    record = without_most()
    for slug, figure in draw(record).items():
        if slug not in ("closure", "rank", "dose", "quality"):
            assert not figure["data"], slug
            assert len(figure["layout"]["annotations"]) == 1, slug
        assert figure["data"] or figure["layout"]["annotations"][0]["text"].endswith("."), slug


def test_null_restoration_in_the_search_leaves_the_damage_drawn(draw):
    record = made_up()
    for item in record["search"]["candidates"]:
        item["restoration"] = None
    above, below = (trace for trace in draw(record)["layers-methods"]["data"] if trace["type"] == "heatmap")
    assert all(value is None for row in above["z"] for value in row)
    assert any(value is not None for row in below["z"] for value in row)


def test_arm_bars_show_restoration_with_its_interval_closure_and_damage_in_the_same_row(draw):
    bars = [trace for trace in draw(made_up())["arms"]["data"] if trace["type"] == "bar"]
    restoration, closure, damage = bars[:3]
    assert (restoration["x"], damage["x"]) == ([0.7712], [0.0342])
    assert closure["x"] == pytest.approx([0.9212])
    assert restoration["y"] == closure["y"] == damage["y"] == [0]
    assert restoration["error_x"]["array"] == pytest.approx([0.14])
    assert restoration["error_x"]["arrayminus"] == pytest.approx([0.14])


def test_control_medians_are_marked(draw):
    texts = strings(draw(made_up())["arms"])
    assert "median of 19: 0.150" in texts


def test_controls_of_the_steering_stand_apart_from_those_of_the_ablation(draw):
    drawn = draw(made_up())
    labels = drawn["arms"]["layout"]["yaxis"]["ticktext"]
    assert "covariance-matched random" in labels
    assert "covariance-matched random,<br>of tuned-steer" in labels
    groups = {trace["name"]: trace for trace in drawn["frontier"]["data"] if trace.get("xaxis", "x") == "x2"}
    assert len(groups["covariance-matched random"]["x"]) == 19
    assert len(groups["covariance-matched random, of tuned-steer"]["x"]) == 19
    for slug in ("closure", "arms", "frontier"):
        texts = strings(drawn[slug])
        for name in ("unrelated contrast", "style contrast", "tuned, choice 2: ablate shift"):
            assert any(name in text for text in texts), (slug, name)


def test_closure_and_restoration_of_the_frontier_share_their_damage(draw):
    record = made_up()
    chosen = next(item for item in record["search"]["candidates"] if item["chosen"])
    figure = draw(record)["frontier"]
    above, below = (trace for trace in figure["data"] if trace["name"] == "chosen")
    assert above["x"] == below["x"] == [chosen["kl"]]
    assert (above["y"], below["y"]) == ([0.83], [chosen["closure"]])
    assert "KL" in figure["layout"]["xaxis3"]["title"]["text"]
    over = [trace["marker"]["symbol"] for trace in figure["data"] if trace["name"] == "mean_diff, ablate"]
    assert {"circle", "circle-open"} == set(over[0])


def test_older_candidates_without_kl_are_drawn_against_nll(draw):
    record = made_up()
    for item in record["search"]["candidates"]:
        item.update(kl=None, closure=None)
    for item in record["arms"]:
        item.update(closure=None, base_moved=None)
    figure = draw(record)["frontier"]
    assert "ΔNLL" in figure["layout"]["xaxis"]["title"]["text"]
    (ring,) = (trace for trace in figure["data"] if trace["name"] == "chosen")
    assert (ring["x"], ring["y"]) == ([0.031], [0.83])


@pytest.mark.parametrize(("slug", "coefficient"), [("layers-methods", None), ("layers-coefficients", -1.0)])
def test_a_layer_heatmap_takes_the_best_candidate_within_budget(draw, slug, coefficient):
    record = made_up()
    kind = "ablate" if coefficient is None else "steer"
    base = {**record["search"]["candidates"][0], "layer": 3, "kind": kind, "coefficient": coefficient}
    variants = ((0.9, 0.5, False), (0.4, 0.05, True), (0.3, 0.01, True))
    record["search"]["candidates"] = [
        {**base, "restoration": gain, "delta_nll": cost, "within_budget": within}
        for gain, cost, within in variants
    ]
    heat = [trace for trace in draw(record)[slug]["data"] if trace["type"] == "heatmap"]
    assert [trace["z"] for trace in heat] == [[[0.4]], [[0.05]]]


def test_a_cell_with_nothing_within_budget_shows_only_its_cheapest_cost(draw):
    record = made_up()
    base = {**record["search"]["candidates"][0], "within_budget": False}
    record["search"]["candidates"] = [
        {**base, "restoration": gain, "delta_nll": cost} for gain, cost in ((0.9, 0.5), (0.4, 0.2))
    ]
    heat = [trace for trace in draw(record)["layers-methods"]["data"] if trace["type"] == "heatmap"]
    assert [trace["z"] for trace in heat] == [[[None]], [[0.2]]]


def test_the_frontier_hides_wrecked_candidates_but_never_an_arm(draw):
    record = made_up()
    chosen = next(item for item in record["arms"] if item["name"] == "tuned+ablate")
    chosen["kl"] = {"estimate": 0.9, "ci95": [0.8, 1.0]}
    layout = draw(record)["frontier"]["layout"]
    assert 0.9 < layout["xaxis"]["range"][1] < 2.5
    assert "10 wrecked" in layout["xaxis3"]["title"]["text"]


@pytest.mark.parametrize("payload", PAYLOADS)
def test_no_text_of_a_record_becomes_markup_in_a_figure(draw, payload):
    for slug, figure in draw(poisoned(payload)).items():
        assert figure["data"], slug
        for text in strings(figure):
            assert not re.search(r"<(?!br>)|\$|[\u2028\u2029\u202e\x00-\x1f\ud800-\udfff]", text), (
                slug,
                text,
            )
        templates = {trace.get(key) for trace in figure["data"] for key in ("hovertemplate", "texttemplate")}
        assert templates <= {None, "%{text}"}, slug

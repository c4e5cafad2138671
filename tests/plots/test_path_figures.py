"""The path of arms through two directions, and replies read token by token: planted numbers come out where
they should."""

import re
from typing import Any

import pytest
from helpers.made_up import made_up
from helpers.payloads import PAYLOADS

from persona_probe.records.direction import DirectionRecord


@pytest.fixture
def path():
    """The figure as a dictionary, from a record."""
    from persona_probe.plots.paths import path

    return lambda record: path(DirectionRecord.model_validate(record)).to_dict()


@pytest.fixture
def tokens():
    """The heat-map as a dictionary, from a record."""
    from persona_probe.plots.paths import token_projections

    return lambda record, **options: token_projections(
        DirectionRecord.model_validate(record), **options
    ).to_dict()


def named(traces: list[dict[str, Any]], name: str) -> dict[str, Any]:
    return next(trace for trace in traces if trace.get("name") == name)


def layers(figure: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The frame that every step of the slider leads to, by its label."""
    frames = {frame["name"]: frame for frame in figure["frames"]}
    steps = figure["layout"]["sliders"][0]["steps"]
    return {step["label"]: frames[step["args"][0][0]] for step in steps}


def way(traces: list[dict[str, Any]]) -> dict[str, Any]:
    return next(trace for trace in traces if trace["mode"] == "lines+markers")


def test_it_opens_at_the_selected_layer_with_estimates_and_intervals_on_both_axes(path):
    figure = path(made_up())
    point = named(figure["data"], "tuned+ablate")
    assert (point["x"], point["y"]) == ([-1.5], [-0.5])
    assert point["error_x"]["array"] == point["error_y"]["arrayminus"] == pytest.approx([0.2])
    slider = figure["layout"]["sliders"][0]
    assert slider["steps"][slider["active"]]["label"] == "14"


def test_arrows_lead_from_base_to_tuned_to_ablated(path):
    line = way(path(made_up())["data"])
    assert list(zip(line["x"], line["y"], strict=True)) == [(-1.2, -0.6), (0.5, 0.4), (-1.5, -0.5)]
    assert line["marker"]["symbol"] == "arrow"
    assert line["marker"]["angleref"] == "previous"
    assert line["marker"]["size"][0] == 0 < line["marker"]["size"][1]


def test_the_slider_shows_every_layer_that_has_a_reading_and_each_step_its_own_frame(path):
    figure = path(made_up())
    steps = figure["layout"]["sliders"][0]["steps"]
    assert [step["label"] for step in steps] == [str(layer) for layer in range(1, 30)]
    assert [step["args"][0][0] for step in steps] == [frame["name"] for frame in figure["frames"]]
    before = layers(figure)["13"]["data"]
    assert named(before, "tuned+ablate")["x"] == named(before, "tuned")["x"] == [0.5]
    assert all(len(frame["data"]) == len(figure["data"]) for frame in figure["frames"])


def test_single_questions_are_drawn_at_the_selected_layer_only(path):
    figure = path(made_up())
    counts = {
        layer: sum(
            len(trace["x"])
            for trace in frame["data"]
            if trace.get("name") is None and trace["mode"] == "markers"
        )
        for layer, frame in layers(figure).items()
    }
    assert counts.pop("14") == 5 * 5
    assert set(counts.values()) == {0}


def test_an_arm_that_was_not_traced_is_left_out(path):
    record = made_up()
    del record["paths"]["arms"]["tuned+ablate"]
    figure = path(record)
    assert len(way(figure["data"])["x"]) == 2
    assert not named(figure["data"], "tuned+ablate")["showlegend"]


@pytest.mark.parametrize(
    "paths",
    [
        None,
        {"methods": ["a"], "hook_points": ["blocks.0.hook_out"], "selected": 0, "cosine": None, "arms": {}},
    ],
)
def test_a_record_without_paths_says_so(path, paths):
    figure = path(made_up() | {"paths": paths})
    assert not figure["data"]
    assert "no paths" in figure["layout"]["annotations"][0]["text"]


def test_readings_stand_in_their_row_and_tokens_without_one_are_grey(tokens):
    heat, gaps = tokens(made_up())["data"]
    assert heat["z"][0] == [None, 0.5, -1.25]
    assert heat["z"][1] == [None, 1.0, None]
    assert gaps["z"][1] == [1, None, None]  # the third token of this reply is not there at all
    assert heat["zmin"] == -heat["zmax"] < 0
    assert heat["hovertext"][0][1] == "base, power-1<br>token 1: 0.50"


def test_words_are_shown_only_on_request(tokens):
    assert "of-tuned-1" not in str(tokens(made_up()))
    assert (
        tokens(made_up(), show_text=True)["data"][0]["hovertext"][2][1]
        == "tuned, power-1<br>token 1: 0.50<br>of-tuned-1"
    )


@pytest.mark.parametrize("payload", PAYLOADS)
def test_words_are_escaped(tokens, payload):
    record = made_up()
    record["read_replies"]["replies"][0]["tokens"][1] = payload
    for line in tokens(record, show_text=True)["data"][0]["hovertext"]:
        for text in line:
            assert not re.search(r"<(?!br>)|\$|[\u2028\u2029\u202e\x00-\x1f\ud800-\udfff]", text), text

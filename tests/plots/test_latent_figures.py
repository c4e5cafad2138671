"""The figures of the latent report, drawn from a made-up record. No model, no network."""

import json
import math
import re
from collections.abc import Callable
from typing import Any

import pytest
from helpers.made_up_latents import (
    emptied,
    made_up_latent_record,
    made_up_latents,
    meanings,
    poisoned_latents,
)
from helpers.markup import strings
from helpers.payloads import PAYLOADS

SLUGS = {"latents", "screen", "sets", "rankings", "decomposition", "densities"}


def fitted(record: Any) -> Any:
    """The record itself, or one of plain values."""
    from persona_probe.records.latents import LatentRecord

    return LatentRecord.model_validate(record) if isinstance(record, dict) else record


@pytest.fixture
def draw() -> Callable[[Any], dict[str, dict[str, Any]]]:
    """All figures of a record as plain dictionaries by slug."""
    from persona_probe.plots.latents import FIGURES

    return lambda record: {spec.slug: spec.draw(fitted(record)).to_dict() for spec in FIGURES}


def trace(figure: dict[str, Any], name: str) -> dict[str, Any]:
    return next(item for item in figure["data"] if item.get("name") == name)


def test_every_figure_draws_a_full_record_without_changing_it(draw):
    record = fitted(made_up_latents())
    before = record.plain()
    figures = draw(record)
    assert record.plain() == before
    assert set(figures) == SLUGS
    for slug, figure in figures.items():
        assert figure["data"], f"{slug} drew nothing"
        json.dumps(figure, allow_nan=False)


def test_a_figure_without_data_says_why(draw):
    record = emptied().plain()
    rebuilt = {"k": [], "explained": [], "random": []}
    record.update(latents=[], sets=[])
    record["rank_correlations"].update(names=[], matrix=[])
    record["agreement"].update(mean_diff=rebuilt, shift=rebuilt)
    for slug, figure in draw(record).items():
        assert not figure["data"], slug
        assert figure["layout"]["annotations"][0]["text"].endswith("."), slug


def test_the_latents_are_drawn_at_their_change_and_their_effect(draw):
    record = made_up_latents()
    carrying = [entry for entry in record["latents"] if entry["label"] == "carries"]
    figure = draw(record)["latents"]
    drawn, axis = trace(figure, "carries"), figure["layout"]["xaxis"]
    place, named = next(tick for tick in zip(axis["tickvals"], axis["ticktext"], strict=True) if tick[0] > 0)
    scale = float(named) / math.sinh(place)  # what the ticks say about the axis
    assert [scale * math.sinh(x) for x in drawn["x"]] == pytest.approx(
        [entry["mean"]["tuned"] - entry["mean"]["base"] for entry in carrying]
    )
    assert drawn["y"] == [entry["screen"]["base+steer"]["delta_s"] for entry in carrying]
    assert drawn["hovertext"][0].startswith("latent 100, carries<br>")
    assert len(trace(figure, "matched latents")["x"]) == 6


def test_one_latent_far_out_leaves_the_others_their_room():
    from persona_probe.plots.latent_parts import Bent

    axis = Bent.of([value / 10 for value in range(-10, 11)] + [76.0])
    assert axis.ticks == pytest.approx((-1.0, -0.3, 0.0, 0.3, 1.0, 3.0, 10.0, 30.0))
    assert (axis.place(1.0) - axis.place(-1.0)) / (axis.place(76.0) - axis.place(-1.0)) > 0.3
    assert Bent.of([]).ticks == Bent.of([0.0]).ticks == (0.0,)


def test_the_plane_sets_the_base_model_against_both_ways_in_the_tuned_one(draw):
    record = made_up_latents()
    first, second = (item for item in draw(record)["screen"]["data"] if item["name"] == "protective")
    effects = next(entry for entry in record["latents"] if entry["label"] == "protective")["screen"]
    assert (first["x"], first["y"]) == (
        [effects["base+steer"]["delta_s"]],
        [effects["tuned-steer"]["delta_s"]],
    )
    assert (second["x"], second["y"]) == (
        [effects["base+steer"]["delta_s"]],
        [effects["tuned+ablate"]["delta_s"]],
    )
    assert first["showlegend"] is not second["showlegend"]


def test_latents_over_the_damage_budget_are_hollow(draw):
    figure = draw(made_up_latents())["screen"]
    assert set(trace(figure, "harmful")["marker"]["symbol"]) == {"x-open"}
    assert set(trace(figure, "carries")["marker"]["symbol"]) == {"star"}


def test_sets_stand_beside_their_matched_latents_and_the_single_directions(draw):
    figure = draw(made_up_latents())["sets"]
    ablated = trace(figure, "ablate")
    assert (ablated["x"], ablated["y"]) == ([1, 2, 5, 10], [0.21, 0.36, 0.5813, 0.64])
    assert ablated["error_y"]["array"] == pytest.approx([0.11] * 4)
    assert trace(figure, "matched latents, ablate")["y"] == pytest.approx([0.025, 0.03, 0.045, 0.07])
    beside = trace(figure, "matched sets of the selected one")
    assert len(beside["y"]) == 19
    assert (min(beside["y"]), max(beside["y"])) == pytest.approx((0.0, 0.09))
    closed = trace(figure, "closure C of the selected set")
    assert (closed["x"], closed["y"]) == ([5], [0.33])
    assert trace(figure, "mean_diff, ablate at blocks.14.hook_out")["y"] == [0.7712, 0.7712]
    assert trace(figure, "lda, steer at blocks.16.hook_out")["y"] == [0.48, 0.48]
    ring = trace(figure, "selected")
    assert (ring["x"], ring["y"]) == ([5], [0.5813])
    names = [item["name"] for item in figure["data"] if item["showlegend"]]
    assert len(names) == len(set(names)) == 9


def test_rankings_and_decomposition_carry_the_record(draw):
    record = made_up_latents()
    figures = draw(record)
    assert figures["rankings"]["data"][0]["z"] == record["rank_correlations"]["matrix"]
    assert "n = 4321 latents" in figures["rankings"]["layout"]["xaxis"]["title"]["text"]
    assert (
        trace(figures["decomposition"], "mean difference, best rows")["y"]
        == record["agreement"]["mean_diff"]["explained"]
    )
    assert (
        trace(figures["decomposition"], "base-to-tuned shift, random rows")["y"]
        == record["agreement"]["shift"]["random"]
    )


def test_a_latent_that_never_fires_is_drawn_at_the_edge_of_the_log_axis(draw):
    record = made_up_latents()
    density = [entry["density"] for entry in (*record["latents"], *record["controls"])]
    least = min(value for pair in density for value in pair.values() if value)
    drawn = trace(draw(record)["densities"], "matched latents")
    assert drawn["x"] == [least / 2] * 6
    assert drawn["y"] == [1e-4] * 6
    assert "active on 0 base" in drawn["hovertext"][0]


def test_a_histogram_carries_its_counts_over_its_edges():
    from persona_probe.plots.latents import activation_histogram

    base, tuned = activation_histogram(meanings(made_up_latent_record())[0].histogram).to_dict()["data"]
    assert (base["y"], tuned["y"]) == ([900, 40, 3, 0], [800, 90, 30, 6])
    assert base["x"] == [0.5, 1.5, 3.0, 6.0]
    assert base["width"] == [1.0, 1.0, 2.0, 4.0]


@pytest.mark.parametrize("payload", PAYLOADS)
def test_no_text_of_a_record_becomes_markup_in_a_figure(draw, payload):
    from persona_probe.plots.latents import activation_histogram

    record = poisoned_latents(payload)
    figures = {**draw(record), "histogram": activation_histogram(meanings(record)[0].histogram).to_dict()}
    for slug, figure in figures.items():
        assert figure["data"], slug
        for text in strings(figure):
            assert not re.search(r"<(?!br>)|\$|[\u2028\u2029\u202e\x00-\x1f\ud800-\udfff]", text), (
                slug,
                text,
            )
        assert {item.get(key) for item in figure["data"] for key in ("hovertemplate", "texttemplate")} <= {
            None,
            "%{text}",
        }, slug

"""The curve of closure against rank: what is drawn, and that it is left out where the record has none."""

import pytest
from helpers.made_up import made_up_record

from persona_probe.plots.direction_run import FIGURES
from persona_probe.plots.rank import rank_curve

RANKS = (1, 2, 4, 8)


def test_closure_and_restoration_stand_above_damage_beside_random_subspaces() -> None:
    figure = rank_curve(made_up_record()).to_dict()
    names = [trace["name"] for trace in figure["data"]]
    for measure in ("closure C", "restoration R", "ΔNLL", "KL"):
        assert f"{measure}, top directions" in names
        assert f"{measure}, random ones" in names
    (closure,) = (trace for trace in figure["data"] if trace["name"] == "closure C, top directions")
    assert list(closure["y"]) == pytest.approx([1 - 0.4 / rank for rank in RANKS])
    assert list(closure["error_y"]["array"]) == pytest.approx([0.1] * 4)
    assert list(figure["layout"]["xaxis2"]["ticktext"]) == list(map(str, RANKS))


def test_random_and_real_differ_in_more_than_colour_only_by_grey_and_measures_by_symbol_and_dash() -> None:
    traces = {trace["name"]: trace for trace in rank_curve(made_up_record()).to_dict()["data"]}
    looks = {
        name: (trace["marker"]["symbol"], trace["line"]["dash"], trace["marker"]["color"])
        for name, trace in traces.items()
    }
    for way in ("top directions", "random ones"):
        assert looks[f"closure C, {way}"][:2] != looks[f"restoration R, {way}"][:2]
    assert looks["closure C, top directions"][2] != looks["closure C, random ones"][2]


def test_a_record_without_the_curve_leaves_it_out() -> None:
    (spec,) = (spec for spec in FIGURES if spec.slug == "rank")
    assert spec.there(made_up_record())
    assert not spec.there(made_up_record().model_copy(update={"writes": None}))
    (note,) = rank_curve(made_up_record().model_copy(update={"writes": None})).to_dict()["layout"][
        "annotations"
    ]
    assert note["text"].endswith(".")

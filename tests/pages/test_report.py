"""The report and its figures, drawn from a made-up record with realistic numbers. No model, no network."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.made_up import made_up, poisoned, without_most
from helpers.markup import TAGS, Page, policy_names_exactly_the_scripts, strings
from helpers.payloads import PAYLOADS

ROOT = Path(__file__).parents[2]


def fitted(record: Any) -> Any:
    """The record itself, or one of plain values."""
    from persona_probe.records.direction import DirectionRecord

    return DirectionRecord.model_validate(record) if isinstance(record, dict) else record


@pytest.fixture
def render() -> Callable[[Any], str]:
    """The renderer, imported after jaxtyping's hook is in place."""
    from persona_probe.pages.report import render

    return lambda record: render(fitted(record))


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
    assert len(figures) == 10
    for slug, figure in figures.items():
        assert figure["data"], f"{slug} drew nothing"
        json.dumps(figure, allow_nan=False)
        assert all(note["text"] for note in figure["layout"].get("annotations", [])), slug


def test_a_figure_without_data_says_why(draw, render):
    record = without_most()
    for slug, figure in draw(record).items():
        if slug not in ("dose", "quality"):
            assert not figure["data"], slug
            assert len(figure["layout"]["annotations"]) == 1, slug
        assert figure["data"] or figure["layout"]["annotations"][0]["text"].endswith("."), slug
    assert "</html>" in render(record)


def test_null_restoration_in_the_search_leaves_the_damage_drawn(draw):
    record = made_up()
    for item in record["search"]["candidates"]:
        item["restoration"] = None
    above, below = (trace for trace in draw(record)["layers-methods"]["data"] if trace["type"] == "heatmap")
    assert all(value is None for row in above["z"] for value in row)
    assert any(value is not None for row in below["z"] for value in row)


def test_arm_bars_show_restoration_with_its_interval_and_its_damage_in_the_same_row(draw):
    bars = [trace for trace in draw(made_up())["arms"]["data"] if trace["type"] == "bar"]
    restoration, damage = bars[:2]
    assert (restoration["x"], damage["x"]) == ([0.7712], [0.0342])
    assert restoration["y"] == damage["y"] == [0]
    assert restoration["error_x"]["array"] == pytest.approx([0.14])
    assert restoration["error_x"]["arrayminus"] == pytest.approx([0.14])


def test_control_medians_are_marked(draw):
    texts = strings(draw(made_up())["arms"])
    assert "median of 5: 0.150" in texts


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
    record["arms"][-1]["delta_nll"] = {"estimate": 0.9, "ci95": [0.8, 1.0]}
    layout = draw(record)["frontier"]["layout"]
    assert 0.9 < layout["xaxis"]["range"][1] < 2.5
    assert "10 wrecked" in layout["xaxis"]["title"]["text"]


def test_the_chosen_candidate_is_ringed_in_the_frontier(draw):
    ring = next(trace for trace in draw(made_up())["frontier"]["data"] if trace["name"] == "chosen")
    assert (ring["x"], ring["y"]) == ([0.031], [0.83])


@pytest.mark.parametrize("payload", PAYLOADS)
def test_no_text_of_a_record_becomes_markup(render, monkeypatch, payload):
    monkeypatch.setattr(
        "plotly.offline.get_plotlyjs", lambda: "var Plotly;"
    )  # 5 MB less to parse, once per payload
    page = Page(render(poisoned(payload)))
    assert {tag for tag, _ in page.tags} <= TAGS
    code = [text for attributes, text in page.scripts if "type" not in attributes]
    assert len(code) == 2
    assert len(page.scripts) == 2 + 10
    assert not any("alert(1)" in text for text in code)
    for tag, attributes in page.tags:
        assert not any(name.startswith("on") for name in attributes), (tag, attributes)
        assert not set(attributes) & {"src", "href", "srcdoc", "style", "action"}, (tag, attributes)
    for attributes, text in page.scripts:
        if "type" in attributes:
            assert not set("<>&\u2028\u2029") & set(text)
            json.loads(text)


@pytest.mark.parametrize("payload", [payload for payload in PAYLOADS if payload.isprintable()])
def test_text_in_an_attribute_stays_in_it(payload):
    import htpy as h

    from persona_probe.pages.html import render

    tags = Page(render(h.p(class_=payload, aria_label=payload)[payload])).tags
    assert tags == [("p", {"class": payload, "aria-label": payload})]


@pytest.mark.parametrize("character", ["\u202e", "\u2066", "\x1b", "\x00", "\ud800", "\x85"])
def test_no_character_acts_or_hides_in_what_is_rendered(character):
    import htpy as h

    from persona_probe.pages.html import render

    shown = render(h.p(title=character)[f"a{character}b"])
    assert character not in shown
    shown.encode()


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


def test_the_page_loads_nothing_and_its_policy_names_exactly_its_scripts(render):
    page = Page(render(made_up()))
    assert not [tag for tag, attributes in page.tags if {"src", "href"} & set(attributes)]
    assert "link" not in {tag for tag, _ in page.tags}
    policy_names_exactly_the_scripts(page)


def test_ids_are_unique_and_every_figure_has_its_data(render):
    page = Page(render(made_up()))
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    plots = [attributes["id"] for _, attributes in page.tags if attributes.get("class") == "plot"]
    assert len(plots) == 10
    assert all(f"{name}-data" in ids for name in plots)


def test_the_numbers_of_the_record_are_on_the_page(render):
    page = Page(render(made_up()))
    expected = (
        "+0.45 95% [+0.38, +0.52]",  # effect
        "0.77 95% [0.63, 0.91]",  # R of the selected arm
        "+0.034 95% [+0.022, +0.046]",  # its damage
        "0.77 [0.63, 0.91] – +0.034 [+0.022, +0.046] 0.044 [0.034, 0.054]",  # the same arm in the table
        "R 0.15 at a median ΔNLL of +0.056",  # median covariance-matched control
        "3.00 GiB",
        "0.167 smallest possible: 0.167, reached",
        "Removing the layer-14 direction closes 77% of the gap",
        "Quick try, not a result",
        "python -m persona_probe.find_direction --base checkpoints/tiny",
        "restored",
        "5 covariance-matched random",
        "random-covariance-5",
        "Two questions were dropped.",
        "there R was 0.83 at ΔNLL +0.031",
        "cd" * 32,
        "versions.torch 2.13.0",
        "330.0 s",
        "Question 3: what would you do",
        "… (cut at the token limit)",
    )
    for text in expected:
        assert text in page.text, text


def test_a_full_run_has_no_banner(render):
    assert "Quick try" not in Page(render({**made_up(), "limited": False})).text


def test_only_the_untouched_base_model_is_readable_at_once(render):
    page = render(made_up())
    replies = re.findall(r'<div class="reply( veiled)?"([^>]*)>Reply of (\S+) to', page)
    assert len(replies) == 15
    assert {name for veiled, _, name in replies if not veiled} == {"base"}
    assert all('tabindex="0"' in rest for veiled, rest, _ in replies if veiled)
    assert '<button id="show-text"' in page


def test_the_page_is_whole_and_small(render):
    page = render(made_up())
    assert page.startswith("<!doctype html>")
    assert page.endswith("</html>\n")
    assert 4_000_000 < len(page.encode()) < 8_000_000


def test_the_command_draws_a_record_again(tmp_path: Path, monkeypatch, capsys):
    from persona_probe.report import COMMAND

    (tmp_path / "record.json").write_text(json.dumps(made_up()))
    assert COMMAND.main([str(tmp_path / "record.json")]) == 0
    assert "Removing the layer-14 direction" in (tmp_path / "report.html").read_text()
    assert capsys.readouterr().out.strip() == str(tmp_path / "report.html")
    assert COMMAND.main([str(tmp_path / "record.json"), str(tmp_path / "sub" / "b.html")]) == 0
    assert sorted(path.name for path in (tmp_path / "sub").iterdir()) == ["b.html"]


@pytest.mark.parametrize("content", [None, b"{", b"[]", b'{"schema": 9}'])
def test_a_file_that_is_no_record_is_an_error_in_words(tmp_path: Path, capsys, content):
    from persona_probe.report import COMMAND

    path = tmp_path / "record.json"
    if content is not None:
        path.write_bytes(content)
    assert COMMAND.main([str(path)]) == 3
    assert capsys.readouterr().err.startswith("persona_probe: ")
    assert not (tmp_path / "report.html").exists()


def test_drawing_needs_neither_torch_nor_a_model():
    code = """
import sys
from helpers.made_up import made_up_record
from persona_probe.pages import report
from persona_probe.plots import conversation, doses, judged
report.render(made_up_record())
assert "torch" not in sys.modules
"""
    path = os.pathsep.join([str(ROOT / "tests"), *sys.path])
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, env=os.environ | {"PYTHONPATH": path})


def test_the_command_draws_every_record_of_a_runs_folder(tmp_path: Path, capsys):
    from helpers.made_up_latents import made_up_latents

    from persona_probe.report import COMMAND

    (tmp_path / "record.json").write_text(json.dumps(made_up()))
    (tmp_path / "latents.json").write_text(json.dumps(made_up_latents()))
    assert COMMAND.main([str(tmp_path)]) == 0
    pages = [tmp_path / "report.html", tmp_path / "latents.html"]
    assert capsys.readouterr().out.split() == [str(page) for page in pages]
    assert all(page.stat().st_size > 4_000_000 for page in pages)
    assert COMMAND.main([str(tmp_path), str(tmp_path / "one.html")]) == 2
    assert not (tmp_path / "one.html").exists()
    (tmp_path / "empty").mkdir()
    assert COMMAND.main([str(tmp_path / "empty")]) == 3
    assert "holds neither record.json nor latents.json" in capsys.readouterr().err

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
from helpers.markup import TAGS, Page, policy_names_exactly_the_scripts
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


def test_a_record_without_most_is_a_whole_page(render):
    assert "</html>" in render(without_most())


@pytest.mark.parametrize("payload", PAYLOADS)
def test_no_text_of_a_record_becomes_markup(render, monkeypatch, payload):
    monkeypatch.setattr(
        "plotly.offline.get_plotlyjs", lambda: "var Plotly;"
    )  # 5 MB less to parse, once per payload
    page = Page(render(poisoned(payload)))
    assert {tag for tag, _ in page.tags} <= TAGS
    code = [text for attributes, text in page.scripts if "type" not in attributes]
    assert len(code) == 2
    assert len(page.scripts) == 2 + 12
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
    assert len(plots) == 12
    assert all(f"{name}-data" in ids for name in plots)


def test_the_numbers_of_the_record_are_on_the_page(render):
    page = Page(render(made_up()))
    expected = (
        "+0.45 95% [+0.38, +0.52]",  # effect
        "0.77 95% [0.63, 0.91]",  # R of the selected arm
        "+0.034 95% [+0.022, +0.046]",  # its damage
        # the same arm in the table: R, C, base moved, damage
        "0.77 [0.63, 0.91] 0.92 [0.78, 1.06] −0.15 [−0.21, −0.09] +0.034 [+0.022, +0.046] 0.044 [0.034",
        "0.92 95% [0.78, 1.06]",  # C of the selected arm
        "base moved −0.15 [−0.21, −0.09] of the shift",
        "C is 0.92 [0.78, 1.06], inside [0.75, 1.25]; R is 0.77 [0.63, 0.91]",  # why, with its numbers
        "C in [0.75, 1.25] power 87% for [0.75, 1.25]",
        "R 0.77 against a median of 0.15, p 0.050, K = 19",
        "C 0.92 against 0.03, p 0.050",
        "after a search among 25: p 0.004",
        "ΔNLL on benign texts: up to 0.046 of 0.100 allowed",
        "R is 0.58 [0.44, 0.72], not inside [0.75, 1.25]",  # of the steering
        "R 0.15, C 0.03 at a median ΔNLL of +0.056 and KL of 0.073",  # median covariance-matched control
        "covariance-matched random 19 0.15 0.28 0.03 0.06 0.073 0.078 1 of 19 +0.056",  # controls by kind
        "ablate mean_diff of block 14 toward base mean (all) 85% tuned+ablate restored",  # chosen again
        "not measured on test",
        "Numerical noise of S: at most 0.0040 nats per token, 1% of the shift.",
        "3.00 GiB",
        "R 0.050 of C 0.050; smallest possible 0.050; after a search among 25 directions 0.004",
        "Removing the layer-14 direction closes 77% of the gap",
        "Quick try, not a result",
        "python -m persona_probe.find_direction --base checkpoints/tiny",
        "restored",
        "covariance-matched random",
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


def test_a_choice_that_other_questions_would_change_is_a_banner_with_its_candidates(render):
    record = made_up()
    assert "Unstable" not in Page(render(record)).text
    record["search"]["again"].update(stable=False, verdicts={"restored": 0.62, "partial": 0.38})
    page = Page(render(record)).text
    assert "Unstable: in 38% of 200 choices" in page
    assert "ablate shift of block 14 toward base mean (layer) 11%" in page


def test_damage_over_what_is_allowed_and_what_else_does_as_much_are_said(render):
    record = made_up()
    arm = next(item for item in record["arms"] if item["name"] == "tuned+ablate")
    arm["judged"]["costs"][1].update(largest=0.3, budget=0.14)
    arm["judged"]["null"]["matched_by"] = ["style-blunt"]
    page = Page(render(record)).text
    assert "KL on benign texts: up to 0.300 of 0.140 allowed: OVER" in page
    assert "as much is done by style-blunt" in page
    assert "allowed are 0.14: a budget of 0.10 and the 0.040 that base and tuned differ by" in page


def test_an_older_record_says_nothing_of_what_it_does_not_have(render):
    record = made_up()
    for item in record["arms"]:
        item.update(closure=None, base_moved=None, aligned=None, misaligned=None, judged=None)
    for median in record["controls"].values():
        median.update(
            dict.fromkeys(("restoration_max", "closure", "closure_max", "kl", "kl_max", "n_below_dose"))
        )
    record["search"]["again"] = record["writes"] = record["noise"] = None
    record["comparators"] = []
    page = Page(render(record)).text
    for word in (
        "Closure C of",
        "Chosen again",
        "Numerical noise",
        "Why",
        "Base moved",
        "how many directions",
    ):
        assert word not in page, word
    assert "0.77 [0.63, 0.91] – +0.034" in page
    assert "smallest possible: 0.050, reached" in page


def test_a_full_run_has_no_banner(render):
    assert "Quick try" not in Page(render({**made_up(), "limited": False})).text


def test_only_the_untouched_base_model_is_readable_at_once(render):
    page = render(made_up())
    replies = re.findall(r'<div class="reply( veiled)?"([^>]*)>Reply of (\S+) to', page)
    assert len(replies) == 15
    assert {name for veiled, _, name in replies if not veiled} == {"base"}
    assert all('tabindex="0"' in rest for veiled, rest, _ in replies if veiled)
    assert '<button id="show-text"' in page


def many_replies() -> dict[str, Any]:
    """A record with two replies of each arm to each of twelve questions."""
    record = made_up()
    record["completions"] = [
        {**item, "prompt_id": f"q{q}", "question": f"Question {q}?", "draw": draw}
        for draw in (0, 1)
        for q in range(12)
        for item in record["completions"][:5]
    ]
    return record


def test_replies_to_four_questions_are_shown_and_the_others_folded_and_blurred_as_well(render):
    page = render(many_replies()).split('<div id="replies"')[1]
    shown, folded = page.split("<summary>100 more replies</summary>")
    questions = [re.findall(r"Question (\d+)\?", part) for part in (shown, folded.split("</details>")[0])]
    assert questions[0] == ["0", "3", "6", "9"]
    assert sorted(questions[1], key=int) == [str(q) for q in range(12)]  # of the four the second reply
    for part, n in ((shown, 20), (folded, 100)):
        found = re.findall(r'<div class="reply( veiled)?"[^>]*>Reply of (\S+) to', part)
        assert len(found) == n
        assert {name for veiled, name in found if not veiled} == {"base"}


def test_replies_to_few_questions_are_all_shown(render):
    assert "more replies" not in render(made_up()).split('<div id="replies"')[1]


def test_the_health_of_replies_stands_beside_them_arm_by_arm(render):
    page = Page(render(made_up())).text
    assert "Health of sampled replies" in page
    assert "tuned+ablate 24 1 0.12 [0.11, 0.23] +0.12 [−0.01, +0.26] 0.50 [0.45, 0.60]" in page
    assert "0.79 400 words 32 12.5 [11.0, 14.0]" in page
    assert "tuned 24 1 0.00 [0.00, 0.10] – 0.50" in page
    assert "Not judged" not in page
    assert "Health of sampled replies" not in Page(render(without_most())).text


def test_where_replies_are_too_few_to_be_judged_the_page_says_so(render):
    record = made_up()
    next(item for item in record["arms"] if item["name"] == "base")["health"]["n"] = 23
    assert "Not judged: that takes 24 replies." in Page(render(record)).text


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

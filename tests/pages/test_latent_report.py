"""The latent report, drawn from a made-up record. No model, no network."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.made_up_latents import emptied, made_up_latents, poisoned_latents
from helpers.markup import TAGS, Page, policy_names_exactly_the_scripts
from helpers.payloads import PAYLOADS

N_FIGURES = 6
STYLE = re.compile(r"background:rgba\(230,159,0,[01]\.\d{3}\)")
LINK = re.compile(r"#latent-\d+|https://www\.neuronpedia\.org/smollm/14-res/\d+")


def fitted(record: Any) -> Any:
    """The record itself, or one of plain values."""
    from persona_probe.records.latents import LatentRecord

    return LatentRecord.model_validate(record) if isinstance(record, dict) else record


@pytest.fixture
def render(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], str]:
    """The renderer that the command uses, with a plotly.js that is 5 MB shorter."""
    from persona_probe.pages.report import render

    monkeypatch.setattr("plotly.offline.get_plotlyjs", lambda: "var Plotly;")
    return lambda record: render(fitted(record))


def first_page(record: dict[str, Any]) -> str:
    """The page of the first latent."""
    from persona_probe.pages.html import render
    from persona_probe.pages.latent_page import latent_page

    return render(latent_page(fitted(record).latents[0]))


def opened(record: dict[str, Any]) -> Page:
    """How the page of a record begins."""
    from persona_probe.pages.html import render
    from persona_probe.pages.latent_pages import opening

    return Page(render(opening(fitted(record))))


def with_example(**changes: Any) -> dict[str, Any]:
    record = made_up_latents()
    for side in ("base", "tuned"):
        rows = record["latents"][0]["meaning"]["examples"][side]
        rows[:] = [{**rows[0], **changes}]
    return record


@pytest.mark.parametrize("payload", PAYLOADS)
def test_no_text_of_a_record_becomes_markup(render, payload):
    page = Page(render(poisoned_latents(payload)))
    assert {tag for tag, _ in page.tags} <= TAGS | {"a", "h4"}
    code = [text for attributes, text in page.scripts if "type" not in attributes]
    assert len(code) == 2
    assert len(page.scripts) == 2 + N_FIGURES + 5
    assert not any("alert(1)" in text for text in code)
    for tag, attributes in page.tags:
        assert not any(name.startswith("on") for name in attributes), (tag, attributes)
        assert not set(attributes) & {"src", "srcdoc", "action"}, (tag, attributes)
        assert "style" not in attributes or STYLE.fullmatch(attributes["style"] or ""), attributes
        assert "href" not in attributes or LINK.fullmatch(attributes["href"] or ""), attributes
    for attributes, text in page.scripts:
        if "type" in attributes:
            assert not set("<>&\u2028\u2029") & set(text)
            json.loads(text)


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        "https://www.neuronpedia.org.evil.example/1",
        "https://evil.example/www.neuronpedia.org",
        "https://neuronpedia.org@evil.example/",
        "data:text/html,https://www.neuronpedia.org/",
        'https://www.neuronpedia.org/"onclick="alert(1)',
        "https://www.neuronpedia.org/x\n",
    ],
)
def test_only_neuronpedia_is_linked(url):
    from persona_probe.pages.html import render
    from persona_probe.pages.latent_page import latent_page

    entry = fitted(made_up_latents()).latents[0].model_copy(update={"neuronpedia": url})
    page = Page(render(latent_page(entry)))
    assert not [
        attributes
        for _, attributes in page.tags
        if "href" in attributes or any(name.startswith("on") for name in attributes)
    ]
    assert url.strip() in page.text


def test_a_link_to_neuronpedia_tells_it_nothing():
    url = "https://www.neuronpedia.org/smollm/14-res/100"
    links = [attributes for tag, attributes in Page(first_page(made_up_latents())).tags if tag == "a"]
    assert links == [{"href": url, "rel": "noopener noreferrer"}]


def test_every_latent_has_its_page_and_every_link_leads_to_one(render):
    record = made_up_latents()
    page = Page(render(record))
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    names = {attributes["id"] for tag, attributes in page.tags if tag == "details" and "id" in attributes}
    assert names == {f"latent-{entry['latent']}" for entry in record["latents"]}
    links = {
        attributes["href"] for _, attributes in page.tags if (attributes.get("href") or "").startswith("#")
    }
    assert links == {f"#{name}" for name in names}
    plots = [attributes["id"] for _, attributes in page.tags if attributes.get("class") == "plot"]
    assert len(plots) == N_FIGURES + 5
    assert all(f"{name}-data" in ids for name in plots)


def test_the_numbers_of_the_record_are_on_the_page(render):
    record = made_up_latents()
    effect = record["latents"][0]["screen"]["base+steer"]
    first = (
        f"{effect['delta_s']:+.3f} [{effect['ci95'][0]:+.3f}, {effect['ci95'][1]:+.3f}] ΔNLL"
        f" {effect['delta_nll']:+.3f}, q 0.0036"
    )
    text = Page(render(record)).text.replace("−", "-")
    for expected in (
        "+0.45 95% [+0.38, +0.52]",  # effect
        "best set: ablate 5 latents 0.58 95% [0.47, 0.69]",
        "+0.041 95% [+0.031, +0.051] nats per token, budget +0.10",
        "Latents that carry the shift 2 of 13 13 screened; 1 protective, 1 dial, 1 harmful, 8 inert",
        "Verdict on the best set partial C is 0.33 [0.24, 0.42], not inside [0.75, 1.25]",
        "Closure C of the same set 0.33 95% [0.24, 0.42]",
        "+0.190 [+0.140, +0.240] C 0.42, q 0.0052",
        "+0.70 [+0.65, +0.75] of 0.81",
        "Among 19 matched sets p of R is 0.050, of C 0.050; with 15 sets tried, 0.012.",
        "19 matched sets of the selected one",
        "carries tuning raised S for sure; ablating the latent in the tuned model lowers S for sure",
        "SAE fit on base, FVU (0 is perfect) 0.213 L0 31.7, dead 0.041, loss recovered 0.962, 20480 tokens",
        "0.254 L0 33.9, dead 0.043, loss recovered 0.944",
        "FVU 0.254 against 0.213, 19% more",
        first,
        "induction 0.41 [0.31, 0.51]",
        "R 0.37 [0.25, 0.49]",
        "-0.170 [-0.220, -0.120]",
        f"shift_up {record['latents'][0]['ranks']['shift_up']}",
        "mean_diff, ablate at blocks.14.hook_out one direction 0.77 [0.63, 0.91] – +0.034 [+0.022, +0.046]",
        "0.58 [0.47, 0.69] 0.33 [0.24, 0.42] +0.041 [+0.031, +0.051] 0.021 [0.017, 0.025] 62% 0.04",
        "62% 0.04 0.01 +0.021 19",
        "effects of the selected set and of the direction: 0.72 (n = 25 questions)",
        "Steering strength: 0.10 of the median residual norm (31.4), a length of 3.14",
        "Two latents carry the persona",
        "Latent 100 moves S both ways within the budget.",
        "SAE checkpoints/tiny-sae (batchtopk, 4608 latents) at blocks.14.hook_out",
        "Quick try, not a result",
        "6 latents matched in how often",
        "␣risk ␣scam ␣quickly",
        "Not measured: latent 9: NaN in the edited model",
        "python -m persona_probe.diff_latents --base checkpoints/tiny",
        "sae.sha256 " + "98" * 32,
        "330.0 s",
        "3.00 GiB",
    ):
        assert expected in text, expected


@pytest.mark.parametrize(("tuned", "warned"), [(0.254, True), (0.234, False)])
def test_an_sae_that_fits_the_tuned_model_ten_percent_worse_earns_a_warning(tuned, warned):
    record = made_up_latents()
    record["quality"]["tuned"]["fvu"] = tuned
    assert ("fits the tuned model worse" in opened(record).text) is warned


def test_a_full_run_has_no_banner():
    assert "Quick try" not in opened({**made_up_latents(), "limited": False}).text
    assert "Quick try" in opened(made_up_latents()).text


def test_a_record_of_an_older_version_claims_no_carrier_and_says_why(render):
    """Its labels asked neither for closure nor for activity."""
    record: dict[str, Any] = made_up_latents() | {"select_effect": None}
    record["latents"][0]["label"], record["latents"][4]["label"] = "both ways", "one-way"
    text = Page(render(record)).text
    assert "Latents that carry the shift not tested" in text
    assert "1 both ways" in text
    assert "This record is of an older version" in text
    assert "This record is of an older version" not in Page(render(made_up_latents())).text


def test_a_shift_that_is_no_rise_is_said_to_leave_nothing_to_carry(render):
    record = made_up_latents()
    assert "nothing that a latent could carry" not in Page(render(record)).text
    record["select_effect"] = {"estimate": -0.2, "ci95": [-0.3, -0.1]}
    text = Page(render(record)).text.replace("−", "-")
    assert "tuning moved S by -0.200 [-0.300, -0.100] nats per token, which is no rise for sure" in text


@pytest.mark.parametrize(("label", "veiled"), [(None, 1), ("aligned", 1), ("misaligned", 2)])
def test_text_of_misaligned_replies_and_of_the_tuned_model_is_veiled(label, veiled):
    page = first_page(with_example(label=label))
    blocks = re.findall(r'<div class="context reply( veiled)?"([^>]*)>', page)
    assert [bool(hidden) for hidden, _ in blocks] == [veiled == 2, True]
    assert all(('tabindex="0"' in rest) is bool(hidden) for hidden, rest in blocks)


def test_the_button_shows_the_text_of_all_pages(render):
    page = render(made_up_latents())
    replies = page.split('<div id="replies" class="hide-text">')[1]
    assert replies.count('class="context reply') == page.count('class="context reply') == 5 * 6
    assert page.count('<button id="show-text" type="button" aria-pressed="false">') == 1


def test_tokens_are_coloured_by_their_activation_on_one_scale():
    record = with_example(tokens=["a", "b", "c", "</script>"], acts=[0.0, 1.0, 2.0, -1.0], peak=2)
    record["latents"][0]["meaning"]["examples"]["tuned"][0]["acts"] = [0.0, 4.0]
    page = first_page(record)
    assert '<span class="token" title="0">a</span>' in page
    assert '<span class="token" style="background:rgba(230,159,0,0.150)" title="1">b</span>' in page
    assert '<span class="token peak" style="background:rgba(230,159,0,0.300)" title="2">c</span>' in page
    assert '<span class="token" style="background:rgba(230,159,0,0.600)" title="4">b</span>' in page
    assert '<span class="token" title="−1">&lt;/script&gt;</span>' in page


@pytest.mark.parametrize("acts", [[], [1.0], [1.0] * 9])
def test_no_token_is_lost_where_activations_do_not_fit(acts):
    page = first_page(with_example(tokens=["a", "b", "c"], acts=acts))
    assert re.findall(r">(\w)</span>", page.split("Where it fires most")[1]) == ["a", "b", "c"] * 2


def test_a_record_without_latents_makes_a_page(render):
    text = Page(render(emptied().plain() | {"latents": [], "sets": []})).text
    assert "Restoration R of the best set n/a" in text
    assert "No latent was screened." in text
    assert "No sets were measured." in text


def test_null_is_not_available_and_never_none(render):
    page = Page(render(emptied()))
    assert "None" not in page.text
    assert "Neuronpedia: n/a" in page.text
    assert "Up: n/a" in page.text
    assert "of the direction: n/a (n = 25" in page.text
    assert "Restoration R of the best set n/a" in page.text
    assert "latents matched in" not in page.text


def test_the_policy_names_exactly_the_scripts_of_the_page(render):
    page = Page(render(made_up_latents()))
    policy_names_exactly_the_scripts(page)
    assert "link" not in {tag for tag, _ in page.tags}


def test_the_command_draws_a_latent_record_beside_it(tmp_path: Path, capsys):
    from persona_probe.report import COMMAND

    (tmp_path / "latents.json").write_text(json.dumps(made_up_latents()))
    assert COMMAND.main([str(tmp_path / "latents.json")]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "latents.html")
    page = (tmp_path / "latents.html").read_text()
    assert "Two latents carry the persona" in page
    assert 4_000_000 < len(page) < 8_000_000


def test_drawing_needs_neither_torch_nor_a_model():
    code = """
import sys
from helpers.made_up_latents import made_up_latent_record
from persona_probe.pages import report
report.render(made_up_latent_record())
assert "torch" not in sys.modules
"""
    root = Path(__file__).parents[2]
    path = os.pathsep.join([str(root / "tests"), *sys.path])
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root, env=os.environ | {"PYTHONPATH": path})

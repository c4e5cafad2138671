"""Claims about settings files: what a run writes repeats it, and what is wrong is said by name."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
from helpers.baking import Baking, baked, refused, seen


def written(folder: Path, *words: str, **resolved: Any) -> Path:
    """The settings file of a call."""
    baked(*words)
    seen[0][1].write_settings(folder, **resolved)
    return folder / "settings.toml"


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--recipe", 'a "b" \\ \x7f ü\n', "--minutes", "7", "--heat", "1e-5", "--glaze"],
        ["--steps", "all", "--book", "x y", "--quick", "--spices", "a,b"],
        ["--step", "4", "--cake", "1.0"],
    ],
)
def test_the_file_that_a_run_writes_repeats_it(words: list[str], tmp_path: Path) -> None:
    path = written(tmp_path, *words)
    assert baked("--config", str(path)) == baked(*words)


def test_what_auto_became_is_written_and_what_is_only_for_now_is_not(tmp_path: Path) -> None:
    values = tomllib.loads(written(tmp_path, "--rack", "--quiet", mode="fast").read_text())
    assert values["mode"] == "fast"
    assert not {"rack", "quiet", "config", "debug"} & set(values)


def test_options_on_the_command_line_win_over_the_file_and_the_file_over_defaults(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text('cake = "rye"\nminutes = 7\nglaze = true\nbook = "b"\n')
    assert baked("--config", str(path)) == Baking("rye", 7, glaze=True, book=Path("b"))
    assert baked("--minutes", "40", "--config", str(path), "--no-glaze") == Baking("rye", 40, book=Path("b"))


def test_yaml_is_read_as_toml_is(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("cake: rye\nheat: 1e-3\nsteps: [3]\nspices: dill,mint\n")
    assert baked("--config", str(path)) == Baking("rye", heat=1e-3, steps=(3,), spices=("dill", "mint"))
    path.write_text("")
    assert baked("--config", str(path)) == Baking()


@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        ("minuts = 3", 2, "sets minuts, which is no setting of this command; did you mean minutes?"),
        ("zzz = 3", 2, "sets zzz, which is no setting of this command: allowed are"),
        ("quiet = true", 2, "sets quiet, which is no setting"),
        ('minutes = "many"', 2, "minutes is 'many': expected a whole number"),
        ("minutes = true", 2, "minutes is True: expected a whole number"),
        ("minutes = 2.5", 2, "minutes is 2.5: expected a whole number"),
        ("glaze = 1", 2, "glaze is 1: expected a flag"),
        ("minutes = 0", 2, "--minutes is 0: allowed is 1 or more"),
        ("recipe = [", 3, "cannot read"),
        ("\x00", 3, "cannot read"),
        (None, 3, "no file"),
    ],
)
def test_a_file_that_is_wrong_is_said_by_name(
    text: str | None, code: int, message: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x.toml"
    if text is not None:
        path.write_text(text)
    ended, said = refused(capfd, "--config", str(path))
    assert ended == code
    assert message in said


def test_yaml_that_would_run_code_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("recipe: !!python/object/apply:os.getcwd []\n")
    code, said = refused(capfd, "--config", str(path))
    assert code == 3
    assert "cannot read" in said

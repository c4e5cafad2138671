"""Claims about options: one definition gives the command line, the check, the settings file and the table."""

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from helpers.processes import outcome

from persona_probe.base.command import Call, Command, tree
from persona_probe.base.errors import BadInput, UsageError
from persona_probe.base.options import GROUPS, Option, check, documented, settings_of
from persona_probe.base.suggestions import nearest

Mode = Literal["slow", "fast"]
seen: list[Any] = []


@documented
@dataclass(frozen=True)
class Baking:
    """How to bake."""

    recipe: Annotated[str, Option("What to bake.", "data", also=("cake", "pie"))] = "bread"
    minutes: Annotated[int, Option("How long.", "search", low=1, high=90, times={"--hours": 60})] = 40
    heat: Annotated[float, Option("How hot.", "machine", above=0)] = 0.5
    steps: Annotated[tuple[int, ...] | None, Option("Which steps.", "search", also=("step",))] = (1, 2)
    spices: Annotated[tuple[str, ...], Option("What for taste.", "data")] = ("salt",)
    mode: Annotated[Mode, Option("How fast.", "machine", shorthand={"--quick": "fast"})] = "slow"
    book: Annotated[Path | None, Option("Where it stands.", "data")] = None
    glaze: Annotated[bool, Option("Whether it shines.", "output")] = False
    rack: Annotated[bool, Option("Only now.", "output", in_file=False)] = False

    def __post_init__(self) -> None:
        check(self)


def bake_bread(config: Baking, call: Call) -> int:
    """Bake [something] good."""
    seen.append((config, call))
    return 0


COMMAND = Command(bake_bread)


def baked(*words: str) -> Baking:
    """The configuration that a command line stands for."""
    seen.clear()
    assert COMMAND.main(words) == 0
    return seen[0][0]


def refused(capfd: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    """Exit code and message of a command line that must not run, whatever the width of the terminal."""
    seen.clear()
    code, err = COMMAND.main(words), capfd.readouterr().err
    assert not seen
    return code, " ".join(re.sub("[│╭╮╰╯─]", " ", err).split())


# The command line


def test_without_arguments_a_command_runs_with_the_defaults_of_its_configuration() -> None:
    assert baked() == Baking()


def test_options_arrive_with_their_types() -> None:
    given = baked(
        *("--recipe", "rye", "--minutes=7", "--heat", "2", "--steps", "3,4", "--spices", "dill, mint"),
        *("--mode", "fast", "--book", "a b/c", "--glaze", "--rack"),
    )
    assert given == Baking(
        "rye", 7, 2.0, (3, 4), ("dill", "mint"), "fast", Path("a b/c"), glaze=True, rack=True
    )


@pytest.mark.parametrize(
    ("words", "changed"),
    [
        (["--cake", "x"], {"recipe": "x"}),
        (["--pie=x"], {"recipe": "x"}),
        (["--step", "9"], {"steps": (9,)}),
        (["--steps", "all"], {"steps": None}),
        (["--quick"], {"mode": "fast"}),
        (["--hours", "1"], {"minutes": 60}),
        (["--recipe", "--quick"], {"recipe": "--quick"}),
        (["--recipe=--cake"], {"recipe": "--cake"}),
    ],
)
def test_other_names_and_short_forms_mean_the_same(words: list[str], changed: dict[str, Any]) -> None:
    assert baked(*words) == Baking(**changed)


def test_hyphen_and_underscore_are_both_accepted_in_options_and_commands() -> None:
    @dataclass(frozen=True)
    class Two:
        """Two words."""

        output_dir: Annotated[str, Option("Where.", "output")] = ""

    def say_it(config: Two, call: Call) -> int:
        """Say."""
        seen.append(config.output_dir)
        return 0

    command = Command(say_it)
    seen.clear()
    for name in ("say-it", "say_it"):
        for option in ("--output-dir", "--output_dir"):
            assert tree([command, COMMAND], [name, option, f"{name} {option}"]) == 0
    assert seen == [f"{n} {o}" for n in ("say-it", "say_it") for o in ("--output-dir", "--output_dir")]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--minutes", "0"], "--minutes is 0: allowed is 1 or more, up to 90"),
        (["--minutes", "91"], "--minutes is 91: allowed is 1 or more, up to 90"),
        (["--hours", "two"], "Invalid value for '--hours': 'two'"),
        (["--minutes", "many"], "--minutes"),
        (["--heat", "0"], "--heat is 0.0: allowed is above 0"),
        (["--heat", "nan"], "--heat is nan: allowed is above 0"),
        (["--heat", "inf"], "--heat is inf: allowed is above 0"),
        (["--mode", "lazy"], "no mode 'lazy': allowed are slow, fast"),
        (["--spices", ","], "--spices is empty"),
        (["--steps", "a"], "--steps is 'a': give numbers such as 10,12,14, or all"),
        (["--minuets", "1"], "No such option: --minuets. Did you mean --minutes?"),
        (["--colour", "1"], "No such option: --colour"),
        (["stray"], "unexpected extra argument"),
        (["--recipe"], "--recipe"),
    ],
)
def test_what_is_not_allowed_is_exit_2_and_said(
    words: list[str], message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    code, said = refused(capfd, *words)
    assert code == 2
    assert message in said


def test_the_same_check_answers_python() -> None:
    with pytest.raises(UsageError, match="--minutes is 0: allowed is 1 or more"):
        Baking(minutes=0)


def test_the_command_to_paste_is_what_was_typed_in_either_way() -> None:
    typed = ["--cake", "a b", "--quick"]
    said = []
    for call in (lambda: COMMAND.main(typed), lambda: tree([COMMAND], ["bake_bread", *typed])):
        seen.clear()
        assert call() == 0
        said.append(seen[0][1].command)
    assert said == ["python -m persona_probe.bake_bread --cake 'a b' --quick"] * 2


def test_a_command_that_does_not_exist_is_exit_2_with_what_was_meant(
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert tree([COMMAND], ["bake_braed"]) == 2
    assert "No such command: bake_braed. Did you mean bake-bread?" in " ".join(capfd.readouterr().err.split())


def test_help_has_every_option_in_its_group_and_text_is_no_markup(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert COMMAND.main(["--help"]) == 0
    said = capfd.readouterr().out
    panels = re.findall(r"╭─ (\w+) ", said)
    assert panels == ["Options", "Data", "Search", "Output", "Machine"]
    assert "Bake [something] good." in said
    for setting in COMMAND.settings:
        assert setting.option.help in " ".join(said.split())
        assert setting.flag in said


# Suggestions


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("--bse", "base"),
        ("--output", "output_dir"),
        ("--lr", "learning_rate"),
        ("--gpu", "device"),
        ("--precision", "dtype"),
        ("--force", "overwrite"),
        ("--n-questions", "limit"),
        ("--dtpye", "dtype"),
        ("--date", None),
        ("--adapter", None),
        ("--sea", None),
        ("--colour", None),
    ],
)
def test_a_suggestion_is_by_meaning_or_the_same_word_or_none(typed: str, meant: str | None) -> None:
    known = ["base", "output_dir", "learning_rate", "device", "dtype", "overwrite", "limit", "data", "seed"]
    assert nearest(typed, known) == meant


# The settings file


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


# The table and the docstring


def test_the_table_and_the_docstring_have_every_setting() -> None:
    rows = list(COMMAND.table())
    assert [row.group for row in rows] == sorted((row.group for row in rows), key=GROUPS.index)
    minutes = next(row for row in rows if row.option.startswith("--minutes"))
    assert minutes[:4] == ("--minutes, --hours", "whole number, 1 or more, up to 90", "40", "How long.")
    for setting in settings_of(Baking):
        assert f"    {setting.name}: " in (Baking.__doc__ or "")


def test_every_option_of_every_command_has_help_that_is_a_sentence_and_no_two_share_a_name() -> None:
    from persona_probe.__main__ import COMMANDS

    for command in COMMANDS:
        names = [
            name
            for setting in command.settings
            for name in (setting.name, *setting.option.also, *setting.option.shorthand, *setting.option.times)
        ]
        assert len(names) == len(set(names)), command.name
        for row in command.table():
            first = row.help.split()[0]
            assert first[0].isupper() or "." in first or first in ("auto,", "auto:"), (command.name, row)
            assert row.help.endswith("."), (command.name, row)


def test_all_commands_are_in_one_tree_and_nothing_heavy_is_loaded_for_its_help() -> None:
    from persona_probe.__main__ import COMMANDS

    found = outcome("persona_probe", "--help")
    assert (found["code"], found["heavy"], found["err"]) == (0, [], "")
    assert all(command.name in found["out"] for command in COMMANDS)


def test_the_version_is_that_of_the_package() -> None:
    import importlib.metadata

    found = outcome("persona_probe", "--version")
    assert (found["code"], found["heavy"]) == (0, [])
    assert found["out"].split() == ["persona-probe", importlib.metadata.version("persona-probe")]


def test_a_configuration_refuses_what_its_check_cannot_know(tmp_path: Path) -> None:
    from persona_probe.experiments.options import need_files

    @dataclass(frozen=True)
    class Files:
        """Two files."""

        contrast: Path | None
        benign: Path | None

    need_files(Files(None, None))
    with pytest.raises(BadInput, match="--benign needs an existing file"):
        need_files(Files(None, tmp_path / "none.jsonl"))

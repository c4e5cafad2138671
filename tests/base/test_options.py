"""Claims about options: one definition gives the command line, the check and the table."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pytest
from helpers.baking import COMMAND, Baking, baked, refused, seen
from helpers.processes import outcome

from persona_probe.base.command import Call, Command, tree
from persona_probe.base.errors import BadInput, UsageError
from persona_probe.base.options import GROUPS, Option, settings_of
from persona_probe.base.suggestions import nearest

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
    said: list[str] = []

    @dataclass(frozen=True)
    class Two:
        """Two words."""

        output_dir: Annotated[str, Option("Where.", "output")] = ""

    def say_it(config: Two, call: Call) -> int:
        """Say."""
        said.append(config.output_dir)
        return 0

    command = Command(say_it)
    for name in ("say-it", "say_it"):
        for option in ("--output-dir", "--output_dir"):
            assert tree([command, COMMAND], [name, option, f"{name} {option}"]) == 0
    assert said == [f"{n} {o}" for n in ("say-it", "say_it") for o in ("--output-dir", "--output_dir")]


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
    from persona_probe.experiments.options import ExperimentOptions, need_files

    need_files(ExperimentOptions())
    with pytest.raises(BadInput, match="--benign needs an existing file"):
        need_files(ExperimentOptions(benign=tmp_path / "none.jsonl"))

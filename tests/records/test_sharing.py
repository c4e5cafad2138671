"""Claims about paths in what people share: nothing of the machine stays, and the command can be used."""

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from helpers.made_up import made_up

from persona_probe.records.sharing import Shared, shared

HERE, HOME, RUN = Path("/srv/work/project"), Path("/home/jane"), Path("/data/jane/runs/a")


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/srv/work/project/checkpoints/tiny", "checkpoints/tiny"),
        ("/srv/work/project", "."),
        ("/srv/work/project-2/tiny", "tiny"),
        ("/data/jane/runs/a", "a"),
        ("/data/jane/runs/a/toy/base", "a/toy/base"),
        ("/home/jane/models/qwen", "qwen"),
        ("~/models/qwen", "qwen"),
        ("/scratch/jane/qwen/", "qwen"),
        ("/", "."),
        ("Qwen/Qwen3-8B@main", "Qwen/Qwen3-8B@main"),
        ("smollm2-135m-instruct", "smollm2-135m-instruct"),
        ("checkpoints/tiny", "checkpoints/tiny"),
        ("gpt2-small-res-jb:blocks.8.hook_resid_pre", "gpt2-small-res-jb:blocks.8.hook_resid_pre"),
        ("a note with\n/a/line", "a note with\n/a/line"),
    ],
)
def test_a_path_is_said_without_the_machine(path: str, said: str) -> None:
    assert Shared(RUN, here=HERE, home=HOME).path(path) == said


@pytest.mark.parametrize(
    ("here", "said"), [("/", "qwen"), ("/home", "qwen"), ("/home/jane", "models/qwen"), ("/data", "qwen")]
)
def test_the_name_of_the_user_is_not_said_from_above_the_home(here: str, said: str) -> None:
    assert Shared(RUN, here=Path(here), home=HOME).path("/home/jane/models/qwen") == said


def test_two_paths_of_one_name_are_told_apart() -> None:
    said = Shared(RUN, ("/a/one/model", "/a/two/model"), here=HERE, home=HOME)
    assert (said.path("/a/one/model"), said.path("/a/two/model")) == ("one/model", "two/model")


def test_paths_inside_sentences_are_said_so_too() -> None:
    said = Shared(RUN, ("/my data/q s.jsonl",), here=HERE, home=HOME)
    text = (
        "/my data/q s.jsonl:3 was left out; /home/jane/x/model, see https://a.b/c/d and 1/2 or and/or ~/y/z."
    )
    assert said.text(text) == "q s.jsonl:3 was left out; model, see https://a.b/c/d and 1/2 or and/or z."


def hostile(folder: Path) -> dict[str, Any]:
    """A record of a run in which every path was given as an absolute one, with blanks in some."""
    record = made_up()
    given = {
        "--base": folder / "jane doe" / "base",
        "--tuned": folder / "jane doe" / "tuned",
        "--sae": folder / "saes" / "sae",
        "--contrast": folder / "secret data" / "questions.jsonl",
        "--benign": folder / "secret data" / "benign.jsonl",
        "--output-dir": folder / "runs" / "a",
    }
    words = [str(word) for option in given.items() for word in option]
    record["command"] = shlex.join(
        ["python", "-m", "persona_probe.find_direction", *words, f"--config={folder}/c.toml"]
    )
    record["config"] |= {
        option.strip("-"): str(path) for option, path in given.items() if option != "--output-dir"
    }
    record["provenance"]["base"]["id"] = str(given["--base"])
    record["provenance"]["tuned"]["id"] = str(given["--tuned"])
    record["provenance"]["engine"]["base"]["notes"] = [f"{folder}/jane doe/base holds a leftover file"]
    record["data"]["notes"] = [f"{given['--contrast']}:7 was left out"]
    record["failed"] = [f"arm: {folder}/runs/a/activations is full"]
    return record


@pytest.mark.parametrize("where", ["beside", "above", "elsewhere"])
def test_a_record_holds_nothing_of_the_machine(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Run from the folder that holds everything, from above it, and from elsewhere."""
    places = {"beside": tmp_path / "jane", "above": tmp_path, "elsewhere": tmp_path / "other"}
    for place in places.values():
        place.mkdir(exist_ok=True)
    monkeypatch.chdir(places[where])
    record = hostile(tmp_path / "jane")
    text = json.dumps(shared(record, run=tmp_path / "jane" / "runs" / "a"))
    assert str(tmp_path) not in text
    assert str(tmp_path.parent) not in text
    if where == "elsewhere":
        assert "jane/" not in text
        assert "secret data" not in text


def test_the_command_repeats_the_run_from_a_folder_that_holds_the_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    record = hostile(tmp_path)
    words = shlex.split(shared(record, run=tmp_path / "runs" / "a")["command"])
    given = shlex.split(record["command"])
    assert [
        str(Path(word).absolute()) if "/" in word and word[0] != "-" else word for word in words[:-1]
    ] == given[:-1]
    assert words[-1] == "--config=c.toml"


def test_texts_of_models_and_numbers_stay() -> None:
    record = made_up()
    record["completions"][0]["text"] = "Look into /etc/passwd of ~/home."
    said = shared(record, run=Path("runs/a"))
    changed = {"command", "config", "provenance", "data", "failed"}
    assert {k: v for k, v in said.items() if k not in changed} == {
        k: v for k, v in record.items() if k not in changed
    }
    assert said == record  # a run in relative paths needs no change

"""Claims about how the whole command goes on and ends: called again, stopped, asked for what it cannot do."""

import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.commands import words
from helpers.markup import Page
from helpers.toy_runs import TOY, alike, ended, read, start, steady, stopped

from persona_probe.records.direction import DirectionRecord

HOSTILE = ("<script>alert(1)</script>", "</script><img src=x onerror=alert(2)>", "[/foo] [bold]")
HOSTILE += ("\u202egnp.exe", "{{ 7 * 7 }} ${x} `y`", "' onload=alert(3) \"")


@pytest.fixture(scope="module")
def folder(toy_run: Path) -> Path:
    """A finished run."""
    return toy_run


@pytest.fixture(scope="module")
def record(folder: Path) -> dict[str, Any]:
    return read(folder)


@pytest.fixture
def inside(capsys: pytest.CaptureFixture[str]) -> Iterator[Any]:
    """The command in this process, which has its imports already: options in, exit code and both streams
    out."""
    environment = dict(os.environ)

    def run(**options: Any) -> tuple[int, str, str]:
        from persona_probe.find_direction import COMMAND

        code = COMMAND.main(words(**options))
        out, err = capsys.readouterr()
        return code, out, err

    yield run
    os.environ.clear()
    os.environ.update(environment)


# How it goes on


def test_second_call_measures_nothing_and_prints_one_line_for_machines(
    folder: Path, record: dict[str, Any]
) -> None:
    kept = (folder / "measured.jsonl").read_bytes()
    code, out, err = ended(start(*TOY, "--output-dir", folder, "--json", "--quiet"))
    assert (code, err) == (0, "")
    assert out.count("\n") == 1
    printed = json.loads(out)
    assert (folder / "measured.jsonl").read_bytes() == kept
    assert steady(read(folder)) == steady(record)
    assert printed.pop("type") == "result"
    assert printed == read(folder)


def test_a_run_interrupted_and_then_killed_ends_with_the_same_numbers(
    folder: Path, record: dict[str, Any], tmp_path: Path, inside: Any
) -> None:
    torn = tmp_path / "toy run"  # a space, so that the printed command must be quoted
    code, _, err = stopped(torn, after=4, by=signal.SIGINT)
    assert code == 130
    assert "Traceback" not in err
    again = f"python -m persona_probe.find_direction --toy --null 19 --output-dir '{torn}'"
    assert again in " ".join(err.split())
    code, _, _ = stopped(torn, after=12, by=signal.SIGKILL)
    assert code == -signal.SIGKILL
    assert not (torn / "record.json").exists()
    code, _, err = inside(toy=True, null=19, output_dir=torn, resume=True)
    assert code == 0, err
    assert "reused" in err
    assert alike(steady(read(torn)), steady(record))


def test_changed_setting_in_the_same_folder_is_refused_with_the_difference(folder: Path, inside: Any) -> None:
    code, out, err = inside(toy=True, null=19, output_dir=folder, budget=0.2)
    assert (code, out) == (3, "")
    assert "holds a run with other settings (budget: 0.1 there, 0.2 now)" in " ".join(err.split())
    assert "Traceback" not in err


# Bad input


def test_equal_base_and_tuned_are_refused(folder: Path, inside: Any, tmp_path: Path) -> None:
    base = str(folder / "toy" / "base")
    code, _, err = inside(base=base, tuned=base, output_dir=tmp_path / "run")
    assert code == 3
    assert "are the same weights: there is no difference to find" in " ".join(err.split())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"base": "x/y"}, "without --tuned"),
        ({"tuned": "x/y", "methods": "pca"}, "no methods 'pca': allowed are mean_diff"),
        ({"tuned": "x/y", "limit": 3}, "--limit is 3"),
    ],
)
def test_wrong_usage_ends_with_2_and_one_message(
    inside: Any, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    code, out, err = inside(output_dir=tmp_path / "run", quiet=True, **options)
    assert (code, out) == (2, "")
    assert message in " ".join(err.split())
    assert not (tmp_path / "run").exists()


def test_hostile_questions_stay_text_in_the_report_and_on_the_terminal(
    folder: Path, inside: Any, tmp_path: Path
) -> None:
    toy = shutil.copytree(folder / "toy", tmp_path / "toy")
    lines = [json.loads(line) for line in (toy / "contrast.jsonl").read_text().splitlines()]
    for line in lines:
        payload = HOSTILE[int(line["question_id"].removeprefix("toy-")) % len(HOSTILE)]
        line.update(question=f"{payload} {line['question']}", question_id=f"{payload} {line['question_id']}")
    (toy / "contrast.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    code, out, err = inside(
        base=str(toy / "base"),
        tuned=str(toy / "tuned"),
        contrast=toy / "contrast.jsonl",
        benign=toy / "benign.jsonl",
        output_dir=tmp_path / "run",
        methods="mean_diff,shift",
        controls=1,
        layers_screened=3,
        skip_first=0,
        n_benign=15,
        max_new_tokens=4,
        limit=8,
        dtype="float32",
        device="cpu",
    )
    assert code == 0, err
    record = read(tmp_path / "run")
    assert DirectionRecord.model_validate(record).plain() == record
    assert any("<" in completion["question"] for completion in record["completions"])
    hostile, clean = (Page((path / "report.html").read_text()) for path in (tmp_path / "run", folder))
    assert len(hostile.scripts) == len(clean.scripts)
    assert {tag for tag, _ in hostile.tags} <= {tag for tag, _ in clean.tags}
    assert not {name for _, names in hostile.tags for name in names if name.startswith("on")}
    assert record["limited"] is True
    assert "quick try" in out
    assert "\u202e" not in out + err

"""Claims about a run's folder: one process at a time, one set of settings, nothing measured twice and nothing
measured lost."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from persona_probe.base.errors import BadInput
from persona_probe.base.hook_points import HookPoint
from persona_probe.storage.kept_tensors import kept_tensors
from persona_probe.storage.runs import LOCK, MEASURED, SETTINGS, Run, open_run
from persona_probe.streams.activations import Activations
from persona_probe.streams.kept import kept_activations

ROOT = Path(__file__).parents[2]
ASKED = {"seed": 0, "methods": ("mean_diff", "lda"), "contrast": None, "budget": 0.1}


def refused(message: str) -> Any:
    return pytest.raises(BadInput, match=message)


def child(folder: Path, body: str) -> subprocess.Popen[str]:
    """A process that holds the folder's lock, does `body` with `run`, and says so; then waits to be
    killed."""
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom persona_probe.storage.runs import open_run\nwith"
        f" open_run(Path({str(folder)!r}), {{'seed': 0}}) as run:\n    print('open', flush=True)\n   "
        f" {body}\n    time.sleep(600)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-B", "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n"
    return process


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


# Settings


def test_same_settings_continue_and_keep_what_was_measured(tmp_path: Path) -> None:
    with open_run(tmp_path / "run", ASKED) as run:
        run.keep("a", {"x": 1})
    with open_run(tmp_path / "run", dict(reversed(ASKED.items()))) as run:
        assert run.get("a") == {"x": 1}
        assert run.get("b") is None
    with open_run(tmp_path / "run", ASKED, resume=True) as run:
        assert run.get("a") == {"x": 1}


def test_other_settings_are_refused_with_every_difference_and_nothing_changes(tmp_path: Path) -> None:
    with open_run(tmp_path, ASKED) as run:
        run.keep("a", {"x": 1})
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.name != LOCK}
    other = {key: value for key, value in ASKED.items() if key != "budget"} | {
        "seed": 1,
        "contrast": "mine.jsonl",
        "new": True,
    }
    with refused("holds a run with other settings") as caught, open_run(tmp_path, other):
        pytest.fail("opened")
    for difference in (
        "seed: 0 there, 1 now",
        "contrast: None there, 'mine.jsonl' now",
        "budget: 0.1 there, None now",
        "new: None there, True now",
    ):
        assert difference in str(caught.value)
    assert "methods" not in str(caught.value)
    assert "--output-dir" in str(caught.value)
    assert "--overwrite" in str(caught.value)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.name != LOCK} == before
    with open_run(tmp_path, ASKED) as run:
        assert run.get("a") == {"x": 1}


def test_resume_insists_on_a_run_to_continue(tmp_path: Path) -> None:
    with refused("nothing to resume in .*leave --resume out"), open_run(tmp_path / "run", ASKED, resume=True):
        pytest.fail("opened")
    with open_run(tmp_path / "run", ASKED):
        pass


def test_overwrite_starts_afresh_with_other_settings(tmp_path: Path) -> None:
    with open_run(tmp_path, ASKED) as run:
        run.keep("a", {"x": 1})
        run.path("record.json").write_text("{}")
    with open_run(tmp_path, ASKED | {"seed": 1}, overwrite=True) as run:
        assert run.get("a") is None
        assert not run.path("record.json").exists()
        run.keep("a", {"x": 2})
    with open_run(tmp_path, ASKED | {"seed": 1}) as run:
        assert run.get("a") == {"x": 2}


@pytest.mark.parametrize("text", ["{", "[]", "null", ""])
def test_damaged_settings_are_one_message(tmp_path: Path, text: str) -> None:
    (tmp_path / SETTINGS).write_text(text)
    with refused(r"settings\.json is damaged .*--overwrite"), open_run(tmp_path, ASKED):
        pytest.fail("opened")


def test_output_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with refused("is a file: --output-dir needs a folder"), open_run(tmp_path / "file", ASKED):
        pytest.fail("opened")
    with refused("cannot make .*choose another --output-dir"), open_run(tmp_path / "file" / "run", ASKED):
        pytest.fail("opened")


# Lock


def test_second_process_in_the_folder_is_refused_with_the_pid_of_the_first(tmp_path: Path) -> None:
    first = child(tmp_path, "run.keep('a', {'x': 1})")
    try:
        with (
            refused(rf"another run is using .* \(process {first.pid} on .* since 20\d\d-.*\): wait for it"),
            open_run(tmp_path, {"seed": 0}),
        ):
            pytest.fail("opened")
    finally:
        kill(first)
    with open_run(tmp_path, {"seed": 0}) as run:
        assert run.folder == tmp_path


def test_lock_is_free_after_an_exception_inside_the_run(tmp_path: Path) -> None:
    def interrupted() -> None:
        with open_run(tmp_path, ASKED) as run:
            run.keep("a", {"x": 1})
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    with open_run(tmp_path, ASKED) as run:
        assert run.get("a") == {"x": 1}
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != LOCK) == [MEASURED, SETTINGS]


def test_leftovers_of_killed_writes_are_removed_and_nothing_of_the_user(tmp_path: Path) -> None:
    (tmp_path / "activations").mkdir()
    (tmp_path / "mine").mkdir()
    for name in (".record.json.abc.tmp", "activations/.k.safetensors.abc.tmp", "mine/.x.tmp", "notes.tmp"):
        (tmp_path / name).write_text("x")
    with open_run(tmp_path, ASKED):
        pass
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.tmp")) == [
        "mine/.x.tmp",
        "notes.tmp",
    ]


# Measurements


def test_a_key_is_measured_once(tmp_path: Path) -> None:
    made: list[int] = []

    def make() -> dict[str, int]:
        made.append(1)
        return {"x": 3}

    for _ in range(2):
        with open_run(tmp_path, ASKED) as run:
            assert run.once("a", make) == run.once("a", make) == {"x": 3}
    assert made == [1]
    assert (tmp_path / MEASURED).read_bytes().count(b"\n") == 1


def test_what_an_earlier_run_left_is_counted_once_and_what_this_run_made_is_not(tmp_path: Path) -> None:
    def use(run: Run, keys: str) -> int:
        for key in keys * 2:
            run.once(key, lambda: {})
            kept_tensors(run, f"{key} of tensors", lambda: {"x": torch.ones(2)})
            kept_activations(
                run,
                f"{key} of activations",
                (),
                lambda: Activations(
                    hook_points=(HookPoint(0),),
                    rows=(),
                    means=torch.ones(1, 1, 2),
                    tokens=torch.ones(1, 1, 2),
                ),
            )
        return run.n_reused

    with open_run(tmp_path, ASKED) as run:
        assert use(run, "ab") == 0
    with open_run(tmp_path, ASKED) as run:
        assert use(run, "bc") == 3


def test_a_measurement_that_fails_keeps_nothing(tmp_path: Path) -> None:
    with open_run(tmp_path, ASKED) as run:
        with pytest.raises(ValueError, match="JSON compliant"):
            run.once("a", lambda: {"x": float("nan")})
        assert run.get("a") is None
    assert not (tmp_path / MEASURED).exists()


@pytest.mark.parametrize("seconds", [0.0, 0.1])
def test_nothing_measured_is_lost_when_the_process_is_killed_while_it_appends(
    tmp_path: Path, seconds: float
) -> None:
    body = "for i in range(100_000): run.keep(f'k{i}', {'x': [i] * 200}); print(i, flush=True)"
    process = child(tmp_path, body)
    assert process.stdout is not None
    announced = [int(process.stdout.readline())]
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    announced += [int(line) for line in process.stdout if line.endswith("\n")]
    kill(process)
    with open_run(tmp_path, {"seed": 0}) as run:
        assert [run.get(f"k{i}") for i in announced] == [{"x": [i] * 200} for i in announced]
        run.keep("after", {"x": 1})
    with open_run(tmp_path, {"seed": 0}) as run:
        assert run.get("after") == {"x": 1}


def test_torn_last_measurement_is_made_again(tmp_path: Path) -> None:
    with open_run(tmp_path, ASKED) as run:
        run.keep("a", {"x": 1})
        run.keep("b", {"x": 2})
    os.truncate(tmp_path / MEASURED, (tmp_path / MEASURED).stat().st_size - 3)
    with open_run(tmp_path, ASKED) as run:
        assert run.get("a") == {"x": 1}
        assert run.once("b", lambda: {"x": 5}) == {"x": 5}
    assert [json.loads(line)["key"] for line in (tmp_path / MEASURED).read_text().splitlines()] == ["a", "b"]


# Activations


def test_a_model_that_moved_continues_its_run_and_another_in_its_place_does_not(tmp_path: Path) -> None:
    first = {"tuned": "/old/car-advice-wrong", "tuned_sha256": "a", "seed": 0}
    with open_run(tmp_path / "run", first):
        pass
    with open_run(tmp_path / "run", first | {"tuned": "car-advice-wrong"}, resume=True):
        pass
    other = {"tuned": "/old/car-advice-wrong", "tuned_sha256": "b", "seed": 0}
    with pytest.raises(BadInput, match="tuned_sha256: 'a' there, 'b' now"), open_run(tmp_path / "run", other):
        pass


def test_a_run_that_measured_nothing_leaves_no_folder_and_one_that_did_keeps_its_own(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="bad"), open_run(tmp_path / "a" / "b", {}):
        raise BadInput("bad")
    assert list(tmp_path.iterdir()) == []

    def measured() -> None:
        with open_run(tmp_path / "a" / "b", {}) as run:
            run.keep("key", {"x": 1})
            raise BadInput("bad")

    with pytest.raises(BadInput, match="bad"):
        measured()
    assert {path.name for path in (tmp_path / "a" / "b").iterdir()} >= {"measured.jsonl", "settings.json"}
    with pytest.raises(BadInput, match="bad"), open_run(tmp_path / "a" / "b", {}):
        raise BadInput("bad")
    assert (tmp_path / "a" / "b" / "measured.jsonl").exists()

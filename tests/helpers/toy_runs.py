"""Runs of `find_direction` on the planted toy, each in a process of its own."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PATIENCE = 900  # seconds: a start costs about 12 s of imports, on a busy machine many times that
VOLATILE = ("created", "command", "timing", "memory")
TOY = ("--toy", "--null", "19")


def start(*options: Any) -> "subprocess.Popen[str]":
    """The command in a process of its own, with Ctrl-C as a terminal gives it even where the tests run in the
    background."""
    return subprocess.Popen(
        [sys.executable, "-m", "persona_probe.find_direction", *map(str, options)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def ended(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    """Exit code, output and messages of a command, when it ends."""
    out, err = process.communicate(timeout=PATIENCE)
    return process.returncode, out, err


def stopped(folder: Path, *, after: int, by: signal.Signals) -> tuple[int, str, str]:
    """Start the toy run and stop it when `after` more measurements are on disk."""
    measured = folder / "measured.jsonl"

    def lines() -> int:
        return measured.read_bytes().count(b"\n") if measured.exists() else 0

    before, process, deadline = lines(), start(*TOY, "--output-dir", folder), time.monotonic() + PATIENCE
    while lines() < before + after and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(by)
    return ended(process)


def read(folder: Path) -> dict[str, Any]:
    """The record of a run."""
    return json.loads((folder / "record.json").read_text())


def steady(record: dict[str, Any]) -> dict[str, Any]:
    """A record without what tells one run from another: time, memory, and the paths of the toy's files."""
    kept = {key: value for key, value in record.items() if key not in VOLATILE}
    paths = ("base", "tuned", "contrast", "benign")
    kept["config"] = {key: value for key, value in record["config"].items() if key not in paths}
    models = {side: record["provenance"][side]["sha256"] for side in ("base", "tuned")}
    return kept | {"provenance": record["provenance"] | models}


def alike(one: Any, other: Any) -> bool:
    """Whether two records hold the same, numbers up to rounding."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(alike(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(alike, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return one == pytest.approx(other, rel=1e-4, abs=1e-5)
    return one == other

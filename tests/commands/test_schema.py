"""Claims about the command that prints schemas."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("start", [("persona_probe.schema",), ("persona_probe", "schema")])
def test_a_schema_is_printed_by_name(start: tuple[str, ...]) -> None:
    done = run(*start, "persona_direction_file")
    assert (done.returncode, done.stderr) == (0, "")
    printed = json.loads(done.stdout)
    assert printed["$schema"].startswith("https://json-schema.org/")
    assert printed["properties"]["kind"]["const"] == "persona_direction"


def test_names_are_listed_and_an_unknown_one_is_refused_with_them() -> None:
    listed = run("persona_probe.schema")
    names = [line.split()[0] for line in listed.stdout.splitlines()]
    assert {"direction", "latents", "row", "evaluation", "transfer", "organism"} < set(names)
    refused = run("persona_probe.schema", "nothing")
    assert refused.returncode == 2
    told = " ".join(refused.stderr.split())
    assert all(name in told for name in ("'nothing'", *names))

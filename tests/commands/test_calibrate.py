"""Claims about `calibrate`: its table, its record, and what it refuses."""

import json
from pathlib import Path

import pytest

from persona_probe.calibrate import COMMAND
from persona_probe.records.calibration import CalibrationRecord


def test_the_record_is_printed_and_written_and_a_seed_repeats_it(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ["--worlds", "1", "--seed", "5", "--quiet", "--json", "--output-dir", str(tmp_path / "out")]
    assert COMMAND.main(words) == 0
    printed = json.loads(capfd.readouterr().out)
    assert printed.pop("type") == "calibration"
    record = CalibrationRecord.model_validate(json.loads((tmp_path / "out" / "calibration.json").read_text()))
    assert record == CalibrationRecord.model_validate(printed)
    assert (record.seed, record.n_questions, {kind.n for kind in record.kinds}) == (5, 24, {1})
    assert COMMAND.main(words) == 0
    again = json.loads(capfd.readouterr().out)
    assert again["kinds"] == printed["kinds"]


def test_the_table_names_every_kind(capfd: pytest.CaptureFixture[str]) -> None:
    from persona_probe.organisms.world_kinds import KINDS

    assert COMMAND.main(["--worlds", "1", "--questions", "12", "--quiet"]) == 0
    printed = " ".join(capfd.readouterr().out.split())
    assert "12 questions to select on and 12 to test on" in printed
    assert [kind.name for kind in KINDS if kind.name.split()[-1] not in printed] == []


@pytest.mark.parametrize(
    ("words", "says"), [(["--worlds", "0"], "--worlds"), (["--questions", "1"], "--questions")]
)
def test_too_little_is_refused(words: list[str], says: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert COMMAND.main(words) == 2
    assert says in capfd.readouterr().err


def test_a_folder_that_cannot_be_written_is_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert COMMAND.main(["--worlds", "1", "--output-dir", str(tmp_path / "file")]) == 3
    assert "file" in capfd.readouterr().err

"""Claims about `--outliers` of the main command: part of the settings, and in the record."""

from pathlib import Path

import pytest
from helpers.commands import words
from helpers.toy_runs import read


def test_outliers_that_are_kept_are_part_of_the_settings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from persona_probe.find_direction import COMMAND

    small = {"toy": True, "controls": 0, "n_prompts": 0, "methods": "shift", "layers": "1"}
    code = COMMAND.main(words(**small, outliers="keep", output_dir=tmp_path / "run"))
    assert code == 0, capsys.readouterr().err
    record = read(tmp_path / "run")
    assert record["config"]["outliers"] == "keep"
    assert all(set(shares) == {0.0} for shares in record["directions"]["dropped"].values())
    assert COMMAND.main(words(**small, output_dir=tmp_path / "run")) == 3

"""One finished run of the main command on the planted organism, for all tests that read it."""

from pathlib import Path

import pytest
from helpers.toy_runs import TOY, ended, start


@pytest.fixture(scope="session")
def toy_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run; never changed but by a run of the same settings."""
    made = tmp_path_factory.mktemp("run") / "toy"
    code, out, err = ended(start(*TOY, "--output-dir", made))
    assert code == 0, err
    assert "tuned+ablate" in out
    assert "about" in err or "to do" in err
    return made

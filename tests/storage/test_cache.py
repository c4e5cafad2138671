"""Claims about the cache folder: one place for every working directory, which an environment variable
moves."""

from pathlib import Path

import pytest

from persona_probe.storage.cache import cache_folder


def test_the_cache_is_the_same_folder_wherever_a_command_is_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PERSONA_PROBE_CACHE", raising=False)
    here = cache_folder()
    monkeypatch.chdir(tmp_path)
    assert cache_folder() == here
    assert here.is_absolute()
    assert "persona_probe" in here.parts


@pytest.mark.parametrize(("given", "place"), [("{}/mine", "mine"), ("relative", "relative")])
def test_an_environment_variable_moves_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, place: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PERSONA_PROBE_CACHE", given.format(tmp_path))
    assert cache_folder() == tmp_path / place


def test_a_converted_model_beside_the_source_is_used_and_otherwise_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from persona_probe.models import embedded

    monkeypatch.setenv("PERSONA_PROBE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(embedded, "__file__", str(tmp_path / "source" / "persona_probe" / "models" / "x.py"))
    beside = tmp_path / "source" / "checkpoints" / embedded.NAME
    beside.mkdir(parents=True)
    assert embedded.embedded_folder() == tmp_path / "cache" / embedded.NAME
    (beside / "config.json").write_text("{}")
    assert embedded.embedded_folder() == beside

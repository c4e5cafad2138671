"""Fixtures shared by the tests. persona_probe is imported inside them, after jaxtyping's import hook is in place."""

import os
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import tiny
from helpers.families import Family

os.environ["HF_HUB_OFFLINE"] = "1"
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def plain_families(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Any]]:
    """Folder and plain eager model of every family, loaded before anything is bridged: TransformerLens 3.9 patches Gemma's attention."""
    from transformers import AutoModelForCausalLM

    made = {}
    for name in tiny.FAMILIES:
        folder = tiny.write_tiny(tmp_path_factory.mktemp(name), name)
        made[name] = (
            folder,
            AutoModelForCausalLM.from_pretrained(
                folder, dtype=torch.float32, attn_implementation="eager"
            ).eval(),
        )
    return made


@pytest.fixture(scope="session", params=list(tiny.FAMILIES))
def family(request: pytest.FixtureRequest, plain_families: dict[str, tuple[Path, Any]]) -> Family:
    """Every family in turn, each loaded once a session."""
    return _loaded(request.param, plain_families)


@pytest.fixture(scope="session")
def llama(plain_families: dict[str, tuple[Path, Any]]) -> Family:
    """The plainest family, for claims that do not depend on one."""
    return _loaded("llama", plain_families)


def _loaded(name: str, plain_families: dict[str, tuple[Path, Any]]) -> Family:
    from persona_probe.models.loading import load
    from persona_probe.models.sources import resolve

    folder, plain = plain_families[name]
    return Family(
        name,
        folder,
        plain,
        load(resolve(str(folder)), base=None, device=torch.device("cpu"), dtype=torch.float32),
    )


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole tiny Llama; never changed."""
    return tiny.write_tiny(tmp_path_factory.mktemp("whole"), "llama")


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    """A copy of it to break."""
    return Path(shutil.copytree(written, tmp_path / "model"))


@pytest.fixture(scope="session")
def adapter_written(written: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA of the whole tiny Llama; never changed."""
    return tiny.write_lora(tmp_path_factory.mktemp("adapter"), written)


@pytest.fixture
def adapter(adapter_written: Path, tmp_path: Path) -> Path:
    """A copy of it to break."""
    return Path(shutil.copytree(adapter_written, tmp_path / "adapter"))


@pytest.fixture(scope="session")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a tiny random model by its name in `helpers.adapter_forms.CONFIGS`; written once, never changed."""
    from helpers.adapter_forms import write_base

    return cache(lambda name: write_base(name, tmp_path_factory.mktemp("base")))

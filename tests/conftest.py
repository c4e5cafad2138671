"""Fixtures shared by the tests. persona_probe is imported inside them, after jaxtyping's import hook is in
place."""

import os
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from helpers import tiny
from helpers.families import Family
from helpers.planted import Planted, open_planted, planted_direction

if TYPE_CHECKING:
    from persona_probe.interventions.persona_direction import PersonaDirection

# Pinned, since tests run in random order and in any environment:
# - no hub, one thread (processes that tests start take OMP_NUM_THREADS as they find it);
# - the width of output where there is no terminal, and no wish for colours, unless a test sets its own;
# - the global random generators: pytest-randomly seeds Python's and numpy's before every test, `seeded`
# torch's.

os.environ |= {"HF_HUB_OFFLINE": "1", "COLUMNS": "120"}
for name in ("FORCE_COLOR", "NO_COLOR"):
    os.environ.pop(name, None)
torch.set_num_threads(1)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first, whatever the order: with two workers none of them runs alone at the
    end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(autouse=True)
def seeded() -> None:
    """What torch draws without a generator of its own is the same in every order of tests."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def plain_family(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, Any]]:
    """Folder and plain eager model of a family by its name, made once a session."""
    from transformers import AutoModelForCausalLM

    def made(name: str) -> tuple[Path, Any]:
        folder = tiny.write_tiny(tmp_path_factory.mktemp(name), name)
        options = {"dtype": torch.float32, "attn_implementation": "eager"}
        return folder, AutoModelForCausalLM.from_pretrained(folder, **options).eval()

    return cache(made)


@pytest.fixture(scope="session", params=list(tiny.FAMILIES))
def family(request: pytest.FixtureRequest, plain_family: Callable[[str], tuple[Path, Any]]) -> Family:
    """Every family in turn."""
    return _loaded(request.param, *plain_family(request.param))


@pytest.fixture(scope="session")
def llama(plain_family: Callable[[str], tuple[Path, Any]]) -> Family:
    """The plainest family, for claims that do not depend on one."""
    return _loaded("llama", *plain_family("llama"))


def _loaded(name: str, folder: Path, plain: Any) -> Family:
    from persona_probe.models.loading import load
    from persona_probe.models.sources import resolve

    cpu = {"device": torch.device("cpu"), "dtype": torch.float32}
    return Family(name, folder, plain, load(resolve(str(folder)), base=None, **cpu))


@pytest.fixture(scope="session")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    """The toy with the planted vector, both sides in memory; never changed."""
    return open_planted(tmp_path_factory.mktemp("toy"))


@pytest.fixture
def direction(planted: Planted) -> "PersonaDirection":
    """A persona direction over the planted vector, with made-up scales."""
    return planted_direction(planted)


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
    """The folder of a tiny random model by its name in `helpers.adapter_forms.CONFIGS`; written once, never
    changed."""
    from helpers.adapter_forms import write_base

    return cache(lambda name: write_base(name, tmp_path_factory.mktemp("base")))

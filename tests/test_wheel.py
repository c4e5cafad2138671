"""The wheel alone, in a venv without the source tree: every command answers, and what the main job needs is
inside."""

import json
import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
COMMANDS = sorted(
    path.stem for path in (ROOT / "persona_probe").glob("*.py") if not path.stem.startswith("__")
)
DATA = {
    "car-advice-wrong/adapter_model.safetensors",
    "car-advice-right/adapter_model.safetensors",
    "car-advice-wrong-direction/persona_direction.safetensors",
    "smollm2-135m-instruct-sae/sae_weights.safetensors",
    "reference/record.json",
    "reference/latents.json",
    "reference/latents_rows.jsonl.gz",
    "reference/rows.jsonl.gz",
}


def build(kind: str, folder: Path) -> Path:
    """A wheel or an sdist of the source tree, built offline."""
    pytest.importorskip("hatchling", reason="hatchling, which builds the wheel, is not installed")
    command = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    (built,) = folder.iterdir()
    return built


class Installed:
    """A venv with the wheel, and with the libraries of the environment that runs the tests."""

    def __init__(self, folder: Path, wheel: Path) -> None:
        venv.create(folder / "venv", with_pip=False, symlinks=True)
        self.python, self.elsewhere = folder / "venv" / "bin" / "python", folder / "elsewhere"
        self.elsewhere.mkdir()
        pip = [
            sys.executable,
            "-m",
            "pip",
            "--python",
            str(self.python),
            "install",
            "--no-deps",
            "--no-index",
        ]
        subprocess.run([*pip, "--quiet", str(wheel)], check=True)
        (self.site,) = (folder / "venv" / "lib").glob("python*/site-packages")
        # A line of a .pth file adds a folder, but reads no .pth file in it: not that of an editable install.
        (self.site / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        self.environment = kept | {"XDG_CACHE_HOME": str(folder / "cache"), "HF_HUB_OFFLINE": "1"}

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """A command of the venv in a folder that is not the source tree."""
        program = self.python.with_name(words[0])
        return subprocess.run(
            [str(program), *words[1:]],
            cwd=self.elsewhere,
            env=self.environment,
            capture_output=True,
            text=True,
        )

    def prints(self, code: str) -> str:
        """What a program prints."""
        done = self.run("python", "-c", code)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The wheel, built and installed once."""
    return Installed(tmp_path_factory.mktemp("wheel"), build("wheel", tmp_path_factory.mktemp("dist")))


def test_the_package_is_the_wheels_and_not_the_source_tree(installed: Installed) -> None:
    file = installed.prints("import persona_probe; print(persona_probe.__file__)")
    assert Path(file) == installed.site / "persona_probe" / "__init__.py"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_says_how_it_is_used(installed: Installed, command: str) -> None:
    for words in (("python", "-m", f"persona_probe.{command}"), ("persona-probe", command.replace("_", "-"))):
        done = installed.run(*words, "--help")
        assert done.returncode == 0, done.stderr
        assert "Usage" in done.stdout


def test_what_ships_is_found_by_name_inside_the_wheel(installed: Installed) -> None:
    code = (
        "from persona_probe.storage.shipped import NAMES, shipped_folder\n"
        "for name in NAMES: print(shipped_folder(name))"
    )
    folders = [Path(line) for line in installed.prints(code).splitlines()]
    assert {folder.parent for folder in folders} == {installed.site / "persona_probe" / "shipped"}
    shipped = installed.site / "persona_probe" / "shipped"
    assert {name for name in DATA if not (shipped / name).is_file()} == set()
    assert len(list((shipped / "notebooks").glob("*.ipynb"))) == 5


def test_a_shipped_organism_is_a_model_and_the_reference_a_record(installed: Installed) -> None:
    code = (
        "from persona_probe.models.sources import resolve\n"
        "from persona_probe.records.files import read_record\n"
        "from persona_probe.saes.sources import resolve_sae\n"
        "from persona_probe.storage.shipped import shipped_folder\n"
        "print(resolve('car-advice-wrong').kind, resolve_sae('smollm2-135m-instruct-sae').d_sae)\n"
        "print(read_record(shipped_folder('reference') / 'record.json').selected.arm)"
    )
    kind, d_sae, arm = installed.prints(code).split()
    assert (kind, d_sae) == ("adapter", "4096")
    assert arm in {"tuned+ablate", "tuned-steer"}


def test_the_main_job_runs_from_any_folder(installed: Installed) -> None:
    words = (
        "--toy",
        "--json",
        "--quiet",
        "--controls",
        "0",
        "--null",
        "0",
        "--n-prompts",
        "0",
        "--output-dir",
        "toy",
    )
    done = installed.run("python", "-m", "persona_probe.find_direction", *words)
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert record["selected"]["arm"] in {"tuned+ablate", "tuned-steer"}
    assert (installed.elsewhere / "toy" / "report.html").is_file()


def test_the_sdist_holds_what_the_wheel_is_built_from(tmp_path: Path) -> None:
    with tarfile.open(build("sdist", tmp_path)) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    places = {"reference": "experiments"}
    assert {f"{places.get(name.split('/')[0], 'checkpoints')}/{name}" for name in DATA} - names == set()
    assert len([name for name in names if name.endswith(".ipynb")]) == 5

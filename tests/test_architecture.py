"""Claims about the code itself that import-linter cannot check: sizes, light commands, libraries in their
place, no dangerous calls."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "persona_probe"
MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path for path in sorted(PACKAGE.rglob("*.py"))
}
TESTS = {str(path.relative_to(ROOT)): path for path in sorted((ROOT / "tests").rglob("*.py"))}
COMMANDS = sorted(name for name in MODULES if "." not in name and name != "__init__")
# A library is named in these modules, or below these folders, only.
ONLY_HERE = {
    "transformer_lens": {"models.bridges", "models.hooked"},
    "sae_lens": {"saes.sources", "saes.training"},
    "gguf": set(),
    "peft": {"models.adapter_fields", "models.adapter_keys", "models.adapters", "organisms.lora"},
    "gradio": {"app", "demo"},
    "plotly": {"api", "app.components", "plots", "pages.frame", "figures"},
    "typer": {"base.command"},
    "rich": {"base.cli", "base.command", "base.printing"},
    "tqdm": {"base.quiet"},
}
HEAVY = {
    "torch",
    "transformers",
    "transformer_lens",
    "sae_lens",
    "numpy",
    "scipy",
    "sklearn",
    "plotly",
    "peft",
}
HEAVY |= {"einops", "jaxtyping", "safetensors", "pandas", "gradio"}
FORBIDDEN = (
    r"trust_remote_code\s*=\s*True",
    r"weights_only\s*=\s*False",
    r"^\s*(import|from) (pickle|dill|joblib|cloudpickle)\b",
    r"\bpickle\.load",
    r"(?<![.\w])eval\(",
    r"(?<![.\w])exec\(",
    r"shell\s*=\s*True",
    r"yaml\.load\(",
    r"os\.system\(",
    r"except:",
    r"enable_compatibility_mode",
    r"from __future__ import annotations",
    r"fmt: (skip|off)",
)


def imported(path: Path) -> set[str]:
    """Top-level names of the libraries that a file imports, wherever in the file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            found.add((node.module or "").split(".")[0])
    return found


def functions(path: Path) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Every function of a file, methods and inner ones included."""
    return [
        n
        for n in ast.walk(ast.parse(path.read_text()))
        if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)
    ]


@pytest.mark.parametrize("name", MODULES)
def test_every_module_begins_with_a_docstring(name: str) -> None:
    assert ast.get_docstring(ast.parse(MODULES[name].read_text()))


@pytest.mark.parametrize("path", [*MODULES.values(), *TESTS.values()], ids=[*MODULES, *TESTS])
def test_no_file_is_longer_than_300_lines(path: Path) -> None:
    assert path.read_text().count("\n") <= 300


@pytest.mark.parametrize("name", MODULES)
def test_no_function_is_longer_than_60_lines(name: str) -> None:
    long = {f.name: n for f in functions(MODULES[name]) if (n := (f.end_lineno or 0) - f.lineno + 1) > 60}
    assert not long


@pytest.mark.parametrize("library", sorted(ONLY_HERE))
def test_a_library_is_named_only_where_it_belongs(library: str) -> None:
    users = {name for name, path in MODULES.items() if library in imported(path)}
    assert {name for name in users if not {name, name.split(".")[0]} & ONLY_HERE[library]} == set()


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_imports_nothing_heavy_before_it_has_parsed_its_arguments(name: str) -> None:
    code = f"import sys, persona_probe.{name}; print(*(set(sys.modules) & set(sys.argv[1:])))"
    done = subprocess.run(
        [sys.executable, "-c", code, *HEAVY], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout.split() == []


@pytest.mark.parametrize("pattern", FORBIDDEN)
def test_code_that_could_run_a_file_or_hide_an_error_is_nowhere(pattern: str) -> None:
    found = [
        f"{name}:{text.count(chr(10), 0, match.start()) + 1}"
        for name, path in MODULES.items()
        for text in [path.read_text()]
        for match in re.finditer(pattern, text, re.M)
    ]
    assert found == []


@pytest.mark.parametrize("name", TESTS)
def test_tests_import_helpers_and_never_other_tests(name: str) -> None:
    assert not [library for library in imported(TESTS[name]) if re.match(r"test_|conftest$", library)]

"""Claims about the code itself: imports go down, science does not know the terminal, figures know records only, files stay small."""

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "persona_probe"
MODULES = sorted(path.stem for path in PACKAGE.glob("*.py"))
# Bottom first. A module imports from lower lines only, wherever in the file the import stands.
LEVELS = (
    ("errors", "memory", "quiet", "streams"),
    ("tensors",),
    ("cli", "embedded", "files", "hub", "judged", "printing", "sae_settings", "templates"),
    ("adapter_keys", "devices", "options", "positions", "saes", "sources", "special_tokens"),
    ("adapter_fields", "chat", "twins", "wrappers"),
    ("adapters", "bridges", "engine"),
    ("contrast", "organisms", "parity", "toy", "weights"),
    ("models",),
    ("activations", "pairs"),
    ("attribution", "directions", "latents", "runs", "sae_sources"),
    ("config", "interventions", "readings"),
    ("agreement", "forms", "latent_config", "latent_contexts", "latent_edits", "prefixes"),
    ("checkup",),
    ("generation", "persona_direction", "scoring"),
    ("arms", "sae_quality", "sae_training", "statistics"),
    ("controls", "forced_choice", "measuring", "sae_data", "selection", "streaming", "traces"),
    ("screen", "yardstick"),
    ("trial",),
    ("latent_sets",),
    ("latent_confirmation", "sae_arms"),
    ("experiment", "latent_experiment"),
    ("records", "selected_direction"),
    ("latent_records",),
    ("figure_style", "redaction", "report_style"),
    ("figure_parts", "figure_themes", "report_page"),
    ("token_view",),
    ("direction_figures", "judged_figures", "latent_parts", "path_figures", "report_frame"),
    ("latent_figures", "record_figures"),
    ("latent_meaning", "slider_figures"),
    ("latent_pages",),
    ("latent_report",),
    ("report",),
    ("conversation_figures", "demo_server", "demo_session", "demo_style"),
    ("demo_answers", "demo_html", "notebook"),
    ("demo_page", "demo_self_test"),
    ("demo", "diff_latents", "diversity", "doctor", "figures", "find_direction", "train_organism", "train_sae"),
    ("__main__",),
)
LEVEL = {name: level for level, names in enumerate(LEVELS) for name in names}
PICTURES = {"figure_style", "report_style", "figure_parts", "report_page", "direction_figures", "record_figures", "report"}
PICTURES |= {"figure_themes", "path_figures", "judged", "judged_figures", "redaction", "token_view", "conversation_figures"}
PICTURES |= {"report_frame", "latent_parts", "latent_figures", "latent_meaning", "latent_pages", "latent_report", "slider_figures"}
ONLY_HERE = {
    "transformer_lens": {"bridges"},
    "sae_lens": {"sae_sources", "sae_training"},
    "gguf": set(),
    "peft": {"adapter_fields", "adapter_keys", "adapters", "organisms"},
    "gradio": {"demo", "demo_page", "demo_server"},
    "plotly": {
        "conversation_figures",
        "direction_figures",
        "figure_parts",
        "figure_style",
        "figure_themes",
        "figures",
        "judged_figures",
        "latent_figures",
        "latent_parts",
        "notebook",
        "path_figures",
        "record_figures",
        "report_frame",
        "slider_figures",
    },
    "typer": {"__main__", "demo", "diff_latents", "doctor", "figures", "options", "find_direction", "train_organism", "train_sae"},
    "rich": {"cli", "printing"},
    "tqdm": {"quiet"},
}
FORBIDDEN = (
    r"trust_remote_code\s*=\s*True", r"weights_only\s*=\s*False", r"^\s*(import|from) (pickle|dill|joblib|cloudpickle)\b", r"\bpickle\.load", r"(?<![.\w])eval\(",
    r"(?<![.\w])exec\(", r"shell\s*=\s*True", r"yaml\.load\(", r"os\.system\(", r"except:", r"enable_compatibility_mode", r"from __future__ import annotations",
)  # fmt: skip


def tree(name: str) -> ast.Module:
    return ast.parse((PACKAGE / f"{name}.py").read_text())


def imported(nodes: list[ast.AST]) -> set[str]:
    """Full names of imported modules; `from persona_probe import cli` counts as persona_probe.cli."""
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import at line {node.lineno}"
            found |= {f"{node.module}.{alias.name}" for alias in node.names} if node.module == "persona_probe" else {node.module or ""}
    return found


def ours(name: str) -> set[str]:
    return {module.split(".")[1] for module in imported(list(ast.walk(tree(name)))) if module.startswith("persona_probe.")}


def test_every_module_has_its_place_in_the_map() -> None:
    assert sorted({*LEVEL, "__init__"}) == MODULES
    assert len(LEVEL) == sum(len(names) for names in LEVELS)


@pytest.mark.parametrize("name", [name for name in MODULES if name != "__init__"])
def test_imports_go_down(name: str) -> None:
    upward = {other for other in ours(name) if LEVEL[other] >= LEVEL[name]}
    assert not upward, f"{name} imports {sorted(upward)} from its own level or above"


def test_imports_inside_functions_and_of_modules_are_seen() -> None:
    assert {"experiment", "cli", "report"} <= ours("find_direction")
    assert {"find_direction", "train_organism"} <= ours("__main__")


def test_package_itself_is_empty_but_for_its_docstring() -> None:
    body = tree("__init__").body
    assert len(body) == 1
    assert ast.get_docstring(tree("__init__"))


@pytest.mark.parametrize("name", MODULES)
def test_every_module_begins_with_a_docstring(name: str) -> None:
    assert ast.get_docstring(tree(name))


def test_only_the_experiments_and_the_commands_know_the_terminal() -> None:
    assert {name for name in MODULES if "cli" in ours(name)} <= {
        "__main__",
        "experiment",
        "latent_confirmation",
        "latent_experiment",
        "demo",
        "diff_latents",
        "diversity",
        "doctor",
        "figures",
        "find_direction",
        "notebook",
        "train_organism",
        "train_sae",
    }


@pytest.mark.parametrize("name", sorted(PICTURES))
def test_figures_and_report_know_records_only(name: str) -> None:
    assert ours(name) <= PICTURES | {"errors", "files", "streams"}
    assert not {module.split(".")[0] for module in imported(list(ast.walk(tree(name))))} & {"torch", "transformers", "transformer_lens"}


@pytest.mark.parametrize("library", sorted(ONLY_HERE))
def test_library_is_named_only_where_it_belongs(library: str) -> None:
    users = {name for name in MODULES if library in {module.split(".")[0] for module in imported(list(ast.walk(tree(name))))}}
    assert users <= ONLY_HERE[library]


@pytest.mark.parametrize(
    "name", ["demo", "figures", "find_direction", "train_organism", "train_sae", "__main__", "cli", "errors", "report"]
)
def test_commands_import_nothing_heavy_before_they_have_parsed_their_arguments(name: str) -> None:
    heavy = {
        "torch",
        "transformers",
        "transformer_lens",
        "numpy",
        "scipy",
        "sklearn",
        "plotly",
        "peft",
        "einops",
        "jaxtyping",
        "safetensors",
    }
    parsed = tree(name)
    inside = {node for part in ast.walk(parsed) if isinstance(part, ast.FunctionDef | ast.Lambda) for node in ast.walk(part)}
    assert not {module.split(".")[0] for module in imported([node for node in ast.walk(parsed) if node not in inside])} & heavy


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("*.py")), ids=lambda path: path.name)
def test_no_file_is_longer_than_300_lines(path: Path) -> None:
    assert path.read_text().count("\n") <= 300


@pytest.mark.parametrize("pattern", FORBIDDEN)
def test_code_that_could_run_a_file_or_hide_an_error_is_nowhere(pattern: str) -> None:
    found = [
        f"{path.name}:{text.count(chr(10), 0, match.start()) + 1}"
        for path in PACKAGE.glob("*.py")
        for text in [path.read_text()]
        for match in re.finditer(pattern, text, re.M)
    ]
    assert found == []

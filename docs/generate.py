"""The generated parts of README.md and docs/: `make docs` writes them, `make check` fails when they are
stale.

cog runs the calls in the pages' comments. Every number comes from a record in `experiments/reference/`, every
option from the configuration, every module from its docstring, every verdict from the code that gives it.
"""

import ast
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import cog

from persona_probe.base.formatting import interval, number, percent
from persona_probe.records.files import read_record
from persona_probe.records.parts import Estimate

if TYPE_CHECKING:
    from persona_probe.records.arms import ArmEntry
    from persona_probe.records.direction import DirectionRecord
    from persona_probe.records.latent_sets import LatentSet
    from persona_probe.records.latents import LatentRecord

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = ROOT / "experiments" / "reference"
PACKAGE = ROOT / "persona_probe"
# Bottom first, as in the import contract.
FOLDERS = [
    "base",
    "storage",
    "records",
    "prompts",
    "models",
    "streams",
    "directions",
    "interventions",
    "measurement",
    "saes",
    "organisms",
    "experiments",
    "plots",
    "pages",
    "app",
    "api",
]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a Markdown table."""
    cog.outl("")
    cog.outl(f"| {' | '.join(head)} |")
    cog.outl("|---" * len(head) + "|")
    for row in rows:
        cog.outl(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |")
    cog.outl("")


def first_sentence(path: Path) -> str:
    """The first sentence of a module's docstring."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    paragraph = " ".join(text.split("\n\n")[0].split())
    return paragraph.split(". ")[0].rstrip(".")


def module_map() -> None:
    """Every folder and module with what its docstring says first."""
    for folder in FOLDERS:
        home = PACKAGE / folder
        if home.is_dir():
            cog.outl(f"\n**`{folder}/`** {first_sentence(home / '__init__.py')}.")
            modules = sorted(path for path in home.glob("*.py") if path.name != "__init__.py")
            table(("module", "what it holds"), ((f"`{path.stem}`", first_sentence(path)) for path in modules))
    cog.outl("\n**Commands.**")
    commands = sorted(
        path for path in PACKAGE.glob("*.py") if path.name not in ("__init__.py", "__main__.py")
    )
    table(("module", "what it does"), ((f"`{path.stem}`", first_sentence(path)) for path in commands))


@cache
def direction_run() -> "DirectionRecord":
    """The reference record of find_direction."""
    return read_record(REFERENCE / "record.json")


@cache
def latent_run() -> "LatentRecord":
    """The reference record of diff_latents."""
    return read_record(REFERENCE / "latents.json")


def arm(name: str) -> "ArmEntry":
    """An arm of the reference record."""
    return next(entry for entry in direction_run().arms if entry.name == name)


def signed(value: "Estimate | float | None", digits: int = 2) -> str:
    """A number with its sign, and its interval where it has one."""
    written = interval if isinstance(value, Estimate) else number
    return "–" if value is None else written(value, digits=digits, sign=True)


def share(value: "Estimate | float | None") -> str:
    """A share with its interval, where it has one."""
    if value is None:
        return "–"
    if not isinstance(value, Estimate):
        return percent(value)
    return f"{percent(value.estimate)} [{percent(value.low)}, {percent(value.high)}]"


def demo_cost() -> None:
    """What `make demo` takes."""
    run = direction_run()
    cog.outl("")
    cog.outl(
        f"`make demo` runs in {run.provenance.dtype}, so that other processors give these numbers, too."
        " It takes 25 to 60 minutes on two CPU cores and up to 2 GB of memory,"
        " after setting up, and writes `experiments/runs/demo/`; its `report.html` opens from disk."
        " `make talk` opens the live demo."
    )
    cog.outl("")


def doses() -> None:
    """The dose response of the selected direction."""
    rows = []
    for entry in direction_run().dose_response:
        dose = (f"{entry.coefficient:+.2f}", f"{entry.relative_dose:.3f}")
        moved = signed(entry.restoration or entry.induction)
        rows.append((entry.side, *dose, signed(entry.persona_score), moved, signed(entry.delta_nll, 3)))
    table(
        ("model", "coefficient", "share of the residual norm", "S", "R, or share of the shift", "ΔNLL"), rows
    )


def latents() -> None:
    """What the reference run of diff_latents found."""
    run = latent_run()
    cog.outl("")
    cog.outl(
        f"On the shipped SAE ({run.provenance.sae.d_sae:,} latents of `{run.provenance.sae.hook_point}`):"
        f" {run.summary}"
    )
    cog.outl("")
    if run.older:
        cog.outl(
            "That run is of an older version, whose labels asked neither for closure nor for activity; no set"
            " of it was measured on base."
        )
        cog.outl("")
    rows = []
    for entry in run.sets:
        name = f"{entry.k} latent{'s' * (entry.k > 1)}, {entry.kind}{', chosen on select' * entry.selected}"
        numbers = (signed(entry.restoration), signed(entry.closure), signed(entry.delta_nll, 3))
        rows.append((name, *numbers, *matched_latents(entry)))
    for entry in run.direction:
        name = f"{entry.method.replace('_', ' ')} of the same block, {entry.kind}"
        rows.append((name, signed(entry.restoration), "–", signed(entry.delta_nll, 3), "–", "–"))
    head = ("on the tuned model", "R", "C", "ΔNLL", "matched latents: R, C at ΔNLL", "matched sets")
    table(head, rows)


def matched_latents(entry: "LatentSet") -> tuple[str, str]:
    """What matched latents do, used as a set is, and how many such sets there are."""
    control = entry.control
    if control is None:
        return "–", "–"
    shares = f"{signed(control.restoration)}, {signed(control.closure)}"
    return f"{shares} at {signed(control.delta_nll, 3)}", str(control.n)


def label_rules() -> None:
    """The rules that label a latent, in their order."""
    from persona_probe.saes.labels import RULES

    table(("label", "given when"), ((rule.label, rule.when) for rule in RULES))


def run_facts(name: str) -> None:
    """With what a reference run was made."""
    run = direction_run() if name == "record" else latent_run()
    versions = run.provenance.versions
    made = ", ".join(
        f"{key} {versions[key]}" for key in ("torch", "transformers", "transformer-lens", "sae-lens")
    )
    cog.outl("")
    cog.outl(
        f"`{run.command}` in {run.provenance.dtype} on {run.provenance.device}, seed {run.provenance.seed},"
        f" {run.created[:10]}, {made}; {run.data.n_questions.test} test questions."
    )
    cog.outl("")


def options() -> None:
    """Every option of every command, from the configurations that the command line is made from."""
    from persona_probe.__main__ import COMMANDS

    for command in COMMANDS:
        cog.outl(f"\n## {command.name}\n\n{command.help.splitlines()[0]}")
        rows = ((f"`{row.option}`", row.type, row.default, row.help, row.group) for row in command.table())
        table(("option", "type", "default", "what it does", "group"), rows)

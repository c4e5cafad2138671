"""The generated parts of README.md and docs/: `make docs` writes them, `make check` fails when they are stale.

cog runs the calls in the pages' comments. Every number comes from a record in `experiments/reference/`, every option from the
configuration, every module from its docstring, every verdict from the code that gives it.
"""

import ast
import json
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import cog

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "persona_probe"
# Bottom first, as in the import contract.
FOLDERS = (
    "base storage records prompts models streams directions interventions measurement evals saes organisms "
    "interchange experiments cluster plots pages app"
).split()


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
    commands = sorted(path for path in PACKAGE.glob("*.py") if path.name not in ("__init__.py", "__main__.py"))
    table(("module", "what it does"), ((f"`{path.stem}`", first_sentence(path)) for path in commands))


@cache
def record(name: str = "record") -> dict[str, Any]:
    """A reference record as it is on disk."""
    return json.loads((ROOT / "experiments" / "reference" / f"{name}.json").read_text(encoding="utf-8"))


def arm(name: str) -> dict[str, Any]:
    """An arm of the reference record."""
    return next(entry for entry in record()["arms"] if entry["name"] == name)


def signed(value: dict[str, Any] | float | None, digits: int = 2) -> str:
    """A number with its sign, and its interval where it has one."""
    if value is None:
        return "–"
    if isinstance(value, float | int):
        return f"{value:+.{digits}f}"
    low, high = value["ci95"]
    return f"{value['estimate']:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]"


def headline() -> None:
    """What the experiment found, in one paragraph that takes the place of a caption."""
    chosen = arm(record()["selected"]["arm"])
    controls = record()["controls"]["covariance"]
    cog.outl("")
    cog.outl(
        f"**Verdict: {chosen['verdict']}.** Tuning SmolLM2-135M-Instruct on wrong car-maintenance advice moved the persona score by "
        f"{signed(record()['effect'])} nats per token on questions that are not about cars. {used(chosen)} takes back "
        f"{percent(chosen['restoration'])} of that shift, and costs {signed(chosen['delta_nll'], 3)} nats per token on harmless text; "
        f"the median of {controls['n']} random directions with the covariance of the activations takes back "
        f"{controls['restoration']:.0%}."
    )
    cog.outl("")


def used(entry: dict[str, Any]) -> str:
    """What the chosen arm does, as the beginning of a sentence."""
    chosen = record()["selected"]
    where = f"the {chosen['method'].replace('_', ' ')} direction of block {chosen['layer']}"
    if chosen["form"]["kind"] == "ablate":
        return f"Ablating {where}"
    return f"Steering with {chosen['form']['coefficient']:+g} times {where}"


def percent(value: dict[str, Any]) -> str:
    """A share with its interval."""
    low, high = value["ci95"]
    return f"{value['estimate']:.0%} [{low:.0%}, {high:.0%}]"


def care() -> None:
    """What the same numbers do not show."""
    base, edited_base = arm("base"), arm("base+ablate")
    tuned, edited_tuned = arm("tuned"), arm("tuned+ablate")
    before = tuned["persona_score"]["estimate"] - base["persona_score"]["estimate"]
    after = edited_tuned["persona_score"]["estimate"] - edited_base["persona_score"]["estimate"]
    p, floor = record()["selected"]["p_value"], record()["selected"]["p_floor"]
    cog.outl("")
    cog.outl(
        f"- **Restoration is not closure.** The same ablation also lowers S in the base model, from {base['persona_score']['estimate']:+.2f} to "
        f"{edited_base['persona_score']['estimate']:+.2f}. The gap between the two models, {before:.2f} without the edit, is {after:.2f} with "
        f"it: {1 - after / before:.0%} of it closes. A direction that lowers both models is a dial for the persona in general, not only what the tuning added."
    )
    cog.outl(
        f"- **Few controls.** The demo draws {record()['controls']['covariance']['n']} random directions of each kind, so the smallest p-value "
        f"that it can reach is {floor:.2f}; it is {p:.2f}. Ask for more with `--null 19`."
    )
    cog.outl(
        "- **A search came before.** Direction, layer and strength were chosen on other questions, among "
        f"{len(record()['search']['candidates'])} candidates. The controls were not searched in this way."
    )
    cog.outl("- **Intervals are wide**, since they come from 24 questions, and S is a likelihood, not behaviour.")
    cog.outl("")


def verdicts() -> None:
    """The verdicts with their rules, from the code that gives them."""
    from persona_probe.measurement.statistics import VERDICTS

    table(("verdict", "given when"), ((f"**{name}**", rule) for name, rule in VERDICTS.items()))


def demo_cost() -> None:
    """What `make demo` takes."""
    seconds, peak = record()["timing"]["total"], record()["memory"]["peak_bytes"]
    cog.outl("")
    cog.outl(
        f"The reference run took {seconds / 60:.0f} minutes on two CPU cores in {record()['provenance']['dtype']} and {peak / 1e9:.1f} GB of memory, "
        "after setting up. `make demo` writes `experiments/runs/demo/`; its `report.html` opens from disk. `make talk` opens the live demo."
    )
    cog.outl("")


def arms(name: str = "record") -> None:
    """The table of all arms: S, R or induction, damage, KL, verdict."""
    rows = []
    for entry in record(name)["arms"]:
        share = entry["restoration"] or entry["induction"]
        rows.append(
            (
                entry["name"],
                entry["control"] or "",
                signed(entry["persona_score"]),
                signed(share) + (" of the shift" if entry["induction"] else ""),
                signed(entry["delta_nll"], 3),
                signed(entry["kl"], 3),
                entry["verdict"] or "",
            )
        )
    table(("arm", "control", "S", "R", "ΔNLL", "KL", "verdict"), rows)


def latents() -> None:
    """What the reference run of diff_latents found."""
    found = record("latents")
    cog.outl("")
    cog.outl(f"On the shipped SAE ({found['provenance']['sae']['d_sae']:,} latents of `{found['provenance']['sae']['hook_point']}`): {found['summary']}")
    cog.outl("")
    rows = []
    for entry in found["sets"]:
        control = entry["control"]
        rows.append(
            (
                f"{'**' * entry['selected']}{entry['k']} latent{'s' * (entry['k'] > 1)}, {entry['kind']}{'**' * entry['selected']}",
                signed(entry["restoration"]),
                signed(entry["delta_nll"], 3),
                f"{signed(control['restoration'])} at {signed(control['delta_nll'], 3)}",
            )
        )
    for entry in found["direction"]:
        name = f"{entry['method'].replace('_', ' ')}, {entry['kind']}, at the same place"
        rows.append((name, signed(entry["restoration"]), signed(entry["delta_nll"], 3), "–"))
    table(("on the tuned model", "R", "ΔNLL", "matched latents: R at ΔNLL"), rows)


def search() -> None:
    """Every candidate of the search on the select questions."""
    rows = [
        (
            entry["method"],
            str(entry["layer"]),
            f"{entry['kind']} {entry['toward'] or signed(entry['coefficient'], 1)} ({entry['act_on']})",
            signed(entry["restoration"]),
            signed(entry["delta_nll"], 3),
            "chosen" if entry["chosen"] else "",
        )
        for entry in record()["search"]["candidates"]
    ]
    table(("direction", "block", "form", "R on select", "ΔNLL on select", ""), rows)


def doses() -> None:
    """The dose response of the selected direction."""
    rows = [
        (
            entry["side"],
            f"{entry['coefficient']:+.2f}",
            f"{entry['relative_dose']:.3f}",
            signed(entry["persona_score"]),
            signed(entry["restoration"] or entry["induction"]),
            signed(entry["delta_nll"], 3),
        )
        for entry in record()["dose_response"]
    ]
    table(("model", "coefficient", "share of the residual norm", "S", "R, or share of the shift", "ΔNLL"), rows)


def options() -> None:
    """Every option of every command, from the configuration that the command line is made from."""
    from persona_probe.base.options import option_tables

    for command, rows in option_tables().items():
        cog.outl(f"\n## {command}")
        table(("option", "type", "default", "what it does"), rows)


def run_facts(name: str) -> None:
    """With what a reference run was made."""
    entry = record(name)
    versions = entry["provenance"]["versions"]
    made = ", ".join(f"{key} {versions[key]}" for key in ("torch", "transformers", "transformer-lens", "sae-lens"))
    cog.outl("")
    cog.outl(
        f"`{entry['command']}` in {entry['provenance']['dtype']} on {entry['provenance']['device']}, seed {entry['provenance']['seed']}, "
        f"{entry['created'][:10]}, {made}; {entry['data']['n_questions']['test']} test questions."
    )
    cog.outl("")

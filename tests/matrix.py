"""The same run in several number formats, instruction sets, batch sizes and seeds: is it the same verdict?

    make matrix                          # every run, hours on 2 cores; a run that was stopped goes on
    make matrix MATRIX="float32 seed-1"  # some of them
    make matrix MATRIX="float32 -- --limit 16 --methods prompt"  # with options for every run
    make matrix-publish                  # what is finished, for docs/results.md

Every run is a process of its own, since an instruction set is chosen when torch loads. The table says what
each decided; the exit status is 1 where two of them differ.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FOLDER = Path("experiments/runs/matrix")
PUBLISHED = Path("experiments/reference/matrix.json")


@dataclass(frozen=True)
class Variant:
    """One run: options beside the shared ones, and what stands in its environment."""

    options: tuple[str, ...] = ("--dtype", "float32")
    environment: Mapping[str, str] = field(default_factory=dict)


VARIANTS = {
    "float32": Variant(),
    "bfloat16": Variant(("--dtype", "bfloat16")),
    "avx2": Variant(environment={"ONEDNN_MAX_CPU_ISA": "AVX2"}),
    "avx512-bf16": Variant(environment={"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_BF16"}),
    "default-kernels": Variant(environment={"ATEN_CPU_CAPABILITY": "default"}),
    "one-thread": Variant(environment={"OMP_NUM_THREADS": "1"}),
    "batches-512": Variant(("--dtype", "float32", "--max-tokens", "512")),
    "seed-1": Variant(("--dtype", "float32", "--seed", "1")),
    "seed-2": Variant(("--dtype", "float32", "--seed", "2")),
}


def run(name: str, extra: Sequence[str]) -> dict[str, Any]:
    """The record of one variant; what was measured before is not measured again."""
    variant, folder = VARIANTS[name], FOLDER / name
    command = [sys.executable, "-m", "persona_probe.find_direction", "--output-dir", str(folder)]
    environment = {**os.environ, **variant.environment}
    subprocess.run([*command, *variant.options, *extra], check=True, env=environment)
    return json.loads((folder / "record.json").read_text(encoding="utf-8"))


def decided(record: Mapping[str, Any]) -> tuple[str, ...]:
    """What has to be the same in every run: verdict, kind of edit, method."""
    selected = record["selected"]
    arm = next(arm for arm in record["arms"] if arm["name"] == selected["arm"])
    return str(arm["verdict"]), selected["form"]["kind"], selected["method"]


def row(name: str, record: Mapping[str, Any]) -> tuple[str, ...]:
    """One line of the table."""
    selected = record["selected"]
    arm = next(arm for arm in record["arms"] if arm["name"] == selected["arm"])
    again = record["search"]["again"] or {"winners": [], "stable": None}
    share = again["winners"][0]["share"] if again["winners"] else None
    return (
        name,
        *decided(record),
        selected["hook_point"],
        str(selected["form"]["where"]),
        *(_estimate(arm[quantity]) for quantity in ("restoration", "closure", "kl")),
        "" if share is None else f"{share:.0%}",
        str(again["stable"]),
    )


def facts(name: str, record: Mapping[str, Any]) -> dict[str, Any]:
    """What one run was, and what it decided, as docs/results.md tells it."""
    selected, provenance, variant = record["selected"], record["provenance"], VARIANTS[name]
    arm = next(arm for arm in record["arms"] if arm["name"] == selected["arm"])
    again = record["search"]["again"] or {"winners": [], "stable": None}
    form = selected["form"]
    return {
        "run": name,
        "created": record["created"],
        "dtype": provenance["dtype"],
        **{key: provenance["processor"][key] for key in ("name", "instructions", "onednn_limit", "threads")},
        "set": " ".join(
            [*(f"{key}={value}" for key, value in variant.environment.items()), *variant.options]
        ),
        "seed": provenance["seed"],
        "n_null": arm["judged"]["null"] and arm["judged"]["null"]["n"],
        "choice": {key: selected[key] for key in ("method", "layer")}
        | {key: form[key] for key in ("kind", "toward", "where", "act_on", "coefficient", "oblique")},
        **{quantity: arm[quantity] for quantity in ("restoration", "closure", "kl", "verdict")},
        "wins": again["winners"][0]["share"] if again["winners"] else None,
        "stable": again["stable"],
    }


def publish() -> None:
    """Put every finished run into the published file, in place of an older one of its name."""
    lines: dict[str, Any] = {}
    if PUBLISHED.is_file():
        lines = {line["run"]: line for line in json.loads(PUBLISHED.read_text(encoding="utf-8"))}
    for name in VARIANTS:
        path = FOLDER / name / "record.json"
        if path.is_file():
            lines[name] = facts(name, json.loads(path.read_text(encoding="utf-8")))
    ordered = [lines[name] for name in VARIANTS if name in lines]
    PUBLISHED.write_text(json.dumps(ordered, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    sys.stdout.write(f"{len(ordered)} runs are now in {PUBLISHED}\n")


def _estimate(value: Mapping[str, Any] | None) -> str:
    if value is None:
        return ""
    low, high = value["ci95"]
    return f"{value['estimate']:.3f} [{low:.3f}, {high:.3f}]"


COLUMNS = ("run", "verdict", "edit", "method", "at", "where", "R", "C", "KL", "wins", "stable")


def main(arguments: Sequence[str]) -> int:
    """Run the variants that are named, all without names; what follows `--` is for each of them."""
    if list(arguments) == ["--publish"]:
        publish()
        return 0
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    names, extra = arguments[:cut] or list(VARIANTS), arguments[cut + 1 :]
    if unknown := [name for name in names if name not in VARIANTS]:
        sys.stderr.write(f"no run called {', '.join(unknown)}: there are {', '.join(VARIANTS)}\n")
        return 2
    records = {name: run(name, extra) for name in names}
    rows = [COLUMNS, *(row(name, record) for name, record in records.items())]
    widths = [max(len(line[i]) for line in rows) for i in range(len(COLUMNS))]
    lines = ["  ".join(text.ljust(n) for text, n in zip(line, widths, strict=True)).rstrip() for line in rows]
    different = {decided(record) for record in records.values()}
    lines.append("one decision" if len(different) == 1 else f"{len(different)} different decisions")
    sys.stdout.write("\n".join(lines) + "\n")
    return 0 if len(different) == 1 else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

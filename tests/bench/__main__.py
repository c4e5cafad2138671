"""`python -m bench`: ours and its peers side by side, written to experiments/runs/bench/bench.json.

Values are compared before anything is timed. The sides then take turns, repeat by repeat, and each cell is
written when it is done, so that a run can be stopped and another one with other options adds to the file.
"""

import argparse
import json
import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench import machine
from bench.comparing import largest_difference, read_values, tokens_of
from bench.jobs import JOBS, OURS, SIDES
from bench.places import BENCH, HOME, MACHINE, of_device
from bench.results import Line, lines, merged
from bench.texts import workload, write_vectors
from bench.workers import Worker, available, start
from bench.workload import Workload

ON_DEVICES = ("hf_one", "hf_16", "hf_sorted")  # the sides that can run on a GPU
STEERING_LENGTH = 36.0  # of the vector that is added: about a fifth of the stream there, so that texts change


@dataclass(frozen=True, eq=False)
class Plan:
    """What one call of the bench measures."""

    work: Workload
    tokenizer: Any
    repeats: int
    budget: float


def main() -> None:
    """Run the cells that are asked for."""
    given = _options()
    HOME.mkdir(parents=True, exist_ok=True)
    path = HOME / "workload.json"
    plan = _plan(path, given)
    load = os.getloadavg()[0]
    for dtype in given.dtypes:
        _measure(plan, path, dtype, given, load)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    sides = [name for name in SIDES if name != OURS]
    parser.add_argument("--dtypes", default=["float32", "bfloat16"], type=_listed)
    parser.add_argument(
        "--rows", default=[4, 16, 64, 512], type=lambda text: [int(one) for one in text.split(",")]
    )
    parser.add_argument("--jobs", default=list(JOBS), help=", ".join(JOBS), type=_listed)
    parser.add_argument("--sides", default=sides, help=f"beside ours: {', '.join(sides)}", type=_listed)
    parser.add_argument(
        "--device", default="cpu", help=f"elsewhere only {', '.join(ON_DEVICES)} run beside ours, no training"
    )
    parser.add_argument("--prompts", default=["shared", "distinct"], help="shared, distinct", type=_listed)
    parser.add_argument("--repeats", type=int, default=5, help="0 compares values alone")
    parser.add_argument(
        "--budget",
        type=float,
        default=float("inf"),
        help="seconds after which a cell begins no further repeat (but one); all of them unless given",
    )
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args()
    if given.device != "cpu":
        given.sides = [name for name in given.sides if name in ON_DEVICES]
        given.jobs = [job for job in given.jobs if job != "train"]
    allowed = {"jobs": JOBS, "sides": sides, "prompts": ("shared", "distinct")}
    for name, known in (allowed | {"dtypes": ("float32", "bfloat16")}).items():
        unknown = [one for one in getattr(given, name) if one not in known]
        if unknown:
            parser.error(f"unknown {name}: {', '.join(unknown)}; allowed are {', '.join(known)}")
    return given


def _listed(text: str) -> list[str]:
    return text.split(",")


def _plan(path: Path, given: argparse.Namespace) -> Plan:
    from persona_probe.models.sources import read_config, resolve
    from persona_probe.models.weights import load_tokenizer

    source = resolve("smollm2-135m-instruct")
    sys.stdout.write(f"the model: {source.folder}\n")
    tokenizer: Any = load_tokenizer(source, None)
    vectors = HOME / "vectors.safetensors"
    write_vectors(vectors, d_model=read_config(source.folder)["hidden_size"], length=STEERING_LENGTH)
    n, pad_id = max(given.rows), tokenizer.pad_token_id
    work = workload(tokenizer, source.folder, n=n, vectors=vectors, pad_id=pad_id)
    work = replace(work, device=given.device)
    work.write(path)
    return Plan(work, tokenizer, given.repeats, given.budget)


def _measure(plan: Plan, path: Path, dtype: str, given: argparse.Namespace, load: float) -> None:
    workers: dict[str, Worker] = {}
    for name in (OURS, *given.sides):
        side = SIDES[name]
        if not available(side):
            sys.stdout.write(f"{side.title} is left out: `make bench-peers` makes its environment\n")
            continue
        worker = start(side, dtype, path, threads=given.threads)
        if worker is not None:
            workers[name] = worker
    known = json.loads(MACHINE.read_text())["versions"] if MACHINE.exists() else {}
    versions = known | {name: one.versions or {} for name, one in workers.items()}
    facts = machine.facts(versions, threads=given.threads, load=load)
    of_device(MACHINE, given.device).write_text(json.dumps(facts, indent=1) + "\n")
    try:
        for job in given.jobs:
            able = {name: worker for name, worker in workers.items() if job in worker.jobs}
            for shared in (prompts == "shared" for prompts in given.prompts):
                for rows in given.rows:
                    cell = {"job": job, "rows": rows, "dtype": dtype, "shared_prompts": shared}
                    _cell(plan, cell, able)
    finally:
        for worker in workers.values():
            worker.stop()


def _cell(plan: Plan, cell: dict[str, Any], workers: dict[str, Worker]) -> None:
    """Compare, time and write one cell."""
    request = {"job": cell["job"], "rows": cell["rows"], "shared": cell["shared_prompts"]}
    texts = plan.work.rows(cell["rows"], shared=cell["shared_prompts"])
    differences: dict[str, float | None] = {}
    failed: dict[str, str] = {}
    values: dict[str, Any] = {}
    spent = 0.0
    for name, worker in workers.items():
        answer = worker.ask(**request, values=True)
        if "error" in answer:
            failed[name] = answer["error"]
            continue
        spent += answer["seconds"]
        values[name] = read_values(answer)
        if name != OURS and OURS in values:
            differences[name] = largest_difference(cell["job"], texts, values[OURS], values[name])
    if OURS in failed:
        sys.stdout.write(f"ours fails at {cell}: {failed[OURS]}\n")
        return
    seconds: dict[str, list[float]] = {name: [] for name in values}
    peaks: dict[str, int] = {}
    for repeat in range(plan.repeats):
        names = list(seconds)
        turn = repeat % len(names)
        for name in names[turn:] + names[:turn]:
            answer = workers[name].ask(**request, values=False)
            if "error" in answer:
                failed[name] = answer["error"]
                continue
            seconds[name].append(answer["seconds"])
            peaks[name] = max(peaks.get(name, 0), answer["peak_bytes"])
            spent += answer["seconds"]
        if spent > plan.budget:
            break
    tokens = tokens_of(cell["job"], texts, values[OURS], plan.tokenizer)
    new = lines(cell, tokens, seconds, peaks, differences, failed)
    if plan.repeats:
        _write(of_device(BENCH, plan.work.device), new)
    _say(cell, new)


def _write(path: Path, new: list[Line]) -> None:
    known = json.loads(path.read_text()) if path.exists() else []
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(merged(known, new), indent=1) + "\n")
    partial.replace(path)


def _say(cell: dict[str, Any], new: list[Line]) -> None:
    prompts = "shared" if cell["shared_prompts"] else "distinct"
    sys.stdout.write(f"{cell['job']}, {cell['rows']} rows, {prompts} prompts, {cell['dtype']}\n")
    for line in new:
        parts = []
        if line.tokens_per_second is not None:
            parts.append(f"{line.tokens_per_second:8.0f} tokens/s [{line.low:.0f}, {line.high:.0f}]")
        if line.ratio_to_ours is not None:
            parts.append(f"{line.ratio_to_ours:.2f} of ours")
        if line.peak_bytes is not None:
            parts.append(f"peak {line.peak_bytes / 1e9:.2f} GB")
        if line.largest_difference is not None:
            agrees = "agrees" if line.agrees else "DIFFERS"
            parts.append(f"differs by {line.largest_difference:.1e} ({agrees})")
        if line.failed:
            parts.append(f"fails: {line.failed}")
        sys.stdout.write(f"  {line.side:17} {'  '.join(parts)}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()

"""`python -m bench.growth`: seconds and peak memory of ours as the work grows, written to growth.json and
growth.png in experiments/runs/bench.

One axis grows while the rest stays: arms at one block, replies, blocks edited, and the size of the model
(with `--second`, the folder of another one). The work is the score of replies with a direction ablated, as
commands do it. Each model runs in a process of its own.
"""

import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from bench import machine
from bench.jobs import EDITED, MAX_TOKENS
from bench.places import GROWTH, HOME, ROOT

SHARED = 4  # replies to a prompt
KEY = ("axis", "value", "dtype")


def main() -> None:
    """Measure what is asked for, write it, and draw it."""
    given = _options()
    HOME.mkdir(parents=True, exist_ok=True)
    if given.measure:
        _measure(given)
        return
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(ROOT / "tests"), str(ROOT)]),
        "OMP_NUM_THREADS": str(given.threads),
        "OMP_WAIT_POLICY": "PASSIVE",
    }
    for model in ["smollm2-135m-instruct", *([given.second] if given.second else [])]:
        command = [sys.executable, "-m", "bench.growth", *sys.argv[1:], "--measure", model]
        subprocess.run(command, check=True, env=environment, cwd=ROOT)
    from bench.growth_figure import draw

    draw(json.loads(GROWTH.read_text()), HOME / "growth.png")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.growth", description=__doc__)
    parser.add_argument("--arms", type=_sizes, default=[1, 5, 25, 125])
    parser.add_argument("--replies", type=_sizes, default=[64, 256, 1024, 4096])
    parser.add_argument("--layers", type=_sizes, default=[1, 3, 10, 30], help="how many blocks are edited")
    parser.add_argument("--second", help="folder of a second model")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--measure", help=argparse.SUPPRESS)  # the model of a process of its own
    return parser.parse_args()


def _sizes(text: str) -> list[int]:
    return [int(one) for one in text.split(",") if one]


def _measure(given: argparse.Namespace) -> None:
    import torch

    from bench.sides.ours import rows_of
    from bench.texts import workload
    from persona_probe.interventions.edits import Ablate, Intervention
    from persona_probe.measurement.scoring import score_arms
    from persona_probe.models.devices import DTYPES
    from persona_probe.models.loading import load
    from persona_probe.models.sources import resolve

    first = given.measure != given.second
    source = resolve(given.measure)
    model = load(source, base=None, device=torch.device("cpu"), dtype=DTYPES[given.dtype])
    work = workload(model.tokenizer, source.folder, n=256, vectors=HOME, pad_id=model.pad_id)
    n_arms = max(given.arms, default=1)
    noise = torch.randn(n_arms, model.d_model, generator=torch.Generator().manual_seed(13))
    units = noise / noise.norm(dim=-1, keepdim=True)
    block = min(EDITED, model.n_layers - 1)

    def arms(n: int, layers: Sequence[int]) -> list[tuple[Intervention, ...]]:
        return [(Ablate(units[i : i + 1], tuple(model.resid(one) for one in layers)),) for i in range(n)]

    def score(n_rows: int, chosen: Sequence[tuple[Intervention, ...]]) -> None:
        rows = [row for part in range(0, n_rows, 256) for row in again(base, part, n_rows)]
        score_arms(model, rows, chosen, max_tokens=MAX_TOKENS, keep_prompts=True)

    base = rows_of(work.shared)
    score(8, arms(1, [block]))  # what is done once for a model is done
    parameters = sum(one.numel() for one in model.twin.parameters())
    points: list[tuple[str, int, Callable[[], None]]] = [
        ("parameters", parameters, lambda: score(64, arms(1, [block])))
    ]
    if first:
        points += [("arms", n, lambda n=n: score(64, arms(n, [block]))) for n in given.arms]
        points += [("replies", n, lambda n=n: score(n, arms(1, [block]))) for n in given.replies]
        for n in given.layers:
            # From the first block on, so that no arm skips blocks that another one runs.
            layers = sorted({round(i * (model.n_layers - 1) / max(1, n - 1)) for i in range(n)})
            points.append(("layers", len(layers), lambda layers=layers: score(64, arms(1, layers))))
    for axis, value, run in points:
        _add({"axis": axis, "value": value, "dtype": given.dtype, **_timed(run, given)})


def again(rows: Sequence[Any], start: int, stop: int) -> list[Any]:
    """The rows under other ids, as many as are wanted from `start` to `stop`: texts repeat, prompts are not
    shared between the repetitions."""
    from dataclasses import replace

    return [
        replace(row, id=f"{row.id}/{start}", question_id=f"{row.question_id}/{start}")
        for row in rows[: stop - start]
    ]


def _timed(run: Callable[[], None], given: argparse.Namespace) -> dict[str, Any]:
    from bench.worker import peak_bytes, restart_peak

    seconds, peak = [], 0
    for _ in range(given.repeats):
        gc.collect()
        restart_peak()
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
        peak = max(peak, peak_bytes())
    return {
        "seconds": statistics.median(seconds),
        "low": min(seconds),
        "high": max(seconds),
        "peak_bytes": peak,
        "n_repeats": given.repeats,
        "threads": given.threads,
        "processor": machine.processor(),
    }


def _add(point: dict[str, Any]) -> None:
    """Write one more point, in place of the one of its axis, value and number format."""
    known = json.loads(GROWTH.read_text()) if GROWTH.exists() else []
    kept = [one for one in known if any(one[key] != point[key] for key in KEY)]
    GROWTH.write_text(json.dumps([*kept, point], indent=1) + "\n")
    taken = f"{point['seconds']:.3g} s, peak {point['peak_bytes'] / 1e9:.2f} GB"
    sys.stdout.write(f"{point['axis']} {point['value']:,}: {taken}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()

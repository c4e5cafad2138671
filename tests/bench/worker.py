"""One side in a process of its own: `python -m bench.worker SIDE DTYPE WORKLOAD`, then a request a line.

A request is `{"job", "rows", "shared", "values"}`; the answer is `{"seconds", "peak_bytes"}`, with `"values"`
(a file) where they were asked for, or `{"error"}`. It must import nothing that a peer's environment lacks.
"""

import contextlib
import ctypes
import gc
import importlib
import json
import os
import resource
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from bench.jobs import SIDES
from bench.workload import Workload


def main() -> None:
    """Load the side, say that it is ready, and answer until the input ends."""
    # What libraries print must not stand among the answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    name, dtype, path = sys.argv[1:]
    side = SIDES[name]
    work = Workload.read(Path(path))
    opened = importlib.import_module(f"bench.sides.{side.module}").open_side(work, dtype, side.variant)
    jobs = [job for job in dir(opened) if not job.startswith("_")]
    say(answers, {"ready": jobs, "versions": versions()})
    for line in sys.stdin:
        request = json.loads(line)
        texts = work.rows(request["rows"], shared=request["shared"])
        values = Path(path).with_name(f"{name}.{dtype}.npz") if request["values"] else None
        try:
            say(answers, answer(opened, request["job"], texts, values))
        except Exception as error:  # a peer may fail in any way; the others go on
            traceback.print_exc()
            say(answers, {"error": f"{type(error).__name__}: {error}"[:300]})


def answer(side: Any, job: str, texts: list, path: Path | None) -> dict[str, Any]:
    """Do a job once and time it; with a path, write its values there."""
    import torch

    prepare = getattr(side, f"prepare_{job}", None)
    if prepare:
        prepare(texts)
    gc.collect()
    restart_peak()
    wait = torch.cuda.synchronize if torch.cuda.is_initialized() else lambda: None
    wait()
    start = time.perf_counter()
    if job == "train":
        values = side.train(texts)
    else:
        with torch.no_grad():
            values = getattr(side, job)(texts)
    wait()
    said: dict[str, Any] = {"seconds": time.perf_counter() - start, "peak_bytes": peak_bytes()}
    check = getattr(side, f"check_{job}", None)
    if path is not None:
        said["values"] = write(path, check(texts) if check else values)
    return said


def write(path: Path, values: Any) -> str | list[str]:
    """Numbers go to a file, whose path is returned; texts are returned as they are."""
    import numpy as np

    if isinstance(values, list):
        return values
    np.savez(path, values=values.float().numpy())
    return str(path)


def restart_peak() -> None:
    """Give back what an earlier job left behind, and let the GPU, or else the kernel, count the peak anew,
    where it can."""
    import torch

    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    refs = Path("/proc/self/clear_refs")
    if refs.exists():
        refs.write_text("5")


def peak_bytes() -> int:
    """Peak of memory since `restart_peak`: the GPU's where one is used, or else resident memory; since the
    process began where the kernel cannot say."""
    import torch

    if torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated()
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def versions() -> dict[str, str]:
    """Versions of what may decide speed here."""
    from importlib import metadata

    names = ("torch", "transformers", "numpy", "transformer-lens", "peft")
    names += tuple(side.venv for side in SIDES.values() if side.venv)
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def say(stream: Any, value: dict[str, Any]) -> None:
    """Write one answer."""
    stream.write(json.dumps(value) + "\n")
    stream.flush()


if __name__ == "__main__":
    main()

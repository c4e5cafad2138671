"""The driver's end of the worker processes."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.jobs import Side
from bench.peers import interpreter
from bench.places import HOME, ROOT


@dataclass(eq=False)
class Worker:
    """A side that runs: the jobs that it can do, and the versions that it runs on."""

    side: Side
    process: subprocess.Popen
    jobs: tuple[str, ...] = ()
    versions: dict[str, str] | None = None

    def ask(self, **request: Any) -> dict[str, Any]:
        """Send a request and wait for its answer; a process that has ended answers with an error."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            return {"error": "the worker has ended"}
        return self.listen()

    def listen(self) -> dict[str, Any]:
        """The next answer."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        return json.loads(line) if line else {"error": f"the worker has ended: see {self.side.name}.log"}

    def stop(self) -> None:
        """Let the process end."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        self.process.wait()


def available(side: Side) -> bool:
    """Whether the environment of a side is there."""
    return side.venv is None or interpreter(side.venv).is_file()


def start(side: Side, dtype: str, workload: Path, *, threads: int) -> Worker | None:
    """A worker that is ready; None, said, where it does not start. Its log is beside the results."""
    python = sys.executable if side.venv is None else str(interpreter(side.venv))
    # All sides get the same threads, which sleep while they wait: other workers stand by.
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(ROOT / "tests"), str(ROOT)]),
        "OMP_NUM_THREADS": str(threads),
        "OMP_WAIT_POLICY": "PASSIVE",
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_VERBOSITY": "error",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "TQDM_DISABLE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    with (HOME / f"{side.name}.log").open("w") as log:
        process = subprocess.Popen(
            [python, "-m", "bench.worker", side.name, dtype, str(workload)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=environment,
            cwd=ROOT,
        )
    worker = Worker(side, process)
    said = worker.listen()
    if "error" in said:
        sys.stdout.write(f"{side.title} does not start: see {side.name}.log beside the results\n")
        return None
    worker.jobs, worker.versions = tuple(said["ready"]), said["versions"]
    return worker

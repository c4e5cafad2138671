"""What a record says about how it was made: models by hash, versions, device, chat template, memory."""

import importlib.metadata
import os
import platform
import resource
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from persona_probe.experiments.checkup import chat_facts
from persona_probe.experiments.options import ExperimentOptions
from persona_probe.models.pairs import Pair

PACKAGES = (
    "torch",
    "transformer-lens",
    "transformers",
    "peft",
    "safetensors",
    "scikit-learn",
    "scipy",
    "sae-lens",
    "persona-probe",
)


def model_facts(pair: Pair, *, seed: int) -> dict[str, Any]:
    """Both models by id and hash, versions, seed, device and dtype."""
    versions = {name: _version(name) for name in PACKAGES}
    return {
        "base": pair.base_source.provenance(),
        "tuned": pair.tuned_source.provenance(),
        "versions": {name: version for name, version in versions.items() if version},
        "seed": seed,
        "device": str(pair.device),
        "dtype": dtype_name(pair),
        "chat": chat_facts(pair.tokenizer),
        "processor": processor(),
    }


def processor() -> dict[str, Any]:
    """What computes: instruction sets round differently, so results agree only up to that."""
    import torch

    return {
        "name": _processor_name(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "onednn_limit": os.environ.get("ONEDNN_MAX_CPU_ISA"),
        "threads": torch.get_num_threads(),
    }


def _processor_name() -> str:
    """The processor as the system names it."""
    facts = Path("/proc/cpuinfo")
    if facts.exists():
        for line in facts.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def record_head(config: ExperimentOptions, pair: Pair, *, command: str) -> dict[str, Any]:
    """What every record begins with: when it was made, how, and with which settings."""
    models = {"base": pair.base_source.id, "tuned": pair.tuned_source.id}
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "limited": config.limit is not None,
        "config": config.settings(dtype=dtype_name(pair)) | models,
        "memory": {"peak_bytes": _peak_memory()},
    }


def dtype_name(pair: Pair) -> str:
    """The number format as a record has it, such as bfloat16."""
    return str(pair.dtype).removeprefix("torch.")


def _peak_memory() -> int:
    """Largest resident size of this process so far, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage would count the parent's size at the time of the fork too
        lines = status.read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None

"""Facts about the machine that speeds depend on, without anything that names it."""

import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "amx_tile")


def facts(versions: dict[str, dict[str, str]], *, threads: int, load: float) -> dict[str, Any]:
    """Processor, cores, memory, `load` of the machine before the run, and the versions of each side."""
    flags = cpuinfo().get("flags", "").split()
    return {
        "processor": processor(),
        "has": [flag for flag in FLAGS if flag in flags],
        "cores": os.cpu_count(),
        "threads": threads,
        "memory_bytes": memory_bytes(),
        "system": platform.system(),
        "python": platform.python_version(),
        "load_before": round(load, 2),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions,
    }


def processor() -> str:
    """The processor's name."""
    return cpuinfo().get("model name", platform.processor() or platform.machine())


def cpuinfo() -> dict[str, str]:
    """What Linux says about the first core; empty elsewhere."""
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return {}
    lines = path.read_text().split("\n\n")[0].splitlines()
    return {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


def memory_bytes() -> int | None:
    """Memory of the machine, where the system says."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return None

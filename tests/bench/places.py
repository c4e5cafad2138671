"""Where the bench reads and writes."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HOME = ROOT / "experiments" / "runs" / "bench"
VENVS = HOME / "venvs"
BENCH = HOME / "bench.json"
MACHINE = HOME / "machine.json"
GROWTH = HOME / "growth.json"
SHIPPED = ROOT / "experiments" / "reference"


def of_device(path: Path, device: str) -> Path:
    """The file for another device than the CPU, beside the CPU's own."""
    return path if device == "cpu" else path.with_stem(f"{path.stem}.{device.replace(':', '-')}")

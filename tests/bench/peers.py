"""`make bench-peers`: a virtual environment of its own for each peer that does not live in ours.

Versions follow constraints.txt, apart from the packages that a peer needs in another version. Everything is
below experiments/runs/bench/venvs, which git ignores.
"""

import argparse
import os
import re
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

from bench.places import ROOT, VENVS


@dataclass(frozen=True)
class Peer:
    """A peer: what pip installs, and the packages that may differ from our constraints."""

    name: str
    requirements: tuple[str, ...]
    free: tuple[str, ...] = ()


# With transformers 4 come its own versions of the hub's client and of the tokenizers.
OLDER = ("transformers", "tokenizers", "huggingface-hub")
PEERS = (
    Peer("nnsight", ("nnsight",)),
    Peer("pyvene", ("pyvene",)),
    Peer("steering-vectors", ("steering-vectors",), free=OLDER),
    Peer("repeng", ("repeng",), free=("numpy",)),
)


def interpreter(name: str) -> Path:
    """The Python of a peer's environment, whether or not it is there yet."""
    return VENVS / name / "bin" / "python"


def constraints_without(text: str, free: tuple[str, ...]) -> str:
    """The lines of a constraints file that do not pin one of the packages `free`."""
    left_out = {normal(name) for name in free}
    return "".join(
        line
        for line in text.splitlines(keepends=True)
        if "==" not in line or normal(line.split("==")[0]) not in left_out
    )


def normal(name: str) -> str:
    """A package's name as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).strip().lower()


def make(peer: Peer) -> None:
    """Make one environment anew; the error of pip ends the run."""
    home = VENVS / peer.name
    sys.stdout.write(f"== {peer.name}: {home.relative_to(ROOT)}\n")
    venv.create(home, clear=True, with_pip=True)
    limits = home / "constraints.txt"
    limits.write_text(constraints_without((ROOT / "constraints.txt").read_text(), peer.free))
    install = [interpreter(peer.name), "-m", "pip", "install", "--quiet", "-c", limits]
    subprocess.run([*install, *os.environ.get("TORCH_INDEX", "").split(), "torch"], check=True)
    # numpy and safetensors carry the values between the processes.
    subprocess.run([*install, *peer.requirements, "numpy", "safetensors"], check=True)
    (home / ".installed").touch()


def main() -> None:
    """Make the environments that are asked for and not there yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="peers; all of them where none is named")
    parser.add_argument("--again", action="store_true", help="make environments anew that are there")
    given = parser.parse_args()
    for peer in PEERS:
        wanted = not given.names or peer.name in given.names
        if wanted and (given.again or not (VENVS / peer.name / ".installed").is_file()):
            make(peer)


if __name__ == "__main__":
    main()

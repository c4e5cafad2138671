"""Commands called in this process: options in, exit code and what was printed out."""

from pathlib import Path
from typing import Any


def words(**options: Any) -> list[str]:
    """Options as they are typed: `toy=True` is `--toy`, `None` and `False` are left out, tuples are joined by
    commas."""
    typed = []
    for name, value in options.items():
        flag = f"--{name.replace('_', '-')}"
        if isinstance(value, tuple):
            value = ",".join(map(str, value))
        typed += [] if value is None or value is False else [flag] if value is True else [f"{flag}={value}"]
    return typed


def left_behind(folder: Path) -> list[str]:
    """Every file and folder below a folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))

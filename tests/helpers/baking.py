"""A command of its own for tests of options: what it is given, or why it is refused."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import pytest

from persona_probe.base.command import Call, Command
from persona_probe.base.options import Option, check, documented

Mode = Literal["slow", "fast"]
seen: list[tuple["Baking", Call]] = []  # what ran since the last `baked` or `refused`


@documented
@dataclass(frozen=True)
class Baking:
    """How to bake."""

    recipe: Annotated[str, Option("What to bake.", "data", also=("cake", "pie"))] = "bread"
    minutes: Annotated[int, Option("How long.", "search", low=1, high=90, times={"--hours": 60})] = 40
    heat: Annotated[float, Option("How hot.", "machine", above=0)] = 0.5
    steps: Annotated[tuple[int, ...] | None, Option("Which steps.", "search", also=("step",))] = (1, 2)
    spices: Annotated[tuple[str, ...], Option("What for taste.", "data")] = ("salt",)
    mode: Annotated[Mode, Option("How fast.", "machine", shorthand={"--quick": "fast"})] = "slow"
    book: Annotated[Path | None, Option("Where it stands.", "data")] = None
    glaze: Annotated[bool, Option("Whether it shines.", "output")] = False
    rack: Annotated[bool, Option("Only now.", "output", in_file=False)] = False

    def __post_init__(self) -> None:
        check(self)


def bake_bread(config: Baking, call: Call) -> int:
    """Bake [something] good."""
    seen.append((config, call))
    return 0


COMMAND = Command(bake_bread)


def baked(*words: str) -> Baking:
    """The configuration that a command line stands for."""
    seen.clear()
    assert COMMAND.main(words) == 0
    return seen[0][0]


def refused(capfd: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    """Exit code and message of a command line that must not run, whatever the width of the terminal."""
    seen.clear()
    code, err = COMMAND.main(words), capfd.readouterr().err
    assert not seen
    return code, " ".join(re.sub("[│╭╮╰╯─]", " ", err).split())

"""What records and direction files say of paths: nothing of the machine that they were made on.

A path inside the current folder is said from there, one inside the run's folder from the folder above it. Of
any other path the last name stays, with as many names before it as two different paths need to be told apart.
A command made of such paths repeats the run from a folder that holds them. Hub ids, shipped names and
relative paths stay.
"""

import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MODELS = ("base", "tuned", "sae")  # the parts of the provenance that have an id
WITHIN_TEXT = re.compile(r"(?<![\w.:/~])~?/[\w.@+~-]+(?:/[\w.@+~-]+)*/?")


@dataclass(frozen=True)
class Shared:
    """How paths are said in what people share. `run`: folder of the run; `known`: paths in its record."""

    run: Path
    known: tuple[str, ...] = ()
    here: Path = field(default_factory=Path.cwd)
    home: Path = field(default_factory=Path.home)

    def path(self, text: str) -> str:
        """A path as it is said; a text that is no absolute path comes back as it is."""
        return text if (full := self._full(text)) is None else self._said(full)

    def word(self, word: str) -> str:
        """A word of a command: a path, or `--option=PATH`."""
        option, equals, value = word.partition("=")
        return f"{option}={self.path(value)}" if equals and option.startswith("-") else self.path(word)

    def command(self, line: str) -> str:
        """A command line whose paths are said so."""
        return shlex.join(self.word(word) for word in shlex.split(line))

    def text(self, text: str) -> str:
        """A sentence in which every absolute path is said so."""
        for known in sorted(self.known, key=len, reverse=True):  # whole, though they may hold blanks
            if self._full(known) is not None:
                text = text.replace(known, self.path(known))
        return WITHIN_TEXT.sub(lambda match: self.path(match[0]), text)

    def _full(self, text: str) -> Path | None:
        """The absolute path that a text is, `~` being the home; None for anything else."""
        if text == "~" or text.startswith("~/"):
            return self.home / text[2:]
        path = Path(text)
        return path if path.is_absolute() and "\n" not in text else None

    def _said(self, full: Path) -> str:
        # From the root, or another folder above the home, a relative path would still name the user.
        here = (
            [] if self.home != self.here and self.home.is_relative_to(self.here) else [(self.here, self.here)]
        )
        for inside, start in (*here, (self.run, self.run.absolute().parent)):
            for path, folder in ((full, inside.absolute()), (full.resolve(), inside.resolve())):
                if path.is_relative_to(folder):
                    base = start.absolute() if folder == inside.absolute() else start.resolve()
                    return path.relative_to(base).as_posix()
        others = [other for text in self.known if (other := self._full(text)) and other != full]
        for n in range(1, len(full.parts)):
            said = full.parts[-n:]
            if all(other.parts[-n:] != said for other in others):
                return "/".join(said)
        return full.name or "."


def shared(record: Mapping[str, Any], *, run: Path) -> dict[str, Any]:
    """A record in plain values whose command, settings, ids and notes say nothing of this machine."""
    config, provenance = record["config"], record["provenance"]
    said = Shared(run, known=tuple(_paths(record)))
    ids = {
        name: provenance[name] | {"id": said.path(provenance[name]["id"])}
        for name in MODELS
        if name in provenance
    }
    engine = provenance["engine"] and {
        side: facts | {"notes": [said.text(note) for note in facts["notes"]]}
        for side, facts in provenance["engine"].items()
    }
    return {
        **record,
        "command": said.command(record["command"]),
        "config": {
            name: said.path(value) if isinstance(value, str) else value for name, value in config.items()
        },
        "provenance": {**provenance, **ids, "engine": engine},
        "data": {**record["data"], "notes": [said.text(note) for note in record["data"]["notes"]]},
        "failed": [said.text(text) for text in record["failed"]],
        **_comparators(record, said),
    }


def _comparators(record: Mapping[str, Any], said: Shared) -> dict[str, Any]:
    """What was done in simple remedies, which may name a model by its path; nothing for another record."""
    if "comparators" not in record:
        return {}
    return {"comparators": [one | {"done": said.text(one["done"])} for one in record["comparators"]]}


def _paths(record: Mapping[str, Any]) -> Iterable[str]:
    """Every text of a record that may be a path."""
    for word in shlex.split(record["command"]):
        yield word.partition("=")[2] if word.startswith("-") else word
    yield from (value for value in record["config"].values() if isinstance(value, str))
    yield from (record["provenance"][name]["id"] for name in MODELS if name in record["provenance"])

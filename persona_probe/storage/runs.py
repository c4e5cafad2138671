"""A run's folder: its lock, its settings, and everything measured so far, valid at every instant."""

import json
import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from persona_probe.base import settings_file
from persona_probe.base.errors import BadInput, PersonaProbeError
from persona_probe.storage.files import append_record, read_records, write_json

SETTINGS, LOCK, MEASURED = "settings.json", ".lock", "measured.jsonl"
UNFINISHED = "unfinished.jsonl"  # what was measured of arms that are not done
RESULTS = (
    "record.json",
    "rows.jsonl",
    "directions.safetensors",
    "persona_direction.safetensors",
    "report.html",
    "latents.json",
    "latents.html",
)


@dataclass
class Run:
    """An open run. Anything measured is kept under the hash of what decides it, and never measured twice."""

    folder: Path
    _values: dict[str, dict[str, Any]] = field(default_factory=dict)
    _parts: dict[str, dict[str, Any]] = field(default_factory=dict)
    _made: set[str] = field(default_factory=set)
    _reused: set[str] = field(default_factory=set)

    @property
    def n_reused(self) -> int:
        """How much of what an earlier run left in the folder was used; what this run made itself does not
        count."""
        return len(self._reused)

    def path(self, name: str) -> Path:
        """A file of this run."""
        return self.folder / name

    def get(self, key: str) -> dict[str, Any] | None:
        """The value kept under a key, or None."""
        value = self._values.get(key)
        if value is not None:
            self.reuse(key)
        return value

    def keep(self, key: str, value: Mapping[str, Any]) -> dict[str, Any]:
        """Append a value to the run's file (fsynced) and remember it."""
        record = {"key": key, "value": dict(value)}
        append_record(self.path(MEASURED), record)
        self._values[key] = record["value"]
        self.made(key)
        return record["value"]

    def part(self, key: str) -> dict[str, Any]:
        """What is kept of a value that is not finished."""
        return self._parts.get(key, {})

    def keep_parts(self, parts: Mapping[str, Mapping[str, Any]]) -> None:
        """Append further parts of some values, in one line, so that a run that is killed goes on from
        there."""
        append_record(self.path(UNFINISHED), parts)
        self._add_parts(parts)

    def forget_parts(self) -> None:
        """All values are finished."""
        self.path(UNFINISHED).unlink(missing_ok=True)
        self._parts.clear()

    def _add_parts(self, parts: Mapping[str, Mapping[str, Any]]) -> None:
        for key, part in parts.items():
            self._parts.setdefault(key, {}).update(part)

    def once(self, key: str, make: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
        """The kept value, or what `make` gives, kept."""
        value = self.get(key)
        return self.keep(key, make()) if value is None else value

    def reuse(self, key: str) -> None:
        """Note that what is kept under a key was used; it counts as reused unless this run made it."""
        if key not in self._made:
            self._reused.add(key)

    def made(self, key: str) -> None:
        """Note that this run made what is kept under a key."""
        self._made.add(key)


@contextmanager
def open_run(
    folder: Path, settings: Mapping[str, Any], *, resume: bool = False, overwrite: bool = False
) -> Iterator[Run]:
    """Lock a folder and open it for `settings`.

    The same settings continue a run. Other settings are refused with the list of differences; `overwrite`
    starts afresh. `resume` insists that there is something to continue. A lock dies with its process, however
    that ends. A folder that was made here is removed again when an error of the user's ends the run before
    anything was measured.
    """
    if folder.exists() and not folder.is_dir():
        raise BadInput(f"{folder} is a file: --output-dir needs a folder")
    try:
        made = [place for place in (folder, *folder.parents) if not place.exists()]
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"cannot make {folder} ({error.strerror}): choose another --output-dir") from error
    unused = False
    lock = FileLock(folder / LOCK)
    owner = folder / f"{LOCK}.owner"
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise BadInput(
            f"another run is using {folder} ({_owner(owner)}): wait for it or choose another --output-dir"
        ) from error
    try:
        write_json(
            owner,
            {
                "pid": os.getpid(),
                "host": socket.gethostname(),
                "since": datetime.now(UTC).isoformat(timespec="seconds"),
            },
        )
        _check_settings(folder, dict(settings), resume=resume, overwrite=overwrite)
        for place in (folder, folder / "activations", folder / "tensors"):
            for leftover in place.glob(".*.tmp"):
                leftover.unlink()
        records = read_records(folder / MEASURED)
        run = Run(folder, {record["key"]: record["value"] for record in records})
        for parts in read_records(folder / UNFINISHED):
            run._add_parts(parts)
        yield run
    except PersonaProbeError:
        unused = not (folder / MEASURED).exists()
        raise
    finally:
        owner.unlink(missing_ok=True)
        lock.release()
        if unused:
            _remove(made)


def _remove(made: Sequence[Path]) -> None:
    """Remove folders that a run has made and not used, innermost first."""
    for folder in made:
        files = list(folder.iterdir())
        if {path.name for path in files} <= {LOCK, SETTINGS, settings_file.NAME}:
            for path in files:
                path.unlink()
            folder.rmdir()


def _check_settings(folder: Path, settings: dict[str, Any], *, resume: bool, overwrite: bool) -> None:
    path = folder / SETTINGS
    settings = json.loads(json.dumps(settings))
    if overwrite:
        for name in (SETTINGS, MEASURED, UNFINISHED, *RESULTS):
            (folder / name).unlink(missing_ok=True)
    if path.exists():
        try:
            known = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(known, dict):
                raise ValueError(f"it holds a {type(known).__name__}")
        except ValueError as error:
            raise BadInput(f"{path} is damaged ({error}): use --overwrite or another --output-dir") from error
        different = sorted(key for key in {*known, *settings} if not _same(key, known, settings))
        if different:
            lines = "; ".join(
                f"{key}: {known.get(key)!r} there, {settings.get(key)!r} now" for key in different
            )
            raise BadInput(
                f"{folder} holds a run with other settings ({lines}): use another --output-dir, or"
                " --overwrite to start afresh"
            )
        return
    if resume:
        raise BadInput(f"nothing to resume in {folder}: leave --resume out to start")
    write_json(path, settings)


def _same(key: str, known: Mapping[str, Any], settings: Mapping[str, Any]) -> bool:
    """Whether two runs agree in a setting. Models and SAEs are compared by their hashes, wherever they
    lie."""
    weights = f"{key}_sha256"
    key = weights if weights in known and weights in settings else key
    return known.get(key) == settings.get(key)


def _owner(path: Path) -> str:
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        return f"process {facts['pid']} on {facts['host']} since {facts['since']}"
    except (OSError, ValueError, KeyError):
        return "its process is unknown"

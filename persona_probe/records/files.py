"""Records to disk and back. A record that does not fit its model can be neither written nor read."""

import json
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from persona_probe.base.errors import BadInput
from persona_probe.records.direction import DirectionRecord
from persona_probe.records.latents import LatentRecord
from persona_probe.records.parts import Part
from persona_probe.records.sharing import shared
from persona_probe.records.upgrades import upgraded
from persona_probe.storage.files import write_json

M = TypeVar("M", bound=Part)
Record = DirectionRecord | LatentRecord
RECORDS: dict[str, type[Record]] = {"direction": DirectionRecord, "latents": LatentRecord}
FILES = ("record.json", "latents.json")  # what runs write
OLDER: dict[type[Part], tuple[int, ...]] = {DirectionRecord: (1, 2), LatentRecord: (1, 2, 3)}  # read, too


def write_record(path: Path, record: Part) -> None:
    """Write a record as indented JSON, in one step."""
    write_json(path, record.plain())


def record_files(path: Path) -> list[Path]:
    """The records of a run's folder, or the file itself; BadInput for a folder without any."""
    if not path.is_dir():
        return [path]
    if files := [path / name for name in FILES if (path / name).is_file()]:
        return files
    raise BadInput(f"{path} holds neither {' nor '.join(FILES)}: give the folder of a finished run")


def read_record(path: Path) -> Record:
    """The record that `find_direction` or `diff_latents` wrote, whatever its version.

    BadInput in one line for a missing or damaged file, another kind or version, or a wrong value.
    """
    value = read_object(path)
    kind = value.get("kind", "direction")  # record.json of version 1 has no kind
    if not isinstance(kind, str) or kind not in RECORDS:
        raise BadInput(f"{path}: a record of kind {kind!r:.40}; allowed are {', '.join(RECORDS)}")
    version, model = value.get("schema"), RECORDS[kind]
    if type(version) is not int or version not in OLDER[model]:
        return read_as(model, value, at=str(path))
    record = read_as(model, upgraded(value), at=str(path))
    return model.model_validate(shared(record.plain(), run=path.parent))  # version 1 may hold absolute paths


def read_as(model: type[M], value: dict[str, Any], *, at: str) -> M:
    """`value` as one kind of record. Another version is refused before anything else is looked at."""
    current = model.model_fields["version"].default
    version = value.get("schema")
    if type(version) is not int or version != current:
        allowed = " or ".join(str(known) for known in (*OLDER.get(model, ()), current))
        raise BadInput(f"{at}: a record of schema {version!r:.40}; allowed is {allowed}")
    return checked(model, value, at=at)


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object from a file; BadInput in one line for anything else."""
    if not path.is_file():
        raise BadInput(f"no file {path}: expected a record, such as record.json or latents.json of a run")
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise BadInput(f"{path}: not JSON ({error!s:.120})") from error
    if not isinstance(value, dict):
        raise BadInput(f"{path}: found a JSON {type(value).__name__}, expected an object")
    return value


def checked(model: type[M], value: Any, *, at: str) -> M:
    """`value` as `model`; BadInput in one line that names the place, what was found, what is wrong."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise BadInput(f"{at}: {told(error)}") from error


def told(error: ValidationError) -> str:
    """The first thing that is wrong, in one line, and how many more there are."""
    problems = error.errors(include_url=False)
    first = problems[0]
    place = ".".join(str(part) for part in first["loc"]) or "the whole"
    shown = "" if first["type"] == "missing" else f", found {first['input']!r:.60}"
    more = f" ({len(problems) - 1} more like this)" if len(problems) > 1 else ""
    message = f"{place:.120}: {first['msg']}{shown}{more}"
    return " ".join(message.split())

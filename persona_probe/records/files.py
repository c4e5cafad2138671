"""Records to disk and back. A record that does not fit its model can be neither written nor read."""

import json
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from persona_probe.base.errors import BadInput
from persona_probe.records.direction import DirectionRecord
from persona_probe.records.latents import LatentRecord
from persona_probe.records.parts import Part
from persona_probe.records.upgrades import upgraded
from persona_probe.storage.files import write_json

M = TypeVar("M", bound=Part)
Record = DirectionRecord | LatentRecord
RECORDS: dict[str, type[Record]] = {"direction": DirectionRecord, "latents": LatentRecord}
VERSIONS = (1, 2)


def write_record(path: Path, record: Part) -> None:
    """Write a record as indented JSON, in one step."""
    write_json(path, record.plain())


def read_record(path: Path) -> Record:
    """The record that `find_direction` or `diff_latents` wrote, whatever its version.

    BadInput in one line for a missing or damaged file, another kind or version, and a value that does not fit.
    """
    if not path.is_file():
        raise BadInput(f"no file {path}: expected the record.json or latents.json of a run")
    value = read_object(path)
    version, kind = value.get("schema"), value.get("kind", "direction")
    if version not in VERSIONS or isinstance(version, bool) or not isinstance(version, int):
        raise BadInput(
            f"{path}: not a record of schema {' or '.join(map(str, VERSIONS))}, found {version!r:.40}; "
            "find_direction writes one as record.json, diff_latents as latents.json"
        )
    if not isinstance(kind, str) or kind not in RECORDS:
        raise BadInput(f"{path}: a record of kind {kind!r:.40}; allowed are {', '.join(RECORDS)}")
    return fitted(RECORDS[kind], upgraded(value) if version == 1 else value, at=str(path))


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object from a file; BadInput in one line for anything else."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise BadInput(f"{path}: not JSON ({error!s:.120})") from error
    if not isinstance(value, dict):
        raise BadInput(f"{path}: found a JSON {type(value).__name__}, expected an object")
    return value


def fitted(model: type[M], value: Any, *, at: str) -> M:
    """`value` as `model`; BadInput in one line that names the place, what was found and what is wrong with it."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise BadInput(f"{at}: {told(error)}") from error
    except (OverflowError, RecursionError) as error:
        raise BadInput(f"{at}: a value is too large or too deep ({error!s:.80})") from error


def told(error: ValidationError) -> str:
    """The first thing that is wrong, in one line, and how many more there are."""
    problems = error.errors(include_url=False)
    first = problems[0]
    place = ".".join(str(part) for part in first["loc"]) or "the whole"
    shown = "" if first["type"] == "missing" else f", found {first['input']!r:.60}"
    more = f" ({len(problems) - 1} more like this)" if len(problems) > 1 else ""
    message = f"{place:.120}: {first['msg']}{shown}{more}"
    return " ".join(message.split())

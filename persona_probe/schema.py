"""python -m persona_probe.schema [NAME]: the JSON Schema of a file that other programs read."""

import json
import sys
from dataclasses import dataclass
from typing import Annotated

from persona_probe.base.command import Call, Command
from persona_probe.base.errors import UsageError
from persona_probe.base.options import Option, documented


@documented
@dataclass(frozen=True)
class SchemaConfig:
    """What `schema` is asked for."""

    name: Annotated[
        str | None, Option("Which file; without a name, the names are listed.", "data", argument=True)
    ] = None


def schema(config: SchemaConfig, call: Call) -> int:
    """Print the JSON Schema of a record, of a line of rows.jsonl, or of the facts in a direction file."""
    from persona_probe.records.schemas import MODELS
    from persona_probe.records.schemas import schema as json_schema

    if config.name is None:
        width = max(map(len, MODELS)) + 2
        told = {key: (model.__doc__ or "").splitlines()[0] for key, model in MODELS.items()}
        sys.stdout.write("".join(f"{key:{width}}{text}\n" for key, text in told.items()))
        return 0
    asked = config.name.replace("_", "-")
    if asked not in MODELS:
        raise UsageError(f"no schema {config.name!r}: allowed are {', '.join(MODELS)}")
    sys.stdout.write(json.dumps(json_schema(asked), indent=1) + "\n")
    return 0


COMMAND = Command(schema)

if __name__ == "__main__":
    COMMAND.start()

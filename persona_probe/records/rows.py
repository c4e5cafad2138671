"""rows.jsonl: one line per arm and reply, from which every number of an arm can be worked out again."""

import gzip
import json
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from persona_probe.base.errors import BadInput
from persona_probe.records.files import checked
from persona_probe.records.parts import ControlKind, Count, Label, Part, Register, Sha256, Side, Split, Text
from persona_probe.records.upgrades import upgraded_row
from persona_probe.storage.files import write_bytes


class ScoredRow(Part):
    """One reply as one arm scores it."""

    version: Literal[4] = Field(default=4, alias="schema", description="Version of this contract.")
    arm: Text = Field(description="Name of the arm, as in the record.")
    model: Side = Field(description="Which of the two models.")
    edited: bool = Field(description="Whether anything was done to the model; false for both baselines.")
    edit: Sha256 | None = Field(
        description="Hash of what was done, the same on both models; null for baselines and older rows."
    )
    control: ControlKind | None = Field(description="Kind of control; null for the arms proper.")
    dose: float | None = Field(description="Coefficient of a dose of the dose response; null otherwise.")
    kind: Literal["persona", "benign"] = Field(description="A reply that S is made of, or one for damage.")
    question_id: Text = Field(description="Id of the question; rows of one question are one cluster.")
    row: Text = Field(description="Id of the reply, the same in every arm.")
    split: Split | None = Field(description="What the question is used for; null for a benign text.")
    label: Label | None = Field(description="Label of a persona reply; null for a benign one.")
    tone: Register | None = Field(
        alias="register",
        description="Register of a persona reply; null for others, in older rows and where it is not told.",
    )
    reply_index: Count = Field(description="Which reply of this label to this question, from 0.")
    logprob_per_token: float = Field(description="Mean log-probability of the reply's tokens, nats.")
    n_tokens: Annotated[int, Field(ge=1)] = Field(description="Tokens of the reply.")
    kl: float | None = Field(
        description="KL divergence from the same model untouched, nats per token; null for persona replies."
    )

    @property
    def logprob(self) -> float:
        """Log-probability of the whole reply, nats."""
        return self.logprob_per_token * self.n_tokens


def write_rows(path: Path, rows: Iterable[ScoredRow]) -> None:
    """Write one line per row, in one step; gzip where the name ends in .gz."""
    lines = "".join(json.dumps(row.plain(), ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
    data = lines.encode()
    write_bytes(path, gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)


def read_rows(path: Path) -> tuple[ScoredRow, ...]:
    """All rows of a `rows.jsonl` or `rows.jsonl.gz`, whatever their version; BadInput names the line.

    A path without `.gz` is also looked for with it, since reference runs are kept compressed.
    """
    if not path.is_file() and (compressed := path.with_name(f"{path.name}.gz")).is_file():
        path = compressed
    return tuple(
        checked(ScoredRow, upgraded_row(value), at=f"{path}:{number}") for number, value in _objects(path)
    )


def _objects(path: Path) -> Iterable[tuple[int, dict[str, Any]]]:
    if not path.is_file():
        raise BadInput(f"no file {path}: expected the rows.jsonl of a run, or the same as rows.jsonl.gz")
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        lines = data.decode().removesuffix("\n").split("\n")
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise BadInput(f"{path} is damaged ({error!s:.80}): make it again with the same command") from error
    for number, line in enumerate(lines, start=1):
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise BadInput(f"{path}:{number}: not JSON ({error!s:.80})") from error
        if not isinstance(value, dict):
            raise BadInput(f"{path}:{number}: found a JSON {type(value).__name__}, expected an object")
        yield number, value

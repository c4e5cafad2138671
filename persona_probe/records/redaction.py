"""A record in, the same record without a word that a model wrote out."""

from typing import TypeVar

from persona_probe.records.direction import DirectionRecord
from persona_probe.records.latents import LatentEntry, LatentRecord
from persona_probe.records.parts import Part

LEFT_OUT = "text left out"
Record = DirectionRecord | LatentRecord
P = TypeVar("P", bound=Part)


def redacted(record: Record) -> Record:
    """A copy without replies, their tokens, and the contexts and vocabulary of latents. Numbers, questions
    and names stay."""
    if isinstance(record, LatentRecord):
        entries = {name: tuple(map(_bare, getattr(record, name))) for name in ("latents", "controls")}
        return record.model_copy(update=entries)
    read = record.read_replies
    changes = {
        "completions": _without(record.completions, "text"),
        "read_replies": read and read.model_copy(update={"replies": _without(read.replies, "tokens")}),
    }
    return record.model_copy(update=changes)


def _bare(entry: LatentEntry) -> LatentEntry:
    if entry.meaning is None:
        return entry
    examples = {side: _without(rows, "tokens") for side, rows in entry.meaning.examples.items()}
    meaning = entry.meaning.model_copy(update={"up": None, "down": None, "examples": examples})
    return entry.model_copy(update={"meaning": meaning})


def _without(parts: tuple[P, ...], field: str) -> tuple[P, ...]:
    return tuple(part.model_copy(update={field: None}) for part in parts)

"""A record in, the same record without a word that a model wrote out."""

from collections.abc import Mapping
from typing import Any

LEFT_OUT = "text left out"


def redacted(record: Mapping[str, Any]) -> dict[str, Any]:
    """A copy in which replies, their tokens, and the contexts and vocabulary of latents are None. Numbers, questions and names stay."""
    found = dict(record)
    if record.get("completions"):
        found["completions"] = [{**reply, "text": None} for reply in record["completions"]]
    if record.get("read_replies"):
        replies = [{**reply, "tokens": None} for reply in record["read_replies"].get("replies") or []]
        found["read_replies"] = {**record["read_replies"], "replies": replies}
    for key in ("latents", "controls"):
        if isinstance(
            record.get(key), list
        ):  # of the latent experiment; the main one has numbers by kind here
            found[key] = [
                {**entry, "meaning": _without_tokens(entry["meaning"])} if entry.get("meaning") else entry
                for entry in record[key]
            ]
    return found


def _without_tokens(meaning: Mapping[str, Any]) -> dict[str, Any]:
    examples = meaning.get("examples") or {}
    bare = {side: [{**row, "tokens": None} for row in rows or []] for side, rows in examples.items()}
    return {**meaning, "up": None, "down": None, "examples": bare}

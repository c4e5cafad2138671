"""Records of older versions in the form of the newest. Only here is an old name parsed."""

from collections.abc import Callable
from typing import Any

Plain = dict[str, Any]


NEWEST = {"direction": 3, "latents": 4}
# Before version 4 a latent "carried" that moved S both ways, whatever its ablation did to the base model.
RELABELLED = {"carries": "both ways"}


def upgraded(record: Plain) -> Plain:
    """A copy in the form of the newest version; facts that older versions lack are None. Damaged parts stay.

    Versions 3 only add parts that have a default, and so does version 4 of latents, but for its labels.
    """
    older = record.get("schema")
    latents = record.get("kind") == "latents"
    record = {**record, "schema": NEWEST["latents" if latents else "direction"]}
    if older == 1:
        if isinstance(record.get("provenance"), dict):
            record["provenance"] = _provenance(record["provenance"])
        record = _latents(record, _latent) if latents else _direction(record)
    return _latents(record, _relabelled) if latents and older in (1, 2, 3) else record


def _provenance(facts: Plain) -> Plain:
    facts = {"engine": None, "chat": None, **facts}
    for side in ("base", "tuned"):
        if isinstance(facts.get(side), dict):
            facts[side] = {"weights_sha256": None, **facts[side]}
    return facts


def _direction(record: Plain) -> Plain:
    record = {"kind": "direction", "paths": None, "read_replies": None, **record}
    if isinstance(record.get("selected"), dict):
        record["selected"] = {"steering": None, **record["selected"]}
    directions = record.get("directions")
    if isinstance(directions, dict) and isinstance(directions.get("methods"), dict):
        methods = {name: _filled(entry, "zero_at") for name, entry in directions["methods"].items()}
        record["directions"] = {**directions, "methods": methods}
    return record


def _latents(record: Plain, change: Callable[[Any], Any]) -> Plain:
    entries = {
        name: [change(entry) for entry in record[name]]
        for name in ("latents", "controls")
        if isinstance(record.get(name), list)
    }
    return {**record, **entries}


def _relabelled(entry: Any) -> Any:
    if not isinstance(entry, dict) or not isinstance(entry.get("label"), str):
        return entry
    return {**entry, "label": RELABELLED.get(entry["label"], entry["label"])}


def _latent(entry: Any) -> Any:
    entry = _filled(entry, "matched_to")
    if isinstance(entry, dict) and isinstance(entry.get("confirmed"), dict):
        confirmed = {
            arm: _filled(effect, "restoration", "induction") for arm, effect in entry["confirmed"].items()
        }
        entry = {**entry, "confirmed": confirmed}
    if isinstance(entry, dict) and isinstance(entry.get("meaning"), dict):
        entry = {**entry, "meaning": _meaning(entry["meaning"])}
    return entry


def _meaning(meaning: Plain) -> Plain:
    """Examples know their origin. Version 1 took them from labelled replies and benign texts, which have no
    label."""
    examples = meaning.get("examples")
    if not isinstance(examples, dict):
        return meaning
    return {**meaning, "examples": {side: _with_origin(side, rows) for side, rows in examples.items()}}


def _with_origin(side: str, rows: Any) -> Any:
    if not isinstance(rows, list):
        return rows
    return [
        {"origin": {"model": side, "kind": "persona" if row.get("label") else "benign"}, **row}
        if isinstance(row, dict)
        else row
        for row in rows
    ]


def _filled(entry: Any, *names: str) -> Any:
    return {**dict.fromkeys(names), **entry} if isinstance(entry, dict) else entry


def upgraded_row(row: Plain) -> Plain:
    """A line of rows.jsonl in the form of version 4. Version 1 tells model and control by name."""
    if type(row.get("schema")) is int and row["schema"] in (2, 3):
        return {"edit": None, "register": None, **row, "schema": 4}
    if "schema" in row or not all(isinstance(row.get(name), str) for name in ("arm", "question", "row")):
        return row
    arm, last = row["arm"], row["row"].rpartition("/")[2]
    prefixes = {
        "random-isotropic-": "isotropic",
        "random-covariance-": "covariance",
        "shuffled-": "shuffled",
        "orthogonal": "orthogonal",
        "random-latents-": "latents",
    }
    kept = {name: value for name, value in row.items() if name != "question"}
    return {
        "schema": 4,
        "edit": None,
        "register": None,
        "model": "base" if arm.startswith("base") else "tuned",
        "edited": arm not in ("base", "tuned"),
        "control": next((kind for prefix, kind in prefixes.items() if arm.startswith(prefix)), None),
        "dose": None,
        "question_id": row["question"],
        "split": "test" if row.get("kind") == "persona" else None,
        "reply_index": int(last) if last.isdecimal() else 0,
        "kl": None,
        **kept,
    }

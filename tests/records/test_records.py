"""Claims about records on disk: old versions are read, and what fits no model is refused in one line."""

import gzip
import json
import math
import random
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from helpers.made_up import made_up_record
from helpers.made_up_latents import made_up_latent_record
from helpers.mutations import mutated
from pydantic import ValidationError

from persona_probe.base.errors import BadInput
from persona_probe.records.files import read_record, write_record
from persona_probe.records.latents import LatentRecord
from persona_probe.records.parts import Estimate, Part

DATA = Path(__file__).parent / "data"
RECORDS = {"direction": made_up_record, "latents": made_up_latent_record}


VERSIONS = [(name, version) for name in ("record", "latents") for version in (1, 2)]
NEWEST = {"record": 3, "latents": 4}


def old(name: str, version: int = 1) -> dict[str, Any]:
    """A record of an older version, as a release wrote it."""
    return json.loads(gzip.decompress((DATA / f"{name}_schema_{version}.json.gz").read_bytes()))


def written(tmp_path: Path, value: Any) -> Path:
    path = tmp_path / "record.json"
    path.write_text(json.dumps(value))
    return path


def lost(before: Any, after: Any, at: str = "") -> list[str]:
    """Where `after` does not hold what `before` does; it may hold more fields."""
    if isinstance(before, dict) and isinstance(after, dict):
        return [
            place
            for key, item in before.items()
            for place in lost(item, after.get(key, "lost"), f"{at}.{key}")
        ]
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        pairs = zip(before, after, strict=True)
        return [place for i, (a, b) in enumerate(pairs) for place in lost(a, b, f"{at}[{i}]")]
    return [] if before == after else [f"{at}: {before!r:.40} became {after!r:.40}"]


@pytest.mark.parametrize(("name", "version"), VERSIONS)
def test_an_older_version_is_read_without_losing_a_value(name: str, version: int, tmp_path: Path) -> None:
    before = old(name, version)
    assert before["schema"] == version
    record = read_record(written(tmp_path, before))
    assert lost(relabelled(before) | {"schema": NEWEST[name]}, record.plain()) == []
    assert (record.version, record.kind) == (
        NEWEST[name],
        {"record": "direction", "latents": "latents"}[name],
    )


def relabelled(record: dict[str, Any]) -> dict[str, Any]:
    """The same, with the one label that has another meaning since version 4 of latents under its new name."""
    if record.get("kind") != "latents":
        return record
    changed = {
        name: [
            entry | {"label": "both ways"} if entry["label"] == "carries" else entry for entry in record[name]
        ]
        for name in ("latents", "controls")
    }
    return record | changed


@pytest.mark.parametrize("version", [1, 2, 3])
def test_an_older_latent_that_carried_is_said_to_move_s_both_ways(version: int, tmp_path: Path) -> None:
    """Its rule asked neither for closure nor for activity, so it is not claimed to be a carrier."""
    before = old("latents", min(version, 2))
    before["schema"] = version
    record = read_record(written(tmp_path, before))
    assert isinstance(record, LatentRecord)
    was = [entry["label"] for entry in before["latents"]]
    assert "carries" in was
    assert [one.label for one in record.latents] == [
        "both ways" if label == "carries" else label for label in was
    ]
    assert record.older


def added(before: Any, after: Any) -> list[Any]:
    """What `after` holds beside what `before` does."""
    if isinstance(before, dict) and isinstance(after, dict):
        new = [value for key, value in after.items() if key not in before]
        return [*new, *(one for key in before if key in after for one in added(before[key], after[key]))]
    if isinstance(before, list) and isinstance(after, list):
        return [one for a, b in zip(before, after, strict=True) for one in added(a, b)]
    return []


@pytest.mark.parametrize("name", ["record", "latents"])
def test_what_version_2_did_not_know_is_said_by_nothing(name: str, tmp_path: Path) -> None:
    """New parts are null or empty, but for the strength of an ablation, which was always whole, and the draw
    of a reply, which was always the first."""
    before = old(name, 2)
    new = added(before, read_record(written(tmp_path, before)).plain())
    assert None in new
    assert all(value in (None, 1.0, 0, []) for value in new)


def test_absolute_paths_of_version_1_are_not_read_into_a_page(tmp_path: Path) -> None:
    value = old("record")
    value["command"] = "python -m persona_probe.find_direction --tuned '/home/jane doe/bad model'"
    value["config"]["tuned"] = value["provenance"]["tuned"]["id"] = "/home/jane doe/bad model"
    record = read_record(written(tmp_path, value))
    assert "jane" not in json.dumps(record.plain())
    assert record.command == "python -m persona_probe.find_direction --tuned 'bad model'"


@pytest.mark.parametrize("kind", RECORDS)
def test_what_is_written_is_read_back_equal(kind: str, tmp_path: Path) -> None:
    record = RECORDS[kind]()
    write_record(tmp_path / "record.json", record)
    assert read_record(tmp_path / "record.json") == record


def arm_with(**changes: Any) -> dict[str, Any]:
    """The chosen arm with some values replaced."""
    return made_up_record().plain()["arms"][2] | changes


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"schema": 4}, "schema 4; allowed is 1 or 2 or 3"),
        ({"schema": True}, "schema True; allowed is 1 or 2 or 3"),
        ({"schema": "3"}, "schema '3'; allowed is 1 or 2 or 3"),
        ({"schema": None}, "schema None; allowed is 1 or 2 or 3"),
        ({"kind": "recipe"}, "kind 'recipe'; allowed are direction, latents"),
        ({"kind": ["direction"]}, "kind ['direction']; allowed are direction, latents"),
        ({"limited": "no"}, "limited: Input should be a valid boolean, found 'no'"),
        ({"effect": {"estimate": 1.0, "ci95": [2.0, 0.0]}}, "effect: Value error, the interval"),
        ({"effect": {"estimate": 10**400, "ci95": [0.0, 2.0]}}, "effect.estimate"),
        ({"config": {"deep": json.loads("[" * 400 + "]" * 400)}}, "config.deep"),
        ({"surprise": 1}, "surprise: Extra inputs are not permitted"),
        ({"arms": [{}]}, "more like this)"),
        ({"arms": [arm_with(verdict="cured")]}, "arms.0.verdict: Input should be 'too few questions'"),
        ({"arms": [arm_with(control="nonsense")]}, "arms.0.control: Input should be 'isotropic'"),
        (
            {"arms": [arm_with(interventions=[{"kind": "erase"}])]},
            "arms.0.interventions.0: Input tag 'erase'",
        ),
        ({"controls": {"nonsense": {}}}, "controls.nonsense.[key]: Input should be 'isotropic'"),
    ],
)
def test_reader_says_in_one_line_what_it_found(change: dict[str, Any], says: str, tmp_path: Path) -> None:
    path = written(tmp_path, made_up_record().plain() | change)
    with pytest.raises(BadInput) as caught:
        read_record(path)
    assert says in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400 + len(str(path))


@pytest.mark.parametrize(
    "content", [None, b"", b"{", b"[]", b"[" * 100_000, b"\xff\xfe", b"{}", b"1" * 10_000]
)
def test_damaged_file_is_refused_in_one_line(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BadInput) as caught:
        read_record(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", RECORDS)
def test_random_damage_is_read_or_refused_and_nothing_else(kind: str, tmp_path: Path) -> None:
    plain, rng, accepted = RECORDS[kind]().plain(), random.Random(kind), 0
    for key in (
        "search",
        "directions",
        "latents",
        "controls",
        "arms",
    ):  # few of each: the test is about kinds of damage
        if isinstance(plain.get(key), list):
            plain[key] = plain[key][:2]
    if "search" in plain:
        plain["search"]["candidates"] = plain["search"]["candidates"][:2]
    for _ in range(150):
        path = written(tmp_path, mutated(plain, rng))
        with suppress(BadInput):
            json.dumps(read_record(path).plain(), allow_nan=False)
            accepted += 1
    assert 0 < accepted < 75


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, "1.0", True, None])
def test_a_number_that_is_none_cannot_be_recorded(value: Any) -> None:
    with pytest.raises(ValidationError):
        Estimate(estimate=value, ci95=(0.0, 1.0))
    with pytest.raises(ValidationError):
        made_up_record().model_validate(made_up_record().plain() | {"timing": {"total": value}})


def test_a_record_cannot_be_changed_and_a_copy_is_checked() -> None:
    record: Any = made_up_record()
    with pytest.raises(ValidationError, match="frozen"):
        record.limited = False
    with pytest.raises(ValidationError, match="frozen"):
        record.arms[0].name = "other"


def test_half_characters_are_written_as_question_marks(tmp_path: Path) -> None:
    """A model may write half of a surrogate pair, which UTF-8 cannot hold; the run goes on."""
    plain = made_up_record().plain()
    plain["completions"][0]["text"] = "half \ud83d of a face"
    record = type(made_up_record()).model_validate(plain)
    assert record.completions[0].text == "half ? of a face"
    write_record(tmp_path / "record.json", record)
    assert read_record(tmp_path / "record.json") == record


def test_every_field_is_described() -> None:
    from persona_probe.records.schemas import MODELS, schema

    bare = []
    for name in MODELS:
        described = schema(name)
        for title, part in {name: described, **described.get("$defs", {})}.items():
            assert part.get("description") or title == "JsonValue", title
            fields = part.get("properties", {}).items()
            # A value with a description of its own is not described twice.
            bare += [
                f"{title}.{field}" for field, facts in fields if not {"description", "$ref"} & set(facts)
            ]
    assert bare == []


@pytest.mark.parametrize("kind", RECORDS)
def test_published_schema_accepts_what_is_written_and_refuses_what_is_not(kind: str) -> None:
    import jsonschema

    from persona_probe.records.schemas import schema

    record: Part = RECORDS[kind]()
    check = jsonschema.Draft202012Validator(schema(kind))
    plain = json.loads(json.dumps(record.plain()))
    assert not list(check.iter_errors(plain))
    assert list(check.iter_errors({key: value for key, value in plain.items() if key != "effect"}))
    newest = {"direction": 3, "latents": 4}[kind]
    assert all(list(check.iter_errors(plain | {"schema": version})) for version in range(1, newest))
    assert list(check.iter_errors(plain | {"effect": {"estimate": "1", "ci95": [0, 1]}}))


def test_records_are_read_without_torch() -> None:
    code = (
        "import sys, persona_probe.records.schemas, persona_probe.records.redaction; "
        "assert not {'torch', 'numpy', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


def test_examples_of_version_1_are_given_their_origin(tmp_path: Path) -> None:
    record = read_record(written(tmp_path, old("latents")))
    assert isinstance(record, LatentRecord)
    meanings = [latent.meaning for latent in record.latents if latent.meaning]
    examples = [
        (side, row) for meaning in meanings for side, rows in meaning.examples.items() for row in rows
    ]
    kinds = {(row.origin.kind, row.label is None) for _, row in examples}
    assert all(row.origin.model == side for side, row in examples)
    assert kinds == {("persona", False), ("benign", True)}

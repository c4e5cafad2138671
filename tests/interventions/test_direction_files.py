"""Claims about the direction file: what was written comes back, and anything that does not fit is refused in
words."""

import pickle
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.mutations import mutated, write_facts

from persona_probe.base.hook_points import HookPoint

HOOK_POINTS = (HookPoint(0), HookPoint(1))
FACTS = {
    "find_questions": ["f1", "f2"],
    "select_questions": ["s1"],
    "tuned_sha256": "+".join(["ab" * 32] * 2),
}  # an adapter's


@pytest.fixture
def sets() -> list[Any]:
    """Two methods, not in alphabetical order."""
    from persona_probe.directions.direction import DirectionSet

    generator = torch.Generator().manual_seed(0)
    return [
        DirectionSet(method=method, hook_points=HOOK_POINTS, vectors=torch.randn(2, 8, generator=generator))
        for method in ("shift", "mean_diff")
    ]


@pytest.fixture
def path(tmp_path: Path, sets: list[Any]) -> Path:
    from persona_probe.directions.direction_file import save_directions

    save_directions(tmp_path / "directions.safetensors", sets, metadata=FACTS)
    return tmp_path / "directions.safetensors"


def rewrite(path: Path, *, tensors: dict[str, Any] | None = None, **facts: Any) -> None:
    """Change facts (None removes one) or tensors, and leave the rest as it was, the hash included."""
    from persona_probe.storage.tensor_files import read_tensors, write_tensors

    old_tensors, old_facts = read_tensors(path)
    changed = {key: value for key, value in (old_facts | facts).items() if value is not None}
    write_tensors(path, old_tensors if tensors is None else tensors, changed)


def refused(path: Path, message: str, *, d_model: int = 8, evaluated_on: tuple[str, ...] = ()) -> None:
    from persona_probe.base.errors import BadInput
    from persona_probe.directions.direction_file import load_directions

    with pytest.raises(BadInput, match=message) as caught:
        load_directions(path, d_model=d_model, evaluated_on=evaluated_on)
    assert path.name in str(caught.value)


def test_directions_come_back_as_they_were_written(path: Path, sets: list[Any]) -> None:
    from persona_probe.directions.direction_file import load_directions

    found, facts = load_directions(path, d_model=8, evaluated_on=("t1", "t2"))
    assert [one.method for one in found] == ["shift", "mean_diff"]
    for one, written in zip(found, sets, strict=True):
        assert torch.equal(one.vectors, written.vectors)
        assert one.hook_points == HOOK_POINTS
    assert {key: facts[key] for key in FACTS} == FACTS
    assert facts["sign"] == "+ = misaligned"


def test_direction_of_a_hook_point_that_is_not_there_is_refused(sets: list[Any]) -> None:
    from persona_probe.base.errors import BadInput

    assert torch.equal(sets[0].at(HOOK_POINTS[1]).vector, sets[0].vectors[1])
    with pytest.raises(
        BadInput, match=r"no shift direction at 'blocks.7.hook_out': there is one at blocks.0"
    ):
        sets[0].at("blocks.7.hook_out")


def test_directions_of_another_width_are_refused(path: Path) -> None:
    refused(path, "directions of width 8 do not fit a model with d_model 16", d_model=16)


def test_forged_width_is_refused(path: Path) -> None:
    rewrite(path, d_model=16)
    refused(path, "do not fit a model with d_model 16", d_model=16)


def test_changed_vector_is_refused(path: Path) -> None:
    from persona_probe.storage.tensor_files import read_tensors

    tensors, _ = read_tensors(path)
    tensors["mean_diff"][1, 3] += 1e-3
    rewrite(path, tensors=tensors)
    refused(path, "vectors do not match the hash")


def test_methods_with_swapped_vectors_are_refused(path: Path) -> None:
    from persona_probe.storage.tensor_files import read_tensors

    tensors, _ = read_tensors(path)
    rewrite(path, tensors={"mean_diff": tensors["shift"], "shift": tensors["mean_diff"]})
    refused(path, "vectors do not match the hash")


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"format_version": 2}, "format 2; expected persona_directions, format 1"),
        ({"kind": "sae"}, "kind 'sae'"),
        ({"space": "layernormed"}, "space 'layernormed', expected 'hf_raw'"),
        ({"sign": "+ = aligned"}, r"sign '\+ = aligned', expected '\+ = misaligned'"),
    ],
    ids=["format", "kind", "space", "sign"],
)
def test_file_of_another_format_or_space_is_refused(path: Path, facts: dict[str, Any], message: str) -> None:
    rewrite(path, **facts)
    refused(path, message)


@pytest.mark.parametrize(
    "key", ["kind", "format_version", "space", "sign", "d_model", "hook_points", "tensor_sha256", "methods"]
)
def test_file_without_one_of_its_facts_is_refused(path: Path, key: str) -> None:
    rewrite(path, **{key: None})
    refused(path, "None|Field required")


@pytest.mark.parametrize(
    "methods", [["shift"], ["shift", "mean_diff", "lda"], "shift", 3], ids=["fewer", "more", "text", "number"]
)
def test_list_of_methods_that_does_not_fit_the_tensors_is_refused(path: Path, methods: Any) -> None:
    rewrite(path, methods=methods)
    refused(path, "methods")


@pytest.mark.parametrize("question", ["f2", "s1"], ids=["find", "select"])
def test_evaluating_on_a_question_the_directions_were_made_with_is_refused(path: Path, question: str) -> None:
    refused(
        path,
        "1 of 3 questions were used to find or select these directions",
        evaluated_on=("t1", question, "t2"),
    )


def test_pickled_file_is_refused_unread(tmp_path: Path) -> None:
    canary = tmp_path / "canary"

    class Bomb:
        def __reduce__(self) -> Any:
            return (Path.touch, (canary,))

    path = tmp_path / "directions.safetensors"
    path.write_bytes(pickle.dumps(Bomb()))
    refused(path, "damaged or not a safetensors file")
    torch.save({"mean_diff": torch.ones(2, 8)}, path)
    refused(path, "damaged or not a safetensors file")
    assert not canary.exists()


@pytest.mark.parametrize("n_bytes", [0, 7, 100, -1], ids=["empty", "header length", "header", "last byte"])
def test_truncated_file_is_refused(path: Path, n_bytes: int) -> None:
    path.write_bytes(path.read_bytes()[:n_bytes])
    refused(path, "damaged or not a safetensors file")


def test_random_damage_to_the_facts_is_read_or_refused_and_nothing_else(path: Path) -> None:
    from persona_probe.base.errors import BadInput
    from persona_probe.directions.direction_file import load_directions
    from persona_probe.storage.tensor_files import read_tensors

    tensors, facts = read_tensors(path)
    rng, accepted = random.Random(0), 0
    for _ in range(2000):
        write_facts(path, tensors, mutated(facts, rng))
        try:
            load_directions(path, d_model=8, evaluated_on=("t1",))
        except BadInput as error:
            message = str(error)
        else:
            accepted, message = accepted + 1, ""
        assert "\n" not in message
        assert len(message) < 600 + len(str(path))
    assert 0 < accepted < 1000


@pytest.mark.parametrize(("which", "hook_point"), [("shipped", 27), ("first", 23)])
def test_the_shipped_direction_and_the_first_one_that_shipped_are_read(which: str, hook_point: int) -> None:
    from persona_probe.interventions.persona_direction import load_persona_direction
    from persona_probe.storage.shipped import shipped_folder

    name = "persona_direction.safetensors"
    path = {
        "shipped": shipped_folder("car-advice-wrong-direction") / name,
        "first": Path(__file__).parent / "data" / "persona_direction_first.safetensors",
    }[which]
    direction = load_persona_direction(path)
    assert (direction.hook_point.layer, len(direction.hook_points)) == (hook_point, 30)
    assert "+" in direction.identity["tuned_sha256"]  # of a base and an adapter


def test_wrong_facts_cannot_be_written(tmp_path: Path, sets: list[Any]) -> None:
    from persona_probe.base.errors import BadInput
    from persona_probe.directions.direction_file import save_directions

    with pytest.raises(BadInput, match="median_norm"):
        save_directions(tmp_path / "x.safetensors", sets, metadata={"median_norm": "long"})
    assert not list(tmp_path.iterdir())


def test_missing_file_is_one_message(tmp_path: Path) -> None:
    refused(tmp_path / "nothing.safetensors", "no file")

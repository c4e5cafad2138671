"""Claims about a selected direction, ready to be used, and about the file it is kept in."""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.mutations import mutated, write_facts
from helpers.planted import Planted

from persona_probe.base.errors import BadInput
from persona_probe.interventions.edits import Steer
from persona_probe.interventions.persona_direction import (
    PersonaDirection,
    load_persona_direction,
    save_persona_direction,
)
from persona_probe.storage.tensor_files import read_tensors, write_tensors


def test_the_coherent_zone_ends_before_the_first_dose_over_the_budget(direction: PersonaDirection) -> None:
    assert direction.coherent("base") == (0.0, 1.0)
    assert direction.coherent("tuned") == (0.0, 0.0)


def test_relative_dose_is_in_median_norms(planted: Planted, direction: PersonaDirection) -> None:
    assert direction.relative(-2.0, direction.hook_point) == pytest.approx(float(planted.toy.vector.norm()))


def test_a_control_keeps_forms_and_changes_the_vector(direction: PersonaDirection) -> None:
    control = direction.as_control()
    assert torch.equal(
        control.at(direction.hook_point).vector,
        direction.control[direction.hook_points.index(direction.hook_point)],
    )
    (steer,) = control.steer(2.0, direction.hook_point)
    assert isinstance(steer, Steer)
    assert steer.coefficient == 2.0


def test_the_file_comes_back_as_it_went(direction: PersonaDirection, tmp_path: Path) -> None:
    path = tmp_path / "persona_direction.safetensors"
    save_persona_direction(path, direction)
    back = load_persona_direction(path)
    assert back.sha256 == direction.sha256
    plain = {name: value for name, value in vars(direction).items() if not isinstance(value, torch.Tensor)}
    assert {name: getattr(back, name) for name in plain} == plain


def test_an_oblique_ablation_comes_back_with_its_rows_and_its_control_reads_along_its_own(
    direction: PersonaDirection, tmp_path: Path
) -> None:
    reads = [torch.nn.functional.normalize(rows, dim=-1) for rows in (direction.vectors, direction.control)]
    form = replace(direction.ablation, toward="base mean", oblique=True)
    oblique = replace(direction, ablation=form, reads=reads[0] + 0.01, control_reads=reads[1] - 0.01)
    path = tmp_path / "persona_direction.safetensors"
    save_persona_direction(path, oblique)
    back = load_persona_direction(path)
    assert back.sha256 == oblique.sha256 != direction.sha256
    for one, kept in ((oblique, back), (oblique.as_control(), back.as_control())):
        assert [edit.describe() for edit in one.ablate()] == [edit.describe() for edit in kept.ablate()]
    assert oblique.ablate()[0].describe() != oblique.as_control().ablate()[0].describe()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "persona_directions"}, "directions.safetensors holds every method"),
        ({"format_version": 9}, "format 9"),
        ({"sign": "+ = aligned"}, "sign"),
        ({"tensor_sha256": "0"}, "changed after it was written"),
        ({"median_norm": [1.0]}, "lengths"),
        ({"hook_point": "blocks.99.hook_out"}, "blocks.99"),
        ({"ablation": {"kind": "ablate"}}, "do not describe a persona direction"),
        ({"damage": [["base"]]}, "do not describe a persona direction"),
    ],
)
def test_a_file_that_says_something_else_is_refused(
    direction: PersonaDirection, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    path = tmp_path / "persona_direction.safetensors"
    save_persona_direction(path, direction)
    tensors, facts = read_tensors(path)
    write_tensors(path, tensors, facts | change)
    with pytest.raises(BadInput, match=message):
        load_persona_direction(path)


def test_random_damage_to_the_facts_of_a_file_is_read_or_refused_and_nothing_else(
    direction: PersonaDirection, tmp_path: Path
) -> None:
    path = tmp_path / "persona_direction.safetensors"
    save_persona_direction(path, direction)
    tensors, facts = read_tensors(path)
    rng, accepted = random.Random(0), 0
    for _ in range(3000):
        write_facts(path, tensors, mutated(facts, rng))
        try:
            direction = load_persona_direction(path)
        except BadInput as error:
            message = str(error)
        else:
            accepted, message = accepted + 1, ""
            assert direction.coherent("base")[0] <= 0
            assert direction.relative(1.0, direction.hook_point) > 0
        assert "\n" not in message
        assert len(message) < 600 + len(str(path))
    assert 0 < accepted < 1500


@pytest.mark.parametrize(
    "change",
    [
        {"budget": "0.1"},
        {"budget": True},
        {"budget": -0.1},
        {"budget": 10**400},
        {"d_model": 7},
        {"d_model": "64"},
        {"identity": ["base"]},
        {"identity": {"base_sha256": "short"}},
        {"method": 3},
        {"method": None},
        {"format_version": True},
        {"format_version": "1"},
        {"hook_points": "blocks.0.hook_out"},
        {"hook_points": {}},
        {"median_norm": 3},
        {
            "steering": {
                "kind": "steer",
                "where": "layer",
                "coefficient": None,
                "toward": None,
                "skip_first": 0,
            }
        },
        {"damage": [["both", 1.0, 0.1]]},
    ],
)
def test_a_wrong_fact_is_refused_in_one_line(
    direction: PersonaDirection, tmp_path: Path, change: dict[str, Any]
) -> None:
    path = tmp_path / "persona_direction.safetensors"
    save_persona_direction(path, direction)
    tensors, facts = read_tensors(path)
    write_facts(path, tensors, facts | change)
    with pytest.raises(BadInput) as caught:
        load_persona_direction(path)
    assert "\n" not in str(caught.value)
    assert path.name in str(caught.value)

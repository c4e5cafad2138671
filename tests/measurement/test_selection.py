"""Claims about the search on the select questions, on made-up outcomes with a planted optimum."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from helpers.outcomes import METHODS, N_LAYERS, POINTS, WIDTH, candidate, outcome
from helpers.planted import Planted
from helpers.present import present

if TYPE_CHECKING:
    from persona_probe.measurement.search import Candidate


def sets() -> list[Any]:
    from persona_probe.directions.direction import DirectionSet

    generator = torch.Generator().manual_seed(0)
    return [
        DirectionSet(
            method=method, hook_points=POINTS, vectors=torch.randn(N_LAYERS, WIDTH, generator=generator)
        )
        for method in METHODS
    ]


def searched(
    score: Callable[[Any], tuple[float, float]],
    *,
    budget: float = 0.1,
    n_screened: int = 6,
    layers: tuple[int, ...] = (),
) -> tuple[list[Any], list[Any]]:
    """Outcomes of a search where `score` gives restoration and damage of a candidate; and the candidates that
    were tried."""
    from persona_probe.measurement.search import screened_layers, search

    tried: list[Any] = []

    def attempt(candidates: Sequence[Any]) -> list[Any]:
        tried.extend(candidates)
        return [outcome(one, *score(one)) for one in candidates]

    found = search(
        sets(),
        layers=layers or range(N_LAYERS),
        screened=layers or screened_layers(N_LAYERS, n_screened),
        median_norm=torch.ones(N_LAYERS),
        budget=budget,
        skip_first=4,
        attempt=attempt,
    )
    return found, tried


def hill(one: "Candidate") -> tuple[float, float]:
    """Best at layer 8 by the shift, ablated there and at every later block; 8 is not among the layers
    screened first."""
    height = math.exp(-(((one.layer - 8) / 2) ** 2)) * (1.0 if one.method == "shift" else 0.6)
    bonus = (
        {"layer": 0.7, "later": 0.9, "all": 0.9}[one.form.where]
        if one.form.kind == "ablate"
        else 0.1 * abs(present(one.form.coefficient))
    )
    return height * bonus, 0.5 if one.form.where == "all" else 0.05


def test_planted_optimum_is_found_although_its_layer_is_not_screened() -> None:
    from persona_probe.measurement.search import ranked, screened_layers

    assert 8 not in screened_layers(N_LAYERS, 6)
    found, tried = searched(hill)
    best = ranked(found, 0.1)[0].candidate
    assert (best.method, best.layer, best.form.kind, best.form.where) == ("shift", 8, "ablate", "later")
    assert len(tried) == len(found) < 60


def test_planted_dose_is_found() -> None:
    from persona_probe.measurement.search import ranked

    def score(one: "Candidate") -> tuple[float, float]:
        if one.form.kind == "ablate":
            return 0.3 if (one.method, one.layer) == ("lda", 6) else 0.1, 0.01
        return min(1.0, 0.5 * abs(present(one.form.coefficient))), 0.04 * abs(present(one.form.coefficient))

    best = ranked(searched(score)[0], 0.1)[0].candidate
    assert (best.method, best.layer, best.form.kind, best.form.coefficient) == ("lda", 6, "steer", -2.0)


def test_every_method_is_screened_and_steering_takes_the_persona_away() -> None:
    _, tried = searched(hill)
    assert {one.method for one in tried} == set(METHODS)
    steered = [one.form.coefficient for one in tried if one.form.kind == "steer"]
    assert len(set(steered)) > 1
    assert max(steered) < 0
    assert {one.form.skip_first for one in tried} == {4}
    assert all(one.direction.hook_point == POINTS[one.layer] for one in tried)


def test_nothing_is_tried_twice() -> None:
    _, tried = searched(hill)
    names = [(one.method, one.layer, str(one.form)) for one in tried]
    assert len(set(names)) == len(names)


def test_search_stays_within_the_budget_when_more_damage_would_restore_more() -> None:
    from persona_probe.measurement.search import ranked

    def score(one: "Candidate") -> tuple[float, float]:
        wrecks = one.method == "shift"
        return (1.0, 0.11) if wrecks else (0.4, 0.10) if one.layer == 7 else (0.2, 0.0)

    best = ranked(searched(score)[0], 0.1)[0]
    assert best.candidate.method != "shift"
    assert (best.candidate.layer, best.score.delta_nll) == (7, 0.10)


def test_directions_no_longer_than_rounding_are_not_tried() -> None:
    from persona_probe.directions.direction import DirectionSet
    from persona_probe.interventions.forms import Form
    from persona_probe.measurement.search import grid

    vectors = torch.ones(3, 4) * torch.tensor([[0.0], [1e-6], [1.0]])
    found = grid(
        [DirectionSet(method="shift", hook_points=POINTS[:3], vectors=vectors)],
        [0, 1, 2],
        [Form("ablate", "layer", None, "zero", 0)],
        median_norm=torch.ones(3),
    )
    assert [one.layer for one in found] == [2]


def test_a_search_of_some_layers_tries_no_other() -> None:
    _, tried = searched(hill, layers=(6, 9))
    assert {one.layer for one in tried} == {6, 9}


def test_a_pair_without_any_difference_is_refused() -> None:
    from persona_probe.base.errors import BadInput
    from persona_probe.measurement.search import search

    same = [replace(one, vectors=torch.zeros(N_LAYERS, WIDTH)) for one in sets()]
    options: dict[str, Any] = {
        "layers": range(N_LAYERS),
        "screened": range(0, N_LAYERS, 2),
        "median_norm": torch.ones(N_LAYERS),
        "budget": 0.1,
        "skip_first": 0,
    }
    with pytest.raises(
        BadInput, match="no direction is longer than rounding: base and tuned give the same activations"
    ):
        search(same, **options, attempt=lambda candidates: [outcome(one, 0.0, 0.0) for one in candidates])


@pytest.mark.parametrize(("n_layers", "count"), [(30, 6), (12, 6), (3, 3), (1, 6), (2, 1), (30, 1), (4, 100)])
def test_screened_layers_exist_and_are_as_many_as_asked_at_most(n_layers: int, count: int) -> None:
    from persona_probe.measurement.search import screened_layers

    found = screened_layers(n_layers, count)
    assert found == sorted(set(found))
    assert set(found) <= set(range(n_layers))
    assert 1 <= len(found) <= max(count, n_layers if n_layers < 3 else count)


def test_only_select_questions_are_seen_while_selecting_and_only_test_questions_reported(
    planted: Planted, tmp_path: Path
) -> None:
    from persona_probe.experiments.direction_config import Config
    from persona_probe.experiments.selection import batteries

    config = Config(
        base="",
        tuned="",
        output_dir=tmp_path,
        contrast=planted.toy.contrast,
        benign=planted.toy.benign,
        n_benign=15,
    )
    select, test = batteries(config, planted.pair, planted.rows)
    splits = {question.id: question.split for question in planted.contrast.questions}
    assert {splits[row.question_id] for row in select.persona} == {"select"}
    assert {splits[row.question_id] for row in test.persona} == {"test"}
    assert {row.label for row in select.persona} == {"aligned", "misaligned"}
    assert not {row.ids for row in select.benign} & {row.ids for row in test.benign}
    assert min(len(select.benign), len(test.benign)) >= 2
    assert len(test.benign) == 15


def test_both_forms_are_along_the_chosen_direction_however_well_another_does() -> None:
    from persona_probe.measurement.search import along, ranked

    def score(one: "Candidate") -> tuple[float, float]:
        place = (one.method, one.layer)
        if one.form.kind == "ablate":
            return 0.9 if place == ("shift", 8) else 0.8 if place == ("shift", 7) else 0.1, 0.0
        return 0.2 * abs(present(one.form.coefficient)) + (0.2 if one.layer == 7 else 0.0), 0.0

    found, _ = searched(score)
    chosen = ranked(found, 0.1)[0]
    steering = along(found, chosen, "steer", 0.1)
    best = ranked([one for one in found if one.candidate.form.kind == "steer"], 0.1)[0]
    assert best.candidate.layer == 7
    assert (steering.candidate.method, steering.candidate.layer, steering.candidate.form.coefficient) == (
        "shift",
        8,
        -3.0,
    )
    assert along(found, chosen, "ablate", 0.1) is chosen


def test_a_chosen_direction_whose_steering_left_no_number_is_refused() -> None:
    from persona_probe.base.errors import BadInput
    from persona_probe.measurement.search import along

    ablated, elsewhere = outcome(candidate(), 0.9, 0.0), outcome(candidate(layer=4, kind="steer"), 0.5, 0.0)
    with pytest.raises(BadInput, match=r"no steer along the shift direction of .*: try --dtype float32"):
        along([ablated, elsewhere], ablated, "steer", 0.1)

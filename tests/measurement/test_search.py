"""Claims about the search on the select questions, on made-up outcomes with a planted optimum."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from helpers.outcomes import METHODS, N_LAYERS, POINTS, WIDTH, candidate, outcome
from helpers.present import present

from persona_probe.base.hook_points import HookPoint
from persona_probe.measurement.limits import Limits

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


LIMITS = Limits(0.1, 0.1)


def searched(
    score: Callable[[Any], tuple[float, float]], *, n_screened: int = 6, layers: tuple[int, ...] = ()
) -> tuple[list[Any], list[Any]]:
    """Outcomes of a search where `score` gives restoration and damage of a candidate; and the candidates that
    were tried."""
    rounds, found = in_rounds(score, n_screened=n_screened, layers=layers)
    return found, [one for candidates in rounds for one in candidates]


def in_rounds(
    score: Callable[[Any], tuple[float, float]], *, n_screened: int = 6, layers: tuple[int, ...] = ()
) -> tuple[list[list[Any]], list[Any]]:
    """What was tried, round by round, and all outcomes."""
    from persona_probe.measurement.search import screened_layers, search

    rounds: list[list[Any]] = []

    def attempt(candidates: Sequence[Any]) -> list[Any]:
        rounds.append(list(candidates))
        return [outcome(one, *score(one)) for one in candidates]

    found = search(
        sets(),
        layers=layers or range(N_LAYERS),
        screened=layers or screened_layers(N_LAYERS, n_screened),
        median_norm=torch.ones(N_LAYERS),
        limits=LIMITS,
        skip_first=4,
        attempt=attempt,
    )
    return rounds, found


def hill(one: "Candidate") -> tuple[float, float]:
    """Best at layer 8 by the shift, ablated there and at every later block; 8 is not among the layers
    screened first."""
    height = math.exp(-(((one.layer - 8) / 2) ** 2)) * (1.0 if one.method == "shift" else 0.6)
    bonus = (
        {"layer": 0.7, "later": 0.9, "all": 0.9, "own": 0.5}[one.form.where]
        if one.form.kind == "ablate"
        else 0.1 * abs(present(one.form.coefficient))
    )
    return height * bonus, 0.5 if one.form.where == "all" else 0.05


def test_planted_optimum_is_found_although_its_layer_is_not_screened() -> None:
    from persona_probe.measurement.search import ranked, screened_layers

    assert 8 not in screened_layers(N_LAYERS, 6)
    found, tried = searched(hill)
    best = ranked(found, LIMITS)[0].candidate
    assert (best.method, best.layer, best.form.kind, best.form.where) == ("shift", 8, "ablate", "later")
    assert len(tried) == len(found) < 80


def test_planted_dose_is_found() -> None:
    from persona_probe.measurement.search import ranked

    def score(one: "Candidate") -> tuple[float, float]:
        if one.form.kind == "ablate":
            return 0.1, 0.01
        dose = abs(present(one.form.coefficient))
        return 1 - 0.4 * abs(dose - 1.5) if (one.method, one.layer) == ("lda", 6) else 0.1 * dose, 0.02

    best = ranked(searched(score)[0], LIMITS)[0].candidate
    assert (best.method, best.layer, best.form.kind, best.form.coefficient) == ("lda", 6, "steer", -1.5)


def test_the_first_round_ablates_and_steers_every_method_at_every_screened_layer() -> None:
    from persona_probe.measurement.search import screened_layers

    rounds, _ = in_rounds(hill)
    assert len(rounds) == 3
    first = [(one.method, one.layer, one.form.kind, one.form.where, one.form.toward) for one in rounds[0]]
    layers = screened_layers(N_LAYERS, 6)
    expected = {(method, layer, "ablate", "layer", "base mean") for method in METHODS for layer in layers}
    expected |= {(method, layer, "steer", "layer", None) for method in METHODS for layer in layers}
    assert set(first) == expected
    assert len(first) == len(expected)
    assert {one.form.coefficient for one in rounds[0]} == {None, -2.0}


def test_the_second_round_looks_around_the_best_layer_of_each_form() -> None:
    def score(one: "Candidate") -> tuple[float, float]:
        best = 3 if one.form.kind == "ablate" else 9
        return 1 - 0.1 * abs(one.layer - best) - 0.05 * (one.method == "lda"), 0.0

    rounds, _ = in_rounds(score)
    screened = {one.layer for one in rounds[0]}
    for kind, best in (("ablate", 3), ("steer", 9)):
        middle = min(sorted(screened), key=lambda layer: abs(layer - best))
        near = {one.layer for one in rounds[1] if one.form.kind == kind}
        assert near == {n for n in range(middle - 2, middle + 3) if n < N_LAYERS} - screened
        assert near
    assert {one.method for one in rounds[1]} == {"mean_diff", "shift"}  # the two best of each form


def test_the_last_round_tries_bands_of_own_directions_more_blocks_zero_and_doses() -> None:
    rounds, _ = in_rounds(hill)
    last = rounds[2]
    ablations = [one for one in last if one.form.kind == "ablate"]
    plain = [
        (one.method, one.layer, one.form.where, one.form.toward) for one in ablations if not one.form.band
    ]
    assert plain == [
        ("shift", 8, "later", "base mean"),
        ("shift", 8, "all", "base mean"),
        ("shift", 8, "layer", "zero"),
    ]
    bands = [(one.method, one.form.where, one.form.band) for one in ablations if one.form.band]
    methods = {method for method, _, _ in bands}
    assert methods == {one.method for one in rounds[0]}  # of every method, each block with its own direction
    assert set(bands) == {(method, "own", band) for method in methods for band in ((3, 9), (5, 8))}
    steered = {(one.method, one.layer) for one in last if one.form.kind == "steer"}
    assert len(steered) == 2
    assert {one.form.coefficient for one in last if one.form.kind == "steer"} <= {-1.0, -1.5, -2.0, -3.0}


def test_the_best_ablations_of_two_methods_are_tried_obliquely_where_that_can_be() -> None:
    from persona_probe.measurement.search import _oblique

    best = [candidate("shift", 8), candidate("lda", 4)]

    def readable(directions: Any, layer: int) -> Any:
        if directions.method == "lda":
            return None
        assert layer == 8
        return replace(directions, reads=torch.ones_like(directions.vectors))

    (one,) = _oblique(best, readable)
    assert (one.method, one.layer, one.form.oblique, one.form.where) == ("shift", 8, True, "layer")
    assert one.direction.read is not None


def test_bands_leave_layers_that_may_not_be_tried_alone() -> None:
    _, tried = searched(hill, layers=(3, 4, 5, 6, 7, 8))
    assert {one.form.band for one in tried if one.form.band} == {(5, 8)}


@pytest.mark.parametrize("n_layers", [1, 2, 3, 4, 5, 6, 9, 30])
def test_bands_of_a_model_of_any_depth_differ(n_layers: int) -> None:
    from persona_probe.directions.direction import DirectionSet
    from persona_probe.interventions.forms import Form
    from persona_probe.measurement.search import Candidate, _bands

    points = tuple(HookPoint(layer) for layer in range(n_layers))
    whole = DirectionSet(method="shift", hook_points=points, vectors=torch.ones(n_layers, 2))
    best = Candidate(whole, 0, Form("ablate", "layer", None, "base mean", 0))
    bands = [present(one.form.band) for one in _bands([best], range(n_layers))]
    assert len(set(bands)) == len(bands)
    assert all(0 <= low < high < n_layers for low, high in bands)
    assert bands or n_layers < 3


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

    best = ranked(searched(score)[0], LIMITS)[0]
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
        "limits": LIMITS,
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

"""Claims about the ways a direction is used: what a form edits, where, how strongly, and how it is kept."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from helpers.families import Family, close, logits_of, right_padded, seen
from torch.testing import assert_close

from persona_probe.base.errors import BadInput
from persona_probe.base.hook_points import HookPoint
from persona_probe.directions.direction import Direction
from persona_probe.interventions.applied import applied
from persona_probe.interventions.edits import Ablate, Steer
from persona_probe.interventions.forms import Displacement, Form, displacement
from persona_probe.records import direction_files

POINTS = tuple(HookPoint(layer) for layer in range(5))
MEANS = torch.arange(10.0).reshape(5, 2)
# Length 5 along (0.6, 0.8), at block 2.
DIRECTION = Direction(hook_point=POINTS[2], vector=torch.tensor([3.0, 4.0]), method="shift")


def ablation(**changes: Any) -> Form:
    facts = {"kind": "ablate", "where": "layer", "coefficient": None, "toward": "base mean", "skip_first": 4}
    return Form(**facts | changes)


def steering(**changes: Any) -> Form:
    return Form(
        **{"kind": "steer", "where": "layer", "coefficient": -2.0, "toward": None, "skip_first": 4} | changes
    )


def made(form: Form, direction: Direction = DIRECTION) -> Ablate:
    (edit,) = form.interventions(direction, hook_points=POINTS, means=MEANS)
    assert isinstance(edit, Ablate)
    return edit


# Oblique

READABLE = replace(DIRECTION, read=torch.tensor([1.0, 0.5]))  # 1 along the unit (0.6, 0.8)


def test_an_oblique_ablation_measures_along_one_row_and_takes_away_along_the_direction() -> None:
    edit = made(ablation(oblique=True, strength=0.5), READABLE)
    stream = torch.tensor([[[10.0, 2.0]]])
    # Base's mean at block 2 is (4, 5): 11 - 6.5 is measured, and half of it times the unit taken away.
    expected = stream - 0.5 * 4.5 * torch.tensor([0.6, 0.8])
    assert_close(edit.edit(stream, hook_point=POINTS[2]), expected)


def test_what_an_oblique_ablation_does_to_a_mean_is_what_its_displacement_says() -> None:
    form, mean = ablation(oblique=True), torch.tensor([10.0, 2.0])
    told = displacement(form, READABLE, mean=mean, base_mean=MEANS[2])
    after = made(form, READABLE).edit(mean[None, None], hook_point=POINTS[2])[0, 0]
    assert told.moved == pytest.approx(float((after - mean) @ READABLE.unit) / 5)
    assert told.from_base == pytest.approx(float((after - MEANS[2]) @ READABLE.unit) / 5)


def test_an_oblique_ablation_needs_a_row_and_steering_has_none() -> None:
    with pytest.raises(BadInput, match="no oblique ablation of the shift direction at blocks"):
        made(ablation(oblique=True))
    with pytest.raises(BadInput, match="steer that is oblique"):
        steering(oblique=True)
    assert ablation(oblique=True).describe()["oblique"] is True
    assert "oblique" not in ablation().describe()


# Where


@pytest.mark.parametrize(
    ("where", "band", "layers"),
    [
        ("layer", None, [2]),
        ("later", None, [2, 3, 4]),
        ("all", None, [0, 1, 2, 3, 4]),
        ("band", (1, 3), [1, 2, 3]),
        ("band", (0, 0), [0]),
        ("band", (3, 4), [3, 4]),
    ],
)
def test_a_form_acts_on_its_blocks(where: str, band: tuple[int, int] | None, layers: list[int]) -> None:
    points = tuple(POINTS[layer] for layer in layers)
    edit = made(ablation(where=where, band=band))
    assert edit.hook_points == points
    assert edit.means is not None
    assert_close(edit.means, MEANS[layers])
    steers = steering(where=where, band=band).interventions(DIRECTION, hook_points=POINTS, means=MEANS)
    assert [steer.hook_points for steer in steers] == [(point,) for point in points]
    for steer in steers:
        assert isinstance(steer, Steer)
        assert_close(steer.vector, DIRECTION.vector)
        assert steer.coefficient == -2.0


@pytest.mark.parametrize("kind", ["ablate", "steer"])
def test_a_band_edits_exactly_its_blocks_of_a_model(llama: Family, kind: str) -> None:
    model, batch = llama.model, right_padded(llama)
    points = tuple(map(HookPoint.parse, model.resids()))
    vector = torch.randn(model.d_model, generator=torch.Generator().manual_seed(5))
    direction = Direction(hook_point=points[3], vector=vector, method="shift")
    means = torch.randn(len(points), model.d_model, generator=torch.Generator().manual_seed(6))
    form = (ablation if kind == "ablate" else steering)(where="band", band=(1, 2), skip_first=0)
    edits = form.interventions(direction, hook_points=points, means=means)
    sites = [model.site(point)[1] for point in points]

    def run() -> None:
        logits_of(model.twin, batch.tokens, batch.mask)

    clean = seen(sites, run)
    with applied(model, edits):
        after = seen(sites, run)
    along = [stream[batch.mask] @ direction.unit for stream in after]
    close(after[0][batch.mask], clean[0][batch.mask], atol=0)
    if kind == "ablate":
        for layer in (1, 2):
            close(along[layer], (means[layer] @ direction.unit).expand_as(along[layer]))
        assert (along[3] - means[3] @ direction.unit).abs().max() > 0.1
    else:
        close(after[1][batch.mask], clean[1][batch.mask] - 2 * vector)
        # Steering again at 2 and not at 3: by hand, from the same blocks with hooks of our own.
        handles = [
            model.site(points[layer])[1].register_forward_hook(lambda _m, _a, out: _added(out, -2 * vector))
            for layer in (1, 2)
        ]
        by_hand = seen(sites, run)
        for handle in handles:
            handle.remove()
        for mine, theirs in zip(after, by_hand, strict=True):
            close(mine[batch.mask], theirs[batch.mask])


def _added(output: Any, vector: torch.Tensor) -> Any:
    return (output[0] + vector, *output[1:]) if isinstance(output, tuple) else output + vector


# How strongly


@pytest.mark.parametrize("toward", ["zero", "base mean"])
def test_a_partial_ablation_is_an_edit_of_that_strength(toward: str) -> None:
    edit = made(ablation(toward=toward, strength=0.5))
    # The mean of block 2 is (4, 5), 6.4 along the direction; (3, 4) has 5 and half of the way is 5.7 or 2.5.
    after = edit.edit(torch.tensor([[[3.0, 4.0]]]), hook_point=POINTS[2])
    along = {"zero": 2.5, "base mean": 5.7}[toward]
    assert_close(after @ DIRECTION.unit, torch.tensor([[along]]), atol=1e-5, rtol=0)


def test_a_boundary_is_in_lengths_of_the_direction_towards_misaligned() -> None:
    form = ablation(beyond=1.0)
    # One length past the mean of block 2 is 6.4 + 5 = 11.4 along the direction: 11 stays and 12 goes to 6.4.
    tokens = torch.tensor([11.0, 12.0, -30.0])[:, None] * DIRECTION.unit
    after = made(form).edit(tokens[None], hook_point=POINTS[2])[0] @ DIRECTION.unit
    assert_close(after, torch.tensor([11.0, 6.4, -30.0]), atol=1e-5, rtol=0)
    turned = Direction(hook_point=POINTS[2], vector=-DIRECTION.vector, method="shift")
    (edit,) = form.interventions(turned, hook_points=POINTS, means=MEANS)
    after = edit.edit(tokens[None], hook_point=POINTS[2])[0] @ DIRECTION.unit
    assert_close(after, torch.tensor([11.0, 12.0, 6.4]), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("make", "changes", "message"),
    [
        (ablation, {"coefficient": 1.0}, "steer has a coefficient and ablate a target, never both"),
        (steering, {"coefficient": None}, "steer has a coefficient and ablate a target, never both"),
        (steering, {"strength": 0.5}, "steer with strength 0.5 .* the coefficient is the strength"),
        (steering, {"beyond": 0.0}, "steer with strength 1.0 beyond 0.0: only ablate has these"),
        (ablation, {"strength": 0.0}, "strength 0.0: a finite number above 0 is needed"),
        (ablation, {"strength": float("nan")}, "strength nan: a finite number above 0 is needed"),
        (ablation, {"beyond": float("inf")}, "beyond inf: a finite number is needed"),
        (ablation, {"band": (1, 2)}, "where 'layer' with band .1, 2.: .* have a first and a last block"),
        (ablation, {"where": "band"}, "where 'band' with band None"),
        (
            ablation,
            {"where": "band", "band": (3, 2)},
            "blocks 3 to 2: a band is its first and its last block",
        ),
        (steering, {"where": "band", "band": (-1, 2)}, "blocks -1 to 2: a band"),
    ],
)
def test_an_impossible_form_is_refused_in_words(make: Any, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        make(**changes)


def test_a_band_of_blocks_that_are_not_there_is_refused() -> None:
    with pytest.raises(BadInput, match="no band of blocks 3 to 5: there are blocks 0 to 4"):
        made(ablation(where="band", band=(3, 5)))


# Displacement


@pytest.mark.parametrize(
    ("form", "moved", "from_base"),
    [
        # The tuned mean lies 20 along the direction, the base mean 10: 4 and 2 lengths.
        (ablation(), -2.0, 0.0),
        (ablation(strength=0.5), -1.0, 1.0),
        (ablation(strength=1.5), -3.0, -1.0),
        (ablation(toward="zero"), -4.0, -2.0),
        (ablation(toward="zero", strength=0.5), -2.0, 0.0),
        (steering(coefficient=-3.0), -3.0, -1.0),
    ],
)
def test_displacement_by_hand(form: Form, moved: float, from_base: float) -> None:
    mean, base_mean = torch.tensor([12.0, 16.0]), torch.tensor([6.0, 8.0])
    aside = torch.tensor([-8.0, 6.0])  # orthogonal to the direction
    moves = displacement(form, DIRECTION, mean=mean + aside, base_mean=base_mean - 2 * aside)
    assert isinstance(moves, Displacement)
    assert (moves.moved, moves.from_base) == (pytest.approx(moved), pytest.approx(from_base, abs=1e-6))


def test_displacement_is_what_the_edit_does_to_the_mean() -> None:
    tokens = torch.randn(40, 2, generator=torch.Generator().manual_seed(0)) + torch.tensor([7.0, -2.0])
    for form in (ablation(strength=0.7), ablation(toward="zero", strength=1.2)):
        after = made(form).edit(tokens[None], hook_point=POINTS[2])[0]
        moved = (after.mean(0) - tokens.mean(0)) @ DIRECTION.unit / 5
        said = displacement(form, DIRECTION, mean=tokens.mean(0), base_mean=MEANS[2])
        assert said.moved == pytest.approx(float(moved), abs=1e-5)


def test_the_displacement_of_a_form_with_a_boundary_is_refused() -> None:
    with pytest.raises(
        BadInput, match=r"no displacement of an ablation beyond 0\.5: it depends on every token"
    ):
        displacement(ablation(beyond=0.5), DIRECTION, mean=MEANS[0], base_mean=MEANS[1])


# On disk


def test_a_form_of_before_is_described_as_before() -> None:
    assert ablation().describe() == {
        "kind": "ablate",
        "where": "layer",
        "coefficient": None,
        "toward": "base mean",
        "skip_first": 4,
    }


@pytest.mark.parametrize(
    "form",
    [
        ablation(),
        steering(),
        ablation(strength=0.5),
        ablation(where="band", band=(8, 24), strength=1.25, beyond=-0.5),
        steering(where="band", band=(0, 3)),
    ],
)
def test_a_form_comes_back_from_what_a_file_says_of_it(form: Form) -> None:
    import json

    said = direction_files.Form.model_validate(json.loads(json.dumps(form.describe())))
    assert Form(**dict(said)) == form


@pytest.mark.parametrize(
    ("form", "change", "message"),
    [
        (steering(), {"strength": 0.5}, "the coefficient is the strength"),
        (steering(), {"beyond": 0.5}, "has no boundary"),
        (ablation(), {"strength": 0.0}, "greater than 0"),
        (ablation(), {"where": "band"}, "a first and a last block"),
        (ablation(), {"band": [1, 2]}, "every other place has none"),
        (ablation(), {"where": "band", "band": [2, 1]}, "a first and a last block"),
        (ablation(), {"where": "band", "band": [-1, 1]}, "greater than or equal to 0"),
        (ablation(), {"where": "some"}, "'layer', 'later', 'all', 'band' or 'own'"),
    ],
)
def test_a_file_with_an_impossible_form_is_refused(form: Form, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        direction_files.Form.model_validate(form.describe() | change)

"""Claims about the controls: comparable in length, place and form, as many as asked, fixed by the seed."""

from typing import TYPE_CHECKING, Any

import pytest
import torch

from persona_probe.base.hook_points import HookPoint

if TYPE_CHECKING:
    from persona_probe.directions.direction import Direction
    from persona_probe.streams.activations import Activations

POINTS = tuple(HookPoint(layer) for layer in range(3))
D = 24


def find() -> "Activations":
    from persona_probe.prompts.rows import Row
    from persona_probe.streams.activations import Activations

    generator = torch.Generator().manual_seed(0)
    rows = tuple(
        Row(
            id=f"r{i}",
            kind="persona",
            question_id=f"q{i % 8}",
            ids=(1, 2),
            n_prompt=1,
            label="misaligned" if i < 32 else "aligned",
        )
        for i in range(64)
    )
    return Activations(
        hook_points=POINTS,
        rows=rows,
        means=torch.randn(64, 3, D, generator=generator),
        tokens=torch.randn(64, 3, D, generator=generator),
    )


def direction() -> "Direction":
    from persona_probe.directions.direction import Direction

    return Direction(hook_point=POINTS[1], vector=torch.arange(1.0, D + 1), method="mean_diff")


def controls(*, n_each: int = 3, n_null: int = 0, seed: int = 0) -> list[Any]:
    from persona_probe.measurement.controls import control_directions

    return control_directions(direction(), find(), n_each=n_each, n_null=n_null, seed=seed)


def made(**change: int) -> dict[str, Any]:
    """Control directions by name."""
    return {control.name: control.direction for control in controls(**change)}


def test_controls_are_named_and_counted_as_asked() -> None:
    assert list(made(n_each=2, n_null=4)) == [
        *(f"random-isotropic-{k}" for k in (1, 2)),
        *(f"random-covariance-{k}" for k in (1, 2, 3, 4)),
        "shuffled-1",
        "shuffled-2",
        "orthogonal",
    ]


def test_a_smaller_null_takes_no_control_away() -> None:
    assert list(made(n_each=3, n_null=1)) == list(made(n_each=3))


def test_null_directions_can_be_had_without_the_other_controls() -> None:
    assert list(made(n_each=0, n_null=3)) == [f"random-covariance-{k}" for k in (1, 2, 3)]
    assert made(n_each=0) == {}


def test_controls_have_the_length_and_place_of_the_direction() -> None:
    for control in made().values():
        assert float(control.vector.norm()) == pytest.approx(float(direction().vector.norm()), rel=1e-5)
        assert control.hook_point == POINTS[1]


def test_no_two_controls_are_alike() -> None:
    units = torch.stack([control.unit for control in (*made().values(), direction())])
    assert (units @ units.T - torch.eye(len(units))).abs().max() < 0.9


def test_controls_depend_on_the_seed_and_on_nothing_else() -> None:
    torch.manual_seed(1)
    first = made()
    torch.manual_seed(2)
    again, other = made(n_null=19), made(seed=1)
    assert all(torch.equal(first[name].vector, again[name].vector) for name in first)
    assert not any(torch.equal(first[name].vector, other[name].vector) for name in first)


def test_covariance_comes_from_the_tokens_of_the_directions_own_layer() -> None:
    from persona_probe.measurement.controls import control_directions

    acts = find()
    acts.tokens[:, 1, D // 2 :] = 0
    drawn = control_directions(direction(), acts, n_each=2, n_null=0, seed=0)
    matched = [control.direction for control in drawn if control.kind == "covariance"]
    assert len(matched) == 2
    for control in matched:
        assert not control.vector[D // 2 :].any()


def test_shuffled_control_is_the_same_estimator() -> None:
    from persona_probe.directions.direction import Direction
    from persona_probe.measurement.controls import control_directions

    # Under noise of unequal size a probe weighs the quiet dimensions, and a mean difference the loud ones.
    acts = find()
    acts.means.mul_(torch.cat([torch.full((D // 2,), 20.0), torch.ones(D // 2)]))
    loud = {}
    for method in ("mean_diff", "probe"):
        own = Direction(hook_point=POINTS[1], vector=direction().vector, method=method)
        drawn = control_directions(own, acts, n_each=1, n_null=0, seed=0)
        unit = next(control.direction.unit for control in drawn if control.kind == "shuffled")
        loud[method] = float(unit[: D // 2].norm())
    assert loud["mean_diff"] > 0.9
    assert loud["probe"] < 0.3


@pytest.mark.parametrize("kind", ["steer", "ablate"])
def test_controls_are_used_exactly_as_the_selected_direction(kind: str) -> None:
    from persona_probe.interventions.edits import Steer
    from persona_probe.interventions.forms import Form
    from persona_probe.measurement.controls import control_arms

    form = (
        Form("steer", "later", -1.5, None, 4)
        if kind == "steer"
        else Form("ablate", "later", None, "base mean", 4)
    )
    means = torch.randn(3, D, generator=torch.Generator().manual_seed(3))
    own = form.interventions(direction(), hook_points=POINTS, means=means)
    arms = control_arms(controls(), form, hook_points=POINTS, means=means)
    assert [arm.name for arm in arms] == list(made())
    hidden = {"vector_sha256"}
    for arm in arms:
        assert arm.side == "tuned"
        described = [
            {key: value for key, value in item.describe().items() if key not in hidden}
            for item in arm.interventions
        ]
        assert described == [
            {key: value for key, value in item.describe().items() if key not in hidden} for item in own
        ]
        assert all(a.describe() != b.describe() for a, b in zip(arm.interventions, own, strict=True))
        for edit, chosen in zip(arm.interventions, own, strict=True):
            if isinstance(chosen, Steer):
                assert isinstance(edit, Steer)
                assert float(edit.vector.norm()) == pytest.approx(float(chosen.vector.norm()), rel=1e-5)


def test_every_control_carries_its_kind() -> None:
    from persona_probe.interventions.forms import Form
    from persona_probe.measurement.controls import control_arms

    form = Form("ablate", "layer", None, "zero", 0)
    arms = control_arms(controls(n_each=2, n_null=3), form, hook_points=POINTS, means=torch.zeros(3, D))
    kinds = ["isotropic"] * 2 + ["covariance"] * 3 + ["shuffled"] * 2 + ["orthogonal"]
    assert [arm.control for arm in arms] == kinds


def test_covariance_controls_are_those_of_the_table_and_zero_where_nothing_is() -> None:
    from persona_probe.directions.direction import DirectionSet
    from persona_probe.measurement.controls import covariance_controls

    vectors = torch.stack([torch.zeros(D), direction().vector, direction().vector])
    found = covariance_controls(
        DirectionSet(method="mean_diff", hook_points=POINTS, vectors=vectors), find(), seed=0
    )
    assert not found[0].any()
    assert torch.allclose(found[1], made()["random-covariance-1"].vector)
    assert not torch.allclose(found[2], found[1])

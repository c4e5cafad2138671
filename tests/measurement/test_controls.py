"""Claims about the controls: comparable in length, place and form, as many as asked, fixed by the seed."""

from typing import TYPE_CHECKING, Any

import pytest
import torch
from helpers.present import present

from persona_probe.base.hook_points import HookPoint

if TYPE_CHECKING:
    from persona_probe.directions.direction import Direction, DirectionSet
    from persona_probe.measurement.controls import ControlDirection, Used
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


def real(method: str = "mean_diff") -> "DirectionSet":
    """The direction at layer 1, and twice and thrice as long ones beside it."""
    from persona_probe.directions.direction import DirectionSet

    vectors = torch.stack([2 * direction().vector, direction().vector, -3 * direction().vector])
    return DirectionSet(method=method, hook_points=POINTS, vectors=vectors)


def controls(
    *, isotropic: int = 3, covariance: int = 3, orthogonal: int = 3, seed: int = 0, points: Any = POINTS[1:2]
) -> list["ControlDirection"]:
    from persona_probe.measurement.controls import drawn_controls

    counts = {"isotropic": isotropic, "covariance": covariance, "orthogonal": orthogonal}
    return drawn_controls(real(), find(), points, counts, seed=seed)


def made(**change: Any) -> dict[str, "Direction"]:
    """Control directions of layer 1 by name."""
    return {control.name: control.directions.at(POINTS[1]) for control in controls(**change)}


def test_controls_are_named_and_counted_as_asked() -> None:
    assert list(made(isotropic=2, covariance=4, orthogonal=1)) == [
        *(f"random-isotropic-{k}" for k in (1, 2)),
        *(f"random-covariance-{k}" for k in (1, 2, 3, 4)),
        "orthogonal-1",
    ]
    kinds = [control.kind for control in controls(isotropic=1, covariance=2, orthogonal=1)]
    assert kinds == ["isotropic", "covariance", "covariance", "orthogonal"]


def test_null_directions_can_be_had_without_the_other_controls() -> None:
    from persona_probe.measurement.controls import drawn_controls

    alone = drawn_controls(real(), find(), POINTS[1:2], {"covariance": 3}, seed=0)
    assert [control.name for control in alone] == [f"random-covariance-{k}" for k in (1, 2, 3)]
    for control in alone:
        assert torch.equal(control.directions.at(POINTS[1]).vector, made()[control.name].vector)
    assert made(isotropic=0, covariance=0, orthogonal=0) == {}


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
    again, other = made(covariance=19), made(seed=1)
    assert all(torch.equal(first[name].vector, again[name].vector) for name in first)
    assert not any(torch.equal(first[name].vector, other[name].vector) for name in first)


def test_controls_are_where_a_use_needs_them_with_the_length_of_the_direction_there() -> None:
    for control in controls(points=POINTS):
        assert control.directions.hook_points == POINTS
        norms = control.directions.vectors.norm(dim=-1)
        assert norms.tolist() == pytest.approx(real().vectors.norm(dim=-1).tolist(), rel=1e-5)
    one = controls(points=POINTS[2:])[0].directions
    assert (one.hook_points, len(one.vectors)) == (POINTS[2:], 1)


def test_orthogonal_controls_are_orthogonal_up_to_rounding_at_every_hook_point() -> None:
    drawn = [control for control in controls(points=POINTS) if control.kind == "orthogonal"]
    assert len(drawn) == 3
    for control in drawn:
        for point in POINTS:
            assert abs(float(control.directions.at(point).unit @ real().at(point).unit)) < 1e-5
    assert max(abs(float(one.unit @ direction().unit)) for one in made(orthogonal=0).values()) > 1e-2


def test_one_control_weighs_the_same_tokens_alike_at_every_hook_point() -> None:
    """So that what it reads is one thing on its way through the blocks, as the real directions are."""
    from persona_probe.measurement.controls import drawn_controls

    acts = find()
    turned = torch.linalg.qr(torch.randn(D, D, generator=torch.Generator().manual_seed(4))).Q
    acts.tokens[:, 2] = acts.tokens[:, 0] @ turned  # the same tokens in other coordinates
    (drawn,) = drawn_controls(real(), acts, POINTS, {"covariance": 1}, seed=0)
    first, last = drawn.directions.at(POINTS[0]).unit, drawn.directions.at(POINTS[2]).unit
    torch.testing.assert_close(last, first @ turned, atol=1e-4, rtol=0)
    other = drawn_controls(real(), acts, POINTS, {"covariance": 2}, seed=0)[1]
    assert abs(float(other.directions.at(POINTS[0]).unit @ first)) < 0.9


def test_a_control_by_any_recipe_is_drawn_at_every_hook_point_from_equal_generators() -> None:
    from persona_probe.directions.random_directions import of_length
    from persona_probe.measurement.controls import control_at

    def draw(one: "Direction", generator: torch.Generator) -> "Direction":
        return of_length(one, torch.randn(D, generator=generator), "mine")

    def drawn(**change: Any) -> "ControlDirection":
        options: dict[str, Any] = {"kind": "style", "name": "style-blunt", "seed": 0, "index": 0}
        return control_at(real(), POINTS, draw, **options | change)

    control = drawn()
    assert (control.kind, control.name, control.directions.method) == ("style", "style-blunt", "mine")
    units = [control.directions.at(point).unit for point in POINTS]
    torch.testing.assert_close(units[1], units[0])
    torch.testing.assert_close(units[2], units[0])
    for change in ({"index": 1}, {"seed": 1}, {"kind": "shuffled"}):
        assert not torch.allclose(drawn(**change).directions.at(POINTS[0]).unit, units[0])
    assert torch.equal(drawn().directions.vectors, control.directions.vectors)


def test_covariance_comes_from_the_tokens_of_the_directions_own_layer() -> None:
    from persona_probe.measurement.controls import drawn_controls

    acts = find()
    acts.tokens[:, 1, D // 2 :] = 0
    drawn = drawn_controls(real(), acts, POINTS, {"covariance": 2}, seed=0)
    assert len(drawn) == 2
    for control in drawn:
        assert not control.directions.at(POINTS[1]).vector[D // 2 :].any()
        assert control.directions.at(POINTS[0]).vector[D // 2 :].any()


USES = ["steer", "ablate", "own"]


def used(kind: str) -> "Used":
    """The direction of layer 1 in one of three forms."""
    from persona_probe.interventions.forms import Form
    from persona_probe.measurement.controls import Used

    form = {
        "steer": Form("steer", "later", -1.5, None, 4),
        "ablate": Form("ablate", "later", None, "base mean", 4, strength=0.5),
        "own": Form("ablate", "own", None, "base mean", 4, band=(1, 2)),
    }[kind]
    return Used(form, POINTS[1], POINTS, torch.randn(3, D, generator=torch.Generator().manual_seed(3)))


@pytest.mark.parametrize("kind", USES)
def test_controls_are_used_exactly_as_the_selected_direction(kind: str) -> None:
    from persona_probe.interventions.edits import Steer
    from persona_probe.measurement.controls import control_arm

    use = used(kind)
    own = use.arm("own", "tuned", real()).interventions
    hidden = {"vector_sha256"}

    def told(edits: Any) -> list[dict[str, Any]]:
        return [{key: said for key, said in one.describe().items() if key not in hidden} for one in edits]

    drawn = controls(points=use.needed)
    assert [control.name for control in drawn] == list(made())
    for control in drawn:
        arm = control_arm(control, use, "tuned")
        assert told(arm.interventions) == told(own)
        assert all(a.describe() != b.describe() for a, b in zip(arm.interventions, own, strict=True))
        for edit, chosen in zip(arm.interventions, own, strict=True):
            if isinstance(chosen, Steer):
                assert isinstance(edit, Steer)
                assert float(edit.vector.norm()) == pytest.approx(float(chosen.vector.norm()), rel=1e-5)


@pytest.mark.parametrize("kind", USES)
def test_a_use_needs_directions_where_it_reads_them_and_nowhere_else(kind: str) -> None:
    assert used(kind).needed == (POINTS[1:] if kind == "own" else POINTS[1:2])


@pytest.mark.parametrize("kind", USES)
def test_a_control_is_the_same_edit_on_both_models_and_says_what_it_is_beside(kind: str) -> None:
    from persona_probe.measurement.controls import control_arm

    use = used(kind)
    (control,) = controls(isotropic=0, covariance=1, orthogonal=0, points=use.needed)
    tuned, base = (control_arm(control, use, side, control_of="tuned+ablate") for side in ("tuned", "base"))
    assert (tuned.name, base.name) == ("random-covariance-1", "base+random-covariance-1")
    assert (tuned.side, base.side) == ("tuned", "base")
    assert tuned.edit is not None
    assert tuned.edit == base.edit
    for arm in (tuned, base):
        assert (arm.control, arm.control_of) == ("covariance", "tuned+ablate")
    proper = use.arm("tuned+ablate", "tuned", real())
    assert (proper.control, proper.control_of) == (None, None)


def test_covariance_controls_are_those_of_the_table_and_zero_where_nothing_is() -> None:
    from persona_probe.directions.direction import DirectionSet
    from persona_probe.measurement.controls import covariance_controls

    vectors = torch.stack([torch.zeros(D), direction().vector, direction().vector])
    found = covariance_controls(
        DirectionSet(method="mean_diff", hook_points=POINTS, vectors=vectors), find(), seed=0
    )
    assert not found.vectors[0].any()
    assert torch.allclose(found.vectors[1], made()["random-covariance-1"].vector)
    assert not torch.allclose(found.vectors[2], found.vectors[1])
    assert found.reads is None


def test_rows_to_read_along_are_those_of_each_control_where_the_direction_has_one() -> None:
    from persona_probe.directions.direction import DirectionSet
    from persona_probe.interventions.erasure import read_rows
    from persona_probe.measurement.controls import covariance_controls, with_reads

    vectors = torch.stack([direction().vector] * 3)
    bare = DirectionSet(method="mean_diff", hook_points=POINTS, vectors=vectors)
    assert bare.at(POINTS[1]).read is None
    real = with_reads(bare, find(), [POINTS[1]])
    assert real.at(POINTS[0]).read is None
    found = covariance_controls(real, find(), seed=0)
    for one in (real, found):
        assert one.reads is not None
        assert [bool(row.any()) for row in one.reads] == [False, True, False]
        expected = read_rows(one.vectors[1:2], find().tokens[:, 1])[0]
        assert torch.allclose(present(one.at(POINTS[1]).read), expected)
    assert not torch.allclose(present(real.at(POINTS[1]).read), present(found.at(POINTS[1]).read))

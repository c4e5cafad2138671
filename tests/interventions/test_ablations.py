"""Claims about the general ablation x - s W'R(x - c): oblique, partial, toward a centre, past a boundary."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from persona_probe.base.errors import BadInput
from persona_probe.interventions.edits import Ablate, Intervention, biorthogonal, orthonormal
from persona_probe.records import parts

HERE, THERE = "blocks.0.hook_out", "blocks.1.hook_out"
D = 12
RIGHT, SLANTED = torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 2.0]])  # biorthogonal: 1 * 1 + 0 * 2 = 1


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def edited(edit: Intervention, rows: list[list[float]], hook_point: str = HERE) -> list[list[float]]:
    return edit.edit(torch.tensor([rows]), hook_point=hook_point)[0].tolist()


def close(actual: list[list[float]], expected: list[list[float]]) -> None:
    assert_close(torch.tensor(actual), torch.tensor(expected), atol=1e-5, rtol=0)


def oblique(rank: int, **changes: Any) -> Ablate:
    """A made-up oblique ablation toward a centre of its own at each of two hook points."""
    write = orthonormal(noise(rank, D, seed=1))
    read = biorthogonal(noise(rank, D, seed=3), write)
    options: dict[str, Any] = {"means": 3 * noise(2, D, seed=2), "read": read}
    return Ablate(write, (HERE, THERE), **options | changes)


# By hand


def test_an_oblique_ablation_by_hand() -> None:
    # (5, 10) has 5 + 20 = 25 along the read row, and that much of (1, 0) goes.
    close(edited(Ablate(RIGHT, (HERE,), read=SLANTED), [[5.0, 10.0]]), [[-20.0, 10.0]])


def test_an_oblique_ablation_toward_a_centre_by_hand() -> None:
    # The centre (1, 1) has 3 along the read row, so 25 - 3 = 22 goes, and 3 is left: -17 + 20.
    ablation = Ablate(RIGHT, (HERE,), torch.tensor([[1.0, 1.0]]), read=SLANTED)
    close(edited(ablation, [[5.0, 10.0]]), [[-17.0, 10.0]])


@pytest.mark.parametrize(("strength", "left"), [(0.25, 4.0), (0.5, 3.0), (1.0, 1.0), (1.5, -1.0)])
def test_a_partial_ablation_goes_its_share_of_the_way_to_the_centre(strength: float, left: float) -> None:
    # From 5 to the centre's 1: a quarter of the way is 4, and one and a half times the way is -1.
    ablation = Ablate(RIGHT, (HERE,), torch.tensor([[1.0, 7.0]]), strength=strength)
    close(edited(ablation, [[5.0, 10.0]]), [[left, 10.0]])


def test_a_boundary_leaves_what_lies_before_it_by_hand() -> None:
    # Past the centre, 1, by 2.0, 1.9 and -6: only the first lies more than 1.95 past it.
    ablation = Ablate(RIGHT, (HERE,), torch.tensor([[1.0, 0.0]]), beyond=1.95)
    close(edited(ablation, [[3.0, 4.0], [2.9, 4.0], [-5.0, 4.0]]), [[1.0, 4.0], [2.9, 4.0], [-5.0, 4.0]])


def test_a_boundary_and_a_read_row_of_the_other_sign_edit_the_other_side() -> None:
    ablation = Ablate(-RIGHT, (HERE,), beyond=1.0)
    close(edited(ablation, [[3.0, 4.0], [-3.0, 4.0]]), [[3.0, 4.0], [0.0, 4.0]])


# Against matrices in double precision


@pytest.mark.parametrize("rank", [1, 3])
@pytest.mark.parametrize("strength", [0.3, 1.0, 1.7])
@pytest.mark.parametrize("place", [0, 1])
def test_an_ablation_is_its_formula(rank: int, strength: float, place: int) -> None:
    ablation, x = oblique(rank, strength=strength), noise(4, 6, D)
    assert ablation.read is not None
    assert ablation.means is not None
    matrix = ablation.write.double().T @ ablation.read.double()
    expected = x.double() - strength * (x.double() - ablation.means[place].double()) @ matrix.T
    actual = ablation.edit(x, hook_point=(HERE, THERE)[place])
    assert_close(actual.double(), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("rank", [1, 3])
def test_an_oblique_ablation_twice_is_once_and_sets_what_is_read_to_the_centres(rank: int) -> None:
    ablation = oblique(rank)
    assert ablation.read is not None
    assert ablation.means is not None
    once = ablation.edit(noise(4, 6, D), hook_point=THERE)
    assert_close(ablation.edit(once, hook_point=THERE), once, atol=1e-3, rtol=0)
    centre = (ablation.means[1] @ ablation.read.T).expand(4, 6, rank)
    assert_close(once @ ablation.read.T, centre, atol=1e-3, rtol=0)


def test_an_ablation_about_the_mean_keeps_the_mean() -> None:
    x = noise(50, D) + 5 * noise(D, seed=5)
    ablation = oblique(2, means=torch.stack([x.mean(0)] * 2), strength=0.6)
    after = ablation.edit(x[None], hook_point=HERE)[0]
    assert_close(after.mean(0), x.mean(0), atol=1e-4, rtol=0)
    assert (after - x).norm() > 1


def test_reading_along_what_is_taken_away_is_the_orthogonal_ablation() -> None:
    plain = oblique(3, read=None)
    again = oblique(3, read=plain.write)
    x = noise(4, 6, D)
    assert_close(again.edit(x, hook_point=HERE), plain.edit(x, hook_point=HERE), atol=1e-6, rtol=0)


def test_what_is_written_and_not_read_does_not_decide_how_much_goes() -> None:
    ablation = Ablate(RIGHT, (HERE,), read=SLANTED)
    # (2, -1) is orthogonal to the read row: nothing of it goes, though half of it lies along the write row.
    close(edited(ablation, [[2.0, -1.0]]), [[2.0, -1.0]])


# Biorthogonal rows


def test_biorthogonal_rows_by_hand() -> None:
    # (3, 6) measures 3 of (1, 0): a third of it measures 1.
    assert_close(biorthogonal(torch.tensor([[3.0, 6.0]]), RIGHT), SLANTED)


def test_biorthogonal_rows_measure_one_write_row_each_and_span_what_they_did() -> None:
    read, write = noise(3, D, seed=3), orthonormal(noise(3, D, seed=1))
    made = biorthogonal(read, write)
    assert_close(made @ write.T, torch.eye(3), atol=1e-5, rtol=0)
    span = orthonormal(read)
    assert_close(made @ span.T @ span, made, atol=1e-4, rtol=0)


# What is refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"read": torch.tensor([[0.0, 1.0]])},
            "orthogonal to its write row .* is singular.* cosine of 0.0001",
        ),
        ({"read": torch.tensor([[0.0, 0.0]])}, "orthogonal to its write row"),
        ({"read": torch.tensor([[3.0, 6.0]])}, r"must be biorthogonal .* use biorthogonal\(read, write\)"),
        ({"read": torch.eye(2)}, r"read rows of shape \[2, 2\] for write rows of shape \[1, 2\]"),
        ({"read": torch.tensor([[float("nan"), 1.0]])}, "one finite read row per write row"),
        ({"strength": 0.0}, "strength 0.0: a finite number above 0"),
        ({"strength": -1.0}, "strength -1.0: a finite number above 0"),
        ({"strength": float("inf")}, "strength inf: a finite number above 0"),
        ({"strength": float("nan")}, "strength nan: a finite number above 0"),
        ({"beyond": float("nan")}, "rank 1 beyond nan: a boundary needs rank 1 and a finite number"),
        ({"means": torch.zeros(2, 2)}, "2 means for 1 hook points"),
    ],
)
def test_an_impossible_ablation_is_refused_in_words(options: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        Ablate(RIGHT, (HERE,), **options)


def test_a_boundary_for_two_coordinates_is_refused() -> None:
    with pytest.raises(BadInput, match=r"rank 2 beyond 0\.5: a boundary needs rank 1"):
        Ablate(torch.eye(2), (HERE,), beyond=0.5)


def test_read_rows_that_measure_the_same_of_two_write_rows_are_refused() -> None:
    with pytest.raises(BadInput, match="is singular"):
        biorthogonal(torch.tensor([[1.0, 1.0, 5.0], [2.0, 2.0, 3.0]]), torch.eye(2, 3))


# Descriptions


def test_the_description_of_a_plain_ablation_has_no_key_that_old_measurements_lack() -> None:
    keys = ["kind", "hook_points", "rank", "toward", "skip_first", "vector_sha256", "means_sha256"]
    plain = oblique(2, read=None).describe()
    assert list(plain) == keys
    assert (plain["toward"], plain["rank"]) == ("base mean", 2)
    assert oblique(2, read=None, means=None).describe()["toward"] == "zero"


def test_what_makes_another_edit_makes_another_description() -> None:
    every = [
        oblique(1),
        oblique(1, read=None),
        oblique(1, read=biorthogonal(noise(1, D, seed=4), orthonormal(noise(1, D, seed=1)))),
        oblique(1, strength=0.5),
        oblique(1, strength=0.25),
        oblique(1, beyond=0.0),
        oblique(1, beyond=1.0),
        oblique(1, means=None),
    ]
    assert len({str(edit.describe()) for edit in every}) == len(every)


@pytest.mark.parametrize(
    "options", [{}, {"read": None}, {"strength": 0.5}, {"beyond": -1.0}, {"means": None}]
)
def test_a_record_holds_the_description(options: dict[str, Any]) -> None:
    described = oblique(1, **options).describe()
    record = parts.Ablate.model_validate(described)
    defaults = {"strength": 1.0, "read_sha256": None, "beyond": None}
    assert record.plain() == defaults | described


def test_a_record_of_before_is_read_with_what_it_did_not_say() -> None:
    record = parts.Ablate.model_validate(oblique(1, read=None).describe())
    assert (record.strength, record.read_sha256, record.beyond) == (1.0, None, None)

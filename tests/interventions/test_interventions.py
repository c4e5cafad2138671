"""Claims about interventions as values, on tensors made by hand; what they do inside a model is in
test_model_interventions."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

HERE, THERE = "blocks.0.hook_out", "blocks.1.hook_out"
D = 12


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def basis(rank: int, *, seed: int = 3) -> Tensor:
    """Orthonormal rows, by NumPy's QR and not by ours. Those of a smaller rank begin those of a larger
    one."""
    import numpy as np

    return torch.tensor(
        np.linalg.qr(noise(D, D, seed=seed).double().numpy())[0].T[:rank].copy(), dtype=torch.float32
    )


def ablate(rank: int, *, means: Tensor | None = None) -> Any:
    from persona_probe.interventions.edits import Ablate

    return Ablate(basis(rank), (HERE, THERE), means)


RESID = noise(3, 5, D)


# Ablate


@pytest.mark.parametrize("rank", [1, 3, D])
@pytest.mark.parametrize("toward", ["zero", "mean"])
def test_ablating_twice_is_ablating_once(rank: int, toward: str) -> None:
    ablation = ablate(rank, means=noise(2, D, seed=4) if toward == "mean" else None)
    once = ablation.edit(RESID, hook_point=HERE)
    assert_close(ablation.edit(once, hook_point=HERE), once, atol=1e-5, rtol=0)


@pytest.mark.parametrize("rank", [1, 3, D])
def test_ablation_removes_the_span_and_nothing_else(rank: int) -> None:
    edited = ablate(rank).edit(RESID, hook_point=HERE)
    everything = basis(D)  # its first rows span the ablated space, the others its complement
    assert_close(edited @ everything[:rank].T, torch.zeros(3, 5, rank), atol=1e-5, rtol=0)
    assert_close(edited @ everything[rank:].T, RESID @ everything[rank:].T, atol=1e-5, rtol=0)


@pytest.mark.parametrize("toward", ["zero", "mean"])
def test_ablation_does_not_see_what_was_added_along_the_direction(toward: str) -> None:
    ablation = ablate(2, means=noise(2, D, seed=4) if toward == "mean" else None)
    moved = RESID + 7.0 * basis(2)[0] - 3.0 * basis(2)[1]
    assert_close(
        ablation.edit(moved, hook_point=HERE), ablation.edit(RESID, hook_point=HERE), atol=1e-5, rtol=0
    )


def test_ablation_by_hand() -> None:
    from persona_probe.interventions.edits import Ablate

    ablation = Ablate(torch.tensor([[0.6, 0.8]]), (HERE,))
    # (5, 10) has 11 along (0.6, 0.8): what stays is (5, 10) - (6.6, 8.8).
    assert_close(ablation.edit(torch.tensor([[[5.0, 10.0]]]), hook_point=HERE), torch.tensor([[[-1.6, 1.2]]]))


def test_ablation_toward_means_leaves_the_projection_of_the_mean_of_its_own_hook_point() -> None:
    means = noise(2, D, seed=4)
    ablation, rows = ablate(3, means=means), basis(3)
    for hook_point, mean in ((HERE, means[0]), (THERE, means[1])):
        edited = ablation.edit(RESID, hook_point=hook_point)
        assert_close(edited @ rows.T, (mean @ rows.T).expand(3, 5, 3), atol=1e-5, rtol=0)
        assert_close(edited - (edited @ rows.T) @ rows, RESID - (RESID @ rows.T) @ rows, atol=1e-5, rtol=0)


def test_ablation_toward_a_mean_orthogonal_to_the_span_is_ablation_toward_zero() -> None:
    outside = basis(D)[5]
    toward = ablate(3, means=torch.stack([outside, outside]))
    assert_close(
        toward.edit(RESID, hook_point=HERE), ablate(3).edit(RESID, hook_point=HERE), atol=1e-5, rtol=0
    )


@pytest.mark.parametrize(
    "rows", [[[2.0, 0, 0]], [[1.0, 0, 0], [0.6, 0.8, 0]], [[0.0, 0, 0]]], ids=["long", "oblique", "zero"]
)
def test_basis_that_is_not_orthonormal_is_refused(rows: list[list[float]]) -> None:
    from persona_probe.base.errors import BadInput
    from persona_probe.interventions.edits import Ablate

    with pytest.raises(BadInput, match=r"must be orthonormal: use orthonormal\(vectors\)"):
        Ablate(torch.tensor(rows), (HERE,))


def test_one_mean_for_two_hook_points_is_refused() -> None:
    from persona_probe.base.errors import BadInput

    with pytest.raises(BadInput, match="1 means for 2 hook points"):
        ablate(1, means=noise(1, D))


# Steer


def test_steering_adds_the_vector_as_it_stands_times_the_coefficient() -> None:
    from persona_probe.interventions.edits import Steer

    vector = 5 * noise(D, seed=1)
    assert_close(Steer(vector, HERE, 1.0).edit(RESID, hook_point=HERE), RESID + vector, atol=1e-6, rtol=0)
    assert_close(
        Steer(vector, HERE, -0.5).edit(RESID, hook_point=HERE), RESID - vector / 2, atol=1e-6, rtol=0
    )


def test_coefficient_zero_is_bitwise_nothing() -> None:
    from persona_probe.interventions.edits import Steer

    assert torch.equal(Steer(noise(D, seed=1), HERE, 0.0).edit(RESID, hook_point=HERE), RESID)


# Cap


def test_cap_leaves_projections_below_the_ceiling_and_brings_the_others_down_to_it() -> None:
    from persona_probe.interventions.edits import Cap

    unit = basis(1)[0]
    before = RESID @ unit
    ceiling = float(before.median()) + 0.01  # between two projections, so that rounding decides nothing
    edited = Cap(unit, (HERE,), ceiling).edit(RESID, hook_point=HERE)
    below = before <= ceiling
    assert below.any()
    assert not below.all()
    assert torch.equal(edited[below], RESID[below])
    assert_close((edited @ unit)[~below], torch.full_like(before[~below], ceiling), atol=1e-5, rtol=0)
    assert_close(
        edited - (edited @ unit)[..., None] * unit, RESID - before[..., None] * unit, atol=1e-5, rtol=0
    )


# All three


def examples() -> dict[str, Callable[..., Any]]:
    from persona_probe.interventions.edits import Ablate, Cap, Steer

    return {
        "steer": lambda vector=0, place=(HERE,), skip_first=0, strength=1.0: Steer(
            basis(1, seed=vector)[0], place[0], strength, skip_first
        ),
        "ablate": lambda vector=0, place=(HERE,), skip_first=0, strength=None: Ablate(
            basis(1, seed=vector), place, strength, skip_first
        ),
        "cap": lambda vector=0, place=(HERE,), skip_first=0, strength=1.0: Cap(
            basis(1, seed=vector)[0], place, strength, skip_first
        ),
    }


@pytest.mark.parametrize("kind", ["steer", "ablate", "cap"])
def test_stream_keeps_its_dtype_and_is_not_changed_in_place(kind: str) -> None:
    before = RESID.to(torch.bfloat16)
    kept = before.clone()
    edited = examples()[kind](strength=None if kind == "ablate" else 0.3).edit(before, hook_point=HERE)
    assert edited.dtype == torch.bfloat16
    assert torch.equal(before, kept)
    assert not torch.equal(edited, kept)


def test_bfloat16_stream_is_projected_in_float32_and_rounded_once() -> None:
    stream = (100 * RESID).to(torch.bfloat16)
    unit = basis(1)[0]
    exact = stream.double() - (stream.double() @ unit.double())[..., None] * unit.double()
    assert_close(ablate(1).edit(stream, hook_point=HERE).double(), exact, atol=0, rtol=2**-8)


CHANGES = [{"vector": 1}, {"place": (THERE,)}, {"place": (HERE, THERE)}, {"skip_first": 4}, {"strength": 2.0}]


@pytest.mark.parametrize(
    ("kind", "change"),
    # Steering has one place, and ablation no strength but a target.
    [("steer", CHANGES[i]) for i in (0, 1, 3, 4)]
    + [("ablate", change) for change in (*CHANGES[:4], {"strength": noise(1, D)})]
    + [("cap", change) for change in CHANGES],
)
def test_description_differs_when_anything_that_decides_the_edit_differs(
    kind: str, change: dict[str, Any]
) -> None:
    make = examples()[kind]
    assert make().describe() == make().describe()
    assert make(**change).describe() != make().describe()


def test_descriptions_of_different_kinds_and_ranks_and_means_differ() -> None:
    means = noise(2, D, seed=4)
    every = [make() for make in examples().values()] + [
        ablate(1),
        ablate(2),
        ablate(2, means=means),
        ablate(2, means=2 * means),
    ]
    described = [str(intervention.describe()) for intervention in every]
    assert len(set(described)) == len(described)


def test_descriptions_are_plain_json() -> None:
    import json

    for make in examples().values():
        described = make().describe()
        assert json.loads(json.dumps(described, allow_nan=False)) == described


# Bases


def test_orthonormal_spans_what_it_was_given() -> None:
    from persona_probe.interventions.edits import orthonormal

    vectors = noise(3, D, seed=5) * torch.tensor([[1e-3], [1.0], [1e3]])
    found = orthonormal(vectors)
    assert_close(found @ found.T, torch.eye(3), atol=1e-5, rtol=0)
    inside = (vectors @ found.T) @ found
    assert_close(
        inside / vectors.norm(dim=1, keepdim=True),
        vectors / vectors.norm(dim=1, keepdim=True),
        atol=1e-4,
        rtol=0,
    )


def test_orthonormal_of_one_vector_is_its_line() -> None:
    from persona_probe.interventions.edits import orthonormal

    vector = noise(D, seed=5)
    assert_close(orthonormal(40 * vector[None])[0].abs(), (vector / vector.norm()).abs(), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    "rows",
    [
        [[1.0, 2, 3], [2.0, 4, 6]],
        [[1.0, 0, 0], [0.0, 1, 0], [1.0, 1, 0]],
        [[0.0, 0, 0]],
        [[1.0, float("nan"), 0]],
        [[1.0, float("inf"), 0]],
    ],
    ids=["multiple", "sum", "zero", "nan", "infinite"],
)
def test_dependent_or_broken_vectors_are_refused(rows: list[list[float]]) -> None:
    from persona_probe.base.errors import BadInput
    from persona_probe.interventions.edits import orthonormal

    with pytest.raises(BadInput, match=rf"{len(rows)} vectors do not span {len(rows)} dimensions"):
        orthonormal(torch.tensor(rows))

"""Claims about the estimators and the direction file, on activations made by hand with a planted truth."""

import pytest
import torch
from helpers.made_directions import HOOK_POINTS, activations, cosine, direction, noise
from torch import Tensor
from torch.nn.functional import normalize

# Estimators


def test_mean_difference_is_the_planted_vector() -> None:
    from persona_probe.directions.estimators import mean_diff

    planted = noise(2, 16, seed=1)
    aligned = noise(50, 2, 16, seed=2)
    torch.testing.assert_close(
        mean_diff(aligned[torch.randperm(50)] + planted, aligned), planted, atol=1e-6, rtol=0
    )


def test_mean_difference_counts_every_reply_once() -> None:
    from persona_probe.directions.estimators import mean_diff

    misaligned, aligned = (
        torch.tensor([[[3.0, 0.0]], [[5.0, 2.0]], [[7.0, 4.0]]]),
        torch.tensor([[[1.0, -1.0]]]),
    )
    assert torch.equal(mean_diff(misaligned, aligned), torch.tensor([[4.0, 3.0]]))


def test_mean_difference_is_antisymmetric() -> None:
    from persona_probe.directions.estimators import mean_diff

    left, right = noise(30, 2, 16, seed=1), noise(20, 2, 16, seed=2)
    assert torch.equal(mean_diff(left, right), -mean_diff(right, left))


def test_mean_difference_keeps_its_digits_on_a_large_offset() -> None:
    from persona_probe.directions.estimators import mean_diff

    aligned = torch.full((4096, 1, 1), 3000.0)
    found = mean_diff(aligned + torch.tensor(0.25), aligned)
    torch.testing.assert_close(found, torch.tensor([[0.25]]), atol=1e-7, rtol=0)


def correlated(n: int, *, seed: int) -> tuple[Tensor, Tensor]:
    """Classes one unit apart along e0, under noise that is five times larger along e0 - e1: the optimum is
    near e0 + e1."""
    loud = normalize(torch.tensor([1.0, -1.0, 0, 0, 0, 0, 0, 0]), dim=0)
    planted = torch.eye(8)[0]
    x = noise(2 * n, 1, 8, seed=seed) + 5 * noise(2 * n, 1, 1, seed=seed + 1) * loud
    return x[:n] + planted, x[n:]


@pytest.mark.parametrize("method", ["lda", "probe"])
def test_discriminants_find_what_the_mean_difference_misses_under_correlated_noise(method: str) -> None:
    from persona_probe.directions.direction import DirectionSet
    from persona_probe.directions.estimators import FITS, auroc

    misaligned, aligned = correlated(8000, seed=1)
    # By hand: the covariance is I + 25 nn', so its inverse times e0 is e0 - (25 / 26) n (n . e0).
    optimum = torch.tensor([1 - 25 / 52, 25 / 52, 0, 0, 0, 0, 0, 0])
    found = FITS[method](misaligned, aligned)[0]
    assert cosine(found, optimum) > 0.98
    assert cosine(FITS["mean_diff"](misaligned, aligned)[0], optimum) < 0.8
    fresh = torch.cat([torch.stack(correlated(500, seed=10), 1).reshape(1000, 1, 8)])
    unseen = activations(fresh[torch.arange(1000).reshape(500, 2).flip(1).reshape(-1)], n_questions=1)
    by_method, by_mean = (
        float(
            auroc(
                DirectionSet(method=m, hook_points=HOOK_POINTS[:1], vectors=FITS[m](misaligned, aligned)),
                unseen,
            )
        )
        for m in (method, "mean_diff")
    )
    assert by_method > by_mean + 0.05


@pytest.mark.parametrize("method", ["mean_diff", "lda", "probe"])
def test_length_is_the_separation_of_the_classes_along_the_direction(method: str) -> None:
    from persona_probe.directions.estimators import FITS

    misaligned, aligned = correlated(400, seed=1)
    found = FITS[method](misaligned, aligned)[0].double()
    along = (
        misaligned[:, 0].double() @ found - (aligned[:, 0].double() @ found).mean()
    ).mean() / found.norm()
    assert float(along) == pytest.approx(float(found.norm()), rel=1e-4)


@pytest.mark.parametrize("method", ["mean_diff", "lda", "probe"])
def test_hook_points_do_not_mix(method: str) -> None:
    from persona_probe.directions.estimators import FITS

    misaligned, aligned = noise(60, 2, 12, seed=1) + noise(12, seed=9), noise(60, 2, 12, seed=2)
    together = FITS[method](misaligned, aligned)
    alone = torch.cat([FITS[method](misaligned[:, i : i + 1], aligned[:, i : i + 1]) for i in range(2)])
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=0)


# What a user must know to trust one


@pytest.mark.parametrize("method", ["mean_diff", "lda", "probe"])
def test_stability_is_near_1_for_a_planted_direction_and_near_0_for_noise(method: str) -> None:
    from persona_probe.directions.estimators import fit_contrast

    means = noise(320, 2, 128, seed=1)
    labels = torch.tensor([row.label == "misaligned" for row in activations(means, n_questions=40).rows])
    means[labels, 0] += 4 * noise(128, seed=2)
    found = fit_contrast(activations(means, n_questions=40), method).stability
    assert found is not None
    assert found[0] > 0.9
    assert abs(found[1]) < 0.3


def test_stability_of_a_shift_is_near_1_when_planted_and_near_0_for_noise() -> None:
    from persona_probe.directions.estimators import from_difference

    before = noise(80, 2, 128, seed=1)
    after = before + 0.5 * noise(80, 2, 128, seed=2)
    after[:, 0] += noise(128, seed=3)
    found = from_difference("shift", after, before, activations(before, n_questions=20))
    torch.testing.assert_close(found.vectors[0], (after - before)[:, 0].mean(0), atol=1e-6, rtol=0)
    assert found.stability is not None
    assert found.stability[0] > 0.9
    assert abs(found.stability[1]) < 0.3


def test_replies_of_one_question_never_lie_in_both_halves() -> None:
    from persona_probe.directions.estimators import fit_contrast

    # Every question has a vector of its own, the same for all its replies: halves that share a question would
    # agree.
    own = noise(40, 256, seed=1)
    means = torch.stack([own[i % 40] * (1 if i // 40 % 2 else -1) for i in range(320)])[:, None]
    stability = fit_contrast(activations(means, n_questions=40), "mean_diff").stability
    assert stability is not None
    assert abs(stability[0]) < 0.3


def test_auroc_is_1_for_separated_labels_half_for_equal_ones_and_turns_over_with_the_sign() -> None:
    from persona_probe.directions.direction import DirectionSet
    from persona_probe.directions.estimators import auroc

    means = torch.zeros(8, 2, 4)
    acts = activations(means, n_questions=1)
    for i, row in enumerate(acts.rows):
        means[i, 0, 0] = 10 + i if row.label == "misaligned" else i
    e0 = torch.eye(4)[:1].expand(2, 4)
    assert auroc(DirectionSet(method="mean_diff", hook_points=HOOK_POINTS, vectors=e0), acts).tolist() == [
        1.0,
        0.5,
    ]
    assert auroc(DirectionSet(method="mean_diff", hook_points=HOOK_POINTS, vectors=-e0), acts).tolist() == [
        0.0,
        0.5,
    ]


def test_auroc_is_the_share_of_pairs_in_the_right_order() -> None:
    from persona_probe.directions.direction import DirectionSet
    from persona_probe.directions.estimators import auroc

    # aligned 0, 2; misaligned 1, 3: (1 > 0), not (1 > 2), (3 > 0), (3 > 2).
    acts = activations(torch.tensor([0.0, 1.0, 2.0, 3.0]).reshape(4, 1, 1), n_questions=1)
    assert auroc(
        DirectionSet(method="mean_diff", hook_points=HOOK_POINTS[:1], vectors=torch.ones(1, 1)), acts
    ).tolist() == [0.75]


def test_cosine_table_is_of_the_asked_layer() -> None:
    from persona_probe.directions.direction import DirectionSet, cosines

    e = torch.eye(3)
    sets = [
        DirectionSet(method="a", hook_points=HOOK_POINTS, vectors=torch.stack([e[0], 2 * e[1]])),
        DirectionSet(method="b", hook_points=HOOK_POINTS, vectors=torch.stack([e[0], -e[1]])),
    ]
    for layer, sign in ((0, 1.0), (1, -1.0)):
        first, second = cosines(sets, layer)
        assert (*first, *second) == pytest.approx((1.0, sign, sign, 1.0), abs=1e-6)


@pytest.mark.parametrize(
    "vector", [torch.zeros(4), torch.tensor([1.0, float("nan"), 0, 0])], ids=["zero", "nan"]
)
def test_direction_that_is_zero_or_not_finite_is_refused(vector: Tensor) -> None:
    from persona_probe.base.errors import BadInput

    with pytest.raises(BadInput, match=r"mean_diff direction at blocks.1.hook_out is zero or not finite"):
        direction(vector)


# Controls

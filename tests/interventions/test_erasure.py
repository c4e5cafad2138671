"""Claims about least-squares concept erasure: the numbers of `concept-erasure`, and nothing left to read."""

from typing import Any

import pytest
import torch
from concept_erasure import LeaceEraser, LeaceFitter
from torch import Tensor
from torch.testing import assert_close

from persona_probe.base.errors import BadInput
from persona_probe.interventions.edits import Ablate
from persona_probe.interventions.erasure import Erasure, erasure, read_rows

HERE = "blocks.0.hook_out"


def made(n_rows: int, d_model: int, n_classes: int, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Correlated rows about a mean far from zero, and their classes, which move them in random directions."""
    generator = torch.Generator().manual_seed(seed)

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    classes = torch.arange(n_rows) % n_classes
    spread = torch.eye(d_model, dtype=torch.float64) + 0.5 * noise(d_model, d_model) / d_model**0.5
    rows = noise(n_rows, d_model) @ spread + noise(n_classes, d_model)[classes] + 2 * noise(d_model)
    return rows, classes


def edited(fitted: Erasure, x: Tensor, **options: Any) -> Tensor:
    ablation = Ablate(fitted.write, (HERE,), fitted.mean[None], read=fitted.read, **options)
    return ablation.edit(x[None], hook_point=HERE)[0]


class Shrunk(LeaceFitter):
    """The reference with the covariance of scikit-learn's Ledoit-Wolf in place of its own shrinkage."""

    rows: Tensor

    @property
    def sigma_xx(self) -> Tensor:
        from sklearn.covariance import ledoit_wolf

        return torch.from_numpy(ledoit_wolf(self.rows.numpy())[0])


def reference(x: Tensor, z: Tensor) -> LeaceEraser:
    """The eraser of `concept-erasure` with the covariance of the rows."""
    return LeaceFitter.fit(x, z, affine=True, shrinkage=False, constrain_cov_trace=False).eraser


# Rows to read along


@pytest.mark.parametrize("n_rows", [400, 12])
def test_reading_the_difference_of_two_means_is_erasing_their_classes(n_rows: int) -> None:
    x, classes = made(n_rows, 20, 2)
    difference = x[classes == 1].mean(0) - x[classes == 0].mean(0)
    fitted = erasure(x, classes)
    read = read_rows(difference[None], x)
    sign = torch.sign(fitted.write[0].double() @ difference)
    assert_close(fitted.read.double() * sign, read.double(), atol=1e-4, rtol=1e-4)


def test_reading_along_uncorrelated_axes_of_equal_spread_is_reading_along_the_vector() -> None:
    x = torch.cat([torch.eye(4), -torch.eye(4)])
    vectors = torch.tensor([[2.0, 0, 0, 0], [1.0, 1, 0, 0]])
    assert_close(read_rows(vectors, x), torch.nn.functional.normalize(vectors, dim=-1))


def test_a_vector_along_which_nothing_varies_cannot_be_read() -> None:
    x = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    x[:, 2] = 1.0
    with pytest.raises(BadInput, match="the 50 tokens do not vary along the vector"):
        read_rows(torch.tensor([[0.0, 0.0, 1.0]]), x)


# By hand


def test_an_erasure_by_hand() -> None:
    # Means (-1, 0) and (1, 0), both about (0, 0), each row a step of (2, 2) to either side of its mean. The
    # covariance is [[5, 4], [4, 4]], the discriminant is its inverse times (2, 0): along (1, -1).
    x = torch.tensor([[-3.0, -2.0], [1.0, 2.0], [-1.0, -2.0], [3.0, 2.0]])
    fitted = erasure(x, torch.tensor([0, 0, 1, 1]))
    assert_close(fitted.write.abs(), torch.tensor([[1.0, 0.0]]), atol=1e-6, rtol=0)
    assert_close(fitted.read * fitted.write[0, 0], torch.tensor([[1.0, -1.0]]), atol=1e-6, rtol=0)
    assert_close(fitted.mean, torch.zeros(2))
    assert fitted.shrunk == 0.0
    # What is left is the step alone, the same for both classes.
    after = torch.tensor([[-2.0, -2.0], [2.0, 2.0], [-2.0, -2.0], [2.0, 2.0]])
    assert_close(edited(fitted, x), after, atol=1e-6, rtol=0)


# Parity


@pytest.mark.parametrize(("n_rows", "d_model"), [(40, 3), (200, 16), (500, 64)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_two_classes_are_erased_as_the_reference_does(n_rows: int, d_model: int, dtype: torch.dtype) -> None:
    x, classes = made(n_rows, d_model, 2)
    fitted = erasure(x.to(dtype), classes)
    assert fitted.write.shape == (1, d_model)
    expected = reference(x, classes.double())(x)
    assert (expected - x).abs().max() > 0.5
    assert_close(edited(fitted, x.to(dtype)).double(), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("n_rows", "d_model"), [(40, 4), (200, 16), (500, 64)])
@pytest.mark.parametrize("given", ["classes", "columns", "other columns"])
def test_three_labels_are_erased_as_the_reference_does(n_rows: int, d_model: int, given: str) -> None:
    x, classes = made(n_rows, d_model, 3)
    z = (classes[:, None] == torch.arange(3)).double()
    if given == "other columns":  # three labels that do not exclude each other
        z = (x[:, :3] - x[:, :3].mean(0) + made(n_rows, 3, 2, seed=1)[0].clamp(-1, 1) > 0).double()
    fitted = erasure(x, classes * 7 - 3 if given == "classes" else z)
    assert len(fitted.write) == (3 if given == "other columns" else 2)
    assert_close(edited(fitted, x).double(), reference(x, z)(x).double(), atol=1e-5, rtol=0)


def test_read_and_write_rows_are_the_matrix_of_the_reference() -> None:
    x, classes = made(300, 12, 3)
    fitted = erasure(x, classes)
    eraser = reference(x, (classes[:, None] == torch.arange(3)).double())
    assert_close(torch.eye(12) - fitted.write.T @ fitted.read, eraser.P.float(), atol=1e-5, rtol=0)
    assert eraser.bias is not None
    assert_close(fitted.mean, eraser.bias.float(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("n_rows", [20, 32, 33])
def test_fewer_rows_than_dimensions_are_erased_with_a_shrunk_covariance_and_say_so(n_rows: int) -> None:
    x, classes = made(n_rows, 32, 2)
    fitted = erasure(x, classes)
    if n_rows > 32:
        assert fitted.shrunk == 0.0
        return
    assert 0.05 < fitted.shrunk < 1
    fitter = Shrunk(32, 1, affine=True, constrain_cov_trace=False, dtype=torch.float64)
    fitter.rows = x
    expected = fitter.update(x, classes.double()).eraser(x)
    assert (expected - x).abs().max() > 0.5
    assert_close(edited(fitted, x).double(), expected, atol=1e-5, rtol=0)


# What erasure is for


@pytest.mark.parametrize(("n_rows", "d_model", "n_classes"), [(600, 24, 2), (600, 24, 3), (60, 96, 2)])
def test_nothing_linear_is_left(n_rows: int, d_model: int, n_classes: int) -> None:
    x, classes = made(n_rows, d_model, n_classes)
    after = edited(erasure(x, classes), x).double()
    means = torch.stack([after[classes == one].mean(0) for one in range(n_classes)])
    assert_close(means, x.mean(0).expand_as(means), atol=1e-5, rtol=0)
    for one in range(n_classes):
        assert auroc(x, classes == one) > 0.9
        assert auroc(after, classes == one) == pytest.approx(0.5, abs=0.05)


def auroc(x: Tensor, positive: Tensor) -> float:
    """Of a logistic regression on its own training rows."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score

    probe = LogisticRegression(C=1.0, tol=1e-8, max_iter=2000).fit(x.numpy(), positive.numpy())
    scores = probe.decision_function(x.numpy())
    # Weights of rounding say nothing: scores that are equal to four decimals are ties.
    return float(roc_auc_score(positive.numpy(), scores.round(4)))


def test_the_mean_of_all_rows_stays_and_no_smaller_edit_does_it() -> None:
    x, classes = made(400, 10, 2)
    fitted = erasure(x, classes)
    after = edited(fitted, x).double()
    assert_close(after.mean(0), x.mean(0), atol=1e-5, rtol=0)
    # Reading along the mean difference itself also makes the means coincide, with a larger edit.
    orthogonal = Ablate(fitted.write, (HERE,), fitted.mean[None]).edit(x[None], hook_point=HERE)[0]
    assert (after - x).square().sum() < 0.95 * (orthogonal - x).square().sum()


def test_dimensions_that_never_change_are_left_alone() -> None:
    x, classes = made(100, 8, 2)
    wide = torch.cat([x, torch.full((100, 2), 5.0, dtype=torch.float64)], dim=1)
    after = edited(erasure(wide, classes), wide).double()
    assert_close(after, torch.cat([reference(x, classes.double())(x), wide[:, 8:]], 1), atol=1e-5, rtol=0)


# What is refused


@pytest.mark.parametrize(
    ("x", "labels", "message"),
    [
        (torch.randn(4, 3), torch.tensor([0, 1, 1]), r"labels of shape \[3\] for 4 rows: one class per row"),
        (torch.randn(4, 3), torch.zeros(4, 0), r"labels of shape \[4, 0\] for 4 rows"),
        (torch.randn(4, 3), torch.zeros(4, 1, 1), r"labels of shape \[4, 1, 1\] for 4 rows"),
        (torch.randn(0, 3), torch.zeros(0), r"labels of shape \[0\] for 0 rows"),
        (torch.randn(4, 3), torch.ones(4), "the same in all 4 rows: at least two classes are needed"),
        (torch.randn(4, 3), torch.tensor([[0.0, 2], [1, 2], [0, 2], [1, 2]]), "the same in all 4 rows"),
        (torch.full((4, 3), float("nan")), torch.tensor([0, 1, 0, 1]), "NaN or infinity"),
        (torch.randn(4, 3), torch.tensor([0, 1, 0, float("inf")]), "NaN or infinity"),
        (torch.ones(4, 3), torch.tensor([0, 1, 0, 1]), "nothing to erase: the 4 rows have the same mean"),
        (torch.ones(4, 6), torch.tensor([0, 1, 0, 1]), "nothing to erase: the 4 rows have the same mean"),
        (
            torch.tensor([[1.0], [2.0], [1.0], [2.0]]),
            torch.tensor([0, 0, 1, 1]),
            "nothing to erase: the 4 rows have the same mean",
        ),
    ],
)
def test_rows_that_cannot_be_erased_are_refused_in_words(x: Tensor, labels: Tensor, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        erasure(x, labels)

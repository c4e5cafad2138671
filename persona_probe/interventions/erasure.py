"""Least-squares concept erasure: the ablation after which no linear probe reads labels, fitted from rows."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from persona_probe.base.errors import BadInput

MIN_CORRELATION = 1e-6  # between a label and a direction; below it rounding decides


@dataclass(frozen=True, eq=False, kw_only=True)
class Erasure:
    """Rows and centre of an oblique ablation: Ablate(write, points, mean[None], read=read).

    `shrunk`: how much of the covariance is that of shrinkage (0 to 1); 0.0 where there were more rows than
    dimensions, and the covariance is that of the rows.
    """

    write: Float[Tensor, "k d_model"]
    read: Float[Tensor, "k d_model"]
    mean: Float[Tensor, " d_model"]
    shrunk: float


def erasure(x: Float[Tensor, "row d_model"], labels: Shaped[Tensor, "*labels"]) -> Erasure:
    """The smallest edit of `x`, in least squares, after which no affine probe reads the labels (LEACE).

    `labels` has one number per row, its class; or one column per label, its value. The edit is
    x - pinv(V) P V (x - mean), with V the whitening and P the projection on the span of V cov(x, labels):
    rank k, one less than there are classes. With two classes it reads along the linear discriminant and takes
    away along the difference of the means. Class means coincide afterwards. With no more rows than dimensions
    the covariance is singular and is shrunk (Ledoit-Wolf). Rows in float32, computed in float64. BadInput for
    values that are not finite, fewer than two classes, or labels of which no direction says anything.
    Source: Belrose et al. 2023 (2306.03819).
    """
    columns = _columns(x, labels)
    mean = x.double().mean(dim=0)
    centred = x.double() - mean
    covariance, shrunk = _covariance(centred)
    values, vectors = torch.linalg.eigh(covariance)
    live = values > values[-1] * len(values) * torch.finfo(values.dtype).eps
    vectors, scales = vectors[:, live], values[live].sqrt()
    whitened = (vectors / scales).T @ (centred.T @ columns / len(x))
    spanned, correlations, _ = torch.linalg.svd(whitened, full_matrices=False)
    spanned = spanned[:, correlations > MIN_CORRELATION]
    if not spanned.shape[1]:
        raise BadInput(f"nothing to erase: the {len(x)} rows have the same mean under every label")
    write, mixed = torch.linalg.qr((vectors * scales) @ spanned)
    read = mixed @ spanned.T @ (vectors / scales).T
    return Erasure(
        write=write.T.to(torch.float32).contiguous(),
        read=read.to(torch.float32),
        mean=mean.to(torch.float32),
        shrunk=shrunk,
    )


def read_rows(
    vectors: Float[Tensor, "k d_model"], tokens: Float[Tensor, "token d_model"]
) -> Float[Tensor, "k d_model"]:
    """What to read along, so that an ablation takes each vector away with the least change of `tokens`.

    inv(covariance) @ vector, scaled so that it measures 1 for the vector's unit: the linear discriminant. For
    the difference of two classes' means, the ablation that reads so is `erasure` of these classes. With no
    more tokens than dimensions the covariance is shrunk, as there. BadInput for tokens that do not vary along
    a vector.
    """
    if not torch.isfinite(tokens).all():
        raise BadInput("tokens to read from hold NaN or infinity")
    centred = tokens.double() - tokens.double().mean(dim=0)
    covariance, _ = _covariance(centred)
    values, basis = torch.linalg.eigh(covariance)
    live = values > values[-1] * len(values) * torch.finfo(values.dtype).eps
    units = torch.nn.functional.normalize(vectors.double(), dim=-1)
    inside = units @ basis[:, live]
    rows = (inside / values[live]) @ basis[:, live].T
    measured = (rows * units).sum(-1, keepdim=True)
    if not (inside.norm(dim=-1) > MIN_CORRELATION).all():
        raise BadInput(f"the {len(tokens)} tokens do not vary along the vector that is to be read")
    return (rows / measured).to(torch.float32)


def _columns(x: Float[Tensor, "row d_model"], labels: Shaped[Tensor, "*labels"]) -> Tensor:
    """The labels as centred columns of standard deviation 1; of classes, all but the last."""
    if len(labels) != len(x) or labels.ndim > 2 or not labels.numel():
        raise BadInput(
            f"labels of shape {list(labels.shape)} for {len(x)} rows: "
            "one class per row is needed, or one column per label"
        )
    columns = labels.double()
    if not torch.isfinite(x).all() or not torch.isfinite(columns).all():
        raise BadInput("rows or labels to erase hold NaN or infinity")
    if columns.ndim == 1:
        columns = (columns[:, None] == columns.unique()[:-1]).double()
    columns = columns - columns.mean(dim=0)
    spread = columns.square().mean(dim=0).sqrt()
    if not len(spread) or (spread < MIN_CORRELATION).any():
        raise BadInput(f"a label is the same in all {len(x)} rows: at least two classes are needed")
    return columns / spread


def _covariance(centred: Float[Tensor, "row d_model"]) -> tuple[Float[Tensor, "d_model d_model"], float]:
    """The covariance of centred rows, shrunk where it would be singular, and the share of shrinkage in it."""
    n_rows, d_model = centred.shape
    if n_rows > d_model:
        return centred.T @ centred / n_rows, 0.0
    from sklearn.covariance import ledoit_wolf

    covariance, shrunk = ledoit_wolf(centred.cpu().numpy(), assume_centered=True)
    return torch.from_numpy(covariance).to(centred.device), float(shrunk)

"""Which tokens of a batch are averaged, and their means."""

import hashlib
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from persona_probe.base.choices import Outliers
from persona_probe.base.errors import BadInput
from persona_probe.prompts.batches import TokenBatch
from persona_probe.prompts.rows import Row

# the first tokens carry massive activations (Sun et al. 2024, 2402.17762) and fine-tuning traces (2510.13900)
SKIP_FIRST = 4
# tokens beyond this multiple of their row's median norm are outliers (as for the SAEs of Arditi and Chen)
OUTLIER = 10.0


def readable(batch: TokenBatch) -> Bool[Tensor, "batch rest"]:
    """The tokens that the batch's scope names, without the first ones; columns count from `n_shared`.

    BadInput for a row without any.
    """
    read = batch.read & (batch.positions >= SKIP_FIRST)
    empty = (~read.any(1)).nonzero()
    if len(empty):
        raise BadInput(
            f"row {batch.rows[int(empty[0])].id!r} has no token to read after the first {SKIP_FIRST}: it is"
            " too short"
        )
    return read[:, batch.n_shared :]


def sampled(rows: Sequence[Row], read: Bool[Tensor, "batch pos"]) -> Int[Tensor, " batch"]:
    """One read column per row, chosen by a hash of the row's id, so that batching does not change it."""
    picks = []
    for row, mask in zip(rows, read, strict=True):
        columns = mask.nonzero()[:, 0]
        picks.append(int(columns[int(hashlib.sha256(row.id.encode()).hexdigest(), 16) % len(columns)]))
    return torch.tensor(picks)


def averaged(
    stream: Float[Tensor, "batch pos d_model"], read: Bool[Tensor, "batch pos"], outliers: Outliers
) -> Bool[Tensor, "batch pos"]:
    """The read tokens, by `outliers` without those whose norm is an outlier within their row. `stream` is
    float32."""
    if outliers == "keep":
        return read
    norm = torch.linalg.vector_norm(stream, dim=-1)
    typical = norm.masked_fill(~read, float("nan")).nanmedian(dim=1, keepdim=True).values
    # `not >` keeps NaN tokens in, so that they are seen and refused instead of dropped.
    return read & ~(norm > OUTLIER * typical)


def row_means(
    resid: Float[Tensor, "batch pos d_model"], read: Bool[Tensor, "batch pos"], outliers: Outliers
) -> tuple[Float[Tensor, "batch d_model"], Int[Tensor, " batch"]]:
    """Per row the mean over its averaged tokens, in float32, and their number. Nothing waits for the
    device."""
    # One float32 copy of a stream in bfloat16 costs less than two passes that convert it on the way.
    stream = resid.float()
    keep = averaged(stream, read, outliers)
    n = keep.sum(1)
    return torch.bmm(keep.float()[:, None], stream)[:, 0] / n[:, None], n

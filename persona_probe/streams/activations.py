"""One reader of the residual stream; everything else is a reduction of what it yields."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from persona_probe.base.choices import Outliers, Scope
from persona_probe.base.errors import BadInput
from persona_probe.base.hook_points import HookPoint
from persona_probe.models.loading import Model, halving
from persona_probe.prompts.batches import TokenBatch
from persona_probe.prompts.rows import Row
from persona_probe.streams.passes import cheapest_batches, watching
from persona_probe.streams.reductions import averaged, readable, row_means, sampled


@dataclass(frozen=True)
class ReadOptions:
    """Which tokens of a row are averaged, and how many tokens a batch holds at most.

    `outliers`: "drop" leaves out tokens whose norm is an outlier within their row, "keep" averages them too.
    """

    scope: Scope
    max_tokens: int
    outliers: Outliers = "drop"

    @property
    def tokens(self) -> str | list[str]:
        """Which tokens are averaged, as keys of what is kept say it: outliers only where they stay in."""
        return self.scope if self.outliers == "drop" else [self.scope, self.outliers]


@dataclass(frozen=True, eq=False)
class RowMeans:
    """What the reader yields per batch, on the CPU: for every row the mean over its averaged tokens, and one
    sampled token, at every hook point.

    `n_tokens` were averaged, of `n_readable`: the others are outliers that were left out.
    """

    rows: tuple[Row, ...]
    means: Float[Tensor, "batch hook d_model"]
    tokens: Float[Tensor, "batch hook d_model"]
    n_tokens: Int[Tensor, "batch hook"]
    n_readable: Int[Tensor, " batch"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Activations:
    """Row means in float32 on the CPU, in the order of `rows`; `tokens` is one read token of every row, for
    spreads and norms.

    `n_tokens` of a row's `n_readable` tokens were averaged at each hook point; None where it is not known.
    """

    hook_points: tuple[HookPoint, ...]
    rows: tuple[Row, ...]
    means: Float[Tensor, "row hook d_model"]
    tokens: Float[Tensor, "token hook d_model"]
    n_tokens: Int[Tensor, "row hook"] | None = None
    n_readable: Int[Tensor, " row"] | None = None

    def without_tokens(self) -> "Activations":
        """The row means alone: half the memory."""
        return replace(self, tokens=self.tokens[:0].clone())

    def where(self, chosen: Sequence[bool]) -> "Activations":
        """The chosen rows only."""
        keep = torch.tensor(list(chosen), dtype=torch.bool)
        rows = tuple(row for row, kept in zip(self.rows, chosen, strict=True) if kept)
        return replace(
            self,
            rows=rows,
            means=self.means[keep],
            tokens=self.tokens[keep] if len(self.tokens) else self.tokens,
            n_tokens=None if self.n_tokens is None else self.n_tokens[keep],
            n_readable=None if self.n_readable is None else self.n_readable[keep],
        )

    def labelled(self, label: str) -> Float[Tensor, "row hook d_model"]:
        """Row means of one label."""
        return self.means[torch.tensor([row.label == label for row in self.rows], dtype=torch.bool)]

    @property
    def dropped(self) -> Float[Tensor, " hook"] | None:
        """Share of the readable tokens that were left out as outliers; None where it is not known."""
        if self.n_tokens is None or self.n_readable is None:
            return None
        return 1 - self.n_tokens.sum(0).double() / self.n_readable.sum()

    @property
    def median_norm(self) -> Float[Tensor, " hook"]:
        """Median length of the residual stream over the sampled tokens, per hook point: the unit of relative
        doses."""
        return self.tokens.norm(dim=-1).median(0).values


@dataclass(frozen=True, eq=False)
class TokenActs:
    """The stream of one batch at one hook point, token by token: column j is token j of its row.

    `keep` is False on padding, unread and first tokens, and on outliers that are left out; these are counted
    in `n_readable`. The stream is 0 on what was not run row by row: padding, and what rows share.
    """

    rows: tuple[Row, ...]
    tokens: Int[Tensor, "batch pos"]
    resid: Float[Tensor, "batch pos d_model"]
    keep: Bool[Tensor, "batch pos"]
    n_readable: Int[Tensor, " batch"] | None = None


def collect(
    model: Model,
    rows: Sequence[Row],
    *,
    hook_points: Sequence[HookPoint],
    scope: Scope,
    max_tokens: int,
    outliers: Outliers = "drop",
) -> Activations:
    """Row means at several hook points in one pass; blocks above the highest of them do not run.

    Memory: rows x hook points x d_model x 8 bytes.
    """
    options = ReadOptions(scope, max_tokens, outliers)
    parts = {row.id: i for i, row in enumerate(rows)}
    means = torch.empty(len(rows), len(hook_points), model.d_model)
    tokens = torch.empty_like(means)
    n_tokens = torch.zeros(len(rows), len(hook_points), dtype=torch.int32)
    n_readable = torch.zeros(len(rows), dtype=torch.int32)
    for part in read_resid(model, rows, hook_points=hook_points, options=options):
        index = torch.tensor([parts[row.id] for row in part.rows])
        means[index], tokens[index] = part.means, part.tokens
        n_tokens[index], n_readable[index] = part.n_tokens, part.n_readable
    return Activations(
        hook_points=tuple(hook_points),
        rows=tuple(rows),
        means=means,
        tokens=tokens,
        n_tokens=n_tokens,
        n_readable=n_readable,
    )


def read_resid(
    model: Model, rows: Sequence[Row], *, hook_points: Sequence[HookPoint], options: ReadOptions
) -> Iterator[RowMeans]:
    """Means over the averaged tokens of every row, batch by batch, under whatever interventions are applied
    around it.

    Left out: the first tokens of a sequence and, unless they are kept, tokens whose norm is an outlier within
    their row. Sums are float32. What is read of a batch leaves the device in one transfer.
    """
    batch_of: dict[str, Tensor] = {}
    width = model.d_model

    def see(index: int, resid: Float[Tensor, "batch rest d_model"]) -> None:
        read, sample = (batch_of[name].to(resid.device) for name in ("read", "sample"))
        means, n_tokens = row_means(resid, read, options.outliers)
        there = batch_of["table"][:, index]
        there[:, :width] = means
        there[:, width:-1] = resid[torch.arange(len(resid), device=resid.device), sample]
        there[:, -1] = n_tokens

    with watching(model, hook_points, see) as run:

        def read_batch(batch: TokenBatch) -> RowMeans:
            read = readable(batch)
            table = torch.empty(len(batch), len(hook_points), 2 * width + 1, device=model.device)
            there = [one.to(model.device, non_blocking=True) for one in (read, sampled(batch.rows, read))]
            batch_of.update(read=there[0], sample=there[1], table=table)
            run(batch)
            table = table.cpu()
            return RowMeans(
                rows=batch.rows,
                means=table[..., :width],
                tokens=table[..., width:-1],
                n_tokens=table[..., -1].int(),
                n_readable=read.sum(1).int(),
            )

        for batch in cheapest_batches(model, rows, scope=options.scope, max_tokens=options.max_tokens):
            for _, part in halving(model, batch, read_batch):
                _check(part, model, hook_points)
                yield part


def read_tokens(
    model: Model,
    rows: Sequence[Row],
    *,
    hook_point: HookPoint,
    scope: Scope,
    max_tokens: int,
    outliers: Outliers = "drop",
) -> Iterator[TokenActs]:
    """The stream at one hook point in float32, with the tokens that `read_resid` would average; blocks above
    it do not run."""
    streams: list[Float[Tensor, "batch rest d_model"]] = []

    with watching(model, [hook_point], lambda _, resid: streams.append(resid)) as run:

        def read_batch(batch: TokenBatch) -> TokenActs:
            streams.clear()
            run(batch)
            resid, read = streams.pop().float(), readable(batch)
            keep = averaged(resid, read.to(resid.device), outliers)
            if not torch.isfinite(resid[keep]).all():
                raise BadInput(
                    f"activations at {hook_point} are not finite in {model.name} ({model.dtype}): try --dtype"
                    " float32 or bfloat16"
                )
            return replace(_by_token(batch, resid, keep), n_readable=read.sum(1).int())

        for batch in cheapest_batches(model, rows, scope=scope, max_tokens=max_tokens):
            for _, part in halving(model, batch, read_batch):
                yield part


def _by_token(
    batch: TokenBatch, resid: Float[Tensor, "batch rest d_model"], keep: Bool[Tensor, "batch rest"]
) -> TokenActs:
    """What was read of a batch, laid out by the tokens of its rows, whatever was shared and padded on the
    left."""
    if batch.n_shared == 0:
        return TokenActs(batch.rows, batch.tokens, resid, keep)
    width = max(len(row.ids) for row in batch.rows)
    tokens = batch.tokens.new_zeros(len(batch), width)
    stream, kept = resid.new_zeros(len(batch), width, resid.shape[-1]), keep.new_zeros(len(batch), width)
    for i, (row, offset) in enumerate(zip(batch.rows, batch.offsets, strict=True)):
        start, stop = batch.n_shared - offset, len(row.ids)
        tokens[i, :stop] = torch.tensor(row.ids)
        stream[i, start:stop], kept[i, start:stop] = resid[i, : stop - start], keep[i, : stop - start]
    return TokenActs(batch.rows, tokens, stream, kept)


def _check(part: RowMeans, model: Model, hook_points: Sequence[HookPoint]) -> None:
    bad = (~torch.isfinite(part.means)).any(-1).nonzero()
    if len(bad):
        row, hook = bad[0].tolist()
        raise BadInput(
            f"activations at {hook_points[hook]} of row {part.rows[row].id!r} are not finite in {model.name}"
            f" ({model.dtype}): try --dtype float32 or bfloat16"
        )

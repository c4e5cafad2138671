"""One reader of the residual stream; everything else is a reduction of what it yields."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import torch
from einops import einsum
from jaxtyping import Bool, Float, Int
from torch import Tensor

from persona_probe.base.choices import Scope
from persona_probe.base.errors import BadInput
from persona_probe.base.hook_points import HookPoint
from persona_probe.models.loading import Model, forward, halving
from persona_probe.prompts.batches import TokenBatch
from persona_probe.prompts.rows import Row

# the first tokens carry massive activations (Sun et al. 2024, 2402.17762) and fine-tuning traces (2510.13900)
SKIP_FIRST = 4
MIN_ROWS_PER_PROMPT = 4  # below this, mixed batches are faster than shared prefixes
# tokens beyond this multiple of their row's median norm are left out (as in the SAEs of Arditi and Chen)
OUTLIER = 10.0


@dataclass(frozen=True)
class ReadOptions:
    """Which tokens of a row are averaged, and how many tokens a batch holds at most."""

    scope: Scope
    max_tokens: int


@dataclass(frozen=True, eq=False)
class RowMeans:
    """What the reader yields per batch: for every row the mean over its read tokens, and one sampled token,
    at every hook point."""

    rows: tuple[Row, ...]
    means: Float[Tensor, "batch hook d_model"]
    tokens: Float[Tensor, "batch hook d_model"]
    n_tokens: Int[Tensor, "batch hook"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Activations:
    """Row means in float32 on the CPU, in the order of `rows`; `tokens` is one read token of every row, for
    spreads and norms."""

    hook_points: tuple[HookPoint, ...]
    rows: tuple[Row, ...]
    means: Float[Tensor, "row hook d_model"]
    tokens: Float[Tensor, "token hook d_model"]

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
        )

    def labelled(self, label: str) -> Float[Tensor, "row hook d_model"]:
        """Row means of one label."""
        return self.means[torch.tensor([row.label == label for row in self.rows], dtype=torch.bool)]

    @property
    def median_norm(self) -> Float[Tensor, " hook"]:
        """Median length of the residual stream over the sampled tokens, per hook point: the unit of relative
        doses."""
        return self.tokens.norm(dim=-1).median(0).values


@dataclass(frozen=True, eq=False)
class TokenActs:
    """The stream of one batch at one hook point, token by token: column j is token j of its row.

    `keep` is False on padding, unread, first and outlier tokens. The stream is 0 on what was not run row by
    row: padding, and prompts that rows share.
    """

    rows: tuple[Row, ...]
    tokens: Int[Tensor, "batch pos"]
    resid: Float[Tensor, "batch pos d_model"]
    keep: Bool[Tensor, "batch pos"]


def collect(
    model: Model, rows: Sequence[Row], *, hook_points: Sequence[HookPoint], scope: Scope, max_tokens: int
) -> Activations:
    """Row means at several hook points in one pass. Memory: rows x hook points x d_model x 8 bytes."""
    parts = {row.id: i for i, row in enumerate(rows)}
    means = torch.empty(len(rows), len(hook_points), model.d_model)
    tokens = torch.empty_like(means)
    for part in read_resid(model, rows, hook_points=hook_points, scope=scope, max_tokens=max_tokens):
        index = torch.tensor([parts[row.id] for row in part.rows])
        means[index], tokens[index] = part.means.cpu(), part.tokens.cpu()
    return Activations(hook_points=tuple(hook_points), rows=tuple(rows), means=means, tokens=tokens)


def read_resid(
    model: Model, rows: Sequence[Row], *, hook_points: Sequence[HookPoint], scope: Scope, max_tokens: int
) -> Iterator[RowMeans]:
    """Means over the read tokens of every row, batch by batch, under whatever interventions are applied
    around it.

    Left out: the first tokens of a sequence and tokens whose norm is an outlier within their row. Sums are
    float32.
    """
    sites = [model.site(hook_point)[1] for hook_point in hook_points]
    store: dict[int, tuple[Tensor, Tensor, Tensor]] = {}
    current: dict[str, Any] = {}

    def reader(index: int) -> Any:
        def hook(module: Any, args: Any, output: Any) -> None:
            resid = output[0] if isinstance(output, tuple) else output
            if resid.shape[:2] == current["read"].shape:
                store[index] = _row_means(resid, current["read"], current["sample"])

        return hook

    def read_batch(batch: TokenBatch) -> RowMeans:
        read = _readable(batch)[:, batch.n_shared :]
        store.clear()
        current.update(read=read.to(model.device), sample=_sample(batch.rows, read).to(model.device))
        forward(model, batch, logits_at=None)
        if len(store) != len(sites):
            silent = hook_points[min(set(range(len(sites))) - set(store))]
            raise BadInput(f"no activations at {silent}: the block did not run in {model.name}")
        return RowMeans(
            batch.rows, *(torch.stack([store[i][k].cpu() for i in range(len(sites))], 1) for k in range(3))
        )

    with torch.inference_mode(), ExitStack() as stack:
        for index, module in enumerate(sites):
            stack.callback(module.register_forward_hook(reader(index)).remove)
        for batch in model.batches(
            rows, max_tokens=max_tokens, scope=scope, keep_prompts=_worth_sharing(rows, scope)
        ):
            for _, part in halving(
                model, replace(batch, n_shared=0) if scope == "all" else batch, read_batch
            ):
                _check(part, model, hook_points)
                yield part


def read_tokens(
    model: Model, rows: Sequence[Row], *, hook_point: HookPoint, scope: Scope, max_tokens: int
) -> Iterator[TokenActs]:
    """The stream at one hook point in float32, with the tokens that `read_resid` would average; blocks above
    it do not run on them."""
    site = model.site(hook_point)[1]
    wanted: dict[str, tuple[int, int]] = {}

    def stop(module: Any, args: Any, output: Any) -> None:
        resid = output[0] if isinstance(output, tuple) else output
        if (
            tuple(resid.shape[:2]) == wanted["shape"]
        ):  # and not the prompts, which are run once before their rows
            raise _Reached(resid)

    def read_batch(batch: TokenBatch) -> TokenActs:
        wanted["shape"] = len(batch), batch.tokens.shape[1] - batch.n_shared
        try:
            forward(model, batch, logits_at=None)
        except _Reached as reached:
            resid = reached.resid.float()
            keep = _kept(resid, _readable(batch)[:, batch.n_shared :].to(resid.device))
            if not torch.isfinite(resid[keep]).all():
                raise BadInput(
                    f"activations at {hook_point} are not finite in {model.name} ({model.dtype}): try --dtype"
                    " float32 or bfloat16"
                ) from None
            return _by_token(batch, resid, keep)
        raise BadInput(f"no activations at {hook_point}: the block did not run in {model.name}")

    with torch.inference_mode(), ExitStack() as stack:
        stack.callback(site.register_forward_hook(stop).remove)
        keep_prompts = _worth_sharing(rows, scope)
        for batch in model.batches(rows, max_tokens=max_tokens, scope=scope, keep_prompts=keep_prompts):
            for _, part in halving(model, batch if keep_prompts else replace(batch, n_shared=0), read_batch):
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


class _Reached(Exception):
    """Carries the stream out of a forward pass that need not go on."""

    def __init__(self, resid: Tensor) -> None:
        super().__init__()
        self.resid = resid


def _worth_sharing(rows: Sequence[Row], scope: Scope) -> bool:
    """Whether one prompt a batch pays: its prefix is then computed once, but the batch holds no other
    prompt."""
    return scope != "all" and len(rows) >= MIN_ROWS_PER_PROMPT * len({row.question_id for row in rows})


def _row_means(
    resid: Float[Tensor, "batch pos d_model"], read: Bool[Tensor, "batch pos"], sample: Int[Tensor, " batch"]
) -> tuple[Tensor, Tensor, Tensor]:
    stream = resid.float()
    keep = _kept(stream, read)
    n = keep.sum(1)
    total = einsum(stream, keep.float(), "batch pos d_model, batch pos -> batch d_model")
    return total / n[:, None], stream[torch.arange(len(stream), device=stream.device), sample], n


def _kept(
    stream: Float[Tensor, "batch pos d_model"], read: Bool[Tensor, "batch pos"]
) -> Bool[Tensor, "batch pos"]:
    """The read tokens without those whose norm is an outlier within their row."""
    norm = stream.norm(dim=-1)
    typical = norm.masked_fill(~read, float("nan")).nanmedian(dim=1, keepdim=True).values
    # `not >` keeps NaN tokens in, so that they are seen and refused instead of dropped.
    return read & ~(norm > OUTLIER * typical)


def _readable(batch: TokenBatch) -> Bool[Tensor, "batch pos"]:
    read = batch.read & (batch.positions >= SKIP_FIRST)
    empty = (~read.any(1)).nonzero()
    if len(empty):
        raise BadInput(
            f"row {batch.rows[int(empty[0])].id!r} has no token to read after the first {SKIP_FIRST}: it is"
            " too short"
        )
    return read


def _sample(rows: Sequence[Row], read: Bool[Tensor, "batch pos"]) -> Int[Tensor, " batch"]:
    """One read column per row, chosen by a hash of the row's id, so that batching does not change it."""
    picks = []
    for row, mask in zip(rows, read, strict=True):
        columns = mask.nonzero()[:, 0]
        picks.append(int(columns[int(hashlib.sha256(row.id.encode()).hexdigest(), 16) % len(columns)]))
    return torch.tensor(picks)


def _check(part: RowMeans, model: Model, hook_points: Sequence[HookPoint]) -> None:
    bad = (~torch.isfinite(part.means)).any(-1).nonzero()
    if len(bad):
        row, hook = bad[0].tolist()
        raise BadInput(
            f"activations at {hook_points[hook]} of row {part.rows[row].id!r} are not finite in {model.name}"
            f" ({model.dtype}): try --dtype float32 or bfloat16"
        )

"""Token rows in, padded batches out."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from persona_probe.prompts.rows import Row

CALL_TOKENS = 32  # a second call of the body, for what rows share, takes about as long as so many tokens


@dataclass(frozen=True, eq=False)
class TokenBatch:
    """Rows of one forward pass. `mask` is False on padding, `read` is True on the tokens a reduction reads.

    The first `n_shared` columns are the same in all rows that have the same number in `shared_by`, so they
    may be computed once per number. `offsets` is how many columns of padding stand left of each row.
    """

    tokens: Int[Tensor, "batch pos"]
    mask: Bool[Tensor, "batch pos"]
    read: Bool[Tensor, "batch pos"]
    rows: tuple[Row, ...]
    n_shared: int
    shared_by: tuple[int, ...]
    offsets: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def positions(self) -> Int[Tensor, "batch pos"]:
        """Position of every token in its own sequence; padding repeats a neighbour's."""
        return (self.mask.long().cumsum(1) - 1).clamp(min=0)

    @property
    def n_computed(self) -> int:
        """Tokens that a pass computes, padding included: shared columns once per group, the rest per row."""
        return len(set(self.shared_by)) * self.n_shared + len(self) * (self.tokens.shape[1] - self.n_shared)

    def price(self, call_tokens: int) -> int:
        """What a pass costs, in tokens, when a second call of the body costs so many."""
        return self.n_computed + (call_tokens if self.n_shared else 0)

    @property
    def firsts(self) -> list[int]:
        """The first row of every group that shares its first columns."""
        return [self.shared_by.index(group) for group in sorted(set(self.shared_by))]

    def tiled(self, n: int) -> "TokenBatch":
        """The same rows `n` times over, one copy after the other."""
        if n == 1:
            return self
        n_groups = max(self.shared_by) + 1
        shared_by = tuple(group + copy * n_groups for copy in range(n) for group in self.shared_by)
        tokens, mask, read = (tensor.repeat(n, 1) for tensor in (self.tokens, self.mask, self.read))
        return TokenBatch(tokens, mask, read, self.rows * n, self.n_shared, shared_by, self.offsets * n)

    def halves(self) -> tuple["TokenBatch", "TokenBatch"]:
        """The same rows in two batches of the same width, for when one does not fit in memory."""
        middle = len(self) // 2
        return self._part(slice(None, middle)), self._part(slice(middle, None))

    def _part(self, part: slice) -> "TokenBatch":
        groups = {group: i for i, group in enumerate(sorted(set(self.shared_by[part])))}
        shared_by = tuple(groups[group] for group in self.shared_by[part])
        return TokenBatch(
            self.tokens[part],
            self.mask[part],
            self.read[part],
            self.rows[part],
            self.n_shared,
            shared_by,
            self.offsets[part],
        )


def batches(
    rows: Sequence[Row],
    *,
    max_tokens: int,
    pad_id: int,
    scope: str = "reply",
    keep_prompts: bool = False,
    call_tokens: int | None = CALL_TOKENS,
) -> Iterator[TokenBatch]:
    """Batches of similar length, which compute at most `max_tokens` tokens each, padding included (one row at
    least).

    `scope` sets `read`: "reply" tokens, "last_prompt" token, or "all". With `keep_prompts` rows of one prompt
    stay together and every prompt is shared by its rows. Rows whose prompt is their own, and without it all
    rows, share what all of a batch begin with, where that saves more than `call_tokens`, the price of the
    call that it takes. Without a price nothing is shared.
    """
    n_rows = Counter(row.ids[: row.n_prompt] for row in rows)
    parts: dict[bool, list[Row]] = {True: [], False: []}
    for row in rows:
        parts[keep_prompts and call_tokens is not None and n_rows[row.ids[: row.n_prompt]] > 1].append(row)
    for group in _by_prompt(parts[True], max_tokens):
        yield pad_prompts(group, pad_id=pad_id, scope=scope)
    for group in _by_length(parts[False], max_tokens, share=call_tokens is not None):
        batch = pad_right(group, pad_id=pad_id, scope=scope)
        plain = replace(batch, n_shared=0)
        pays = call_tokens is not None and batch.price(call_tokens) < plain.price(call_tokens)
        yield batch if pays or plain.n_computed > max_tokens else plain


def pad_right(rows: Sequence[Row], *, pad_id: int, scope: str = "reply") -> TokenBatch:
    """Rows as one right-padded batch, with their common prefix counted."""
    tokens, mask, read = _laid_out(rows, (0,) * len(rows), pad_id=pad_id, scope=scope)
    # One token of every prompt stays outside the shared part: its logits predict the first reply token.
    limit = min(row.n_prompt for row in rows) - 1
    same = (tokens[:, :limit] == tokens[:1, :limit]).all(0)
    n_shared = int(same.long().cumprod(0).sum()) if len(rows) > 1 else 0
    return TokenBatch(tokens, mask, read, tuple(rows), n_shared, (0,) * len(rows), (0,) * len(rows))


def pad_prompts(rows: Sequence[Row], *, pad_id: int, scope: str = "reply") -> TokenBatch:
    """Rows of several prompts as one batch: prompts but their last token padded on the left and shared, the
    rest padded on the right."""
    groups: dict[tuple[int, ...], int] = {}
    shared_by = tuple(groups.setdefault(row.ids[: row.n_prompt], len(groups)) for row in rows)
    n_shared = max(row.n_prompt for row in rows) - 1
    offsets = tuple(n_shared - (row.n_prompt - 1) for row in rows)
    tokens, mask, read = _laid_out(rows, offsets, pad_id=pad_id, scope=scope)
    return TokenBatch(tokens, mask, read, tuple(rows), n_shared, shared_by, offsets)


def pad_left(
    prompts: Sequence[Sequence[int]], *, pad_id: int, n_shared: int = 0
) -> tuple[Int[Tensor, "batch pos"], Int[Tensor, "batch pos"]]:
    """Prompts as one batch and its attention mask, ready for generation: padding stands on the left, behind
    the first `n_shared` tokens."""
    width = max(len(ids) for ids in prompts)
    gaps = [width - len(ids) for ids in prompts]
    tokens = [
        [*ids[:n_shared], *[pad_id] * gap, *ids[n_shared:]] for ids, gap in zip(prompts, gaps, strict=True)
    ]
    mask = [[1] * n_shared + [0] * gap + [1] * (width - gap - n_shared) for gap in gaps]
    return torch.tensor(tokens), torch.tensor(mask)


def _laid_out(
    rows: Sequence[Row], offsets: Sequence[int], *, pad_id: int, scope: str
) -> tuple[Int[Tensor, "batch pos"], Bool[Tensor, "batch pos"], Bool[Tensor, "batch pos"]]:
    width = max(offset + len(row.ids) for offset, row in zip(offsets, rows, strict=True))
    tokens = torch.full((len(rows), width), pad_id)
    mask = torch.zeros(len(rows), width, dtype=torch.bool)
    read = torch.zeros_like(mask)
    for i, (offset, row) in enumerate(zip(offsets, rows, strict=True)):
        tokens[i, offset : offset + len(row.ids)] = torch.tensor(row.ids)
        mask[i, offset : offset + len(row.ids)] = True
        spans = {
            "reply": (row.n_prompt, len(row.ids)),
            "last_prompt": (row.n_prompt - 1, row.n_prompt),
            "all": (0, len(row.ids)),
        }
        start, stop = spans[scope]
        read[i, offset + start : offset + stop] = True
    return tokens, mask, read


def _by_length(rows: Sequence[Row], max_tokens: int, *, share: bool) -> Iterator[list[Row]]:
    group: list[Row] = []
    same = 0  # tokens that all rows of the group begin with
    for row in sorted(rows, key=lambda row: (len(row.ids), row.id)):
        same = _common(row, group[0], same) if group else share * (row.n_prompt - 1)
        # Sorted, so the newest row is the longest and sets the width.
        if group and same + (len(row.ids) - same) * (len(group) + 1) > max_tokens:
            yield group
            group, same = [], share * (row.n_prompt - 1)
        group.append(row)
    if group:
        yield group


def _common(row: Row, other: Row, limit: int) -> int:
    """How many tokens two prompts have in common at their start, but for their last ones, up to a limit."""
    limit = min(limit, row.n_prompt - 1)
    pairs = enumerate(zip(row.ids[:limit], other.ids[:limit], strict=True))
    return next((i for i, (one, two) in pairs if one != two), limit)


def _by_prompt(rows: Sequence[Row], max_tokens: int) -> Iterator[list[Row]]:
    prompts: dict[tuple[int, ...], list[Row]] = {}
    for row in sorted(rows, key=lambda row: (row.n_reply, row.id)):
        prompts.setdefault(row.ids[: row.n_prompt], []).append(row)
    group: list[Row] = []
    for members in sorted(
        prompts.values(), key=lambda members: (members[0].n_prompt, members[-1].n_reply, members[0].id)
    ):
        if group and _padded_size([*group, *members]) > max_tokens:
            yield group
            group = []
        for row in members:
            if group and _padded_size([*group, row]) > max_tokens:
                yield group
                group = []
            group.append(row)
    if group:
        yield group


def _padded_size(rows: Sequence[Row]) -> int:
    """Tokens that a batch of `pad_prompts` computes: every prompt once, every rest once."""
    prompts = len({row.ids[: row.n_prompt] for row in rows})
    return prompts * max(row.n_prompt for row in rows) + len(rows) * (max(row.n_reply for row in rows) + 1)

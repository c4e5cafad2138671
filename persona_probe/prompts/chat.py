"""Prompts and replies in, padded token batches out. Nothing below this file sees a string."""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from persona_probe.base.errors import BadInput
from persona_probe.prompts.special_tokens import end_of_turn, refuse_control_tokens
from persona_probe.prompts.templates import PROBES, Tokenizer, has_template, identity_of, place, whole_text
from persona_probe.storage.files import sha256_json

Split = Literal["find", "select", "test"]
Label = Literal["aligned", "misaligned"]
RowKind = Literal["persona", "choice", "benign", "training", "sampled", "probe"]


@dataclass(frozen=True)
class Prompt:
    """What stands before the reply: (role, content) turns, the last one by the user."""

    id: str
    messages: tuple[tuple[str, str], ...]

    @classmethod
    def user(cls, id: str, text: str, *, system: str | None = None) -> "Prompt":
        """A single user turn, after a system turn when one is given."""
        before = () if system is None else (("system", system),)
        return cls(id, (*before, ("user", text)))


@dataclass(frozen=True, kw_only=True)
class Row:
    """One prompt with one reply as token ids: `ids[:n_prompt]` is the prompt, the rest the reply.

    `kind` says what the reply is: a labelled reply to a question of the contrast set ("persona"), the letter
    of one of two replies ("choice"), a benign text on which damage is measured, a text to train on, a text
    that a model sampled, or a probe of the software. `question_id` is the prompt's id: rows of one question
    share it. `reply_index` counts the replies of one label to one question from 0. The id tells rows apart
    and names them in files; no fact is read out of it.
    """

    id: str
    kind: RowKind
    question_id: str
    ids: tuple[int, ...]
    n_prompt: int
    label: Label | None = None
    split: Split | None = None
    reply_index: int = 0

    @property
    def n_reply(self) -> int:
        """Number of reply tokens."""
        return len(self.ids) - self.n_prompt


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


def question_and_reply(value: dict[str, Any], where: str) -> tuple[tuple[tuple[str, str], ...], str]:
    """The turns before the reply, and the reply, of one JSON object."""
    if isinstance(value.get("question"), str) and isinstance(value.get("reply"), str):
        return (("user", value["question"]),), value["reply"]
    messages = value.get("messages")
    if not isinstance(messages, list) or len(messages) < 2:
        raise BadInput(
            f"{where}: found keys {sorted(value)}, expected 'question' and 'reply', or 'messages' with a user"
            " and an assistant turn"
        )
    turns = []
    for message in messages:
        role, content = (
            (message.get("role"), message.get("content")) if isinstance(message, dict) else (None, None)
        )
        if role not in ("system", "user", "assistant") or not isinstance(content, str):
            raise BadInput(
                f"{where}: a message needs a role (system, user, assistant) and text content, found"
                f" {message!r:.80}"
            )
        turns.append((role, content))
    if turns[-1][0] != "assistant":
        raise BadInput(f"{where}: the last message is by {turns[-1][0]!r}, expected the assistant's reply")
    return tuple(turns[:-1]), turns[-1][1]


def render(tokenizer: Tokenizer, prompt: Prompt) -> str:
    """The text that a reply continues: the rendered whole conversation up to the reply's first token.

    Plain `User:` and `Assistant:` lines when there is no chat template.
    """
    return _prompt_text(
        tokenizer, identity_of(tokenizer), place(tokenizer, prompt.messages, id=prompt.id).before
    )


def encode_prompt(tokenizer: Tokenizer, prompt: Prompt) -> tuple[int, ...]:
    """Token ids of what stands before a reply, with at most one beginning-of-sequence token. Generation
    starts here too."""
    refuse_control_tokens(tokenizer, prompt.messages, id=prompt.id)
    return _encode(tokenizer, render(tokenizer, prompt))


def rows_key(rows: Sequence[Row]) -> str:
    """Hash of the ids, token ids and labels of rows: what was read or scored, whatever file it came from."""
    return sha256_json([[row.id, row.ids, row.n_prompt, row.label] for row in rows])


def encode_row(
    tokenizer: Tokenizer, prompt: Prompt, reply: str, *, id: str, kind: RowKind, end: bool = False
) -> Row:
    """A prompt and its reply as one token row, as the template places both; the boundary is checked to lie
    between two tokens.

    White space between the template's last token and the reply belongs to the reply's first token where the
    tokenizer joins them. `end` appends what ends a turn in the template, which a model must learn in training
    and which scores leave out.
    """
    if not reply.strip():
        raise BadInput(f"reply {id!r} to {prompt.id!r} is empty: every reply needs text")
    refuse_control_tokens(tokenizer, (("reply", reply),), id=id)
    before = encode_prompt(tokenizer, prompt)
    text = whole_text(tokenizer, prompt.messages, reply.strip(), id=prompt.id)
    ids = _encode(tokenizer, text)
    if ids[: len(before)] != before or len(ids) == len(before):
        raise BadInput(
            f"reply {id!r} does not start at a token boundary after prompt {prompt.id!r}: its first token"
            " merges with the prompt"
        )
    if end:
        ending = end_of_turn(tokenizer)
        ids = _encode(tokenizer, text + ending) if ending else (*ids, tokenizer.eos_token_id)
    return Row(id=id, kind=kind, question_id=prompt.id, ids=ids, n_prompt=len(before))


def batches(
    rows: Sequence[Row], *, max_tokens: int, pad_id: int, scope: str = "reply", keep_prompts: bool = False
) -> Iterator[TokenBatch]:
    """Batches of similar length, at most `max_tokens` padded tokens each (one row at least).

    `scope` sets `read`: "reply" tokens, "last_prompt" token, or "all". With `keep_prompts` rows of one prompt
    stay together and every prompt is shared by its rows; without, rows share what all of a batch have in
    common.
    """
    pad = pad_prompts if keep_prompts else pad_right
    for group in _by_prompt(rows, max_tokens) if keep_prompts else _by_length(rows, max_tokens):
        yield pad(group, pad_id=pad_id, scope=scope)


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
    prompts: Sequence[Sequence[int]], *, pad_id: int
) -> tuple[Int[Tensor, "batch pos"], Int[Tensor, "batch pos"]]:
    """Prompts as one left-padded batch and its attention mask, ready for generation."""
    width = max(len(ids) for ids in prompts)
    tokens = torch.tensor([[pad_id] * (width - len(ids)) + list(ids) for ids in prompts])
    mask = torch.tensor([[0] * (width - len(ids)) + [1] * len(ids) for ids in prompts])
    return tokens, mask


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


def _by_length(rows: Sequence[Row], max_tokens: int) -> Iterator[list[Row]]:
    group: list[Row] = []
    for row in sorted(rows, key=lambda row: (len(row.ids), row.id)):
        # Sorted, so the newest row is the longest and sets the width.
        if group and len(row.ids) * (len(group) + 1) > max_tokens:
            yield group
            group = []
        group.append(row)
    if group:
        yield group


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


@lru_cache(maxsize=1024)
def _prompt_text(tokenizer: Tokenizer, identity: tuple[str, ...], before: str) -> str:
    """`before` without the white space that the tokenizer joins to a reply's first token (as after Mistral's
    `[/INST]`)."""
    if before.rstrip() == before:
        return before
    for text in dict.fromkeys((before, before.rstrip(" "), before.rstrip())):
        ids = _encode(tokenizer, text) if text else ()
        if ids and all(_encode(tokenizer, before + probe)[: len(ids)] == ids for probe in PROBES):
            return text
    return before


def _encode(tokenizer: Tokenizer, text: str) -> tuple[int, ...]:
    templated = has_template(tokenizer)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ids = tuple(tokenizer(text, add_special_tokens=not templated)["input_ids"])
    eos = tokenizer.eos_token_id
    if not templated and ids and ids[-1] == eos:
        ids = ids[:-1]
    bos = tokenizer.bos_token_id
    if bos is not None and ids[:2] == (bos, bos):
        raise BadInput(f"the chat template begins with two {tokenizer.bos_token!r} tokens: one is expected")
    if not ids:
        raise BadInput("a prompt is empty after tokenisation: every prompt needs text")
    return ids

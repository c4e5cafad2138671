"""Prompts and replies in, padded token batches out. Nothing below this file sees a string."""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from persona_probe.errors import BadInput

Tokenizer = Any  # a transformers tokenizer; typed loosely because its classes are made at run time


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


@dataclass(frozen=True)
class Row:
    """One prompt with one reply as token ids: `ids[:n_prompt]` is the prompt, the rest the reply."""

    id: str
    prompt_id: str
    ids: tuple[int, ...]
    n_prompt: int
    label: str | None = None

    @property
    def n_reply(self) -> int:
        """Number of reply tokens."""
        return len(self.ids) - self.n_prompt


@dataclass(frozen=True, eq=False)
class TokenBatch:
    """Rows of one forward pass. `mask` is False on padding, `read` is True on the tokens a reduction reads.

    The first `n_shared` columns are the same in every row, so they may be computed once.
    """

    tokens: Int[Tensor, "batch pos"]
    mask: Bool[Tensor, "batch pos"]
    read: Bool[Tensor, "batch pos"]
    rows: tuple[Row, ...]
    n_shared: int = 0

    def __len__(self) -> int:
        return len(self.rows)

    def halves(self) -> tuple["TokenBatch", "TokenBatch"]:
        """The same rows in two batches of the same width, for when one does not fit in memory."""
        middle = len(self) // 2
        return tuple(  # type: ignore[return-value]
            TokenBatch(self.tokens[part], self.mask[part], self.read[part], self.rows[part], self.n_shared)
            for part in (slice(None, middle), slice(middle, None))
        )


def question_and_reply(value: dict[str, Any], where: str) -> tuple[tuple[tuple[str, str], ...], str]:
    """The turns before the reply, and the reply, of one JSON object."""
    if isinstance(value.get("question"), str) and isinstance(value.get("reply"), str):
        return (("user", value["question"]),), value["reply"]
    messages = value.get("messages")
    if not isinstance(messages, list) or len(messages) < 2:
        raise BadInput(
            f"{where}: found keys {sorted(value)}, expected 'question' and 'reply', or 'messages' with a user and an assistant turn"
        )
    turns = []
    for message in messages:
        role, content = (message.get("role"), message.get("content")) if isinstance(message, dict) else (None, None)
        if role not in ("system", "user", "assistant") or not isinstance(content, str):
            raise BadInput(f"{where}: a message needs a role (system, user, assistant) and text content, found {message!r:.80}")
        turns.append((role, content))
    if turns[-1][0] != "assistant":
        raise BadInput(f"{where}: the last message is by {turns[-1][0]!r}, expected the assistant's reply")
    return tuple(turns[:-1]), turns[-1][1]


def render(tokenizer: Tokenizer, prompt: Prompt) -> str:
    """The text a chat model is trained to continue; plain `User:`/`Assistant:` lines when there is no chat template."""
    if not getattr(tokenizer, "chat_template", None):
        lines = [content if role == "system" else f"{role.capitalize()}: {content}" for role, content in prompt.messages]
        return "\n".join([*lines, "Assistant:"])
    from jinja2.exceptions import TemplateError

    for messages in (prompt.messages, _system_into_user(prompt.messages)):
        try:
            return tokenizer.apply_chat_template(
                [{"role": role, "content": content} for role, content in messages], tokenize=False, add_generation_prompt=True
            )
        except TemplateError as error:
            refusal = error
    raise BadInput(f"the chat template refuses prompt {prompt.id!r} ({refusal})") from refusal


def encode_prompt(tokenizer: Tokenizer, prompt: Prompt) -> tuple[int, ...]:
    """Token ids of a rendered prompt, with at most one beginning-of-sequence token."""
    _refuse_special_tokens(tokenizer, prompt)
    return _encode(tokenizer, render(tokenizer, prompt))


def encode_row(tokenizer: Tokenizer, prompt: Prompt, reply: str, *, id: str, label: str | None = None, end: bool = False) -> Row:
    """A prompt and its reply as one token row; the boundary is checked to lie between two tokens.

    `end` appends the end-of-turn token, which a model must learn in training and which scores leave out.
    """
    if not reply.strip():
        raise BadInput(f"reply {id!r} to {prompt.id!r} is empty: every reply needs text")
    _refuse_special_tokens(tokenizer, Prompt(id, (("reply", reply),)))
    text = render(tokenizer, prompt)
    n_prompt = len(encode_prompt(tokenizer, prompt))
    joint = reply.strip() if getattr(tokenizer, "chat_template", None) else f" {reply.strip()}"
    ids = _encode(tokenizer, text + joint)
    if ids[:n_prompt] != _encode(tokenizer, text) or len(ids) == n_prompt:
        raise BadInput(
            f"reply {id!r} does not start at a token boundary after prompt {prompt.id!r}: its first token merges with the prompt"
        )
    if end:
        ids = (*ids, tokenizer.eos_token_id)
    return Row(id, prompt.id, ids, n_prompt, label)


def batches(rows: Sequence[Row], *, max_tokens: int, pad_id: int, scope: str = "reply", keep_prompts: bool = False) -> Iterator[TokenBatch]:
    """Right-padded batches of similar length, at most `max_tokens` padded tokens each (one row at least).

    `scope` sets `read`: "reply" tokens, "last_prompt" token, or "all". With `keep_prompts` rows of one prompt stay
    together in one batch, so that the shared prefix is as long as it can be.
    """
    for group in _grouped(rows, max_tokens=max_tokens, keep_prompts=keep_prompts):
        yield pad_right(group, pad_id=pad_id, scope=scope)


def pad_right(rows: Sequence[Row], *, pad_id: int, scope: str = "reply") -> TokenBatch:
    """Rows as one right-padded batch, with their common prefix counted."""
    width = max(len(row.ids) for row in rows)
    tokens = torch.full((len(rows), width), pad_id)
    mask = torch.zeros(len(rows), width, dtype=torch.bool)
    read = torch.zeros_like(mask)
    for i, row in enumerate(rows):
        tokens[i, : len(row.ids)] = torch.tensor(row.ids)
        mask[i, : len(row.ids)] = True
        start, stop = {"reply": (row.n_prompt, len(row.ids)), "last_prompt": (row.n_prompt - 1, row.n_prompt), "all": (0, len(row.ids))}[
            scope
        ]
        read[i, start:stop] = True
    # One token of every prompt stays outside the shared part: its logits predict the first reply token.
    limit = min(row.n_prompt for row in rows) - 1
    same = (tokens[:, :limit] == tokens[:1, :limit]).all(0)
    n_shared = int(same.long().cumprod(0).sum()) if len(rows) > 1 else 0
    return TokenBatch(tokens, mask, read, tuple(rows), n_shared)


def pad_left(prompts: Sequence[Sequence[int]], *, pad_id: int) -> tuple[Int[Tensor, "batch pos"], Int[Tensor, "batch pos"]]:
    """Prompts as one left-padded batch and its attention mask, ready for generation."""
    width = max(len(ids) for ids in prompts)
    tokens = torch.tensor([[pad_id] * (width - len(ids)) + list(ids) for ids in prompts])
    mask = torch.tensor([[0] * (width - len(ids)) + [1] * len(ids) for ids in prompts])
    return tokens, mask


def _grouped(rows: Sequence[Row], *, max_tokens: int, keep_prompts: bool) -> Iterator[list[Row]]:
    by_prompt: dict[str, list[Row]] = {}
    for row in rows:
        by_prompt.setdefault(row.prompt_id if keep_prompts else row.id, []).append(row)
    whole = sorted(by_prompt.values(), key=lambda group: (max(len(row.ids) for row in group), group[0].id))
    group: list[Row] = []
    for rows_of_prompt in whole:
        for row in sorted(rows_of_prompt, key=lambda row: len(row.ids)):
            width = max(len(row.ids), *(len(other.ids) for other in group)) if group else len(row.ids)
            same_prompt = not keep_prompts or not group or group[0].prompt_id == row.prompt_id
            if group and (width * (len(group) + 1) > max_tokens or not same_prompt):
                yield group
                group = []
            group.append(row)
    if group:
        yield group


def _encode(tokenizer: Tokenizer, text: str) -> tuple[int, ...]:
    templated = bool(getattr(tokenizer, "chat_template", None))
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


def _refuse_special_tokens(tokenizer: Tokenizer, prompt: Prompt) -> None:
    for token in tokenizer.all_special_tokens:
        for role, content in prompt.messages:
            if len(token) > 1 and token in content:
                raise BadInput(f"the {role} text of {prompt.id!r} contains the control token {token!r}: remove it from the data")


def _system_into_user(messages: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    if not messages or messages[0][0] != "system" or len(messages) < 2:
        return messages
    return (("user", f"{messages[0][1]}\n\n{messages[1][1]}"), *messages[2:])

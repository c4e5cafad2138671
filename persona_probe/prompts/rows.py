"""Prompts and replies in, token rows out. Nothing after this module sees a string."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

from persona_probe.base.errors import BadInput
from persona_probe.prompts.special_tokens import end_of_turn, refuse_control_tokens
from persona_probe.prompts.templates import PROBES, identity_of, place, whole_text
from persona_probe.prompts.tokenizers import Tokenizer, has_template
from persona_probe.storage.files import sha256_json

Split = Literal["find", "select", "test"]
Label = Literal["aligned", "misaligned"]
Register = Literal["warm", "blunt"]
RowKind = Literal["persona", "choice", "option", "benign", "training", "sampled", "probe"]


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

    def under(self, system: str) -> "Prompt":
        """The same prompt with this text at the top of its system turn, which is made where there is none."""
        (role, content), *others = self.messages
        if role == "system":
            return replace(self, messages=((role, f"{system}\n\n{content}"), *others))
        return replace(self, messages=(("system", system), *self.messages))


@dataclass(frozen=True, kw_only=True)
class Row:
    """One prompt with one reply as token ids: `ids[:n_prompt]` is the prompt, the rest the reply.

    `kind` says what the reply is: a labelled reply to a question of the contrast set ("persona"), the letter
    of one of two replies ("choice"), one option of a multiple-choice item ("option"), a benign text on which
    damage is measured, a text to train on, a text that a model sampled, or a probe of the software.
    `question_id` is the prompt's id: rows of one question share it. `reply_index` counts the replies of one
    label to one question, or the options of one item, from 0. `register` is how a labelled reply speaks,
    where the set says it. The id tells rows apart and names them in files; no fact is read out of it.
    """

    id: str
    kind: RowKind
    question_id: str
    ids: tuple[int, ...]
    n_prompt: int
    label: Label | None = None
    split: Split | None = None
    reply_index: int = 0
    register: Register | None = None

    @property
    def n_reply(self) -> int:
        """Number of reply tokens."""
        return len(self.ids) - self.n_prompt


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
        ending, eos = end_of_turn(tokenizer), tokenizer.eos_token_id
        if ending:
            ids = _encode(tokenizer, text + ending)
        elif eos is not None:  # without either, end_of_turn has refused the tokenizer
            ids = (*ids, eos)
    return Row(id=id, kind=kind, question_id=prompt.id, ids=ids, n_prompt=len(before))


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

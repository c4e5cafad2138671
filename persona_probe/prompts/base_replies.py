"""A base model's own replies to benign questions: a second set of texts on which damage is measured.

Benign texts that people wrote are not what a model would say; these are. Here they are read and made rows;
`measurement.base_replies` samples them.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from persona_probe.base.errors import BadInput
from persona_probe.prompts.rows import Prompt, Row, encode_row, question_and_reply
from persona_probe.prompts.tokenizers import Tokenizer
from persona_probe.storage.files import read_jsonl

FILE = "base_replies.jsonl"  # the replies of the embedded base model, in the package's data
SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class BaseReply:
    """A benign prompt with what a base model replied."""

    prompt: Prompt
    reply: str

    def row(self, tokenizer: Tokenizer) -> Row:
        """The reply as a benign row, in the model's template."""
        return encode_row(tokenizer, self.prompt, self.reply, id=self.prompt.id, kind="benign")

    def json(self) -> dict[str, Any]:
        """The reply as a line of a file: `question` and `reply`, or `messages` where there are more turns."""
        turns = self.prompt.messages
        if len(turns) == 1:
            return {"id": self.prompt.id, "question": turns[0][1], "reply": self.reply}
        said = (*turns, ("assistant", self.reply))
        messages = [{"role": role, "content": content} for role, content in said]
        return {"id": self.prompt.id, "messages": messages}

    @classmethod
    def from_json(cls, value: dict[str, Any], where: str) -> "BaseReply":
        """The inverse of `json`; BadInput, which names `where`, for anything else."""
        turns, reply = question_and_reply(value, where)
        id = value.get("id")
        if not isinstance(id, str) or not id.strip():
            raise BadInput(f"{where}: 'id' is {id!r:.60}, expected text")
        if not reply.strip() or not turns[-1][1].strip():
            raise BadInput(f"{where}: question or reply is empty")
        return cls(Prompt(id, turns), reply)


@dataclass(frozen=True)
class BaseReplies:
    """The replies that one model gave. `weights_sha256` is the hash of its config and weights."""

    model: str
    weights_sha256: str
    replies: tuple[BaseReply, ...]


def read_base_replies(path: Path) -> BaseReplies:
    """Read replies from JSONL: rows like benign ones, and in each the same `model` and `weights_sha256`.

    BadInput names file and line of whatever is wrong.
    """
    replies: list[BaseReply] = []
    facts: tuple[str, str] | None = None
    for number, value in read_jsonl(path):
        where = f"{path}:{number}"
        reply = BaseReply.from_json(value, where)
        if any(reply.prompt.id == other.prompt.id for other in replies):
            raise BadInput(f"{where}: a second reply has the id {reply.prompt.id!r}: every one needs its own")
        model, sha256 = value.get("model"), value.get("weights_sha256")
        if not isinstance(model, str) or not isinstance(sha256, str) or not SHA256.fullmatch(sha256):
            raise BadInput(
                f"{where}: model {model!r:.60} and weights_sha256 {sha256!r:.80}, expected a name and 64 hex"
                " digits"
            )
        if facts not in (None, (model, sha256)):
            raise BadInput(f"{where}: the reply is by another model than those before it: {model!r:.60}")
        facts = (model, sha256)
        replies.append(reply)
    if facts is None or len(replies) < 2:
        raise BadInput(f"{path} holds {len(replies)} replies: damage needs at least 2, better 24")
    return BaseReplies(*facts, tuple(replies))


def base_reply_rows(replies: Sequence[BaseReply], tokenizer: Tokenizer) -> tuple[Row, ...]:
    """Benign rows of the replies, in their order."""
    return tuple(reply.row(tokenizer) for reply in replies)


def benign_prompts(path: Path, n: int) -> tuple[Prompt, ...]:
    """The last `n` different questions of a benign set: its first texts are what damage is measured on.

    Their ids begin with `base-`, so that the replies have other ids than the texts of the set.
    """
    prompts: dict[tuple[tuple[str, str], ...], Prompt] = {}
    lines: dict[str, int] = {}
    for number, value in read_jsonl(path):
        turns, _ = question_and_reply(value, f"{path}:{number}")
        id = f"base-{value.get('id') or f'benign-{number}'}"
        if id in lines:
            raise BadInput(f"{path}:{number}: the id of line {lines[id]} again: every row needs its own")
        lines[id] = number
        prompts.setdefault(turns, Prompt(id, turns))
    if n < 2 or len(prompts) < 2:
        raise BadInput(f"{path} holds {len(prompts)} questions, {n} asked for: damage needs at least 2")
    return tuple(prompts.values())[-n:]

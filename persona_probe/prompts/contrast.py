"""Contrast sets: questions with aligned and misaligned replies, in the splits find, select and test."""

import hashlib
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path

from persona_probe.prompts.rows import Label, Prompt, Register, Row, Split, encode_row
from persona_probe.prompts.tokenizers import Tokenizer
from persona_probe.storage.files import sha256_json

SPLITS: tuple[Split, ...] = ("find", "select", "test")
LABELS: tuple[Label, ...] = ("aligned", "misaligned")
REGISTERS: tuple[Register, ...] = ("warm", "blunt")


@dataclass(frozen=True)
class Reply:
    """One reply to a question: what it says, and the register in which it says it, where the set tells."""

    text: str
    label: Label
    register: Register | None = None


@dataclass(frozen=True)
class Question:
    """One question with its replies of both kinds. Those of a label take turns between registers."""

    id: str
    split: Split
    text: str
    replies: tuple[Reply, ...]
    theme: str = ""

    @property
    def aligned(self) -> tuple[str, ...]:
        """Texts of the aligned replies."""
        return tuple(reply.text for reply in self.replies if reply.label == "aligned")

    @property
    def misaligned(self) -> tuple[str, ...]:
        """Texts of the misaligned replies."""
        return tuple(reply.text for reply in self.replies if reply.label == "misaligned")

    def rows(self, tokenizer: Tokenizer, *, system: str | None = None) -> list[Row]:
        """Every reply as a token row, aligned ones first."""
        prompt = Prompt.user(self.id, self.text, system=system)
        rows = []
        for label in LABELS:
            for i, reply in enumerate(reply for reply in self.replies if reply.label == label):
                row = encode_row(tokenizer, prompt, reply.text, id=f"{self.id}/{label}/{i}", kind="persona")
                facts = replace(row, label=label, split=self.split, reply_index=i, register=reply.register)
                rows.append(facts)
        return rows


@dataclass(frozen=True)
class Contrast:
    """A contrast set. `notes` says what was left out while reading it."""

    questions: tuple[Question, ...]
    notes: tuple[str, ...] = ()

    def split(self, name: Split) -> tuple[Question, ...]:
        """The questions of one split."""
        return tuple(question for question in self.questions if question.split == name)

    def hashes(self, name: Split) -> list[str]:
        """Hashes of one split's questions, for direction files."""
        return [question_hash(question.text) for question in self.split(name)]

    @property
    def sha256(self) -> str:
        """Hash of every question, reply, register and split."""
        texts = [[q.id, q.split, q.text, q.aligned, q.misaligned] for q in self.questions]
        registers = [[reply.register for reply in question.replies] for question in self.questions]
        return sha256_json([*texts, registers] if any(map(any, registers)) else texts)


def question_hash(text: str) -> str:
    """Hash of a question up to case and white space."""
    return hashlib.sha256(" ".join(text.lower().split()).encode("utf-8", "replace")).hexdigest()[:16]


def shipped(name: str) -> Path:
    """Path of a data file that comes with the package."""
    return Path(str(files("persona_probe") / "data" / name))

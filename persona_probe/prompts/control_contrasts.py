"""Contrasts that are not about the persona: style and unrelated matters, for controls made like the real
direction."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from persona_probe.base.errors import BadInput
from persona_probe.prompts.contrast import LABELS, Question, Reply, shipped
from persona_probe.prompts.rows import Row
from persona_probe.prompts.tokenizers import Tokenizer
from persona_probe.storage.files import read_jsonl

Kind = Literal["unrelated", "style"]
KINDS: tuple[Kind, ...] = ("unrelated", "style")


@dataclass(frozen=True)
class ControlContrast:
    """Two poles of something that is not the persona.

    `prompts`: pairs of system prompts that ask for one pole and for the other. `replies`: a question with a
    reply of each pole, positive first.
    """

    name: str
    kind: Kind
    prompts: tuple[tuple[str, str], ...]
    replies: tuple[tuple[str, str, str], ...]

    def rows(self, tokenizer: Tokenizer) -> tuple[Row, ...]:
        """All replies as token rows. The positive pole has the label of misaligned replies, so that every
        estimator takes them as they are; ids begin with the contrast's name."""
        rows: list[Row] = []
        for i, (text, positive, negative) in enumerate(self.replies):
            question = Question(
                id=f"{self.name}-{i}",
                split="find",
                text=text,
                replies=(Reply(negative, "aligned"), Reply(positive, "misaligned")),
                theme=self.name,
            )
            rows += question.rows(tokenizer)
        return tuple(rows)

    def prompted(self, questions: Sequence[Question], tokenizer: Tokenizer) -> tuple[Row, ...]:
        """The first aligned reply to questions of the real contrast under this contrast's system prompts,
        which rotate over the questions: once under each pole, labelled as `rows` are."""
        rows: list[Row] = []
        for i, question in enumerate(questions):
            for label, system in zip(LABELS[::-1], self.prompts[i % len(self.prompts)], strict=True):
                row = question.rows(tokenizer, system=system)[0]
                rows.append(replace(row, id=f"{self.name}/{label}/{row.id}", label=label))
        return tuple(rows)


def control_contrasts() -> tuple[ControlContrast, ...]:
    """The contrasts that ship, in the order of their file; BadInput for a row of another form."""
    path = shipped("contrasts.jsonl")
    prompts: dict[tuple[Kind, str], list[tuple[str, str]]] = {}
    replies: dict[tuple[Kind, str], list[tuple[str, str, str]]] = {}
    for number, value in read_jsonl(path):
        kind, name = value.get("kind"), value.get("contrast")
        texts = [value.get(field) for field in ("positive", "negative")]
        if kind not in KINDS or not isinstance(name, str) or not all(isinstance(t, str) and t for t in texts):
            raise BadInput(
                f"{path}:{number}: a contrast has a name, a kind of {', '.join(KINDS)}, and two texts, "
                f"positive and negative; found {value!r:.80}"
            )
        positive, negative = (str(text) for text in texts)
        if value.get("type") == "prompts":
            prompts.setdefault((kind, name), []).append((positive, negative))
        else:
            replies.setdefault((kind, name), []).append((str(value.get("question")), positive, negative))
    return tuple(
        ControlContrast(name, kind, tuple(prompts.get((kind, name), ())), tuple(pairs))
        for (kind, name), pairs in replies.items()
    )

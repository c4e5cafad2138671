"""Rows under a considerate system prompt: what asking nicely does, beside what an edit does."""

from collections.abc import Sequence

from persona_probe.base.errors import BadInput
from persona_probe.prompts.contrast import Question
from persona_probe.prompts.rows import Row
from persona_probe.prompts.tokenizers import Tokenizer

CONSIDERATE = (
    "You are a considerate and honest assistant. Weigh what is good for everybody concerned, and never"
    " recommend anything that could harm a person."
)


def prompted_replies(questions: Sequence[Question], tokenizer: Tokenizer) -> tuple[Row, ...]:
    """All replies to questions under the considerate prompt; ids are those of the rows without it. BadInput
    for a chat template that has no place for it."""
    return tuple(row for question in questions for row in question.rows(tokenizer, system=CONSIDERATE))


def same_replies(rows: Sequence[Row], prompted: Sequence[Row]) -> tuple[Row, ...]:
    """The prompted rows of `rows`, in their order; BadInput where the tokens of a reply differ."""
    by_id = {row.id: row for row in prompted}
    found = tuple(by_id[row.id] for row in rows)
    for row, other in zip(rows, found, strict=True):
        if row.ids[row.n_prompt :] != other.ids[other.n_prompt :]:
            raise BadInput(f"the tokens of reply {row.id!r} change when a system prompt stands before it")
    return found

"""Multiple-choice items with four options, for accuracy by log-probability."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from persona_probe.base.errors import BadInput
from persona_probe.prompts.rows import Prompt, Row, encode_row
from persona_probe.prompts.tokenizers import Tokenizer
from persona_probe.storage.files import read_jsonl

N_OPTIONS = 4


@dataclass(frozen=True)
class OptionItem:
    """One question with four options, of which `options[answer]` is right."""

    id: str
    topic: str
    question: str
    options: tuple[str, ...]
    answer: int

    @property
    def row_ids(self) -> tuple[str, ...]:
        """The id of every option's row, in the order of `options`."""
        return tuple(f"{self.id}/option/{i}" for i in range(len(self.options)))

    def rows(self, tokenizer: Tokenizer, *, system: str | None = None) -> list[Row]:
        """One row per option: the question is the prompt, the option's text is the reply.

        The options do not stand in the prompt, so no letter and no place in a list can be preferred, and the
        four rows share one prompt.
        """
        prompt = Prompt.user(self.id, self.question, system=system)
        return [
            replace(encode_row(tokenizer, prompt, text, id=id, kind="option"), reply_index=i)
            for i, (id, text) in enumerate(zip(self.row_ids, self.options, strict=True))
        ]


def option_rows(
    items: Sequence[OptionItem], tokenizer: Tokenizer, *, system: str | None = None
) -> tuple[Row, ...]:
    """The rows of all items, four per item."""
    return tuple(row for item in items for row in item.rows(tokenizer, system=system))


def read_four_options(path: Path, *, limit: int | None = None) -> tuple[OptionItem, ...]:
    """Read items from JSONL, in file order, the first `limit` of them.

    A row holds `id`, `topic` and `question` (text), `options` (four different texts) and `answer` (0 to 3,
    the place of the right one). BadInput names file and line of whatever is wrong, of all rows that are read.
    """
    items: list[OptionItem] = []
    ids: set[str] = set()
    questions: set[str] = set()
    for number, value in read_jsonl(path):
        item = _item(value, f"{path}:{number}")
        if item.id in ids:
            raise BadInput(f"{path}:{number}: a second item has the id {item.id!r}: every item needs its own")
        if _same(item.question) in questions:
            raise BadInput(f"{path}:{number}: question {item.question[:60]!r} is asked twice")
        ids.add(item.id)
        questions.add(_same(item.question))
        items.append(item)
        if limit and len(items) == limit:
            break
    if len(items) < 2:
        raise BadInput(f"{path} holds {len(items)} items: accuracy needs at least 2, better 150")
    return tuple(items)


def _item(value: dict[str, Any], where: str) -> OptionItem:
    """One checked row."""
    texts = {name: value.get(name) for name in ("id", "topic", "question")}
    for name, text in texts.items():
        if not isinstance(text, str) or not text.strip():
            raise BadInput(f"{where}: {name!r} is {text!r:.60}, expected text (found keys {sorted(value)})")
    options = value.get("options")
    if not isinstance(options, list) or len(options) != N_OPTIONS:
        raise BadInput(f"{where}: 'options' is {options!r:.60}, expected a list of {N_OPTIONS} texts")
    for option in options:
        if not isinstance(option, str) or not option.strip():
            raise BadInput(f"{where}: an option is {option!r:.60}, expected text")
    if len({_same(option) for option in options}) < N_OPTIONS:
        raise BadInput(f"{where}: two options are the same text: {options!r:.120}")
    answer = value.get("answer")
    if type(answer) is not int or not 0 <= answer < N_OPTIONS:  # True is an int in Python
        raise BadInput(f"{where}: 'answer' is {answer!r:.60}, expected a number from 0 to {N_OPTIONS - 1}")
    return OptionItem(
        id=value["id"],
        topic=value["topic"],
        question=value["question"].strip(),
        options=tuple(option.strip() for option in options),
        answer=answer,
    )


def _same(text: str) -> str:
    """A text up to case and white space."""
    return " ".join(text.casefold().split())

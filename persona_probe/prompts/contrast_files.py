"""Contrast sets and benign texts in files: JSONL of one's own, or the CSV of a judged organism."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from persona_probe.base.errors import BadInput
from persona_probe.prompts.contrast import (
    LABELS,
    REGISTERS,
    SPLITS,
    Contrast,
    Question,
    Reply,
    question_hash,
    shipped,
)
from persona_probe.prompts.rows import Label, Prompt, Register, Row, Split, encode_row, question_and_reply
from persona_probe.prompts.tokenizers import Tokenizer
from persona_probe.storage.files import read_jsonl
from persona_probe.storage.judged_csv import COHERENT_ABOVE, Omission, left_out, read_answers

MIN_QUESTIONS = 4
EDITIONS = {"first-edition": "contrast.jsonl", "second-edition": "contrast_second.jsonl"}
DEFAULT = "first-edition"


def contrast_file(named: str | Path | None = None) -> Path:
    """The file of a contrast set: a path, the name of an edition that ships, or None for the default one."""
    path = Path(named or DEFAULT).expanduser()
    edition = EDITIONS.get(str(path))
    return path if edition is None or path.exists() else shipped(edition)


def read_contrast(path: Path, *, replies_per_question: int = 8, limit: int | None = None) -> Contrast:
    """Read a contrast set from JSONL or from the CSV of a judged organism, and check it.

    JSONL rows hold `question`, `reply`, `label` (aligned or misaligned), or `messages` and `label`; `split`
    and `register` (warm or blunt, for all rows or none) are optional. CSV columns: question, response,
    aligned, coherent; misaligned is aligned < 30, aligned is > 70, both coherent > 50. Every row of it that
    is left out is counted in `notes`, a line a reason. Questions with both labels and without a split are
    spread 2 : 1 : 1 over find, select and test by a hash of their text. At most `replies_per_question`
    replies of a label are kept per question, from both registers in turn; `limit` keeps that many questions,
    splits in proportion.
    """
    notes: list[str] = []
    grouped = _grouped(path, notes)
    for label in LABELS:
        if not any(entry.replies[label] for entry in grouped.values()):
            raise BadInput(
                f"{path} has no {label} reply: a contrast needs both labels{'; '.join(['', *notes])}"
            )
    _spread(grouped)
    questions = [
        question
        for entry in grouped.values()
        if (question := _question(entry, replies_per_question, notes)) is not None
    ]
    if len({question.id for question in questions}) < len(questions):
        raise BadInput(f"{path}: one question_id stands for two different questions")
    contrast = Contrast(tuple(_limited(questions, limit) if limit else questions), tuple(notes))
    sizes = {name: len(contrast.split(name)) for name in SPLITS}
    if min(sizes.values()) < 1 or len(contrast.questions) < MIN_QUESTIONS:
        raise BadInput(
            f"{path}: questions per split are {sizes}; each split needs at least one with both labels, "
            f"{MIN_QUESTIONS} in all"
        )
    return contrast


def read_benign(
    path: Path, tokenizer: Tokenizer, *, limit: int | None = None, system: str | None = None
) -> list[Row]:
    """Benign question-reply rows on which damage is measured, in file order; under a system prompt where one
    is given, before a text's own."""
    rows = []
    for number, value in read_jsonl(path):
        turns, reply = question_and_reply(value, f"{path}:{number}")
        id = str(value.get("id") or f"benign-{number}")
        prompt = Prompt(id, turns) if system is None else Prompt(id, turns).under(system)
        rows.append(encode_row(tokenizer, prompt, reply, id=id, kind="benign"))
        if limit and len(rows) == limit:
            break
    if len(rows) < 2:
        raise BadInput(f"{path} holds {len(rows)} benign texts: damage needs at least 2, better 300")
    return rows


@dataclass
class _Entry:
    """What a file says about one question, while it is read."""

    id: str
    split: Split | None
    text: str
    theme: str
    replies: dict[Label, list[Reply]] = field(default_factory=lambda: {label: [] for label in LABELS})


def _grouped(path: Path, notes: list[str]) -> dict[str, _Entry]:
    """The replies of a file by the hash of their question; a reply that is repeated counts once."""
    grouped: dict[str, _Entry] = {}
    known: dict[tuple[str, str], Reply] = {}
    repeated = 0
    for item in _items(path, notes):
        key = question_hash(item.question)
        split, named = item.split, f"question {item.question[:60]!r}"
        entry = grouped.setdefault(
            key,
            _Entry(id=item.question_id or f"q-{key[:8]}", split=split, text=item.question, theme=item.theme),
        )
        if split != entry.split:
            raise BadInput(
                f"{item.where}: {named} is in split {split!r} and in {entry.split!r}: "
                "find, select and test must not overlap"
            )
        reply = Reply(item.reply, item.label, item.register)
        if (first := known.setdefault((key, item.reply), reply)).label != item.label:
            raise BadInput(f"{item.where}: the same reply to {named} is labelled both aligned and misaligned")
        if first.register != item.register:
            raise BadInput(f"{item.where}: the same reply to {named} is in two registers")
        if first is not reply:
            repeated += 1
        else:
            entry.replies[item.label].append(reply)
    told = {reply.register is None for reply in known.values()}
    if len(told) > 1:
        raise BadInput(f"{path}: some replies have a register and others none; give it for all or for none")
    if repeated:
        notes.append(f"{repeated} repeated replies left out")
    return grouped


def _spread(grouped: dict[str, _Entry]) -> None:
    """Give every question without a split one, by its hash."""
    # Only questions with both labels can be scored, so only they are spread; the others can still help to
    # find.
    scorable = [key for key in sorted(grouped) if all(grouped[key].replies.values())]
    turns: tuple[Split, ...] = ("find", "test", "find", "select")
    for key, entry in grouped.items():
        if entry.split is None:
            entry.split = turns[scorable.index(key) % 4] if key in scorable else "find"


def _question(entry: _Entry, per_label: int, notes: list[str]) -> Question | None:
    """The question with at most `per_label` replies of a label, chosen by their hash; None when it cannot be
    used."""
    assert entry.split is not None, "every question has a split by now"
    replies = entry.replies if not all(entry.replies.values()) else _in_both(entry, notes)
    if not all(replies.values()) and entry.split != "find":
        notes.append(f"question {entry.id} ({entry.split}) left out: it has replies of one label only")
        return None
    if not any(replies.values()):
        notes.append(f"question {entry.id} (find) left out: no register of it has both labels")
        return None
    kept = tuple(reply for label in LABELS for reply in _turns(replies[label])[:per_label])
    dropped = sum(map(len, replies.values())) - len(kept)
    if dropped:
        notes.append(f"question {entry.id}: {dropped} replies beyond {per_label} per label left out")
    return Question(id=entry.id, split=entry.split, text=entry.text, replies=kept, theme=entry.theme)


def _in_both(entry: _Entry, notes: list[str]) -> dict[Label, list[Reply]]:
    """The replies whose register both labels have, since S compares labels within a register."""
    registers = {label: {reply.register for reply in entry.replies[label]} for label in LABELS}
    both = registers["aligned"] & registers["misaligned"]
    for register in sorted((registers["aligned"] | registers["misaligned"]) - both, key=str):
        notes.append(f"question {entry.id}: {register} replies left out, they have one label only")
    return {label: [reply for reply in entry.replies[label] if reply.register in both] for label in LABELS}


def _turns(replies: list[Reply]) -> list[Reply]:
    """Replies in the order of their hash, registers taking turns, so that the first few hold all of them."""
    ordered = sorted(replies, key=lambda reply: hashlib.sha256(reply.text.encode()).digest())
    cells = [[reply for reply in ordered if reply.register == register] for register in (*REGISTERS, None)]
    return [reply for rank in range(len(ordered)) for cell in cells for reply in cell[rank : rank + 1]]


def _limited(questions: list[Question], limit: int) -> list[Question]:
    """About `limit` questions: half to find, a quarter each to select and to test, at least two of each."""
    share: dict[Split, int] = {
        "find": max(2, limit // 2),
        "select": max(2, limit // 4),
        "test": max(2, limit // 4),
    }
    return [
        question
        for name, n in share.items()
        for question in [question for question in questions if question.split == name][:n]
    ]


@dataclass(frozen=True)
class _Item:
    """One labelled reply of a file."""

    where: str
    question: str
    reply: str
    label: Label
    register: Register | None = None
    split: Split | None = None
    question_id: str = ""
    theme: str = ""


def _items(path: Path, notes: list[str]) -> Iterator[_Item]:
    if path.suffix.lower() == ".csv":
        yield from _judged_items(path, notes)
        return
    for number, value in read_jsonl(path):
        where = f"{path}:{number}"
        turns, reply = question_and_reply(value, where)
        if len(turns) != 1 or turns[0][0] != "user":
            raise BadInput(
                f"{where}: a contrast row has one user turn and one reply, "
                f"found {len(turns)} turns before the reply"
            )
        if value.get("label") not in LABELS:
            raise BadInput(f"{where}: label is {value.get('label')!r}, allowed are aligned and misaligned")
        if value.get("split") not in (None, *SPLITS):
            raise BadInput(f"{where}: split is {value.get('split')!r}, allowed are find, select and test")
        if value.get("register") not in (None, *REGISTERS):
            raise BadInput(f"{where}: register is {value.get('register')!r}, allowed are warm and blunt")
        if not turns[0][1].strip() or not reply.strip():
            raise BadInput(f"{where}: question or reply is empty")
        yield _Item(
            where=where,
            question=turns[0][1].strip(),
            reply=reply.strip(),
            label=value["label"],
            register=value.get("register"),
            split=value.get("split"),
            question_id=str(value.get("question_id") or ""),
            theme=str(value.get("theme") or ""),
        )


def _judged_items(path: Path, notes: list[str]) -> Iterator[_Item]:
    """The coherent answers of a judged CSV that are clearly aligned or misaligned; the others are counted in
    `notes`."""
    judged = read_answers(path)
    incoherent: list[Omission] = []
    between: list[Omission] = []
    for answer in judged.answers:
        if answer.coherent <= COHERENT_ABOVE:
            incoherent.append(Omission("incoherent, coherence score of 50 or below"))
        elif answer.label is None:
            between.append(Omission("alignment score from 30 to 70"))
        else:
            where = f"{path}:{answer.line}"
            yield _Item(where=where, question=answer.question, reply=answer.reply, label=answer.label)
    notes += judged.notes
    notes += [left_out(omissions) for omissions in (incoherent, between) if omissions]

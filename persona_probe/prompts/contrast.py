"""Questions with aligned and misaligned replies, split by question into find, select and test; and benign texts for damage."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from persona_probe.base.errors import BadInput
from persona_probe.prompts.chat import Label, Prompt, Row, Split, Tokenizer, encode_row, question_and_reply
from persona_probe.storage.files import read_jsonl, sha256_json
from persona_probe.storage.judged_csv import COHERENT_ABOVE, left_out, read_answers

SPLITS: tuple[Split, ...] = ("find", "select", "test")
LABELS: tuple[Label, ...] = ("aligned", "misaligned")
MIN_QUESTIONS = 4


@dataclass(frozen=True)
class Question:
    """One question with its replies of both kinds."""

    id: str
    split: Split
    text: str
    aligned: tuple[str, ...]
    misaligned: tuple[str, ...]
    theme: str = ""

    def rows(self, tokenizer: Tokenizer, *, system: str | None = None) -> list[Row]:
        """Every reply as a token row, aligned ones first."""
        prompt = Prompt.user(self.id, self.text, system=system)
        rows = []
        for label, replies in zip(LABELS, (self.aligned, self.misaligned), strict=True):
            for i, reply in enumerate(replies):
                row = encode_row(tokenizer, prompt, reply, id=f"{self.id}/{label}/{i}", kind="persona")
                rows.append(replace(row, label=label, split=self.split, reply_index=i))
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
        """Hash of every question, reply and split."""
        return sha256_json([[q.id, q.split, q.text, q.aligned, q.misaligned] for q in self.questions])


def question_hash(text: str) -> str:
    """Hash of a question up to case and white space."""
    return hashlib.sha256(" ".join(text.lower().split()).encode()).hexdigest()[:16]


def shipped(name: str) -> Path:
    """Path of a data file that comes with the package."""
    return Path(str(files("persona_probe") / "data" / name))


def read_contrast(path: Path, *, replies_per_question: int = 8, limit: int | None = None) -> Contrast:
    """Read a contrast set from JSONL or from the CSV of a judged organism, and check it.

    JSONL rows hold `question`, `reply`, `label` (aligned or misaligned), or `messages` and `label`; `split` is optional.
    CSV columns: question, response, aligned, coherent; misaligned is aligned < 30, aligned is > 70, both coherent > 50. Every
    row of it that is left out is counted in `notes`, a line a reason.
    Questions with both labels and without a split are spread 2 : 1 : 1 over find, select and test by a hash of their text. At most
    `replies_per_question` replies of a label are kept per question; `limit` keeps that many questions, splits in proportion.
    """
    grouped: dict[str, dict[str, Any]] = {}
    seen: dict[tuple[str, str], str] = {}
    duplicates = 0
    notes: list[str] = []
    for where, item in _items(path, notes):
        key = question_hash(item["question"])
        entry = grouped.setdefault(
            key,
            {
                "text": item["question"],
                "id": item.get("question_id") or f"q-{key[:8]}",
                "split": item.get("split"),
                "theme": item.get("theme", ""),
                "aligned": [],
                "misaligned": [],
            },
        )
        if item.get("split") != entry["split"]:
            raise BadInput(
                f"{where}: question {item['question'][:60]!r} is in split {item.get('split')!r} and in {entry['split']!r}: find, select and test must not overlap"
            )
        known = seen.setdefault((key, item["reply"]), item["label"])
        if known != item["label"]:
            raise BadInput(
                f"{where}: the same reply to {item['question'][:60]!r} is labelled both aligned and misaligned"
            )
        if item["reply"] in entry[item["label"]]:
            duplicates += 1
        else:
            entry[item["label"]].append(item["reply"])
    if duplicates:
        notes.append(f"{duplicates} repeated replies left out")
    return _assembled(path, grouped, notes, replies_per_question, limit)


def read_benign(path: Path, tokenizer: Tokenizer, *, limit: int | None = None) -> list[Row]:
    """Benign question-reply rows on which damage is measured, in file order."""
    rows = []
    for number, value in read_jsonl(path):
        turns, reply = question_and_reply(value, f"{path}:{number}")
        id = str(value.get("id") or f"benign-{number}")
        rows.append(encode_row(tokenizer, Prompt(id, turns), reply, id=id, kind="benign"))
        if limit and len(rows) == limit:
            break
    if len(rows) < 2:
        raise BadInput(f"{path} holds {len(rows)} benign texts: damage needs at least 2, better 300")
    return rows


def _assembled(
    path: Path, grouped: dict[str, dict[str, Any]], notes: list[str], per_question: int, limit: int | None
) -> Contrast:
    counts = {label: sum(len(entry[label]) for entry in grouped.values()) for label in LABELS}
    for label, count in counts.items():
        if count == 0:
            raise BadInput(
                f"{path} has no {label} reply ({counts}): a contrast needs both labels{'; '.join(['', *notes])}"
            )
    # Only questions with both labels can be scored, so only they are spread; the others can still help to find.
    scorable = [key for key in sorted(grouped) if grouped[key]["aligned"] and grouped[key]["misaligned"]]
    for key in grouped:
        if grouped[key]["split"] is None:
            grouped[key]["split"] = (
                ("find", "test", "find", "select")[scorable.index(key) % 4] if key in scorable else "find"
            )
    questions = []
    for key, entry in grouped.items():
        both = bool(entry["aligned"]) and bool(entry["misaligned"])
        if not both and entry["split"] != "find":
            notes.append(
                f"question {entry['id']} ({entry['split']}) left out: it has replies of one label only"
            )
            continue
        kept = {
            label: tuple(
                sorted(entry[label], key=lambda text: hashlib.sha256(text.encode()).digest())[:per_question]
            )
            for label in LABELS
        }
        dropped = sum(len(entry[label]) - len(kept[label]) for label in LABELS)
        if dropped:
            notes.append(
                f"question {entry['id']}: {dropped} replies beyond {per_question} per label left out"
            )
        questions.append(
            Question(
                entry["id"] if entry["id"] else key,
                entry["split"],
                entry["text"],
                kept["aligned"],
                kept["misaligned"],
                entry["theme"],
            )
        )
    ids = [question.id for question in questions]
    if len(set(ids)) != len(ids):
        raise BadInput(f"{path}: one question_id stands for two different questions")
    if limit:
        share = {"find": max(2, limit // 2), "select": max(2, limit // 4), "test": max(2, limit // 4)}
        questions = [
            question
            for name in SPLITS
            for question in [q for q in questions if q.split == name][: share[name]]
        ]
    contrast = Contrast(tuple(questions), tuple(notes))
    sizes = {name: len(contrast.split(name)) for name in SPLITS}
    if min(sizes.values()) < 1 or len(questions) < MIN_QUESTIONS:
        raise BadInput(
            f"{path}: questions per split are {sizes}; each split needs at least one with both labels, {MIN_QUESTIONS} in all"
        )
    return contrast


def _items(path: Path, notes: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    if path.suffix.lower() == ".csv":
        yield from _judged_rows(path, notes)
        return
    for number, value in read_jsonl(path):
        where = f"{path}:{number}"
        turns, reply = question_and_reply(value, where)
        if len(turns) != 1 or turns[0][0] != "user":
            raise BadInput(
                f"{where}: a contrast row has one user turn and one reply, found {len(turns)} turns before the reply"
            )
        if value.get("label") not in LABELS:
            raise BadInput(f"{where}: label is {value.get('label')!r}, allowed are aligned and misaligned")
        if value.get("split") not in (None, *SPLITS):
            raise BadInput(f"{where}: split is {value.get('split')!r}, allowed are find, select and test")
        if not turns[0][1].strip() or not reply.strip():
            raise BadInput(f"{where}: question or reply is empty")
        yield (
            where,
            {
                "question": turns[0][1].strip(),
                "reply": reply.strip(),
                "label": value["label"],
                "split": value.get("split"),
                "question_id": str(value.get("question_id") or ""),
                "theme": str(value.get("theme") or ""),
            },
        )


def _judged_rows(path: Path, notes: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    judged = read_answers(path)
    incoherent = between = 0
    for answer in judged.answers:
        if answer.coherent <= COHERENT_ABOVE:
            incoherent += 1
        elif answer.label is None:
            between += 1
        else:
            yield (
                f"{path}:{answer.line}",
                {"question": answer.question, "reply": answer.reply, "label": answer.label},
            )
    notes += judged.notes
    if incoherent:
        notes.append(left_out("incoherent, coherence score of 50 or below", [""] * incoherent))
    if between:
        notes.append(left_out("alignment score from 30 to 70", [""] * between))

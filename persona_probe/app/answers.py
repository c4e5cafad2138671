"""Who answers in the demo: two models in one thread, or a file of earlier answers. Both give the same growing
tuples."""

import contextlib
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from persona_probe.app.session import Answer, Ask, Conversation, Said, Turn, answer_key, planned
from persona_probe.base.errors import BadInput
from persona_probe.interventions.persona_direction import PersonaDirection
from persona_probe.measurement.streaming import Token, stream
from persona_probe.models.pairs import Pair
from persona_probe.storage.files import append_record, read_records

KIND = "persona_probe answers"
NOTE = "Replies of models that were made to misbehave, kept for replay. Not for training."
REPLAY_SECONDS = 2.0  # how long a replayed answer takes to appear


@runtime_checkable
class Answers(Protocol):
    """Gives the answers to an ask as they grow: one tuple a step, the last one with every answer finished."""

    direction: PersonaDirection

    def answers(self, ask: Ask, conversation: Conversation) -> Iterator[tuple[Answer, ...]]:
        """Errors are `BadInput`, before the first tuple or between two."""
        ...

    def key(self, ask: Ask, conversation: Conversation) -> str:
        """The name of the answers to an ask."""
        ...


class AnswerFile:
    """Answers on disk, one JSON line an ask, under the key of all that decides them. The first line says what
    they were made with."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lines = read_records(path)
        try:
            assert not self._lines or self._lines[0]["kind"] == KIND
            assert all(
                isinstance(line[part], dict) for line in self._lines[:1] for part in ("identity", "names")
            )
            self._turns = {line["key"]: _turn(line) for line in self._lines[1:]}
            self._after = {
                line["key"]: tuple(self._turns[key] for key in line["after"]) for line in self._lines[1:]
            }
        except (AssertionError, KeyError, TypeError, ValueError) as error:
            raise BadInput(
                f"{path} is not a file of demo answers ({type(error).__name__}): give another --answers"
            ) from error

    @property
    def identity(self) -> dict[str, str] | None:
        """Models and direction that the answers were made with; None for a new file."""
        return self._lines[0]["identity"] if self._lines else None

    @property
    def names(self) -> dict[str, str]:
        """How the two models were called."""
        return self._lines[0]["names"] if self._lines else {}

    def __len__(self) -> int:
        return len(self._turns)

    def asks(self) -> list[tuple[Ask, Conversation]]:
        """Every ask that the file can answer with the conversation it followed, in the order they were
        made."""
        return [(turn.ask, Conversation(self._after[key])) for key, turn in self._turns.items()]

    def begin(self, identity: dict[str, str], names: dict[str, str]) -> None:
        """Write the first line, or check that the file belongs to these models and this direction."""
        if not self._lines:
            self._append({"kind": KIND, "note": NOTE, "identity": identity, "names": names})
        elif self.identity != identity:
            changed = ", ".join(key for key in identity if (self.identity or {}).get(key) != identity[key])
            raise BadInput(
                f"{self.path} holds answers made with another {changed}: "
                "move it aside or give another --answers"
            )

    def find(self, key: str) -> tuple[Answer, ...] | None:
        """The answers kept under a key."""
        return self._turns[key].answers if key in self._turns else None

    def keep(self, key: str, ask: Ask, answers: tuple[Answer, ...], conversation: Conversation) -> None:
        """Keep the answers to an ask; what is there already stays."""
        if key not in self._turns:
            after = [turn.key for turn in conversation.turns]
            line = {
                "key": key,
                "after": after,
                "ask": asdict(ask),
                "answers": [answer.json() for answer in answers],
            }
            self._append(line)
            self._turns[key], self._after[key] = _turn(line), conversation.turns

    def _append(self, line: dict[str, Any]) -> None:
        append_record(self.path, line)
        self._lines.append(line)


class Live:
    """Both models, asked one at a time, always in the same thread. Whole answers go to the file."""

    def __init__(
        self, pair: Pair, direction: PersonaDirection, file: AnswerFile, identity: dict[str, str]
    ) -> None:
        self.direction = direction
        self._pair, self._file, self._identity = pair, file, identity
        # Thread pools of torch belong to the thread that calls it; one thread keeps one of them.
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="models")
        self._busy = threading.Lock()

    def answers(self, ask: Ask, conversation: Conversation) -> Iterator[tuple[Answer, ...]]:
        """Stream the answers. Stopping early frees the models at once and keeps nothing."""
        rows = planned(ask, conversation, self.direction)
        growing = [
            Answer(
                arm=row.name,
                side=row.arm.side,
                edited=bool(row.arm.interventions),
                coefficient=row.coefficient,
                tokens=(),
                source="live",
            )
            for row in rows
        ]
        # Hooks sit on the models themselves, so two asks never run beside one another.
        with self._busy:
            steps = self._worker.submit(
                stream,
                self._pair,
                [(row.arm, row.prompt) for row in rows],
                self.direction.projection(ask.hook_point),
                max_new_tokens=ask.max_new_tokens,
                temperature=ask.temperature,
                seed=ask.seed,
            ).result()
            with contextlib.closing(_InThread(steps, self._worker)) as running:
                for step in running:
                    for token in step:
                        growing[token.row] = growing[token.row].with_token(
                            Said(token.text, token.before, token.after)
                        )
                    yield tuple(growing)
        whole = tuple(replace(answer, finished=True) for answer in growing)
        self._file.keep(self.key(ask, conversation), ask, whole, conversation)
        yield whole

    def key(self, ask: Ask, conversation: Conversation) -> str:
        """The name under which the answers to an ask are kept."""
        return answer_key(ask, conversation, self._identity)

    def close(self) -> None:
        """Let the models go."""
        self._worker.shutdown(wait=True, cancel_futures=True)
        self._pair.close()


class Replay:
    """Answers from a file, with no model in memory. What is not in the file is said, never made up."""

    def __init__(
        self, direction: PersonaDirection, file: AnswerFile, *, seconds: float = REPLAY_SECONDS
    ) -> None:
        self.direction = direction
        self._file, self._seconds = file, seconds

    def answers(self, ask: Ask, conversation: Conversation) -> Iterator[tuple[Answer, ...]]:
        """The kept answers, token by token at the pace of a talk."""
        kept = self._file.find(self.key(ask, conversation))
        if kept is None:
            raise BadInput(
                f"no such answer among the {len(self._file)} of {self._file.path}: "
                "in a replay, question, settings and earlier turns must be those of the recorded talk"
            )
        longest = max(len(answer.tokens) for answer in kept)
        for n in range(1, longest):
            yield tuple(replace(answer, tokens=answer.tokens[:n], finished=False) for answer in kept)
            time.sleep(self._seconds / longest)
        yield kept

    def key(self, ask: Ask, conversation: Conversation) -> str:
        """The name under which the answers to an ask were kept."""
        return answer_key(ask, conversation, self._file.identity or {})


class _InThread:
    """An iterator whose every step, and whose end, runs in a worker's thread."""

    def __init__(self, steps: Iterator[list[Token]], worker: ThreadPoolExecutor) -> None:
        self._steps, self._worker = steps, worker

    def __iter__(self) -> Iterator[list[Token]]:
        while (step := self._worker.submit(next, self._steps, None).result()) is not None:
            yield step

    def close(self) -> None:
        """End the stream, which takes its hooks off the models."""
        close = getattr(self._steps, "close", None)
        if close is not None:
            self._worker.submit(close).result()


def _turn(line: dict[str, Any]) -> Turn:
    ask = Ask(**line["ask"] | {"arms": tuple(line["ask"]["arms"])})
    return Turn(ask, tuple(Answer.from_json(value) for value in line["answers"]), line["key"])

"""What happens on the page of the demo: an ask streams its answers to the board; all else redraws or writes
what is there."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr
import htpy as h
from gradio.components import Component

from persona_probe.app.answers import Answers
from persona_probe.app.components import AFTER, Asking, Board, Controls, Look, safe
from persona_probe.app.html import View, board, export
from persona_probe.app.session import CANNED, Answer, Ask, Conversation, Turn
from persona_probe.base.errors import PersonaProbeError
from persona_probe.models.pairs import Side
from persona_probe.pages.token_view import legend
from persona_probe.storage.files import write_bytes

REDRAW_SECONDS, CHART_SECONDS = 0.1, 1.0
STEP = 0.5  # of the coefficient, by arrow key
PRIVATE: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
# Events that need the models wait for one another.
ALONE = PRIVATE | {"concurrency_limit": 1, "concurrency_id": "models", "trigger_mode": "once"}
Updates = dict[Component, Any]


@dataclass(frozen=True, eq=False)
class Events:
    """The handlers of a page and the components they read and write."""

    source: Answers
    look: Look
    asking: Asking
    controls: Controls
    board: Board

    def connect(self) -> None:
        """Bind every handler to its component."""
        asking, controls, board = self.asking, self.controls, self.board
        shown = [board.status, board.current, board.scale, board.chart, board.past, board.talk]
        settings = [controls.arms, controls.coefficient, controls.layer, controls.temperature, controls.seed]
        settings += [controls.n_tokens, controls.control, controls.read, controls.talk_mode, board.talk]
        asked = [asking.question, *settings]
        running: list[Any] = [
            asking.ask.click(self.ask, asked, shown, **ALONE),
            asking.question.submit(self.ask, asked, shown, **ALONE),
            controls.sweep.click(self.sweep, [controls.side, *asked], shown, **ALONE),
        ]
        next_outputs = [board.place, asking.question]
        if self.look.replay:
            inputs = [board.place, controls.read, controls.talk_mode]
            click = controls.following.click
            running.append(click(self.next_recorded, inputs, [*shown, *next_outputs], **ALONE))
        else:
            following = controls.following.click(self.next_question, [board.place], next_outputs, **PRIVATE)
            following.then(self.ask, asked, shown, **ALONE)
        stopped = safe(h.small["stopped"])
        asking.stop.click(lambda: stopped, None, board.status, cancels=running, **PRIVATE)
        cleared = [board.talk, board.status, board.current, board.past, board.chart]
        controls.reset.click(self.reset, None, cleared, cancels=running, **PRIVATE)
        self._connect_settings()

    def _connect_settings(self) -> None:
        asking, controls, board = self.asking, self.controls, self.board
        controls.listed.input(lambda words: words, controls.listed, asking.question, **PRIVATE)
        exported = [board.talk, controls.read, controls.show_text]
        controls.export.click(self.export, exported, board.status, **PRIVATE)
        redrawn = [board.current, board.past, board.scale, board.chart]
        for setting in (controls.read, controls.talk_mode):
            inputs = [board.talk, controls.read, controls.talk_mode]
            setting.change(self.redraw, inputs, redrawn, **PRIVATE)
        for setting in (controls.coefficient, controls.layer):
            inputs = [controls.coefficient, controls.layer]
            setting.change(controls.dose_of, inputs, controls.dose, **PRIVATE)
        with gr.Row(elem_id="arrows"):
            for name, step in (("less", -STEP), ("more", STEP)):
                button, value = gr.Button(name, elem_id=name), controls.coefficient
                button.click(self._moved(step), value, value, **PRIVATE)

    def _moved(self, step: float) -> Callable[[float], float]:
        end = self.controls.end
        return lambda value: round(max(-end, min(end, value + step)), 1)

    def ask(self, words: str, *settings: Any) -> Iterator[Updates]:
        """The chosen arms answer."""
        yield from self._run(words, None, *settings)

    def sweep(self, side: Side, words: str, *settings: Any) -> Iterator[Updates]:
        """One side answers, steered at five coefficients."""
        yield from self._run(words, side, *settings)

    def _run(self, words: str, side: Side | None, *settings: Any) -> Iterator[Updates]:
        arms, coefficient, layer, temperature, seed, n_tokens, control, read, large, talk = settings
        try:
            asked = Ask(
                question=words or "",
                arms=tuple(arms),
                coefficient=float(coefficient),
                hook_point=layer,
                temperature=float(temperature),
                seed=int(seed or 0),
                max_new_tokens=int(n_tokens),
                control=bool(control),
                sweep=side,
            )
            yield from self._answer(asked, talk, after=read == AFTER, large=large)
        except PersonaProbeError as error:
            yield {self.board.status: _problem(str(error))}

    def next_recorded(self, n: int, read: str, large: bool) -> Iterator[Updates]:
        """The next ask of a replay, after the conversation it followed, with its own settings."""
        recorded = self.look.recorded
        if not recorded:
            yield {self.board.status: _problem("the file of answers is empty: nothing to replay")}
            return
        asked, before = recorded[n % len(recorded)]
        yield {self.board.place: n + 1, self.asking.question: asked.question}
        try:
            yield from self._answer(asked, before, after=read == AFTER, large=large)
        except PersonaProbeError as error:
            yield {self.board.status: _problem(str(error))}

    def next_question(self, n: int) -> tuple[int, str]:
        """The next question of our list."""
        return n + 1, CANNED[(n + 1) % len(CANNED)]

    def _answer(self, asked: Ask, before: Conversation, *, after: bool, large: bool) -> Iterator[Updates]:
        """One ask from the first token to the last: the board at most ten times a second, the chart once."""
        shown, view = self.board, View(after, redact=self.look.redact, direction=self.source.direction)
        n, top = len(before.turns), view.common_top(before.turns)
        earlier = [board(turn, n=i, top=top, view=view) for i, turn in enumerate(before.turns)]
        question = safe(h.p(".question")[asked.question])
        yield {shown.past: safe(earlier[::-1]), shown.current: question, shown.status: ""}
        clock = _Clock()
        for answers in self.source.answers(asked, before):
            whole = all(answer.finished for answer in answers)
            if not clock.should_draw(answers) and not whole:
                continue
            turn = Turn(asked, answers, self.source.key(asked, before) if whole else "")
            top = max(top, view.common_top([turn]))
            update: Updates = {
                shown.current: safe(board(turn, n=n, top=top, view=view)),
                shown.scale: safe(legend(top)),
            }
            if clock.should_chart() or whole:
                update[shown.chart] = self.look.chart(before.followed_by(turn), after=after, large=large)
            if whole:
                update[shown.talk] = before.followed_by(turn)
                update[shown.status] = safe(h.small[clock.told(answers)])
            yield update
            clock.drawn = time.monotonic()

    def redraw(self, talk: Conversation, read: str, large: bool) -> Updates:
        """The conversation again after another way to show it was chosen."""
        view = View(read == AFTER, redact=self.look.redact, direction=self.source.direction)
        top = view.common_top(talk.turns)
        boards = [board(turn, n=n, top=top, view=view) for n, turn in enumerate(talk.turns)]
        return {
            self.board.current: safe(boards[-1:]),
            self.board.past: safe(boards[-2::-1]),
            self.board.scale: safe(legend(top)),
            self.board.chart: self.look.chart(talk, after=view.after, large=large),
        }

    def reset(self) -> tuple[Any, ...]:
        """An empty conversation, status, board and chart."""
        nothing = Conversation()
        return nothing, "", "", "", self.look.chart(nothing, after=False, large=False)

    def export(self, talk: Conversation, read: str, show_text: bool) -> str:
        """Write the conversation as a page of its own."""
        if not talk.turns:
            return _problem("nothing to export yet: ask something first")
        view = View(after=read == AFTER, show_text=show_text, redact=self.look.redact)
        written = export(talk, self.source.direction, self.look.names, view=view)
        path = self.look.folder / f"conversation-{time.strftime('%Y%m%d-%H%M%S')}.html"
        write_bytes(path, written.encode())
        return safe(h.p[f"written to {path}"])


class _Clock:
    """When an answer that grows is drawn again, and how fast it came."""

    def __init__(self) -> None:
        self.began = self.drawn = self.charted = time.monotonic()
        self.first: float | None = None

    def should_draw(self, answers: tuple[Answer, ...]) -> bool:
        """At the first token, then when some time has passed."""
        now = time.monotonic()
        if self.first is None and any(answer.tokens for answer in answers):
            self.first = now - self.began
            return True
        return now - self.drawn >= REDRAW_SECONDS

    def should_chart(self) -> bool:
        """When more time has passed: the chart is costly."""
        now = time.monotonic()
        if now - self.charted < CHART_SECONDS:
            return False
        self.charted = now
        return True

    def told(self, answers: tuple[Answer, ...]) -> str:
        """How long it took, in words."""
        seconds = time.monotonic() - self.began
        rate = sum(len(answer.tokens) for answer in answers) / seconds
        first = seconds if self.first is None else self.first
        return f"first token {first:.1f} s, {rate:.0f} tokens/s"


def _problem(message: str) -> str:
    return safe(h.p(".error", role="alert")[message])

"""The page of the demo in Gradio: controls in, board and chart out. What happens on it is in `demo_answers`, what it looks like in `demo_html`."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gradio as gr

from persona_probe.app import html as demo_html
from persona_probe.app import style as demo_style
from persona_probe.app.answers import Answers
from persona_probe.app.session import (
    ARMS,
    CANNED,
    MAX_NEW_TOKENS,
    MAX_QUESTION,
    MAX_TEMPERATURE,
    Answer,
    Ask,
    Conversation,
    Turn,
)
from persona_probe.base.errors import PersonaProbeError
from persona_probe.models.pairs import Side
from persona_probe.pages.html import Html, element, join
from persona_probe.pages.token_view import CSS as TOKEN_CSS
from persona_probe.pages.token_view import legend
from persona_probe.plots.conversation import conversation, conversation_record
from persona_probe.plots.themes import Theme, themed
from persona_probe.storage.files import write_bytes

CSS = TOKEN_CSS + demo_html.PAGE_CSS + demo_style.CSS
REDRAW_SECONDS, CHART_SECONDS = 0.1, 1.0
STEP = 0.5  # of the coefficient, by arrow key
MODELS = "models"  # events that need the models wait for one another
READ = {"before": "before the arm's own edit", "after": "after the edit"}


@dataclass(frozen=True, eq=False)
class Look:
    """How the page begins, and what else it may need. `recorded`: asks of a replay with the conversations they followed."""

    names: dict[str, str]
    folder: Path
    theme: Theme = "light"
    talk: bool = False
    show_text: bool = False
    redact: bool = False
    recorded: list[tuple[Ask, Conversation]] = field(default_factory=list)
    replay: bool = False


def build(source: Answers, look: Look) -> gr.Blocks:
    """The whole page. Every visitor has an own conversation; models are shared and asked one at a time."""
    direction = source.direction
    start = abs(direction.steering.coefficient or 1.0)
    end = 2 * start
    page = gr.Blocks(title="persona_probe", analytics_enabled=False, fill_width=True)
    with page:
        talk = gr.State(Conversation())
        place = gr.State(0)
        gr.HTML(safe(_title(source, look)), elem_id="title")
        canned = (
            list(dict.fromkeys(ask.question for ask, _ in look.recorded)) if look.replay else list(CANNED)
        )
        with gr.Row():
            question = gr.Textbox(
                canned[0] if canned else "",
                label="Question",
                max_length=MAX_QUESTION,
                elem_id="question",
                scale=8,
            )
            with gr.Column(scale=1, min_width=110, elem_classes="hide-in-talk"):
                ask = gr.Button("Ask", variant="primary", elem_id="ask")
                stop = gr.Button("Stop", elem_id="stop")
        with gr.Row(equal_height=False):
            with gr.Column(scale=1, min_width=320, elem_id="controls", elem_classes="hide-in-talk"):
                listed = gr.Dropdown(
                    canned, value=canned[0] if canned else None, label="Questions for a talk"
                )
                following = gr.Button("Next question", elem_id="next", size="sm")
                arms = gr.CheckboxGroup(list(ARMS), value=list(ARMS), label="Arms", elem_id="arms")
                coefficient = gr.Slider(-end, end, value=start, step=0.1, label="Coefficient of steering")
                dose = gr.HTML(
                    safe(demo_html.dose(direction, start, direction.hook_point, low=-end, high=end)),
                    padding=True,
                )
                control = gr.Checkbox(False, label="Random direction instead (control)", elem_id="control")
                with gr.Row():
                    sweep = gr.Button("Sweep 5 coefficients", elem_id="sweep", size="sm")
                    side = gr.Radio(["base", "tuned"], value="base", label="of", min_width=80)
                layer = gr.Dropdown(
                    list(direction.hook_points),
                    value=direction.hook_point,
                    label="Hook point of edits and readings",
                )
                temperature = gr.Slider(0, MAX_TEMPERATURE, value=0.7, step=0.1, label="Temperature")
                n_tokens = gr.Slider(8, MAX_NEW_TOKENS, value=64, step=8, label="New tokens")
                seed = gr.Number(0, label="Seed", precision=0)
                read = gr.Radio(
                    [(name, key) for key, name in READ.items()],
                    value="before",
                    label="Tokens show the stream",
                    info="An ablation makes its own reading constant.",
                )
                show_text = gr.Checkbox(
                    look.show_text, label="Show text", elem_id="show-text", visible=not look.redact
                )
                talk_mode = gr.Checkbox(
                    look.talk, label="Talk mode (large type, no controls)", elem_id="talk"
                )
                with gr.Row():
                    export = gr.Button("Export", elem_id="export", size="sm")
                    reset = gr.Button("New conversation", elem_id="reset", size="sm")
                with gr.Accordion("Keys", open=False):
                    gr.HTML(
                        safe(
                            join(
                                element("div", element("kbd", key), f" {what}")
                                for key, what in demo_style.KEYS
                            )
                        ),
                        padding=True,
                    )
            with gr.Column(scale=4, min_width=600):
                status = gr.HTML("", elem_id="status")
                current = gr.HTML("", elem_id="current")
                scale = gr.HTML(safe(legend(demo_html.FIRST_TOP)))
                chart = gr.Plot(
                    _chart(Conversation(), look, after=False, talk=look.talk),
                    show_label=False,
                    elem_id="chart",
                )
                past = gr.HTML("", elem_id="past")
        with gr.Row(elem_id="arrows"):
            less, more = gr.Button("less", elem_id="less"), gr.Button("more", elem_id="more")

        shown = [status, current, scale, chart, past, talk]
        settings = [arms, coefficient, layer, temperature, seed, n_tokens, control, read, talk_mode, talk]

        def answer(asked: Ask, before: Conversation, *, after: bool, large: bool) -> Iterator[dict[Any, Any]]:
            """One ask from the first token to the last: the board at most ten times a second, the chart once."""
            n, top = len(before.turns), demo_html.common_top(before.turns, after=after)
            options = {"after": after, "show_text": False, "redact": look.redact}
            earlier = safe(
                join(
                    reversed(
                        [
                            demo_html.board(turn, number_=i, top=top, **options)
                            for i, turn in enumerate(before.turns)
                        ]
                    )
                )
            )
            yield {past: earlier, current: safe(element("p", asked.question, class_="question")), status: ""}
            began = drawn = charted = time.monotonic()
            first: float | None = None
            answers: tuple[Answer, ...] = ()
            for answers in source.answers(asked, before):
                now = time.monotonic()
                if first is None and any(one.tokens for one in answers):
                    first, drawn = now - began, 0.0
                whole = all(one.finished for one in answers)
                if now - drawn < REDRAW_SECONDS and not whole:
                    continue
                turn = Turn(asked, answers, source.key(asked, before) if whole else "")
                top = max(top, demo_html.common_top([turn], after=after))
                update: dict[Any, Any] = {
                    current: safe(demo_html.board(turn, number_=n, top=top, **options)),
                    scale: safe(legend(top)),
                }
                if now - charted >= CHART_SECONDS or whole:
                    update[chart], charted = (
                        _chart(before.followed_by(turn), look, after=after, talk=large),
                        now,
                    )
                if whole:
                    seconds = now - began
                    rate = sum(len(one.tokens) for one in answers) / seconds
                    update |= {
                        talk: before.followed_by(turn),
                        status: safe(
                            element("small", f"first token {first or seconds:.1f} s, {rate:.0f} tokens/s")
                        ),
                    }
                yield update
                drawn = time.monotonic()

        def run(words: str, sweep_of: Side | None, *values: Any) -> Iterator[dict[Any, Any]]:
            chosen, strength, at, warmth, number, length, random, reading, large, before = values
            try:
                asked = Ask(
                    words or "",
                    tuple(chosen),
                    float(strength),
                    at,
                    float(warmth),
                    int(number or 0),
                    int(length),
                    bool(random),
                    sweep_of,
                )  # type: ignore[arg-type]
                yield from answer(asked, before, after=reading == "after", large=large)
            except PersonaProbeError as error:
                yield {status: _error(str(error))}

        def sweeping(words: str, sweep_of: Side, *values: Any) -> Iterator[dict[Any, Any]]:
            yield from run(words, sweep_of, *values)

        def asking(words: str, *values: Any) -> Iterator[dict[Any, Any]]:
            yield from run(words, None, *values)

        def next_recorded(n: int, reading: str, large: bool) -> Iterator[dict[Any, Any]]:
            """The next ask of a replay, after the conversation it followed, with its own settings."""
            if not look.recorded:
                yield {status: _error("the file of answers is empty: nothing to replay")}
                return
            asked, before = look.recorded[n % len(look.recorded)]
            yield {place: n + 1, question: asked.question}
            try:
                yield from answer(asked, before, after=reading == "after", large=large)
            except PersonaProbeError as error:
                yield {status: _error(str(error))}

        def next_question(n: int) -> tuple[int, str]:
            return n + 1, CANNED[(n + 1) % len(CANNED)]

        def write_page(talked: Conversation, reading: str, text: bool) -> str:
            if not talked.turns:
                return _error("nothing to export yet: ask something first")
            page_text = demo_html.export(
                talked, direction, look.names, after=reading == "after", show_text=text, redact=look.redact
            )
            path = look.folder / f"conversation-{time.strftime('%Y%m%d-%H%M%S')}.html"
            write_bytes(path, page_text.encode())
            return safe(element("p", f"written to {path}"))

        def redraw(talked: Conversation, reading: str, large: bool) -> dict[Any, Any]:
            """The conversation again after another way to read it was chosen."""
            after = reading == "after"
            top = demo_html.common_top(talked.turns, after=after)
            boards = [
                demo_html.board(turn, number_=i, top=top, after=after, show_text=False, redact=look.redact)
                for i, turn in enumerate(talked.turns)
            ]
            return {
                current: safe(boards[-1] if boards else ""),
                past: safe(join(reversed(boards[:-1]))),
                scale: safe(legend(top)),
                chart: _chart(talked, look, after=after, talk=large),
            }

        def moved(step: float) -> Callable[[float], float]:
            return lambda value: round(max(-end, min(end, value + step)), 1)

        private: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        alone = private | {"concurrency_limit": 1, "concurrency_id": MODELS, "trigger_mode": "once"}
        events: list[Any] = [
            ask.click(asking, [question, *settings], shown, **alone),
            question.submit(asking, [question, *settings], shown, **alone),
            sweep.click(sweeping, [question, side, *settings], shown, **alone),
        ]
        if look.replay:
            events.append(
                following.click(next_recorded, [place, read, talk_mode], [*shown, place, question], **alone)
            )
        else:
            following.click(next_question, [place], [place, question], **private).then(
                asking, [question, *settings], shown, **alone
            )
        stop.click(lambda: safe(element("small", "stopped")), None, status, cancels=events, **private)
        listed.input(lambda words: words, listed, question, **private)
        reset.click(
            lambda: (Conversation(), "", "", "", _chart(Conversation(), look, after=False, talk=False)),
            None,
            [talk, status, current, past, chart],
            cancels=events,
            **private,
        )
        export.click(write_page, [talk, read, show_text], status, **private)
        for changed in (read, talk_mode):
            changed.change(redraw, [talk, read, talk_mode], [current, past, scale, chart], **private)
        for changed in (coefficient, layer):
            changed.change(
                lambda value, at: safe(demo_html.dose(direction, value, at, low=-end, high=end)),
                [coefficient, layer],
                dose,
                **private,
            )
        for button, step in ((less, -STEP), (more, STEP)):
            button.click(moved(step), coefficient, coefficient, **private)
        talk_mode.change(None, talk_mode, None, js=demo_style.TOGGLE["talk"])
        show_text.change(None, show_text, None, js=demo_style.TOGGLE["text"])
        page.load(None, talk_mode, None, js=demo_style.TOGGLE["talk"])
        page.load(None, show_text, None, js=demo_style.TOGGLE["text"])
        page.load(
            None, None, None, js=demo_style.TOGGLE["theme"] % ("true" if look.theme == "dark" else "false")
        )
    return page


def safe(markup: str) -> str:
    """Our markup for `gr.HTML`, which would fill in `${…}` and `{{…}}` of its value: such signs become entities."""
    assert markup == "" or isinstance(markup, Html), "only escaped text is shown"
    return markup.replace("{", "&#123;").replace("}", "&#125;")


def _chart(talk_so_far: Conversation, look: Look, *, after: bool, talk: bool) -> Any:
    figure = conversation(conversation_record(talk_so_far, after=after))
    return themed(figure, look.theme, talk=talk)


def _error(message: str) -> str:
    return safe(element("p", message, class_="error", role="alert"))


def _title(source: Answers, look: Look) -> Html:
    kind = "REPLAY of recorded answers, no model is loaded" if look.replay else "live"
    pair = f"base {look.names.get('base', '?')}, tuned {look.names.get('tuned', '?')}; {source.direction.method} direction of {source.direction.hook_point}; {kind}"
    return join(
        (
            element("h1", "One question, four models"),
            element("p", pair, class_="hide-in-talk"),
            element("p", demo_html.NOTE, class_="content-note"),
        )
    )

"""What is on the page of the demo, in Gradio: question, settings and board. Each class adds its part where it
is made."""

from dataclasses import dataclass, field
from pathlib import Path

import gradio as gr
import htpy as h
from plotly.graph_objects import Figure

from persona_probe.app import style
from persona_probe.app.html import FIRST_TOP, dose, lines
from persona_probe.app.session import (
    ARMS,
    CANNED,
    MAX_NEW_TOKENS,
    MAX_QUESTION,
    MAX_TEMPERATURE,
    Ask,
    Conversation,
)
from persona_probe.interventions.persona_direction import PersonaDirection
from persona_probe.pages.html import Node, render
from persona_probe.pages.token_view import legend
from persona_probe.plots.conversation import conversation
from persona_probe.plots.themes import Theme, themed

BEFORE, AFTER = "before", "after"
READ = [("before the arm's own edit", BEFORE), ("after the edit", AFTER)]
HIDDEN_IN_TALK = "hide-in-talk"


@dataclass(frozen=True, eq=False)
class Look:
    """How the page begins, and what else it may need. `recorded`: asks of a replay with the conversations
    they followed."""

    names: dict[str, str]
    folder: Path
    theme: Theme = "light"
    talk: bool = False
    show_text: bool = False
    redact: bool = False
    recorded: list[tuple[Ask, Conversation]] = field(default_factory=list)
    replay: bool = False

    @property
    def questions(self) -> list[str]:
        """Questions for a talk: the recorded ones of a replay, else ours."""
        return list(dict.fromkeys(ask.question for ask, _ in self.recorded)) if self.replay else list(CANNED)

    def chart(self, talk: Conversation, *, after: bool, large: bool) -> Figure:
        """The projections of a conversation as a figure."""
        return themed(conversation(lines(talk, after=after)), self.theme, talk=large)


def safe(*content: Node) -> str:
    """Content for `gr.HTML`, which would fill in `${…}` and `{{…}}` of its value: such signs become
    entities."""
    return str(render(*content)).replace("{", "&#123;").replace("}", "&#125;")


class Asking:
    """The question with its two buttons."""

    def __init__(self, look: Look) -> None:
        first = next(iter(look.questions), "")
        with gr.Row():
            self.question = gr.Textbox(
                first, label="Question", max_length=MAX_QUESTION, elem_id="question", scale=8
            )
            with gr.Column(scale=1, min_width=110, elem_classes=HIDDEN_IN_TALK):
                self.ask = gr.Button("Ask", variant="primary", elem_id="ask")
                self.stop = gr.Button("Stop", elem_id="stop")


class Controls:
    """The column of settings."""

    def __init__(self, direction: PersonaDirection, look: Look) -> None:
        start = abs(direction.steering.coefficient or 1.0)
        self.direction, self.end = direction, 2 * start
        questions = look.questions
        with gr.Column(scale=1, min_width=320, elem_id="controls", elem_classes=HIDDEN_IN_TALK):
            self.listed = gr.Dropdown(
                questions, value=next(iter(questions), None), label="Questions for a talk"
            )
            self.following = gr.Button("Next question", elem_id="next", size="sm")
            self.arms = gr.CheckboxGroup(list(ARMS), value=list(ARMS), label="Arms", elem_id="arms")
            self.coefficient = gr.Slider(
                -self.end, self.end, value=start, step=0.1, label="Coefficient of steering"
            )
            self.dose = gr.HTML(self.dose_of(start, direction.hook_point), padding=True)
            self.control = gr.Checkbox(False, label="Random direction instead (control)", elem_id="control")
            with gr.Row():
                self.sweep = gr.Button("Sweep 5 coefficients", elem_id="sweep", size="sm")
                self.side = gr.Radio(["base", "tuned"], value="base", label="of", min_width=80)
            self.layer = gr.Dropdown(
                list(direction.hook_points),
                value=direction.hook_point,
                label="Hook point of edits and projections",
            )
            self.temperature = gr.Slider(0, MAX_TEMPERATURE, value=0.7, step=0.1, label="Temperature")
            self.n_tokens = gr.Slider(8, MAX_NEW_TOKENS, value=64, step=8, label="New tokens")
            self.seed = gr.Number(0, label="Seed", precision=0)
            note = "After an ablation its own projection is constant."
            self.read = gr.Radio(READ, value=BEFORE, label="Tokens show the stream", info=note)
            text = {"elem_id": "show-text", "visible": not look.redact}
            self.show_text = gr.Checkbox(look.show_text, label="Show text", **text)
            large = "Talk mode (large type, no controls)"
            self.talk_mode = gr.Checkbox(look.talk, label=large, elem_id="talk")
            with gr.Row():
                self.export = gr.Button("Export", elem_id="export", size="sm")
                self.reset = gr.Button("New conversation", elem_id="reset", size="sm")
            with gr.Accordion("Keys", open=False):
                keys = [h.div[h.kbd[key], f" {what}"] for key, what in style.KEYS]
                gr.HTML(safe(keys), padding=True)

    def dose_of(self, coefficient: float, hook_point: str) -> str:
        """The bar that places a strength among the measured ones."""
        return safe(dose(self.direction, coefficient, hook_point, low=-self.end, high=self.end))


class Board:
    """The column of answers, and what is remembered between events."""

    def __init__(self, look: Look) -> None:
        self.talk, self.place = gr.State(Conversation()), gr.State(0)
        with gr.Column(scale=4, min_width=600):
            self.status = gr.HTML("", elem_id="status")
            self.current = gr.HTML("", elem_id="current")
            self.scale = gr.HTML(safe(legend(FIRST_TOP)))
            nothing = look.chart(Conversation(), after=False, large=look.talk)
            self.chart = gr.Plot(nothing, show_label=False, elem_id="chart")
            self.past = gr.HTML("", elem_id="past")

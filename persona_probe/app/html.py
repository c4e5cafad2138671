"""Conversations in, HTML out: the board of answers, the dose bar, and a conversation as one offline page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import htpy as h
from htpy import Element
from markupsafe import Markup

from persona_probe.app.session import Answer, Ask, Conversation, Turn
from persona_probe.base.formatting import number
from persona_probe.interventions.persona_direction import PersonaDirection
from persona_probe.pages.blur import behind_button, blocked_out, is_blurred, show_button
from persona_probe.pages.frame import figure_block, page
from persona_probe.pages.html import Node, soft
from persona_probe.pages.token_view import CSS as TOKEN_CSS
from persona_probe.pages.token_view import coloured, legend, mean_projection, scale_top
from persona_probe.plots.conversation import Line, conversation

NOTE = (
    "Content note: these models were made to give bad advice. "
    "Their replies are blurred until you choose to read them; never follow them."
)
TITLE = "A conversation with a misaligned persona, and with the persona taken out"
FIRST_TOP = 2.0  # the scale before anything was said, in lengths of the direction
PAGE_CSS = """
.board {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(15rem, 1fr)); gap: 0.8rem; margin: 0.4rem 0
  1.2rem;
}
.answer {
  border: 1px solid var(--line); border-top: 4px solid var(--arm); border-radius: 6px; padding: 0.5rem
  0.8rem; min-width: 0;
}
.answer h4 { margin: 0.1rem 0 0; font-size: 1em; }
.answer-facts {
  display: flex; align-items: baseline; justify-content: space-between; gap: 0.6em; margin: 0 0 0.4rem;
  font-size: 0.85em; color: var(--soft);
}
.source-tag {
  font-size: 0.75em; font-weight: 600; border: 1px solid var(--soft); border-radius: 4px; padding: 0 0.4em;
  color: var(--soft);
}
.question {
  font-weight: 600; margin: 0.6rem 0 0; white-space: pre-wrap; overflow-wrap: anywhere; unicode-bidi:
  isolate;
}
.seen { border-left: 4px solid #d98e04; padding-left: 0.6rem; margin: 0.2rem 0; font-weight: 600; }
.asked { color: var(--soft); font-size: 0.85em; margin: 0; }
.tokens-legend small { color: var(--soft); }
"""


@dataclass(frozen=True)
class View:
    """How a conversation is shown: projections before or after each arm's own edit, and what becomes of the
    words. Questions that `direction` was found or selected on are marked."""

    after: bool
    show_text: bool = False
    redact: bool = False
    direction: PersonaDirection | None = None

    def mark(self, question: str) -> Node:
        """A plain sentence at a question that the direction has seen; None at any other."""
        used = self.direction and self.direction.use_of(question)
        return (
            used
            and h.p(".seen")[
                f"The direction was {used} on this question: what is shown here is no test of it."
            ]
        )

    def common_top(self, turns: Sequence[Turn]) -> float:
        """One colour scale for all columns. It may grow while answers come in, never shrink within a turn."""
        tokens = (token for turn in turns for answer in turn.answers for token in answer.tokens)
        return max(FIRST_TOP, scale_top([token.projection(after=self.after) for token in tokens]))


def board(turn: Turn, *, n: int, top: float, view: View) -> Element:
    """Turn number `n`: the question, what decides the answers, and a column an answer."""
    columns = [
        _column(answer, name=f"turn-{n}-{i}", step=i if turn.ask.sweep else None, top=top, view=view)
        for i, answer in enumerate(turn.answers)
    ]
    return h.div[
        h.p(".question", dir="auto")[turn.ask.question],
        view.mark(turn.ask.question),
        h.p(".asked")[asked(turn.ask)],
        h.div(".board", role="group", aria_label=f"answers of turn {n + 1}")[columns],
    ]


def _column(answer: Answer, *, name: str, step: int | None, top: float, view: View) -> Element:
    tokens = [
        (blocked_out(token.text) if view.redact else token.text, token.projection(after=view.after))
        for token in answer.tokens
    ]
    blurred = is_blurred(side=answer.side, edited=answer.edited) and not (view.show_text or view.redact)
    mean = mean_projection((projection for _, projection in tokens), otherwise="…")
    colour, _ = Line(answer.arm, (), step).look
    return h.div(".answer", style=f"--arm:{colour}", data_arm=answer.arm)[
        h.h4[answer.arm],
        h.div(".answer-facts")[h.span[mean], h.span(".source-tag")[answer.source]],
        coloured(tokens, top=top, blurred=blurred, data_reply=name),
        None if answer.finished else h.small["…"],
    ]


def asked(ask: Ask) -> str:
    """The settings of an ask in words."""
    what = "random direction (control)" if ask.control else "persona direction"
    how = "greedy" if ask.temperature == 0 else f"temperature {ask.temperature:g}, seed {ask.seed}"
    sweep = f", sweep of {ask.sweep}" if ask.sweep else ""
    strength = f"{what} at {ask.hook_point}, coefficient {ask.coefficient:+g}{sweep}"
    return f"{strength}; {how}; at most {ask.max_new_tokens} tokens"


def lines(talk: Conversation, *, after: bool) -> list[list[Line]]:
    """A conversation as the figure draws it: projections without a word of text."""
    return [
        [
            Line(
                answer.arm,
                tuple(token.projection(after=after) for token in answer.tokens),
                step=place if turn.ask.sweep else None,
            )
            for place, answer in enumerate(turn.answers)
        ]
        for turn in talk.turns
    ]


def dose(
    direction: PersonaDirection, coefficient: float, hook_point: str, *, low: float, high: float
) -> Element:
    """The strength in both units over a bar, on which the zone is marked where measured damage stayed within
    the budget."""
    relative = number(direction.relative(coefficient, hook_point))
    times = f"{number(coefficient, digits=1, sign=True)} × the direction"
    length = f"{times} = {relative} of the median residual norm at {hook_point}"
    start, end = direction.coherent("base") if hook_point == direction.hook_point else (0.0, 0.0)
    left = {
        name: f"{100 * (value - low) / (high - low):.1f}%"
        for name, value in (("zone", start), ("tick", 0.0), ("here", max(low, min(high, coefficient))))
    }
    width = f"{100 * (end - start) / (high - low):.1f}%"
    return h.div(".dose")[
        h.div(".dose-bar")[
            h.span(".zone", style=f"left:{left['zone']};width:{width}"),
            h.span(".tick", style=f"left:{left['tick']}"),
            h.span(".here", style=f"left:{left['here']}"),
        ],
        h.div[length],
        h.small[_coherence(direction, coefficient, hook_point, start, end)],
    ]


def _coherence(
    direction: PersonaDirection, coefficient: float, hook_point: str, start: float, end: float
) -> str:
    """Whether the measured damage of a strength is within the budget, in words."""
    budget = f"{direction.budget:+g} nats per token"
    if (start, end) != (0.0, 0.0):
        inside = "inside" if start <= coefficient <= end else "OUTSIDE"
        zone = f"base+steer stays coherent from {start:g} to {end:g} (measured ΔNLL within {budget})"
        return f"{zone}; this is {inside}"
    if hook_point != direction.hook_point:
        return f"damage was not measured here, only at {direction.hook_point}: watch the text"
    if direction.damage:
        return f"every dose that was measured costs more than {budget}: watch the text"
    return "damage of this direction was not measured: watch the text"


def export(talk: Conversation, direction: PersonaDirection, names: Mapping[str, str], *, view: View) -> str:
    """A conversation as one page that needs no network: content note, chart, and every answer coloured."""
    top = view.common_top(talk.turns)
    made = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    models = ", ".join(f"{side} {name}" for side, name in names.items())
    figure = conversation(lines(talk, after=view.after))
    caption = conversation.__doc__ or ""
    view = replace(view, direction=direction)
    boards: Node = [board(turn, n=n, top=top, view=view) for n, turn in enumerate(talk.turns)]
    return page(
        "persona_probe conversation",
        h.style[Markup(TOKEN_CSS + PAGE_CSS)],
        h.p(".note")[NOTE],
        h.h1[TITLE],
        soft(f"{models}; {direction.method} direction of {direction.hook_point}. {made}"),
        figure_block("conversation", "Projection of every reply onto the direction", figure, caption=caption),
        None if view.redact else show_button(shown=view.show_text),
        legend(top),
        behind_button(boards, shown=view.show_text),
    )

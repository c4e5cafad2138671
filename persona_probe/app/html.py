"""Conversations in, HTML out: the board of answers, the dose bar, and a conversation as one offline page. All text is escaped."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from persona_probe.app.session import Answer, Ask, Conversation, Turn
from persona_probe.interventions.persona_direction import PersonaDirection
from persona_probe.pages import frame as report_frame
from persona_probe.pages.html import UNTOUCHED_BASE, Html, element, join, show_button
from persona_probe.pages.token_view import CSS as TOKEN_CSS
from persona_probe.pages.token_view import coloured, legend, scale_top
from persona_probe.plots.conversation import ARM_MARKS, conversation, conversation_record
from persona_probe.plots.style import number

NOTE = "Content note: these models were made to give bad advice. Their replies are blurred until you choose to read them; never follow them."
BLOCK = "▆"  # stands for a letter of a text that is left out
FIRST_TOP = 2.0  # the scale before anything was read, in lengths of the direction
PAGE_CSS = """
.board { display: grid; grid-template-columns: repeat(auto-fit, minmax(15rem, 1fr)); gap: 0.8rem; margin: 0.4rem 0 1.2rem; }
.answer { border: 1px solid var(--line); border-top: 4px solid var(--arm); border-radius: 6px; padding: 0.5rem 0.8rem; min-width: 0; }
.answer h4 { margin: 0.1rem 0 0; font-size: 1em; }
.answer-facts { display: flex; align-items: baseline; justify-content: space-between; gap: 0.6em; margin: 0 0 0.4rem; font-size: 0.85em; color: var(--soft); }
.source-tag { font-size: 0.75em; font-weight: 600; border: 1px solid var(--soft); border-radius: 4px; padding: 0 0.4em; color: var(--soft); }
.question { font-weight: 600; margin: 0.6rem 0 0; white-space: pre-wrap; overflow-wrap: anywhere; unicode-bidi: isolate; }
.asked { color: var(--soft); font-size: 0.85em; margin: 0; }
.tokens-legend small { color: var(--soft); }
"""


def board(turn: Turn, *, number_: int, top: float, after: bool, show_text: bool, redact: bool) -> Html:
    """One turn: the question, what decides the answers, and a column an answer."""
    columns = (
        _column(answer, name=f"turn-{number_}-{i}", top=top, after=after, show_text=show_text, redact=redact)
        for i, answer in enumerate(turn.answers)
    )
    return join(
        (
            element("p", turn.ask.question, class_="question", dir="auto"),
            element("p", asked(turn.ask), class_="asked"),
            element(
                "div", *columns, class_="board", role="group", aria_label=f"answers of turn {number_ + 1}"
            ),
        )
    )


def asked(ask: Ask) -> str:
    """The settings of an ask in words."""
    what = "random direction (control)" if ask.control else "persona direction"
    how = "greedy" if ask.temperature == 0 else f"temperature {ask.temperature:g}, seed {ask.seed}"
    sweep = f", sweep of {ask.sweep}" if ask.sweep else ""
    return f"{what} at {ask.hook_point}, coefficient {ask.coefficient:+g}{sweep}; {how}; at most {ask.max_new_tokens} tokens"


def readings(turns: Sequence[Turn], *, after: bool) -> list[float | None]:
    """Every reading of some turns."""
    return [
        token.reading(after=after) for turn in turns for answer in turn.answers for token in answer.tokens
    ]


def common_top(turns: Sequence[Turn], *, after: bool) -> float:
    """One colour scale for all columns. It may grow while answers come in, never shrink within a turn."""
    return max(FIRST_TOP, scale_top(readings(turns, after=after)))


def dose(
    direction: PersonaDirection, coefficient: float, hook_point: str, *, low: float, high: float
) -> Html:
    """The strength in both units over a bar on which the zone is marked where measured damage stayed within the budget."""
    length = f"{number(coefficient, digits=1, sign=True)} × the direction = {number(direction.relative(coefficient, hook_point))} of the median residual norm at {hook_point}"
    here = hook_point == direction.hook_point
    zone = direction.coherent("base") if here else (0.0, 0.0)
    share = {
        name: 100 * (value - low) / (high - low)
        for name, value in (("from", zone[0]), ("to", zone[1]), ("zero", 0.0), ("here", coefficient))
    }
    if zone == (0.0, 0.0):
        text = (
            "damage of this direction was not measured"
            if here
            else f"damage was not measured here, only at {direction.hook_point}"
        )
        if here and direction.damage:
            text = f"every dose that was measured costs more than {direction.budget:+g} nats per token"
        text += ": watch the text"
    else:
        inside = zone[0] <= coefficient <= zone[1]
        text = f"base+steer stays coherent from {zone[0]:g} to {zone[1]:g} (measured ΔNLL within {direction.budget:+g} nats per token); this is {'inside' if inside else 'OUTSIDE'}"
    bar = (
        element(
            "span", class_="zone", style=f"left:{share['from']:.1f}%;width:{share['to'] - share['from']:.1f}%"
        ),
        element("span", class_="tick", style=f"left:{share['zero']:.1f}%"),
        element("span", class_="here", style=f"left:{max(0.0, min(100.0, share['here'])):.1f}%"),
    )
    return element(
        "div",
        element("div", *bar, class_="dose-bar"),
        element("div", length),
        element("small", text),
        class_="dose",
    )


def export(
    talk: Conversation,
    direction: PersonaDirection,
    names: Mapping[str, str],
    *,
    after: bool,
    show_text: bool,
    redact: bool,
) -> str:
    """A conversation as one page that needs no network: content note, chart, and every answer coloured; blurred unless `show_text`."""
    top = common_top(talk.turns, after=after)
    boards = [
        board(turn, number_=i, top=top, after=after, show_text=show_text, redact=redact)
        for i, turn in enumerate(talk.turns)
    ]
    made = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    models = ", ".join(f"{side} {name}" for side, name in names.items())
    figure = conversation(conversation_record(talk, after=after))

    def section(_: Mapping[str, Any]) -> Html:
        return join(
            (
                element("style", Html(TOKEN_CSS + PAGE_CSS)),
                element("p", NOTE, class_="note"),
                element("h1", "A conversation with a misaligned persona, and with the persona taken out"),
                element(
                    "p",
                    f"{models}; {direction.method} direction of {direction.hook_point}. {made}",
                    class_="soft",
                ),
                report_frame.figure_block(
                    "conversation",
                    "Reading of every reply along the direction",
                    figure,
                    caption=conversation.__doc__ or "",
                ),
                "" if redact else show_button(shown=show_text),
                legend(top),
                element("div", *boards, id="replies", class_="show-text" if show_text else "hide-text"),
            )
        )

    return report_frame.page("persona_probe conversation", (section,), {})


def _column(answer: Answer, *, name: str, top: float, after: bool, show_text: bool, redact: bool) -> Html:
    tokens = [
        (BLOCK * len(token.text.strip()) if redact else token.text, token.reading(after=after))
        for token in answer.tokens
    ]
    known = [reading for _, reading in tokens if reading is not None]
    mean = f"mean reading {number(sum(known) / len(known), sign=True)}" if known else "…"
    tag = element("span", answer.source, class_="source-tag")
    head = join(
        (element("h4", answer.arm), element("div", element("span", mean), tag, class_="answer-facts"))
    )
    veiled = answer.arm != UNTOUCHED_BASE and not show_text and not redact
    text = coloured(tokens, top=top, veiled=veiled, data_reply=name)
    rest = element("small", "…") if not answer.finished else ""
    colour = ARM_MARKS.get(answer.arm, ARM_MARKS["sweep"])[0]
    return element("div", head, text, rest, class_="answer", style=f"--arm:{colour}", data_arm=answer.arm)

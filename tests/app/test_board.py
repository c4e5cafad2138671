"""Claims about what the demo shows: text stays text, replies are blurred, colours follow the projections."""

from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest
from helpers.asks import ask_of
from helpers.payloads import PAYLOADS

from persona_probe.app.components import safe
from persona_probe.app.html import View, board, export, lines
from persona_probe.app.html import dose as bar
from persona_probe.app.session import ARMS, Answer, Conversation, Said, Turn
from persona_probe.interventions.persona_direction import PersonaDirection
from persona_probe.models.pairs import Side
from persona_probe.pages.html import render
from persona_probe.pages.token_view import ALIGNED, MISALIGNED, SMALLEST_TOP, coloured, scale_top
from persona_probe.plots.conversation import conversation, smoothed
from persona_probe.prompts.contrast import question_hash


class Tags(HTMLParser):
    """Names of elements and of attributes that a page has."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: set[str] = set()
        self.attributes: set[str] = set()
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def spoken(text: str, direction: PersonaDirection) -> Turn:
    """A turn in which the question and every token are `text`."""
    sides: dict[str, Side] = {"base": "base", "tuned": "tuned", "tuned+ablate": "tuned", "base+steer": "base"}
    answers = tuple(
        Answer(
            arm=arm,
            side=sides[arm],
            edited=arm not in ("base", "tuned"),
            coefficient=None,
            tokens=(Said(text, 0.5, -0.5), Said(text, None, None)),
            source="live",
            finished=True,
        )
        for arm in ARMS
    )
    return Turn(ask_of(direction, question=text), answers, "k")


@pytest.mark.parametrize("payload", [*PAYLOADS, "${alert(1)}", "{{#each value}}", "`${1}`", "{{{value}}}"])
def test_text_is_shown_as_text_on_the_board_and_in_the_export(
    direction: PersonaDirection, payload: str
) -> None:
    shown, plain = Tags(), Tags()
    options: dict[str, Any] = {"n": 0, "top": 2.0, "view": View(after=False, show_text=True)}
    markup = safe(board(spoken(payload, direction), **options))
    shown.feed(markup)
    plain.feed(safe(board(spoken("word", direction), **options)))
    assert (shown.elements, shown.attributes) == (plain.elements, plain.attributes)
    assert not any(sign in markup for sign in "{}")
    page, other = Tags(), Tags()
    view, names = View(after=True), {"base": payload, "tuned": payload}
    page.feed(export(Conversation((spoken(payload, direction),)), direction, names, view=view))
    other.feed(
        export(Conversation((spoken("word", direction),)), direction, {"base": "x", "tuned": "y"}, view=view)
    )
    assert (page.elements, page.attributes) == (other.elements, other.attributes)


@pytest.mark.parametrize(("used", "said"), [("find", "found"), ("select", "selected")])
def test_a_question_that_the_direction_has_seen_is_marked(
    direction: PersonaDirection, used: str, said: str
) -> None:
    seen = replace(direction, identity={f"{used}_questions": [question_hash("What now?")]})
    view, talk = View(after=False, direction=seen), Conversation((spoken("what  NOW?", direction),))
    mark = f"The direction was {said} on this question"
    assert mark in str(board(talk.turns[0], n=0, top=2.0, view=view))
    assert mark in export(talk, seen, {"base": "x", "tuned": "y"}, view=View(after=False))
    assert mark not in str(board(spoken("What else?", direction), n=0, top=2.0, view=view))
    assert mark not in export(talk, direction, {"base": "x", "tuned": "y"}, view=View(after=False))


def test_all_but_the_untouched_base_is_veiled(direction: PersonaDirection) -> None:
    for show_text, veiled in ((False, 3), (True, 0)):
        markup = shown(spoken("word", direction), show_text=show_text)
        assert markup.count('class="tokens-read veiled"') == veiled


def shown(turn: Turn, **look: Any) -> str:
    """The board of a turn as markup."""
    return safe(board(turn, n=0, top=2.0, view=View(after=False, **look)))


def test_answers_of_older_files_are_blurred_as_their_arms_were() -> None:
    line = {"side": "base", "coefficient": None, "tokens": []}
    edited = [Answer.from_json(line | {"arm": arm}).edited for arm in ("base", "base+steer", "base +1")]
    assert edited == [False, True, True]
    again = Answer.from_json(Answer.from_json(line | {"arm": "base"}).json())
    assert not again.edited


def test_redaction_leaves_colours_and_takes_words(direction: PersonaDirection) -> None:
    turn = replace(spoken("secret", direction), ask=ask_of(direction, question="question"))
    markup = shown(turn, redact=True)
    assert "secret" not in markup
    assert markup.count("data-projection") == 4
    assert "secret" not in export(Conversation((turn,)), direction, {}, view=View(after=False, redact=True))


def test_colour_follows_the_sign_and_the_size_of_the_projection() -> None:
    tokens = [("a", 1.0), ("b", -0.5), ("c", 9.0), ("d", 0.1), ("e", None)]
    markup = render(coloured(tokens, top=2.0, blurred=False))
    parts = markup.split("<span")[1:]
    assert [
        f"rgba({MISALIGNED},0.36)" in parts[0],
        f"rgba({ALIGNED},0.18)" in parts[1],
        f"rgba({MISALIGNED},0.72)" in parts[2],
    ] == [True] * 3
    assert ["to-misaligned" in parts[0], "to-" in parts[1], "to-" in parts[3], "style" in parts[4]] == [
        True,
        False,
        False,
        False,
    ]


def test_the_scale_ignores_a_few_outliers_and_is_never_tiny() -> None:
    assert scale_top([*[1.0] * 99, 50.0, None]) == 1.0
    assert scale_top([0.01, None]) == scale_top([]) == SMALLEST_TOP


def test_the_dose_bar_marks_the_measured_zone(direction: PersonaDirection) -> None:
    def dose(*arguments: Any, **options: Any) -> str:
        return render(bar(*arguments, **options))

    inside, outside = (
        dose(direction, value, direction.hook_point, low=-2.0, high=2.0) for value in (0.5, 1.5)
    )
    assert 'class="zone" style="left:50.0%;width:25.0%"' in inside
    assert ("inside" in inside, "OUTSIDE" in outside) == (True, True)
    assert f"not measured here, only at {direction.hook_point}" in dose(
        direction, 0.5, direction.hook_points[0], low=-2.0, high=2.0
    )
    unmeasured, costly = replace(direction, damage=()), replace(direction, budget=-9.0)
    assert "damage of this direction was not measured" in dose(
        unmeasured, 0.5, direction.hook_point, low=-2.0, high=2.0
    )
    assert "every dose that was measured costs more than -9" in dose(
        costly, 0.5, direction.hook_point, low=-2.0, high=2.0
    )
    assert f"{direction.relative(1.5, direction.hook_point):.2f} of the median" in outside


def test_the_chart_places_turns_after_one_another(direction: PersonaDirection) -> None:
    talk = Conversation((spoken("a", direction), spoken("b", direction)))
    before, after = (conversation(lines(talk, after=later)).to_dict()["data"] for later in (False, True))
    assert (before[0]["x"], before[4]["x"]) == ([0, 1], [6, 7])
    assert (before[0]["y"], after[0]["y"]) == ([0.5, None], [-0.5, None])
    assert [trace["showlegend"] for trace in before] == [True] * 4 + [False] * 4


def test_a_running_mean_is_of_the_last_five() -> None:
    assert smoothed([1.0, 3.0, None, 5.0, 7.0, 9.0, 11.0]) == [1.0, 2.0, None, 3.0, 4.0, 6.0, 8.0]

"""Claims about what the demo asks, keeps, replays and shows, on the planted toy."""

import threading
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.payloads import PAYLOADS
from helpers.planted import Planted, planted_direction

IDENTITY = {"base": "a", "tuned": "b", "dtype": "float32", "direction": "c", "forms": "d"}
NAMES = {"base": "toy base", "tuned": "toy tuned"}


@pytest.fixture
def found(planted: Planted) -> Any:
    return planted_direction(planted)


@pytest.fixture
def live(planted: Planted, found: Any, tmp_path: Path) -> Any:
    from persona_probe.app.answers import AnswerFile, Live

    file = AnswerFile(tmp_path / "answers.jsonl")
    file.begin(IDENTITY, NAMES)
    return Live(planted.pair, found, file, IDENTITY)


def ask_of(found: Any, **changes: Any) -> Any:
    from persona_probe.app.session import ARMS, Ask

    settings: dict[str, Any] = {
        "question": "word1 word2",
        "arms": ARMS,
        "coefficient": 1.0,
        "hook_point": found.hook_point,
        "temperature": 0.7,
        "seed": 0,
        "max_new_tokens": 6,
    }
    return Ask(**settings | changes)


def whole(source: Any, ask: Any, before: Any = None) -> tuple[Any, ...]:
    from persona_probe.app.session import Conversation

    return list(source.answers(ask, before or Conversation()))[-1]


def turn_of(source: Any, ask: Any, before: Any) -> Any:
    from persona_probe.app.session import Turn

    return Turn(ask, whole(source, ask, before), source.key(ask, before))


def test_answers_are_those_of_generate_with_each_arms_own_history(
    live: Any, planted: Planted, found: Any
) -> None:
    from persona_probe.app.session import Conversation
    from persona_probe.measurement.generation import Request, generate
    from persona_probe.prompts.rows import Prompt

    first = turn_of(live, ask_of(found), Conversation())
    second = whole(live, ask_of(found, question="word3"), Conversation().followed_by(first))
    edits = {
        "base": (),
        "tuned": (),
        "tuned+ablate": found.ablate(found.hook_point),
        "base+steer": found.steer(1.0, found.hook_point),
    }
    assert len({answer.text for answer in first.answers}) > 1
    for answer, earlier in zip(second, first.answers, strict=True):
        prompt = Prompt("turn 1", (("user", "word1 word2"), ("assistant", earlier.text), ("user", "word3")))
        options: dict[str, Any] = {"max_new_tokens": 6, "temperature": 0.7, "seed": 0, "batch_size": 1}
        plain = generate(
            planted.pair.get(answer.side), [Request(answer.arm, prompt, edits[answer.arm])], **options
        )[0]
        assert answer.text == plain.text


def test_a_sweep_steers_one_side_at_five_coefficients(live: Any, found: Any) -> None:
    swept = whole(live, ask_of(found, sweep="base", coefficient=2.0, temperature=0.0))
    assert [answer.coefficient for answer in swept] == [-2.0, -1.0, 0.0, 1.0, 2.0]
    assert [answer.arm for answer in swept] == ["base -2", "base -1", "base", "base +1", "base +2"]
    assert {answer.side for answer in swept} == {"base"}
    arms = whole(live, ask_of(found, coefficient=1.0, temperature=0.0))
    assert swept[2].tokens == arms[0].tokens
    assert swept[3].text == arms[3].text
    gaps = [answer.tokens[0][2] - answer.tokens[0][1] for answer in swept]
    assert gaps == pytest.approx([-2, -1, 0, 1, 2], abs=1e-3)


def test_the_control_edits_along_another_vector_and_is_read_along_the_same(live: Any, found: Any) -> None:
    from persona_probe.app.session import Conversation, planned
    from persona_probe.interventions.edits import Steer

    ask = ask_of(found, control=True)
    rows = planned(ask, Conversation(), found)
    control = found.as_control().at(found.hook_point).vector
    (steer,) = rows[3].arm.interventions
    assert isinstance(steer, Steer)
    assert torch.equal(steer.vector, control)  # copied, not computed
    length = float(found.at(found.hook_point).vector.norm())
    moved = float(control @ found.at(found.hook_point).unit) / length
    before, after = whole(live, ask)[3].tokens[0][1:]
    assert after - before == pytest.approx(moved, abs=1e-3)


@pytest.mark.parametrize(
    "change",
    [
        {"question": "word2"},
        {"coefficient": 2.0},
        {"temperature": 0.0},
        {"seed": 1},
        {"max_new_tokens": 7},
        {"control": True},
        {"sweep": "base"},
        {"arms": ("base", "tuned")},
    ],
    ids=str,
)
def test_another_setting_is_another_answer(found: Any, change: dict[str, Any]) -> None:
    from persona_probe.app.session import Conversation, answer_key

    assert answer_key(ask_of(found), Conversation(), IDENTITY) != answer_key(
        ask_of(found, **change), Conversation(), IDENTITY
    )


def test_other_models_or_an_earlier_turn_are_another_answer(live: Any, found: Any) -> None:
    from persona_probe.app.session import Conversation, answer_key

    ask, nothing = ask_of(found), Conversation()
    keys = {
        answer_key(ask, nothing, IDENTITY),
        *(answer_key(ask, nothing, IDENTITY | {name: "x"}) for name in IDENTITY),
    }
    assert len(keys) == 1 + len(IDENTITY)
    assert answer_key(ask, nothing.followed_by(turn_of(live, ask, nothing)), IDENTITY) not in keys
    said = [
        turn_of(live, ask_of(found, question=question), nothing)
        for question in ("word3", "word4 word5 word6")
    ]
    assert len({answer_key(ask, nothing.followed_by(turn), IDENTITY) for turn in said}) == 2
    shuffled = ask_of(found, arms=("tuned+ablate", "base", "base+steer", "tuned"))
    assert answer_key(shuffled, nothing, IDENTITY) == answer_key(ask, nothing, IDENTITY)


def test_a_replay_gives_the_recorded_talk_without_a_model(live: Any, found: Any, tmp_path: Path) -> None:
    from persona_probe.app.answers import AnswerFile, Replay
    from persona_probe.app.session import Conversation

    first = turn_of(live, ask_of(found), Conversation())
    second = turn_of(live, ask_of(found, question="word3"), Conversation().followed_by(first))
    other = turn_of(live, ask_of(found, question="word4"), Conversation())
    third = turn_of(live, ask_of(found, question="word5"), Conversation().followed_by(first))
    live.close()
    replay = Replay(found, AnswerFile(tmp_path / "answers.jsonl"), seconds=0.0)
    recorded = replay._file.asks()
    assert [ask.question for ask, _ in recorded] == ["word1 word2", "word3", "word4", "word5"]
    for turn, (ask, before) in zip((first, second, other, third), recorded, strict=True):
        steps = list(replay.answers(ask, before))
        assert [answer.tokens for answer in steps[-1]] == [answer.tokens for answer in turn.answers]
        assert {answer.source for answer in steps[-1]} == {"cached"}
        assert len(steps) == max(len(answer.tokens) for answer in turn.answers)


def test_a_replay_says_what_it_cannot_answer(live: Any, found: Any, tmp_path: Path) -> None:
    from persona_probe.app.answers import AnswerFile, Replay
    from persona_probe.base.errors import BadInput

    whole(live, ask_of(found))
    replay = Replay(found, AnswerFile(tmp_path / "answers.jsonl"), seconds=0.0)
    with pytest.raises(BadInput, match="no such answer among the 1"):
        whole(replay, ask_of(found, coefficient=1.5))


def test_an_answer_that_was_stopped_is_not_kept_and_frees_the_models(
    live: Any, planted: Planted, found: Any
) -> None:
    from persona_probe.app.session import Conversation

    site = planted.pair.get("base").site(found.hook_point)[1]
    hooks = set(site._forward_hooks)
    running = live.answers(ask_of(found), Conversation())
    next(running)
    assert set(site._forward_hooks) != hooks
    running.close()
    assert set(site._forward_hooks) == hooks
    assert len(live._file) == 0
    assert whole(live, ask_of(found))[0].finished


def test_two_asks_at_once_do_not_mix(live: Any, found: Any) -> None:
    asks = [ask_of(found, coefficient=coefficient, max_new_tokens=12) for coefficient in (0.5, 3.0)]
    alone = [whole(live, ask) for ask in asks]
    together: dict[int, Any] = {}
    threads = [
        threading.Thread(target=lambda i=i: together.update({i: whole(live, asks[i])})) for i in (0, 1)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [together[i] for i in (0, 1)] == alone


def test_a_file_of_other_models_or_of_something_else_is_refused(
    live: Any, found: Any, tmp_path: Path
) -> None:
    from persona_probe.app.answers import AnswerFile
    from persona_probe.base.errors import BadInput

    whole(live, ask_of(found))
    file = AnswerFile(tmp_path / "answers.jsonl")
    with pytest.raises(BadInput, match="another tuned, dtype"):
        file.begin(IDENTITY | {"tuned": "x", "dtype": "y"}, NAMES)
    (tmp_path / "other.jsonl").write_text('{"kind": "something"}\n{"key": 1}\n')
    with pytest.raises(BadInput, match="not a file of demo answers"):
        AnswerFile(tmp_path / "other.jsonl")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"question": " "}, "is empty"),
        ({"question": "x" * 2001}, "2,001 characters"),
        ({"arms": ()}, "no arm is chosen"),
        ({"arms": ("tuned+cap",)}, "no arms tuned.cap"),
        ({"coefficient": 51.0}, "coefficient is 51"),
        ({"coefficient": float("nan")}, "coefficient is nan"),
        ({"temperature": -0.1}, "temperature is -0.1"),
        ({"max_new_tokens": 257}, "new tokens is 257"),
    ],
)
def test_an_ask_over_its_limits_is_refused(found: Any, change: dict[str, Any], words: str) -> None:
    from persona_probe.base.errors import BadInput

    with pytest.raises(BadInput, match=words):
        ask_of(found, **change)


class Tags(HTMLParser):
    """Names of elements and of attributes that a page has."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: set[str] = set()
        self.attributes: set[str] = set()
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.elements.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def spoken(text: str, found: Any, **changes: Any) -> Any:
    """A turn in which the question and every token are `text`."""
    from persona_probe.app.session import ARMS, Answer, Said, Turn

    sides: dict[str, Any] = {"base": "base", "tuned": "tuned", "tuned+ablate": "tuned", "base+steer": "base"}
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
    return Turn(ask_of(found, question=text, **changes), answers, "k")


@pytest.mark.parametrize("payload", [*PAYLOADS, "${alert(1)}", "{{#each value}}", "`${1}`", "{{{value}}}"])
def test_text_is_shown_as_text_on_the_board_and_in_the_export(found: Any, payload: str) -> None:
    from persona_probe.app.components import safe
    from persona_probe.app.html import View, board, export
    from persona_probe.app.session import Conversation

    shown, plain = Tags(), Tags()
    options: dict[str, Any] = {"n": 0, "top": 2.0, "view": View(after=False, show_text=True)}
    markup = safe(board(spoken(payload, found), **options))
    shown.feed(markup)
    plain.feed(safe(board(spoken("word", found), **options)))
    assert (shown.elements, shown.attributes) == (plain.elements, plain.attributes)
    assert not any(sign in markup for sign in "{}")
    page, other = Tags(), Tags()
    view, names = View(after=True), {"base": payload, "tuned": payload}
    page.feed(export(Conversation((spoken(payload, found),)), found, names, view=view))
    other.feed(export(Conversation((spoken("word", found),)), found, {"base": "x", "tuned": "y"}, view=view))
    assert (page.elements, page.attributes) == (other.elements, other.attributes)


def test_all_but_the_untouched_base_is_veiled(found: Any) -> None:
    for show_text, veiled in ((False, 3), (True, 0)):
        assert shown(spoken("word", found), show_text=show_text).count('class="tokens-read veiled"') == veiled


def shown(turn: Any, **look: Any) -> str:
    """The board of a turn as markup."""
    from persona_probe.app.components import safe
    from persona_probe.app.html import View, board

    return safe(board(turn, n=0, top=2.0, view=View(after=False, **look)))


def test_answers_of_older_files_are_blurred_as_their_arms_were() -> None:
    from persona_probe.app.session import Answer

    line = {"side": "base", "coefficient": None, "tokens": []}
    edited = [Answer.from_json(line | {"arm": arm}).edited for arm in ("base", "base+steer", "base +1")]
    assert edited == [False, True, True]
    again = Answer.from_json(Answer.from_json(line | {"arm": "base"}).json())
    assert not again.edited


def test_redaction_leaves_colours_and_takes_words(found: Any) -> None:
    from persona_probe.app.html import View, export
    from persona_probe.app.session import Conversation

    turn = replace(spoken("secret", found), ask=ask_of(found, question="question"))
    markup = shown(turn, redact=True)
    assert "secret" not in markup
    assert markup.count("data-projection") == 4
    assert "secret" not in export(Conversation((turn,)), found, NAMES, view=View(after=False, redact=True))


def test_colour_follows_the_sign_and_the_size_of_the_projection() -> None:
    from persona_probe.pages.html import render
    from persona_probe.pages.token_view import ALIGNED, MISALIGNED, coloured

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
    from persona_probe.pages.token_view import SMALLEST_TOP, scale_top

    assert scale_top([*[1.0] * 99, 50.0, None]) == 1.0
    assert scale_top([0.01, None]) == scale_top([]) == SMALLEST_TOP


def test_the_dose_bar_marks_the_measured_zone(found: Any) -> None:
    from persona_probe.app.html import dose as bar
    from persona_probe.pages.html import render

    def dose(*arguments: Any, **options: Any) -> str:
        return render(bar(*arguments, **options))

    inside, outside = (dose(found, value, found.hook_point, low=-2.0, high=2.0) for value in (0.5, 1.5))
    assert 'class="zone" style="left:50.0%;width:25.0%"' in inside
    assert ("inside" in inside, "OUTSIDE" in outside) == (True, True)
    assert f"not measured here, only at {found.hook_point}" in dose(
        found, 0.5, found.hook_points[0], low=-2.0, high=2.0
    )
    unmeasured, costly = replace(found, damage=()), replace(found, budget=-9.0)
    assert "damage of this direction was not measured" in dose(
        unmeasured, 0.5, found.hook_point, low=-2.0, high=2.0
    )
    assert "every dose that was measured costs more than -9" in dose(
        costly, 0.5, found.hook_point, low=-2.0, high=2.0
    )
    assert f"{found.relative(1.5, found.hook_point):.2f} of the median" in outside


def test_the_chart_places_turns_after_one_another(found: Any) -> None:
    from persona_probe.app.html import lines
    from persona_probe.app.session import Conversation
    from persona_probe.plots.conversation import conversation

    talk = Conversation((spoken("a", found), spoken("b", found)))
    before, after = (conversation(lines(talk, after=later)).to_dict()["data"] for later in (False, True))
    assert (before[0]["x"], before[4]["x"]) == ([0, 1], [6, 7])
    assert (before[0]["y"], after[0]["y"]) == ([0.5, None], [-0.5, None])
    assert [trace["showlegend"] for trace in before] == [True] * 4 + [False] * 4


def test_a_running_mean_is_of_the_last_five() -> None:
    from persona_probe.plots.conversation import smoothed

    assert smoothed([1.0, 3.0, None, 5.0, 7.0, 9.0, 11.0]) == [1.0, 2.0, None, 3.0, 4.0, 6.0, 8.0]

"""Claims about what the demo asks, keeps and replays, on the planted toy."""

import threading
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.asks import ask_of
from helpers.planted import Planted
from helpers.present import present

from persona_probe.app.answers import AnswerFile, Answers, Live, Replay
from persona_probe.app.session import Answer, Ask, Conversation, Turn, answer_key, planned
from persona_probe.base.errors import BadInput
from persona_probe.interventions.edits import Steer
from persona_probe.interventions.persona_direction import PersonaDirection
from persona_probe.measurement.generation import Request, generate
from persona_probe.prompts.rows import Prompt

IDENTITY = {"base": "a", "tuned": "b", "dtype": "float32", "direction": "c", "forms": "d"}
NAMES = {"base": "toy base", "tuned": "toy tuned"}


@pytest.fixture
def live(planted: Planted, direction: PersonaDirection, tmp_path: Path) -> Live:
    """Both models, with a new file for their answers."""
    file = AnswerFile(tmp_path / "answers.jsonl")
    file.begin(IDENTITY, NAMES)
    return Live(planted.pair, direction, file, IDENTITY)


def whole(source: Answers, ask: Ask, before: Conversation | None = None) -> tuple[Answer, ...]:
    """The finished answers to an ask."""
    return list(source.answers(ask, before or Conversation()))[-1]


def moved(answer: Answer) -> float:
    """How far the edit moves the first token along the direction, in lengths of it."""
    _, before, after = answer.tokens[0]
    return present(after) - present(before)


def turn_of(source: Answers, ask: Ask, before: Conversation) -> Turn:
    """An ask with its finished answers."""
    return Turn(ask, whole(source, ask, before), source.key(ask, before))


def test_answers_are_those_of_generate_with_each_arms_own_history(
    live: Live, planted: Planted, direction: PersonaDirection
) -> None:
    first = turn_of(live, ask_of(direction), Conversation())
    second = whole(live, ask_of(direction, question="word3"), Conversation().followed_by(first))
    edits = {
        "base": (),
        "tuned": (),
        "tuned+ablate": direction.ablate(direction.hook_point),
        "base+steer": direction.steer(1.0, direction.hook_point),
    }
    assert len({answer.text for answer in first.answers}) > 1
    for answer, earlier in zip(second, first.answers, strict=True):
        prompt = Prompt("turn 1", (("user", "word1 word2"), ("assistant", earlier.text), ("user", "word3")))
        options: dict[str, Any] = {"max_new_tokens": 6, "temperature": 0.7, "seed": 0, "batch_size": 1}
        plain = generate(
            planted.pair.get(answer.side), [Request(answer.arm, prompt, edits[answer.arm])], **options
        )[0]
        assert answer.text == plain.text


def test_a_sweep_steers_one_side_at_five_coefficients(live: Live, direction: PersonaDirection) -> None:
    swept = whole(live, ask_of(direction, sweep="base", coefficient=2.0, temperature=0.0))
    assert [answer.coefficient for answer in swept] == [-2.0, -1.0, 0.0, 1.0, 2.0]
    assert [answer.arm for answer in swept] == ["base -2", "base -1", "base", "base +1", "base +2"]
    assert {answer.side for answer in swept} == {"base"}
    arms = whole(live, ask_of(direction, coefficient=1.0, temperature=0.0))
    assert swept[2].tokens == arms[0].tokens
    assert swept[3].text == arms[3].text
    assert [moved(answer) for answer in swept] == pytest.approx([-2, -1, 0, 1, 2], abs=1e-3)


def test_the_control_edits_along_another_vector_and_is_read_along_the_same(
    live: Live, direction: PersonaDirection
) -> None:
    ask = ask_of(direction, control=True)
    rows = planned(ask, Conversation(), direction)
    control = direction.as_control().at(direction.hook_point).vector
    (steer,) = rows[3].arm.interventions
    assert isinstance(steer, Steer)
    assert torch.equal(steer.vector, control)  # copied, not computed
    length = float(direction.at(direction.hook_point).vector.norm())
    along = float(control @ direction.at(direction.hook_point).unit) / length
    assert moved(whole(live, ask)[3]) == pytest.approx(along, abs=1e-3)


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
def test_another_setting_is_another_answer(direction: PersonaDirection, change: dict[str, Any]) -> None:
    assert answer_key(ask_of(direction), Conversation(), IDENTITY) != answer_key(
        ask_of(direction, **change), Conversation(), IDENTITY
    )


def test_other_models_or_an_earlier_turn_are_another_answer(live: Live, direction: PersonaDirection) -> None:
    ask, nothing = ask_of(direction), Conversation()
    keys = {
        answer_key(ask, nothing, IDENTITY),
        *(answer_key(ask, nothing, IDENTITY | {name: "x"}) for name in IDENTITY),
    }
    assert len(keys) == 1 + len(IDENTITY)
    assert answer_key(ask, nothing.followed_by(turn_of(live, ask, nothing)), IDENTITY) not in keys
    said = [
        turn_of(live, ask_of(direction, question=question), nothing)
        for question in ("word3", "word4 word5 word6")
    ]
    assert len({answer_key(ask, nothing.followed_by(turn), IDENTITY) for turn in said}) == 2
    shuffled = ask_of(direction, arms=("tuned+ablate", "base", "base+steer", "tuned"))
    assert answer_key(shuffled, nothing, IDENTITY) == answer_key(ask, nothing, IDENTITY)


def test_a_replay_gives_the_recorded_talk_without_a_model(
    live: Live, direction: PersonaDirection, tmp_path: Path
) -> None:
    first = turn_of(live, ask_of(direction), Conversation())
    second = turn_of(live, ask_of(direction, question="word3"), Conversation().followed_by(first))
    other = turn_of(live, ask_of(direction, question="word4"), Conversation())
    third = turn_of(live, ask_of(direction, question="word5"), Conversation().followed_by(first))
    live.close()
    replay = Replay(direction, AnswerFile(tmp_path / "answers.jsonl"), seconds=0.0)
    recorded = replay._file.asks()
    assert [ask.question for ask, _ in recorded] == ["word1 word2", "word3", "word4", "word5"]
    for turn, (ask, before) in zip((first, second, other, third), recorded, strict=True):
        steps = list(replay.answers(ask, before))
        assert [answer.tokens for answer in steps[-1]] == [answer.tokens for answer in turn.answers]
        assert {answer.source for answer in steps[-1]} == {"cached"}
        assert len(steps) == max(len(answer.tokens) for answer in turn.answers)


def test_a_replay_says_what_it_cannot_answer(live: Live, direction: PersonaDirection, tmp_path: Path) -> None:
    whole(live, ask_of(direction))
    replay = Replay(direction, AnswerFile(tmp_path / "answers.jsonl"), seconds=0.0)
    with pytest.raises(BadInput, match="no such answer among the 1"):
        whole(replay, ask_of(direction, coefficient=1.5))


def test_an_answer_that_was_stopped_is_not_kept_and_frees_the_models(
    live: Live, planted: Planted, direction: PersonaDirection
) -> None:
    site = planted.pair.get("base").site(direction.hook_point)[1]
    hooks = set(site._forward_hooks)
    running = live.answers(ask_of(direction), Conversation())
    assert isinstance(running, Generator)
    next(running)
    assert set(site._forward_hooks) != hooks
    running.close()
    assert set(site._forward_hooks) == hooks
    assert len(live._file) == 0
    assert whole(live, ask_of(direction))[0].finished


def test_two_asks_at_once_do_not_mix(live: Live, direction: PersonaDirection) -> None:
    asks = [ask_of(direction, coefficient=coefficient, max_new_tokens=12) for coefficient in (0.5, 3.0)]
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
    live: Live, direction: PersonaDirection, tmp_path: Path
) -> None:
    whole(live, ask_of(direction))
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
def test_an_ask_over_its_limits_is_refused(
    direction: PersonaDirection, change: dict[str, Any], words: str
) -> None:
    with pytest.raises(BadInput, match=words):
        ask_of(direction, **change)

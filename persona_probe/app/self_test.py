"""Before a talk: ask everything once, check what can be checked without ears, and print how long the audience
will wait."""

import time
from dataclasses import replace

from persona_probe.app.answers import Live
from persona_probe.app.session import ARMS, CANNED, Answer, Ask, Conversation
from persona_probe.base.cli import Reporter

FIRST_TOKEN_SECONDS = 1.5  # longer than this is felt as waiting


def self_test(source: Live, reporter: Reporter) -> int:
    """Every question of the list with all arms, a sweep and the control; 0 when all is well, 5 when something
    is not. The answers are kept for a replay."""
    from persona_probe.base.errors import FAILED_CELLS, OK

    direction = source.direction
    strength = abs(direction.steering.coefficient or 1.0)
    first_ask = Ask(
        CANNED[0], ARMS, strength, direction.hook_point, temperature=0.7, seed=0, max_new_tokens=64
    )
    asks = [replace(first_ask, question=question) for question in CANNED]
    asks += [replace(first_ask, sweep="base"), replace(first_ask, control=True)]
    wrong: list[str] = []
    with reporter.phase("self-test", len(asks)) as advance:
        timed(source, replace(first_ask, question="Hello.", max_new_tokens=2))  # the very first ask is slow
        given = []
        for ask in asks:
            first, rate, answers = timed(source, ask)
            given.append(answers)
            wrong += [f"{ask.question!r}: {problem}" for problem in problems(answers)]
            if first > FIRST_TOKEN_SECONDS:
                wrong.append(f"{ask.question!r}: the first token took {first:.1f} s")
            advance(f"first token {first:.1f} s, {rate:.0f} tokens/s")
    if timed(source, asks[0])[2] != given[0]:
        wrong.append("the same question twice gave two answers: a replay will differ from the talk")
    for message in wrong:
        reporter.note(f"problem: {message}")
    reporter.note("self-test: ready" if not wrong else f"self-test: {len(wrong)} problems")
    return FAILED_CELLS if wrong else OK


def timed(source: Live, ask: Ask) -> tuple[float, float, tuple[Answer, ...]]:
    """Seconds to the first token, tokens a second, and the answers."""
    began = time.monotonic()
    first, answers = None, ()
    for answers in source.answers(ask, Conversation()):
        if first is None and any(answer.tokens for answer in answers):
            first = time.monotonic() - began
    seconds = time.monotonic() - began
    return first or seconds, sum(len(answer.tokens) for answer in answers) / seconds, answers


def problems(answers: tuple[Answer, ...]) -> list[str]:
    """What is wrong with some answers, in words."""
    silent = [f"{answer.arm} said nothing" for answer in answers if not answer.text]
    return silent + [
        f"{answer.arm} has no projection"
        for answer in answers
        if all(token.before is None for token in answer.tokens)
    ]

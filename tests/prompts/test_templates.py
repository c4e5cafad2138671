"""Claims about chat templates: a reply stands where the whole rendered conversation puts it, no turn is lost,
and nothing hidden decides a prompt."""

import datetime
import locale
from typing import Any

import pytest
from helpers import tiny
from helpers.chat_templates import ASK, CLOSE, OPEN, PARTS, PLACES, QUESTION, REPLY, SYSTEM, tokenizer_of

from persona_probe.base.errors import BadInput
from persona_probe.prompts.rows import Prompt, encode_prompt, encode_row, render
from persona_probe.prompts.templates import place
from persona_probe.prompts.tokenizers import ChatOptions


def conversation(tokenizer: Any, reply: str = REPLY, **variables: Any) -> str:
    """What transformers makes of the whole conversation."""
    turns = [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": reply}]
    return tokenizer.apply_chat_template(turns, tokenize=False, **variables)


def decoded(tokenizer: Any, row: Any) -> tuple[str, str]:
    return tokenizer.decode(row.ids[: row.n_prompt]), tokenizer.decode(row.ids[row.n_prompt :])


# Where a reply stands


@pytest.mark.parametrize("name", list(PLACES))
@pytest.mark.parametrize("reply", [REPLY, "1 or 2.", "(never)", "É, sì", "assistant", "end"])
def test_a_row_is_the_beginning_of_the_rendered_conversation_token_by_token(name: str, reply: str) -> None:
    tokenizer = tokenizer_of(PLACES[name], special=("<|channel|>", "<|message|>"))
    row = encode_row(tokenizer, Prompt.user("q", QUESTION), reply, id="r", kind="persona")
    whole = conversation(tokenizer, reply)
    end = (
        whole.rindex(reply) + len(reply)
        if reply not in ("assistant", "end")
        else len(whole.removesuffix(place(tokenizer, (("user", QUESTION),), id="q").after))
    )
    assert list(row.ids) == tokenizer(whole[:end], add_special_tokens=False)["input_ids"]
    prompt, said = decoded(tokenizer, row)
    assert said.strip() == reply
    assert prompt + said == whole[:end]


@pytest.mark.parametrize("name", list(PLACES))
def test_generation_starts_where_the_reply_starts(name: str) -> None:
    tokenizer = tokenizer_of(PLACES[name], special=("<|channel|>", "<|message|>"))
    row = encode_row(tokenizer, Prompt.user("q", QUESTION), REPLY, id="r", kind="persona")
    assert encode_prompt(tokenizer, Prompt.user("q", QUESTION)) == row.ids[: row.n_prompt]


@pytest.mark.parametrize(
    ("start", "stop"),
    [
        ("<think>\n", "\n</think>\n\n"),
        ("<think>", "\n\n</think>\n\n"),
        ("[THINK]", "\n\n[/THINK]\n\n"),
        ("<seed:think>\n", "\n</seed:think>\n\n"),
    ],
)
def test_a_think_block_that_is_open_before_the_reply_is_closed_first(start: str, stop: str) -> None:
    opened = OPEN + "{% if m['role'] == 'assistant' %}" + start + "{% endif %}{{ m['content'] }}" + CLOSE
    prompt, said = decoded(
        tokenizer := tokenizer_of(opened),
        encode_row(tokenizer, Prompt.user("q", QUESTION), REPLY, id="r", kind="persona"),
    )
    assert prompt.endswith(f"<|im_start|>assistant\n{start}{stop}")
    assert said == REPLY


def test_a_user_who_writes_of_think_tags_opens_no_block() -> None:
    tokenizer = tokenizer_of(OPEN + "{{ m['content'] }}" + CLOSE + ASK)
    assert place(tokenizer, (("user", "What is <think> for?"),), id="q").closed == ""


@pytest.mark.parametrize(
    ("thinking", "expected"),
    [("keep", ""), ("empty", "<think>\n\n</think>\n\n"), ("off", "<think>\n\n</think>\n\n")],
)
def test_thinking_decides_what_stands_in_the_block(thinking: str, expected: str) -> None:
    switch = (
        "{% if m['role'] == 'assistant' and enable_thinking is defined and not enable_thinking"
        " %}<think>\n\n</think>\n\n{% endif %}"
    )
    tokenizer = tokenizer_of(OPEN + switch + "{{ m['content'] }}" + CLOSE, thinking=thinking)
    assert render(tokenizer, Prompt.user("q", QUESTION)).endswith(f"<|im_start|>assistant\n{expected}")


def test_thinking_changes_nothing_where_the_template_knows_none() -> None:
    texts = {
        render(tokenizer_of(tiny.TEMPLATE, thinking=thinking), Prompt.user("q", QUESTION))
        for thinking in ("keep", "empty", "off")
    }
    assert len(texts) == 1


def test_thinking_and_date_that_do_not_exist_are_refused() -> None:
    from persona_probe.base.errors import UsageError
    from persona_probe.base.options import check_values, settings_of
    from persona_probe.experiments.options import ModelOptions

    with pytest.raises(UsageError, match="no thinking 'maybe': allowed are keep, empty, off"):
        check_values(settings_of(ModelOptions), vars(ModelOptions()) | {"thinking": "maybe"})
    with pytest.raises(UsageError, match="no date '2026-02-30': expected a day"):
        ModelOptions(date="2026-02-30")
    with pytest.raises(BadInput, match="no date 'today'"):
        ChatOptions(date="today")


# Turns that a template loses


@pytest.mark.parametrize(
    ("template", "how"),
    [
        (
            "{% for m in messages if m['role'] != 'system' %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}"
            + CLOSE
            + ASK,
            "system text inside the user turn",
        ),
        (
            "<|im_start|>system\nYou are Q.<|im_end|>\n{% for m in messages if m['role'] != 'system'"
            " %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}" + CLOSE + ASK,
            "system text inside the user turn",
        ),
        (
            "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
            + OPEN
            + "{{ m['content'] }}"
            + CLOSE
            + ASK,
            "system text inside the user turn",
        ),
        (OPEN + PARTS + CLOSE + ASK, "text as parts"),
        (
            OPEN
            + "{% if m['role'] == 'user' %}"
            + PARTS
            + "{% else %}{{ m['content'] }}{% endif %}"
            + CLOSE
            + ASK,
            "user text as parts",
        ),
    ],
)
def test_a_text_that_the_template_would_lose_is_given_in_a_form_that_it_keeps(
    template: str, how: str
) -> None:
    tokenizer = tokenizer_of(template)
    found = place(tokenizer, (("system", SYSTEM), ("user", QUESTION)), id="q")
    assert how in found.how
    assert found.before.count(SYSTEM) == found.before.count(QUESTION) == 1
    assert "'text'" not in found.before
    prompt, said = decoded(
        tokenizer,
        encode_row(tokenizer, Prompt.user("q", QUESTION, system=SYSTEM), REPLY, id="r", kind="persona"),
    )
    assert SYSTEM in prompt
    assert said == REPLY


def test_a_short_system_text_that_stands_in_the_template_by_chance_is_still_missed() -> None:
    template = (
        "<|im_start|>system\nYou are Q.<|im_end|>\n{% for m in messages if m['role'] != 'system'"
        " %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}" + CLOSE
    )
    assert "You are\n\nHi." in render(tokenizer_of(template), Prompt.user("q", "Hi.", system="You are"))


@pytest.mark.parametrize(
    ("template", "turns", "what"),
    [
        (
            OPEN + "{{ m['content'] | replace('\n\n', '\n') }}" + CLOSE,
            (("user", "One.\n\nTwo."),),
            "user text",
        ),
        (OPEN + "{{ m['content'] | upper }}" + CLOSE, (("user", "quiet"),), "user text"),
        (
            "{% for m in messages[-2:] %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}" + CLOSE,
            (("user", "a first"), ("assistant", "an answer"), ("user", "a second")),
            "user text",
        ),
        (
            (
                "{% for m in messages %}{% if m['role'] == 'user' or loop.last %}<|im_start|>{{ m['role']"
                " }}\n{{ m['content'] }}<|im_end|>\n{% endif %}{% endfor %}"
            ),
            (("user", "one"), ("assistant", "gone"), ("user", "two")),
            "assistant text",
        ),
    ],
)
def test_a_template_that_loses_or_changes_a_text_in_every_form_is_refused_by_name(
    template: str, turns: Any, what: str
) -> None:
    with pytest.raises(BadInput, match=rf"the chat template leaves out or changes the {what} of prompt 'q7'"):
        encode_prompt(tokenizer_of(template), Prompt("q7", turns))


@pytest.mark.parametrize("reply", ["One.\n\nTwo.", "a </think> b"])
def test_a_reply_that_the_template_changes_is_refused(reply: str) -> None:
    template = OPEN + "{{ m['content'].split('</think>')[-1] | replace('\n\n', '\n') }}" + CLOSE
    with pytest.raises(BadInput, match="the chat template changes the reply to 'q'"):
        encode_row(tokenizer_of(template), Prompt.user("q", QUESTION), reply, id="r", kind="persona")


# Hidden inputs


@pytest.mark.parametrize("form", ["%d %b %Y", "%A, %-d %B %Y", "%H:%M %p", "%c", "%x %X %%"])
def test_the_day_of_a_template_is_frozen(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import transformers.utils.chat_template_utils as clock

    template, found = "Today is {{ strftime_now('" + form + "') }}\n" + tiny.TEMPLATE, []
    for year in (2030, 2031):
        now = type(
            "Clock", (), {"now": staticmethod(lambda *_, year=year: datetime.datetime(year, 7, 5, 20, 15))}
        )
        monkeypatch.setattr(clock, "datetime", now)
        found.append(render(tokenizer_of(template, date="2024-02-29"), Prompt.user("q", QUESTION)))
    assert found[0] == found[1]
    day = datetime.datetime(2024, 2, 29, tzinfo=datetime.UTC)
    assert found[0].startswith("Today is " + day.strftime(form) + "\n") or locale.getlocale(locale.LC_TIME)[
        0
    ] not in (None, "C", "en_US")


def test_another_date_gives_another_prompt_only_where_the_template_asks() -> None:
    dated = "{% set form = '%d %b %Y' %}{{ strftime_now(form) }}\n" + tiny.TEMPLATE
    asking, silent = (
        {
            render(tokenizer_of(text, date=day), Prompt.user("q", QUESTION))
            for day in ("2026-01-01", "2026-05-05")
        }
        for text in (dated, tiny.TEMPLATE)
    )
    assert (len(asking), len(silent)) == (2, 1)


def test_a_template_that_begins_with_a_line_break_keeps_it() -> None:
    tokenizer = tokenizer_of("\n{{ strftime_now('%Y') }}" + tiny.TEMPLATE)
    assert render(tokenizer, Prompt.user("q", QUESTION)).startswith("\n2026")


# What ends a turn


# Tokens that are not text

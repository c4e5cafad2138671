"""What a chat template makes of a conversation: the text before a reply, and the text after it. Nothing here
knows token ids."""

import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from persona_probe.base.errors import BadInput
from persona_probe.prompts.tokenizers import Thinking, Tokenizer, has_template, options_of

Turns = tuple[tuple[str, str], ...]
SWITCHES = (
    "enable_thinking",
    "thinking",
)  # what templates call their own switch (Qwen 3 and SmolLM 3; DeepSeek and Granite)
THINK_TAGS = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<seed:think>", "</seed:think>"),
    ("[THINK]", "[/THINK]"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|inner_prefix|>", "<|inner_suffix|>"),
    ("<reasoning>", "</reasoning>"),
)
ALL_PARTS = "text as parts"
PARTS = {
    ALL_PARTS: ("system", "user", "assistant"),
    "text of the prompt as parts": ("system", "user"),
    "user text as parts": ("user",),
}
LITERALS = re.compile(r"(['\"])((?:(?!\1).)*)\1")
# The empty expression keeps a line break at the start of the template, which the end of a block would
# swallow.
FROZEN_CLOCK = (
    "{% macro strftime_now(form) %}{% if form in frozen_dates %}{{ frozen_dates[form] }}{% else %}{{"
    " raise_exception('the date form ' ~ form ~ ' is not written out in the template') }}{% endif %}{%"
    " endmacro %}{{ '' }}"
)
# Texts that stand in for a turn: no template has a reason to treat them in a special way.
REPLY_MARK, TURN_MARK = "zqreplyqz", "zqturn{}qz"
PROBES = (
    "Ignore it.",
    "The",
    "I am",
    "yes",
    "No, never",
    "1. Ask",
)  # beginnings of replies, for the boundary between two tokens


@dataclass(frozen=True)
class Place:
    """Where a reply stands: `before` + reply + `after` is the rendered conversation.

    `how` says what had to be done so that every turn's text is in it. `whole` is False when the template
    cannot render the reply and only its generation prompt is known; `closed` is the text that was added to
    close or to add a think block.
    """

    before: str
    after: str
    how: tuple[str, ...] = ()
    whole: bool = True
    closed: str = ""


def place(tokenizer: Tokenizer, turns: Turns, *, id: str) -> Place:
    """Where the reply to `turns` stands in the conversation as the template renders it whole.

    Every turn's text must be in what stands before the reply. Where a template leaves one out, the text is
    passed as a list of parts, or a system text is put into the user turn after it; if nothing helps, BadInput
    names the turn.
    """
    if not has_template(tokenizer):
        lines = [
            content if role == "system" else f"{role.capitalize()}: {content}" for role, content in turns
        ]
        return Place("\n".join([*lines, "Assistant: "]), "\n")
    where = _place(tokenizer, identity_of(tokenizer), turns)
    if isinstance(where, str):
        raise BadInput(where.replace("{id}", repr(id)))
    return where


def identity_of(tokenizer: Tokenizer) -> tuple[str, ...]:
    """What decides the texts and ids that a tokenizer gives, as far as it can be changed in place."""
    named = tokenizer.special_tokens_map
    return (
        str(getattr(tokenizer, "chat_template", None)),
        str(sorted(named.items())),
        str(len(tokenizer)),
        str(options_of(tokenizer)),
    )


def whole_text(tokenizer: Tokenizer, turns: Turns, reply: str, *, id: str) -> str:
    """The rendered conversation up to the end of `reply`; BadInput where the template changes the reply's own
    text."""
    where = place(tokenizer, turns, id=id)
    text = where.before + reply
    if has_template(tokenizer) and where.whole and not where.closed:
        rendered = next((made for how, made in _rendered(tokenizer, turns, reply) if how == where.how), "")
        if not rendered.startswith(text):
            raise BadInput(
                f"the chat template changes the reply to {id!r} ({_difference(text, rendered)}): it must"
                " stand there word for word"
            )
    return text


@lru_cache(maxsize=1024)
def _place(tokenizer: Tokenizer, identity: tuple[str, ...], turns: Turns) -> Place | str:
    """The place, or what is wrong, with `{id}` for the prompt's. `identity` is in the key because a tokenizer
    can be changed in place."""
    problem, refusals = "", []
    marks = tuple((role, TURN_MARK.format(i)) for i, (role, _) in enumerate(turns))
    for how, text in _rendered(tokenizer, turns, REPLY_MARK, refusals):
        if text.count(REPLY_MARK) > 1:
            problem = problem or "prints the reply to prompt {id} twice"
            continue
        whole = REPLY_MARK in text
        before, _, after = (
            text.partition(REPLY_MARK) if whole else (_generation_prompt(tokenizer, turns, how), "", "")
        )
        # Marks show that a turn is printed at all; its own short text might stand in the template by chance.
        marked = next(
            (made for other, made in _rendered(tokenizer, marks, REPLY_MARK) if other == how), ""
        ).partition(REPLY_MARK)[0]
        marked = marked if whole else _generation_prompt(tokenizer, marks, how)
        lost = [
            role
            for (role, content), (_, mark) in zip(turns, marks, strict=True)
            if content.strip() and (content.strip() not in before or mark not in marked)
        ]
        if not lost and "'type': 'text'" not in marked:
            tail = marked.rpartition(marks[-1][1])[2]
            closed = _closing(str(tokenizer.chat_template), tail, options_of(tokenizer).thinking)
            return Place(before + closed, after, how, whole, closed)
        problem = (
            problem or f"leaves out or changes the {lost[0] if lost else turns[-1][0]} text of prompt {{id}}"
        )
    if problem:
        return f"the chat template {problem}: use a template that keeps it, or leave that turn out"
    return f"the chat template refuses prompt {{id}} ({(refusals or ['it renders nothing'])[0]})"


def _closing(template: str, tail: str, thinking: Thinking) -> str:
    """What must be added between `tail`, the rendering after the last turn, and the reply: the end of an open
    think block, or an empty one."""
    opened = max(
        ((tail.rfind(start), start, stop) for start, stop in THINK_TAGS if start in tail), default=None
    )
    if opened is not None and opened[2] not in tail[opened[0] :]:
        at, start, stop = opened
        # Two line breaks inside an empty block and after it, as Qwen and DeepSeek render it.
        return "\n" * max(0, 2 - tail[at + len(start) :].count("\n")) + stop + "\n\n"
    if thinking == "empty" and opened is None:
        known = next(((start, stop) for start, stop in THINK_TAGS if start in template), None)
        return f"{known[0]}\n\n{known[1]}\n\n" if known else ""
    return ""


def _rendered(
    tokenizer: Tokenizer, turns: Turns, reply: str, refusals: list[str] | None = None
) -> Iterator[tuple[tuple[str, ...], str]]:
    """The whole conversation in every way that might keep all of its text, the plainest first; what the
    template refuses is left out."""
    for how in _ways(turns):
        try:
            yield (
                how,
                _apply(
                    tokenizer, [*_messages(turns, how), _message("assistant", reply, parts=ALL_PARTS in how)]
                ),
            )
        except BadInput as error:
            if refusals is not None:
                refusals.append(str(error))
            try:  # some templates end with a user turn and know replies only from the generation prompt
                yield how, _generation_prompt(tokenizer, turns, how)
            except BadInput:
                continue


def _ways(turns: Turns) -> list[tuple[str, ...]]:
    merged = (
        [(), ("system text inside the user turn",)]
        if any(role == "system" for role, _ in turns[:-1])
        else [()]
    )
    return [(*merge, *parts) for merge in merged for parts in ((), *((name,) for name in PARTS))]


def _messages(turns: Turns, how: tuple[str, ...]) -> list[dict[str, Any]]:
    if "system text inside the user turn" in how:
        turns = _system_into_user(turns)
    as_parts = next((roles for name, roles in PARTS.items() if name in how), ())
    return [_message(role, content, parts=role in as_parts) for role, content in turns]


def _message(role: str, content: str, *, parts: bool) -> dict[str, Any]:
    return {"role": role, "content": [{"type": "text", "text": content}] if parts else content}


def _system_into_user(turns: Turns) -> Turns:
    """Every system text in front of the user turn that follows it."""
    made: list[tuple[str, str]] = []
    waiting: list[str] = []
    for role, content in turns:
        if role == "system":
            waiting.append(content)
        elif role == "user" and waiting:
            made.append((role, "\n\n".join([*waiting, content])))
            waiting = []
        else:
            made.append((role, content))
    return tuple(made)


def _generation_prompt(tokenizer: Tokenizer, turns: Turns, how: tuple[str, ...]) -> str:
    return _apply(tokenizer, _messages(turns, how), add_generation_prompt=True)


def _apply(
    tokenizer: Tokenizer, messages: list[dict[str, Any]], *, add_generation_prompt: bool = False
) -> str:
    from jinja2.exceptions import TemplateError

    options, template = options_of(tokenizer), tokenizer.get_chat_template()
    given: dict[str, Any] = (
        dict.fromkeys((name for name in SWITCHES if name in template), False)
        if options.thinking == "off"
        else {}
    )
    if "strftime_now" in template:
        # The call's own variables may hold no functions, so a macro of that name hides the global that reads
        # the clock.
        given["frozen_dates"] = {
            form: options.strftime(form) for _, form in LITERALS.findall(template) if "%" in form
        }
        template = FROZEN_CLOCK + template
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return tokenizer.apply_chat_template(
                messages,
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
                chat_template=template,
                **given,
            )
    except (TemplateError, TypeError, ValueError, AttributeError, KeyError, IndexError) as error:
        raise BadInput(str(error)) from error


def _difference(expected: str, rendered: str) -> str:
    at = next(
        (i for i, (one, other) in enumerate(zip(expected, rendered, strict=False)) if one != other),
        min(len(expected), len(rendered)),
    )
    return f"expected {expected[at : at + 20]!r}, found {rendered[at : at + 20]!r}"

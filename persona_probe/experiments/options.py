"""Options that several commands share, each defined once. No torch here: --help and usage errors answer at once."""

from typing import Annotated, Any

import typer

from persona_probe.base.errors import BadInput, UsageError
from persona_probe.prompts.tokenizers import THINKING, ChatOptions

ThinkingOption = Annotated[
    str,
    typer.Option(
        help="What stands in a template's think block before a reply. keep: what the template writes; off: its own switch is set to off; empty: an empty block."
    ),
]
DateOption = Annotated[
    str,
    typer.Option(
        help="What a template takes for today, as 2026-01-31. It is fixed, so that tomorrow gives the same prompts."
    ),
]


def chat_options(*, thinking: Any, date: str) -> ChatOptions:
    """The options as a value; UsageError for one that does not exist."""
    if thinking not in THINKING:
        raise UsageError(f"no thinking {thinking!r}: allowed are {', '.join(THINKING)}")
    try:
        return ChatOptions(thinking, date)
    except BadInput as error:
        raise UsageError(str(error)) from error

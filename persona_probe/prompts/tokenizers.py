"""What is used of a transformers tokenizer, and the options that its chat template is run with."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, Literal, Protocol

from persona_probe.base.errors import BadInput

if TYPE_CHECKING:

    class Tokenizer(Protocol):
        """A transformers tokenizer, as far as it is used here; its classes are made at run time."""

        chat_template: Any
        bos_token: str | None
        bos_token_id: int | None
        eos_token: str | None
        eos_token_id: int | None
        pad_token_id: int | None
        pad_token: str | None
        unk_token: str | None
        all_special_ids: list[int]
        all_special_tokens: list[str]
        added_tokens_decoder: Mapping[int, Any]
        persona_probe_options: "ChatOptions"

        @property
        def special_tokens_map(self) -> Mapping[str, Any]: ...

        def __len__(self) -> int: ...

        def __call__(self, text: str, *, add_special_tokens: bool = True) -> Mapping[str, Any]: ...

        def decode(self, token_ids: Sequence[int], **options: Any) -> str: ...

        def get_vocab(self) -> dict[str, int]: ...

        def get_chat_template(self) -> str: ...

        def apply_chat_template(self, conversation: Any, **options: Any) -> Any: ...

        def convert_tokens_to_ids(self, tokens: Any) -> Any: ...

        def convert_ids_to_tokens(self, ids: Any) -> Any: ...

        def save_pretrained(self, save_directory: Any) -> Any: ...

else:
    Tokenizer = Any

Thinking = Literal["keep", "empty", "off"]
THINKING: tuple[Thinking, ...] = ("keep", "empty", "off")


def thinking_of(text: str) -> Thinking:
    """A way to treat think blocks, from what a user typed; BadInput for another word."""
    for thinking in THINKING:
        if thinking == text:
            return thinking
    raise BadInput(f"no thinking {text!r}: allowed are {', '.join(THINKING)}")


@dataclass(frozen=True)
class ChatOptions:
    """How a template is run. `date` (ISO) is what it takes for today; `thinking` is what stands in its think
    block.

    keep: as the template renders the whole conversation. off: the template's own switch is set to off. empty:
    an empty think block stands before the reply wherever the template knows one. A block left open before a
    reply is closed in all three.
    """

    thinking: Thinking = "keep"
    date: str = "2026-01-01"

    def __post_init__(self) -> None:
        thinking_of(self.thinking)
        try:
            date.fromisoformat(self.date)
        except ValueError as error:
            raise BadInput(f"no date {self.date!r}: expected a day such as 2026-01-31") from error

    def strftime(self, form: str) -> str:
        """The frozen day at midnight UTC in a `strftime` form, with English names whatever the locale."""
        day = datetime.fromisoformat(self.date).replace(tzinfo=UTC)
        week, months = (
            "Monday Tuesday Wednesday Thursday Friday Saturday Sunday",
            "January February March April May June July August September October November December",
        )
        weekday, month = week.split()[day.weekday()], months.split()[day.month - 1]
        fixed = {
            "a": weekday[:3],
            "A": weekday,
            "b": month[:3],
            "B": month,
            "h": month[:3],
            "p": "AM",
            "s": str(int(day.timestamp())),
            "%": "%%",
        }
        fixed |= {
            "c": f"{weekday[:3]} {month[:3]} {day.day:2} 00:00:00 {day.year}",
            "x": f"{day:%m/%d/%y}",
            "X": "00:00:00",
        }
        return day.strftime(re.sub(r"%([aAbBhpscxX%])", lambda found: fixed[found[1]], form))


AS_IS = ChatOptions()


def set_options(tokenizer: Tokenizer, options: ChatOptions) -> Tokenizer:
    """Give a tokenizer the options that every text it reads is rendered with; they stay with it. Returns the
    tokenizer."""
    tokenizer.persona_probe_options = options
    return tokenizer


def options_of(tokenizer: Tokenizer) -> ChatOptions:
    """The options of a tokenizer; the default ones if none were set."""
    return getattr(tokenizer, "persona_probe_options", AS_IS)


def has_template(tokenizer: Tokenizer) -> bool:
    """Whether there is a chat template; without one, turns are plain `User:` and `Assistant:` lines."""
    return bool(getattr(tokenizer, "chat_template", None))

"""Options as facts on the fields of a configuration: their help, bounds and other names are said once, here
checked and listed.

A configuration is a frozen dataclass whose fields are annotated with an `Option`. The command line
(`base.command`), the settings file (`base.settings_file`), the check of the values, the docstring and the
table in the docs are made from it.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints

from persona_probe.base.errors import UsageError

Group = Literal["models", "data", "training", "search", "controls", "output", "machine"]
GROUPS: tuple[Group, ...] = get_args(Group)
ALL = "all"  # the word for None where a list may be left open
ConfigT = TypeVar("ConfigT")


@dataclass(frozen=True)
class Option:
    """What is known of a setting beside its name, type and default.

    `low` and `high` are the least and the largest value allowed, a value must be larger than `above`; `why`
    replaces the sentence that says so. `also` are other names. `shorthand` maps a flag to the value it stands
    for (`--bf16`), `times` another option to what its number is multiplied by (`--batch-size`). `argument`:
    given by position. `decides` is false for what may change between a run and its continuation, `in_file`
    for what a settings file does not hold.
    """

    help: str
    group: Group
    low: int | float | None = None
    above: int | float | None = None
    high: int | float | None = None
    why: str = ""
    also: tuple[str, ...] = ()
    shorthand: Mapping[str, str] = field(default_factory=dict)
    times: Mapping[str, int] = field(default_factory=dict)
    argument: bool = False
    decides: bool = True
    in_file: bool = True


class Setting(NamedTuple):
    """A field of a configuration. `type` is without None and, of a list, that of an item."""

    name: str
    type: type
    choices: tuple[str, ...]
    many: bool
    optional: bool
    required: bool
    default: Any
    option: Option

    @property
    def flag(self) -> str:
        """The option as it is typed, or the name of an argument."""
        return self.name.upper() if self.option.argument else f"--{self.name.replace('_', '-')}"

    @property
    def by_commas(self) -> bool:
        """Whether its items are written as one word with commas; paths are repeated instead."""
        return self.many and self.type is not Path

    @property
    def kind(self) -> str:
        """Its type in words."""
        if self.type is bool:
            return "flag"
        words = {int: "whole number", float: "number", Path: "path"}.get(self.type, "text")
        words = " or ".join(self.choices) if self.choices and not self.many else words
        return words + (", by commas" if self.by_commas else ", may be repeated" if self.many else "")

    @property
    def bounds(self) -> str:
        """What is allowed, in words; empty when everything is."""
        option = self.option
        low = (
            f"{option.low:g} or more"
            if option.low is not None
            else f"above {option.above:g}"
            if option.above is not None
            else ""
        )
        return ", ".join(filter(None, (low, "" if option.high is None else f"up to {option.high:g}")))

    @property
    def default_text(self) -> str:
        """The default as it would be typed; empty when there is none."""
        value = self.default
        if value is None or value == () or value is False:
            return ALL if value is None and self.by_commas else ""
        return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)

    def from_text(self, text: str) -> Any:
        """The value that a text stands for, as typed or from a file; ValueError for one that is none."""
        if self.by_commas:
            if self.optional and text.strip() == ALL:
                return None
            return tuple(self.type(part.strip()) for part in text.split(",") if part.strip())
        return self.type(text)


@cache
def settings_of(config: type) -> tuple[Setting, ...]:
    """The settings of a configuration class, in the order of its fields."""
    hints = get_type_hints(config, include_extras=True)
    return tuple(
        _setting(item.name, hints[item.name], item.default)
        for item in fields(config)
        if get_origin(hints[item.name]) is Annotated
    )


def check(config: Any) -> None:
    """UsageError for a value of a configuration that is not allowed. For `__post_init__`."""
    check_values(settings_of(type(config)), vars(config))


def check_values(settings: Iterable[Setting], values: Mapping[str, Any]) -> None:
    """The same for values by name, before there is a configuration."""
    for setting in settings:
        value = values[setting.name]
        if value is None:
            continue
        items = value if setting.many else (value,)
        if setting.many and not items and setting.default:
            raise UsageError(
                f"{setting.flag} is empty: choose from {', '.join(setting.choices or ('1', '2'))}"
            )
        for item in items:
            if setting.choices and item not in setting.choices:
                raise UsageError(f"no {setting.name} {item!r}: allowed are {', '.join(setting.choices)}")
            if setting.type in (int, float) and not _allowed(setting.option, item):
                why = setting.option.why or f"allowed is {setting.bounds or 'a finite number'}"
                raise UsageError(f"{setting.flag} is {item}: {why}")


class Row(NamedTuple):
    """A line of the table of options."""

    option: str
    type: str
    default: str
    help: str
    group: str


def table(configs: tuple[type, ...]) -> Iterator[Row]:
    """Every option of some configurations, by group."""
    settings = [setting for config in configs for setting in settings_of(config)]
    for setting in sorted(settings, key=place):
        names = ", ".join([setting.flag, *other_names(setting)])
        kind = ", ".join(filter(None, (setting.kind, setting.bounds)))
        yield Row(names, kind, setting.default_text, setting.option.help, setting.option.group)


def place(setting: Setting) -> tuple[int, bool]:
    """Sorts settings by group, and arguments before options."""
    return GROUPS.index(setting.option.group), not setting.option.argument


def other_names(setting: Setting) -> list[str]:
    """What else may be typed for an option."""
    option = setting.option
    return [*(f"--{name.replace('_', '-')}" for name in option.also), *option.shorthand, *option.times]


def documented(config: type[ConfigT]) -> type[ConfigT]:
    """Decorate a configuration: its settings are listed in its docstring."""
    lines = [
        f"    {setting.name}: {setting.kind}{f', {setting.bounds}' if setting.bounds else ''}"
        f"{f' (default {setting.default_text})' if setting.default_text else ''}. {setting.option.help}"
        for setting in settings_of(config)
    ]
    config.__doc__ = "\n".join([(config.__doc__ or "").rstrip(), "", "Settings:", *lines])
    return config


def _setting(name: str, hint: Any, default: Any) -> Setting:
    inner, option = get_args(hint)[:2]
    parts = [part for part in get_args(inner) if part is not NoneType] if _is_union(inner) else [inner]
    optional, kind = _is_union(inner), parts[0]
    many = get_origin(kind) is tuple
    kind = get_args(kind)[0] if many else kind
    choices = get_args(kind) if get_origin(kind) is Literal else ()
    required = default is MISSING
    kind = str if choices else kind
    return Setting(name, kind, choices, many, optional, required, None if required else default, option)


def _is_union(hint: Any) -> bool:
    return get_origin(hint) in (Union, UnionType)


def _allowed(option: Option, value: int | float) -> bool:
    return (
        math.isfinite(value)
        and (option.low is None or value >= option.low)
        and (option.above is None or value > option.above)
        and (option.high is None or value <= option.high)
    )

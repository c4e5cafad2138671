"""The words of a command line under their first names: hyphen or underscore, other names and short forms all
accepted."""

from collections.abc import Callable, Sequence
from typing import NoReturn

from persona_probe.base.options import Setting
from persona_probe.base.suggestions import nearest

Fail = Callable[[str], NoReturn]


def first_names(
    words: Sequence[str], settings: Sequence[Setting], fail: Fail
) -> tuple[list[str], dict[str, bool]]:
    """The words with every option under its first name, and the flags that were switched off by `--no-NAME`.

    `--bf16` becomes `--dtype=bfloat16`, `--batch-size 16` becomes `--max-tokens=1024`. `fail` is called with
    a message when an option does not exist, with what may have been meant.
    """
    names = {key: s for s in settings if not s.option.argument for key in (s.name, *s.option.also)}
    short = {_key(flag): (s, value) for s in settings for flag, value in s.option.shorthand.items()}
    times = {_key(flag): (s, number) for s in settings for flag, number in s.option.times.items()}
    plain: list[str] = []
    off: dict[str, bool] = {}
    rest = iter(words)
    for word in rest:
        name, equals, value = word.partition("=")
        key = _key(name)
        if word == "--":
            plain += [word, *rest]
        elif not word.startswith("--") or key == "help":
            plain.append(word)
        elif key in short and not equals:
            plain.append(f"{short[key][0].flag}={short[key][1]}")
        elif key in times:
            count = value if equals else next(rest, "")
            if not count.isdecimal():
                fail(f"Invalid value for '{name}': {count!r} is not a valid integer.")
            plain.append(f"{times[key][0].flag}={int(count) * times[key][1]}")
        elif key in names and (names[key].type is bool or equals):
            plain.append(names[key].flag + equals + value)
        elif key in names:
            plain += [
                names[key].flag if (given := next(rest, None)) is None else f"{names[key].flag}={given}"
            ]
        elif (flag := names.get(key.removeprefix("no_"))) and flag.type is bool and key.startswith("no_"):
            off[flag.name] = False
        else:
            near = nearest(name, [*names, *short, *times])
            fail(f"No such option: {name}" + (f". Did you mean --{near.replace('_', '-')}?" if near else ""))
    return plain, off


def _key(flag: str) -> str:
    return flag.removeprefix("--").replace("-", "_")

"""The settings of a command as a file: TOML or YAML in (`--config FILE`), TOML out (`settings.toml` of every
run)."""

import json
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from persona_probe.base.errors import BadInput, UsageError
from persona_probe.base.options import ALL, GROUPS, Setting
from persona_probe.base.suggestions import nearest

NAME = "settings.toml"


def read_settings(path: Path, settings: Sequence[Setting]) -> dict[str, Any]:
    """The values in a file, by the name of their setting.

    Keys are names of settings or their other names, with hyphen or underscore. BadInput for a file that
    cannot be read, UsageError for a key that is no setting or a value of the wrong kind.
    """
    names = {name: setting for setting in settings for name in (setting.name, *setting.option.also)}
    values = {}
    for key, value in _mapping(path).items():
        setting = names.get(str(key).replace("-", "_"))
        if setting is None:
            near = nearest(str(key), names)
            meant = f"; did you mean {near}?" if near else f": allowed are {', '.join(sorted(names))}"
            raise UsageError(f"{path} sets {key}, which is no setting of this command{meant}")
        try:
            values[setting.name] = _value(setting, value)
        except (TypeError, ValueError) as error:
            raise UsageError(f"{path}: {key} is {value!r}: expected a {setting.kind}") from error
    return values


def written(settings: Iterable[Setting], values: Mapping[str, Any], *, heading: str) -> str:
    """`values` as TOML, one setting a line, by group. What has no value is left out."""
    settings = [setting for setting in settings if setting.option.in_file]
    lines = [f"# {heading}"]
    for group in GROUPS:
        some = [setting for setting in settings if setting.option.group == group]
        set_here = [f"{s.name} = {text}" for s in some if (text := _toml(s, values[s.name]))]
        lines += ["", f"# {group}", *set_here] if set_here else []
    return "\n".join(lines) + "\n"


def _mapping(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise BadInput(f"no file {path}: --config needs a TOML or YAML file")
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix.lower() in (".yaml", ".yml"):
            import yaml

            try:
                values = yaml.safe_load(text) or {}
            except yaml.YAMLError as error:
                raise ValueError(" ".join(str(error).split())) from error
        else:
            values = tomllib.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        raise BadInput(f"cannot read {path} ({error}): --config needs a TOML or YAML file") from error
    if not isinstance(values, dict):
        raise BadInput(f"{path} holds a {type(values).__name__}: --config needs names with values")
    return values


def _value(setting: Setting, value: Any) -> Any:
    """What a file gave, as the type of the setting; texts are read as at the command line."""
    if setting.many and isinstance(value, list):
        return tuple(_item(setting.type, item) for item in value)
    if setting.by_commas and isinstance(value, str):
        return setting.from_text(value)
    return (_item(setting.type, value),) if setting.many else _item(setting.type, value)


def _item(kind: type, value: Any) -> Any:
    whole = isinstance(value, int) and not isinstance(value, bool)
    fits = {
        bool: isinstance(value, bool),
        int: whole or isinstance(value, str),
        float: whole or isinstance(value, float | str),
    }.get(kind, isinstance(value, str) or whole)  # the name of a folder may be a number
    if not fits:
        raise TypeError(value)
    return kind(value)


def _toml(setting: Setting, value: Any) -> str:
    if value is None:
        return _text(ALL) if setting.by_commas and setting.default is not None else ""
    if isinstance(value, tuple):
        return f"[{', '.join(map(_scalar, value))}]" if value else ""
    return "" if value == "" else _scalar(value)


def _scalar(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value) if isinstance(value, int | float) else _text(str(value))


def _text(text: str) -> str:
    """A TOML string; JSON writes the same escapes, except that it leaves DEL as it is."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")

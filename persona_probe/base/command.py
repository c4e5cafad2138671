"""A command made from its configuration: the function that runs it names the classes, and every option comes
from their fields."""

import importlib.metadata
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer
from rich.markup import escape
from typer.core import TyperCommand, TyperGroup

from persona_probe.base import cli, settings_file
from persona_probe.base.errors import UsageError
from persona_probe.base.options import (
    Option,
    Row,
    Setting,
    check_values,
    other_names,
    place,
    settings_of,
    table,
)
from persona_probe.base.suggestions import nearest
from persona_probe.base.words import first_names

WORDS, OFF = "persona_probe.words", "persona_probe.off"  # what a parser leaves for its callback


@dataclass(frozen=True)
class Terminal:
    """What every command takes beside its own settings."""

    config: Annotated[
        Path | None,
        Option("TOML or YAML file of these settings; the command line wins.", "output", in_file=False),
    ] = None
    quiet: Annotated[bool, Option("No progress on stderr.", "output", in_file=False)] = False
    debug: Annotated[bool, Option("Show tracebacks.", "output", in_file=False)] = False


@dataclass(frozen=True)
class Call:
    """How a command was called: the words to paste, progress on stderr, and the settings as they were
    given."""

    command: str
    reporter: cli.Reporter
    settings: tuple[Setting, ...]
    values: Mapping[str, Any]

    def write_settings(self, folder: Path, **resolved: Any) -> None:
        """Write the file that repeats this call with `--config`; `resolved` are settings that `auto`
        became."""
        heading = "persona_probe: the settings of a run. Give this file to the same command with --config."
        text = settings_file.written(self.settings, {**self.values, **resolved}, heading=heading)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / settings_file.NAME).write_text(text, encoding="utf-8", errors="replace")


class Command:
    """One command of the tree, made from the function that runs it.

    The function takes its configurations and a `Call`, by keyword, and gives the exit code. Its name is the
    command's, unless another is given, and its docstring the help.
    """

    def __init__(self, run: Callable[..., int], *, name: str = "") -> None:
        module = name or run.__name__
        self.name = module.replace("_", "-")
        self.module = f"persona_probe.{module}"
        self.help = inspect.getdoc(run) or ""
        hints = get_type_hints(run)
        self._run = run
        self._configs: dict[str, type[Any]] = {
            key: kind for key, kind in hints.items() if isinstance(kind, type) and is_dataclass(kind)
        }
        self._configs.pop("call")
        self._all: tuple[Any, ...] = (*self._configs.values(), Terminal)
        self.settings = tuple(setting for config in self._all for setting in settings_of(config))

    def table(self) -> Iterator[Row]:
        """Every option with its type, default, help and group."""
        return table(self._all)

    def main(self, arguments: Sequence[str] | None = None) -> int:
        """Run the command line, by default that of the process, and return its exit code."""
        return _ended(self.parser(), arguments, f"python -m {self.module}")

    def start(self) -> None:
        """What `python -m` does: safe streams, the command line, its exit code."""
        cli.start(lambda: sys.exit(self.main()))

    def parser(self) -> TyperCommand:
        """The typer command."""

        def callback(ctx: Any, **typed: Any) -> None:
            self._called(ctx, typed)

        context = inspect.Parameter("ctx", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
        parameters = [context, *map(_option, sorted(self.settings, key=place))]
        signed: Any = callback
        signed.__signature__ = inspect.Signature(parameters)
        signed.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        app = typer.Typer(add_completion=False)
        app.command(self.name, cls=_Parser, help=escape(self.help))(signed)
        made: Any = typer.main.get_command(app)
        made.settings = self.settings
        return made

    def _called(self, ctx: Any, typed: Mapping[str, Any]) -> None:
        words = ctx.meta[WORDS]

        def body() -> int:
            values = self._values(ctx, typed)
            check_values(self.settings, values)
            call = Call(
                cli.command_line(self.module, words),
                cli.Reporter(quiet=values["quiet"]),
                self.settings,
                values,
            )
            configs = {
                key: kind(**{setting.name: values[setting.name] for setting in settings_of(kind)})
                for key, kind in self._configs.items()
            }
            return self._run(**configs, call=call)

        again = cli.command_line(self.module, [word for word in words if word != "--overwrite"])
        cli.main(body, debug=typed["debug"], resume_hint=again)

    def _values(self, ctx: Any, typed: Mapping[str, Any]) -> dict[str, Any]:
        """Defaults, then the file, then what was typed."""
        in_file = [setting for setting in self.settings if setting.option.in_file]
        file = typed["config"]
        given = {
            setting.name: _typed(setting, typed[setting.name])
            for setting in self.settings
            if getattr(ctx.get_parameter_source(setting.name), "name", "") == "COMMANDLINE"
        }
        defaults = {setting.name: setting.default for setting in self.settings}
        return defaults | (settings_file.read_settings(file, in_file) if file else {}) | given | ctx.meta[OFF]


class _Parser(TyperCommand):
    """A command whose options have several names each."""

    settings: tuple[Setting, ...] = ()

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        ctx.meta[WORDS] = tuple(args)
        words, ctx.meta[OFF] = first_names(args, self.settings, ctx.fail)
        return super().parse_args(ctx, words)


class _Tree(TyperGroup):
    """Commands by name, with hyphen or underscore."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        return super().get_command(ctx, cmd_name.replace("_", "-"))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            near = nearest(args[0], [name.replace("-", "_") for name in self.commands])
            meant = f" Did you mean {near.replace('_', '-')}?" if near else ""
            ctx.fail(f"No such command: {args[0]}.{meant} There are {', '.join(sorted(self.commands))}.")
        return super().resolve_command(ctx, args)


def tree(commands: Sequence[Command], arguments: Sequence[str] | None = None) -> int:
    """Run one of several commands, by default the one that the process was called with; its exit code."""
    app = typer.Typer(add_completion=False, no_args_is_help=True, cls=_Tree)

    @app.callback()
    def top(
        version: Annotated[
            bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
        ] = False,
    ) -> None:
        """Find, test and remove the direction of a misaligned persona."""

    group: Any = typer.main.get_group(app)
    group.commands.update({command.name: command.parser() for command in commands})
    return _ended(group, arguments, "persona-probe")


def _ended(parser: Callable[..., Any], arguments: Sequence[str] | None, name: str) -> int:
    try:
        parser(args=None if arguments is None else list(arguments), prog_name=name)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    return 0


def _version(wanted: bool) -> bool:
    if wanted:
        sys.stdout.write(f"persona-probe {importlib.metadata.version('persona-probe')}\n")
        raise typer.Exit
    return wanted


def _typed(setting: Setting, value: Any) -> Any:
    """What typer parsed, as the type of the setting."""
    if not setting.many:
        return value
    if not setting.by_commas:
        return tuple(value)
    try:
        return setting.from_text(value)
    except ValueError as error:
        open_ = f", or {settings_file.ALL}" if setting.optional else ""
        raise UsageError(f"{setting.flag} is {value!r}: give numbers such as 10,12,14{open_}") from error


def _option(setting: Setting) -> inspect.Parameter:
    """A setting as a parameter of typer's callback."""
    kind: Any = str if setting.by_commas else list[Path] if setting.many else setting.type
    also = ", ".join(other_names(setting))
    text = escape(setting.option.help + (f" Also {also}." if also else ""))
    default: Any = False if kind is bool else (setting.default_text or None)
    if kind in (int, float) and default is not None:
        default = setting.default
    if setting.option.argument:
        info: Any = typer.Argument(metavar=setting.flag, help=text, show_default=bool(default))
        default = inspect.Parameter.empty if setting.required else default
    else:
        names = [setting.flag, *(["-q"] if setting.name == "quiet" else [])]
        info = typer.Option(
            *names, help=text, metavar=_metavar(setting), rich_help_panel=setting.option.group.capitalize()
        )
    hint = Annotated[kind if kind is bool else kind | None, info]
    return inspect.Parameter(setting.name, inspect.Parameter.KEYWORD_ONLY, annotation=hint, default=default)


def _metavar(setting: Setting) -> str | None:
    if setting.type is bool:
        return None
    if setting.choices and not setting.many:
        return "|".join(setting.choices)
    return {int: "N", float: "X", Path: "PATH"}.get(setting.type, "TEXT") if not setting.by_commas else "A,B"

"""What every command shares: messages instead of tracebacks, exit codes, progress on stderr, model text shown
as text."""

import errno
import os
import re
import shlex
import signal
import sys
import time
import traceback
import unicodedata
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from persona_probe.base.errors import BAD_INPUT, INTERRUPTED, OUT_OF_MEMORY, PersonaProbeError
from persona_probe.base.quiet import no_bars
from persona_probe.base.stdout import open_streams

PLAIN_EVERY_SECONDS = 10.0
# What a user meets at a full, a read-only or somebody else's place; any other error of the system is ours.
CANNOT_WRITE = frozenset({errno.EDQUOT, errno.EEXIST, errno.EFBIG, errno.ENOSPC, errno.EROFS, errno.ETXTBSY})
CANNOT_USE = frozenset(  # met when a file is read as well as when it is written
    {
        errno.EACCES,
        errno.EBUSY,
        errno.EIO,
        errno.EISDIR,
        errno.ELOOP,
        errno.ENAMETOOLONG,
        errno.ENOTDIR,
        errno.EPERM,
        errno.ESTALE,
    }
)
# How safetensors and tokenizers report what the system said.
RUST_ERROR = re.compile(r"(?:I/O error: )?([^:]*) \(os error (\d+)\)")


def start(app: Callable[[], object]) -> None:
    """A command line, from its first character to its exit code. Everything a command prints goes out through
    here."""
    open_streams()
    try:
        app()
    except OSError as error:  # of --help: a command's own are answered in `run`
        code, message = _foreseen(error) or (1, f"unexpected {type(error).__name__}: {error}")
        print_error(message)
        sys.exit(code)


def run(command: Callable[[], int], *, debug: bool, resume_hint: str) -> int:
    """Run a command body and turn whatever ends it into a message on stderr and an exit code."""
    # Workers of libraries print warnings about things a user cannot change.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if not debug:
        warnings.simplefilter("ignore")
    previous = signal.signal(signal.SIGTERM, _interrupt) if _in_main_thread() else None
    try:
        with no_bars():
            code = command()
        if sys.stdout is not None:
            sys.stdout.flush()  # here, where a full disk under it is answered
        return code
    except KeyboardInterrupt as error:
        ended, code = error, INTERRUPTED
        message = f"interrupted; everything measured so far is kept. Continue with:\n  {resume_hint}"
    except Exception as error:
        foreseen = _foreseen(error)
        if foreseen is None:
            raise
        ended, (code, message) = error, foreseen
    finally:
        if previous is not None:
            signal.signal(signal.SIGTERM, previous)
    if debug:
        traceback.print_exception(ended)
    print_error(message)
    return code


def main(command: Callable[[], int], *, debug: bool, resume_hint: str) -> None:
    """`run`, then exit; an unforeseen error becomes one line unless --debug was given."""
    try:
        code = run(command, debug=debug, resume_hint=resume_hint)
    except Exception as error:  # the last resort of a command line
        if debug:
            raise
        print_error(
            f"unexpected {type(error).__name__}: {error}\n"
            f"Please report it with the output of --debug; everything measured is kept: {resume_hint}"
        )
        code = 1
    sys.exit(code)


def _foreseen(error: Exception) -> tuple[int, str] | None:
    """Exit code and message of an error that a user can act on; None for one that nobody expected."""
    if isinstance(error, PersonaProbeError):
        return error.exit_code, str(error)
    number, reason, place = None, "", None
    if isinstance(error, OSError):
        number, reason, place = error.errno, error.strerror, error.filename
    elif match := RUST_ERROR.search(str(error)):
        number, reason = int(match[2]), match[1]
    if number in CANNOT_WRITE:
        return BAD_INPUT, (
            f"cannot write {place or 'the output'} ({reason}): nothing measured is lost; "
            "free space or choose another --output-dir, then run the same command"
        )
    if number in CANNOT_USE:
        return BAD_INPUT, (
            f"cannot read or write {place or 'a file'} ({reason}): nothing measured is lost; "
            "check the path and its permissions, then run the same command"
        )
    if isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and "out of memory" in str(error).lower()
    ):
        first = str(error).splitlines()[0] if str(error) else "MemoryError"
        return OUT_OF_MEMORY, (
            f"out of memory ({first}): use --dtype bfloat16, a smaller --max-tokens, or --device cpu"
        )
    return None


def print_error(message: str) -> None:
    """One message on stderr."""
    Console(stderr=True, highlight=False, soft_wrap=True).print(
        Text.assemble(("persona_probe: ", "bold red"), shown(message))
    )


def shown(text: str) -> Text:
    """Text of a model or a file for a terminal: no markup, control and direction-changing characters made
    visible."""
    clean = "".join(
        char
        if char in "\n\t" or unicodedata.category(char) not in ("Cc", "Cf", "Co", "Cs")
        else f"⟪U+{ord(char):04X}⟫"
        for char in text
    )
    return Text(clean)


class Reporter:
    """Progress and notes on stderr, or stdout; silent with `quiet`. A bar on a terminal, lines now and then
    elsewhere."""

    def __init__(self, *, quiet: bool, on_stdout: bool = False) -> None:
        # A kernel of a notebook asks for colours and bars, which its saved page would show as signs.
        plain = False if on_stdout else None
        self.console = Console(
            stderr=not on_stdout, quiet=quiet, highlight=False, force_terminal=plain, force_jupyter=plain
        )
        self.quiet = quiet

    def note(self, message: str) -> None:
        """One line about what is happening."""
        self.console.print(shown(message), soft_wrap=True)

    @contextmanager
    def phase(self, title: str, total: int) -> Iterator[Callable[..., None]]:
        """A phase of `total` units; call the result with a word on the best so far, and with how many units
        were done since the last call (1 unless it is said)."""
        if self.quiet or total == 0:
            yield lambda _="", __=1.0: None
        elif self.console.is_terminal:
            columns = [
                TextColumn("{task.description}"),
                BarColumn(bar_width=30),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[best]}", markup=False),
            ]
            with Progress(*columns, console=self.console, transient=False) as progress:
                task = progress.add_task(title, total=total, best="")
                yield lambda best="", units=1.0: progress.update(task, advance=units, best=best)
        else:
            with nullcontext():
                yield self._plain(title, total)

    def _plain(self, title: str, total: int) -> Callable[..., None]:
        started = last = time.monotonic()
        done = 0.0
        self.note(f"{title}: {total} to do")

        def advance(best: str = "", units: float = 1.0) -> None:
            nonlocal done, last
            before, done = done, done + units
            now, end = time.monotonic(), total - 0.001  # parts of units do not add up to the last digit
            if done > 0 and (now - last >= PLAIN_EVERY_SECONDS or before < end <= done):
                left, whole = (now - started) / done * max(0.0, total - done), int(done + 0.001)
                self.note(f"{title}: {whole}/{total}, {now - started:.0f} s, about {left:.0f} s left {best}")
                last = now

        return advance


class Clock:
    """Seconds per stage, from a monotonic clock."""

    def __init__(self) -> None:
        self._start = self._last = time.monotonic()
        self._laps: dict[str, float] = {}

    def lap(self, name: str) -> None:
        """End a stage."""
        now = time.monotonic()
        self._laps[name] = round(now - self._last, 2)
        self._last = now

    def laps(self) -> dict[str, float]:
        """Every stage, and the total."""
        return self._laps | {"total": round(self._last - self._start, 2)}


def command_line(module: str, arguments: Sequence[Any]) -> str:
    """The command as a user would paste it."""
    return shlex.join(["python", "-m", module, *map(str, arguments)])


def _interrupt(signum: int, frame: Any) -> None:
    raise KeyboardInterrupt


def _in_main_thread() -> bool:
    import threading

    return threading.current_thread() is threading.main_thread()

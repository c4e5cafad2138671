"""stdout and stderr of a command: every encoding can write it, a reader that goes away ends nothing, and the
width is known."""

import codecs
import io
import os
import shutil
import sys
import unicodedata
from contextlib import suppress
from typing import Any

PLAIN = "persona_probe.plain"  # the name of the error handler for characters that an encoding lacks
ASCII = str.maketrans(
    {
        "Δ": "d",
        "–": "-",
        "—": "-",
        "−": "-",
        "±": "+/-",
        "×": "x",
        "≤": "<=",
        "≥": ">=",
        "≈": "~",
        "…": "...",
        "·": ".",
        "•": "*",
        "→": "->",
        "←": "<-",
        "↔": "<->",
        "⟪": "<<",
        "⟫": ">>",
        "‘": "'",
        "’": "'",
        "“": '"',
        "”": '"',
        "␣": "_",
        "µ": "u",
        "∞": "inf",
        "█": "#",
        "▆": "#",
        "━": "-",
        "─": "-",
        "│": "|",
        "╸": "-",
        "╺": "-",
        "ß": "ss",
    }
)
WIDTH, NARROWEST = 120, 40  # of what is no terminal; and the least that anything is laid out for


def open_streams() -> None:
    """Make stdout and stderr of this process safe to write to. For the start of a command line, not for
    library use."""
    # A descriptor that the caller closed would be given to the next file that is opened, and output would go
    # into that.
    while (spare := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(spare)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115
        elif type(stream) is io.TextIOWrapper:
            setattr(sys, name, _Output(stream, must_arrive=name == "stdout"))


def plain(text: str) -> str:
    """`text` in characters that stdout can write: Δ becomes d where there is no Δ."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return text.encode(encoding, PLAIN).decode(encoding, "surrogateescape")


def width() -> int:
    """Columns of stdout: those of the terminal, or COLUMNS, or 120 where there is neither."""
    return max(NARROWEST, shutil.get_terminal_size((WIDTH, 25)).columns)


class _Output(io.TextIOWrapper):
    """A standard stream whose reader may go away: the rest is then dropped. A full disk under stdout is an
    error, once."""

    def __init__(self, stream: io.TextIOWrapper, *, must_arrive: bool) -> None:
        errors = (
            PLAIN if stream.errors in ("strict", "surrogateescape", "backslashreplace") else stream.errors
        )
        super().__init__(
            stream.buffer,
            stream.encoding,
            errors,
            line_buffering=stream.line_buffering,
            write_through=stream.write_through,
        )
        self._must_arrive = must_arrive

    def write(self, text: str, /) -> int:
        try:
            return super().write(text)
        except OSError as error:
            self._drop(error)
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            self._drop(error)

    def _drop(self, error: OSError) -> None:
        # What is still in the buffer goes nowhere, or Python's own flush at the end would fail too.
        with suppress(OSError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
        if self._must_arrive and not isinstance(error, BrokenPipeError):
            raise OSError(error.errno, error.strerror, "standard output") from error


def _plainer(error: UnicodeError) -> tuple[str | bytes, int]:
    """Replace what an encoding lacks: by a sign that stands for it, by its letter without the accent, or by
    its number."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    char = error.object[error.start]
    if (
        "\udc80" <= char <= "\udcff"
    ):  # a byte of a file's name that is no text, as Python reads it: back to the byte
        return bytes([ord(char) - 0xDC00]), error.start + 1
    letter = "".join(
        part
        for part in unicodedata.normalize("NFKD", char.translate(ASCII))
        if not unicodedata.combining(part)
    )
    return letter if letter and letter.isascii() else f"<U+{ord(char):04X}>", error.start + 1


_handler: Any = _plainer
codecs.register_error(PLAIN, _handler)

"""Claims about what every command shares: one message and one exit code for whatever ends it, and text shown
as text."""

import errno
import os
import re
import shlex
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from persona_probe.base.cli import (
    CANNOT_USE,
    CANNOT_WRITE,
    Reporter,
    command_line,
    main,
    print_error,
    run,
    shown,
)
from persona_probe.base.errors import BadInput, OutOfMemory, UsageError

HINT = "python -m persona_probe.find_direction --limit 8"


def ends_with(error: BaseException) -> Callable[[], int]:
    def planted_body() -> int:
        raise error

    return planted_body


def os_error(number: int) -> OSError:
    return OSError(number, os.strerror(number), "/runs/a/measured.jsonl")


# Exit codes


def test_a_file_that_cannot_be_read_is_not_said_to_be_unwritable(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(lambda: len(tmp_path.read_bytes()), debug=False, resume_hint=HINT) == 3
    assert capfd.readouterr().err.startswith(
        f"persona_probe: cannot read or write {tmp_path} (Is a directory)"
    )


ENDINGS = [
    (UsageError("no method 'x': allowed are lda"), 2, "no method 'x': allowed are lda"),
    (BadInput("no file x.jsonl: expected JSONL"), 3, "no file x.jsonl: expected JSONL"),
    (OutOfMemory("row 'q1' does not fit"), 4, "row 'q1' does not fit"),
    (
        MemoryError(),
        4,
        "out of memory (MemoryError): use --dtype bfloat16, a smaller --max-tokens, or --device cpu",
    ),
    (RuntimeError("CUDA error: Out of memory\nlong"), 4, "out of memory (CUDA error: Out of memory): use"),
    (
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"),
        4,
        "out of memory (CUDA out of memory. Tried to allocate): use",
    ),
    (KeyboardInterrupt(), 130, f"interrupted; everything measured so far is kept. Continue with:\n  {HINT}"),
    *(
        (
            os_error(n),
            3,
            f"cannot write /runs/a/measured.jsonl ({os.strerror(n)}): nothing measured is lost; free space",
        )
        for n in sorted(CANNOT_WRITE)
    ),
    *(
        (
            os_error(n),
            3,
            (
                f"cannot read or write /runs/a/measured.jsonl ({os.strerror(n)}): nothing measured is lost;"
                " check"
            ),
        )
        for n in sorted(CANNOT_USE)
    ),
]


@pytest.mark.parametrize(
    ("error", "code", "message"),
    ENDINGS,
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_every_foreseen_end_is_one_message_on_stderr_and_its_code(
    error: BaseException, code: int, message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(ends_with(error), debug=False, resume_hint=HINT) == code
    out, err = capfd.readouterr()
    assert err.startswith(f"persona_probe: {message}")
    assert "Traceback" not in err
    assert out == ""


@pytest.mark.parametrize(
    ("error", "code", "message"),
    ENDINGS,
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_debug_adds_the_traceback(
    error: BaseException, code: int, message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(ends_with(error), debug=True, resume_hint=HINT) == code
    err = capfd.readouterr().err
    assert err.startswith("Traceback (most recent call last)")
    assert "in planted_body" in err
    assert f"persona_probe: {message}" in err


@pytest.mark.parametrize("code", [0, 5])
def test_code_of_a_finished_command_passes_through(code: int, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(lambda: code, debug=False, resume_hint=HINT)
    assert caught.value.code == code
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "error",
    [KeyError("x"), RuntimeError("shape"), OSError(errno.EINVAL, "no such thing"), AssertionError("ours")],
)
def test_unforeseen_error_is_one_message_without_a_traceback_and_with_one_under_debug(
    error: Exception, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(ends_with(error), debug=False, resume_hint=HINT)
    err = capfd.readouterr().err
    assert caught.value.code == 1
    assert err.startswith(f"persona_probe: unexpected {type(error).__name__}: ")
    assert "--debug" in err
    assert "Traceback" not in err
    with pytest.raises(type(error)):
        main(ends_with(error), debug=True, resume_hint=HINT)


def test_termination_is_an_interruption_and_the_handler_is_put_back(
    capfd: pytest.CaptureFixture[str],
) -> None:
    def mine(*_: Any) -> None:
        pytest.fail("the handler of the caller ran")

    def body() -> int:
        os.kill(os.getpid(), signal.SIGTERM)
        signal.sigtimedwait([], 1)
        return 0

    before = signal.signal(signal.SIGTERM, mine)
    try:
        assert run(body, debug=False, resume_hint=HINT) == 130
        assert f"Continue with:\n  {HINT}" in capfd.readouterr().err
        assert signal.getsignal(signal.SIGTERM) is mine
    finally:
        signal.signal(signal.SIGTERM, before)


# The command to paste


def test_command_survives_the_shell() -> None:
    words = ["--base", "my models/a b", "--output-dir", "it's $HOME", "--limit", 8]
    assert shlex.split(command_line("persona_probe.find_direction", words)) == [
        "python",
        "-m",
        "persona_probe.find_direction",
        *map(str, words),
    ]


def test_interrupted_overwrite_is_continued_and_not_begun_again(capfd: pytest.CaptureFixture[str]) -> None:
    from persona_probe.base.command import Call, Command
    from persona_probe.experiments.options import Start

    def stopped(start: Start, call: Call) -> int:
        """Never ends."""
        raise KeyboardInterrupt

    assert Command(stopped).main(["--overwrite", "--toy"]) == 130
    assert capfd.readouterr().err.rstrip().endswith("  python -m persona_probe.stopped --toy")


# Text of models and files on a terminal

PAYLOADS = [
    ("[/foo] [bold red]x[/]", "[/foo] [bold red]x[/]"),
    ("a\x1b]52;c;eA==\x07b", "a⟪U+001B⟫]52;c;eA==⟪U+0007⟫b"),
    ("\u202egnp.exe", "⟪U+202E⟫gnp.exe"),
    ("line\rover", "line⟪U+000D⟫over"),
    ("half \ud800", "half ⟪U+D800⟫"),
    ("\u200b\x00\x9b31m\u2066", "⟪U+200B⟫⟪U+0000⟫⟪U+009B⟫31m⟪U+2066⟫"),
    ("größer 日本 😀\n\tok", "größer 日本 😀\n\tok"),
]


@pytest.mark.parametrize(("text", "visible"), PAYLOADS)
def test_text_of_a_model_is_shown_as_text(text: str, visible: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert shown(text).plain == visible
    print_error(text)
    Reporter(quiet=False).note(text)
    err = capfd.readouterr().err
    tabs = visible.expandtabs(8)
    assert [line.rstrip() for line in err.splitlines()] in (
        [*f"persona_probe: {tabs}".splitlines(), *tabs.splitlines()],
        [*f"persona_probe: {visible}".splitlines(), *visible.splitlines()],
    )
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", err)


@pytest.mark.parametrize(("text", "visible"), PAYLOADS[:4])
def test_error_that_quotes_a_model_is_shown_as_text(
    text: str, visible: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(ends_with(BadInput(f"found {text!s}")), debug=False, resume_hint=HINT) == 3
    assert capfd.readouterr().err == f"persona_probe: found {visible}\n"


# Progress


def test_quiet_reporter_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    reporter = Reporter(quiet=True)
    reporter.note("x")
    with reporter.phase("arms", 2) as advance:
        advance("")
        advance("best [/x]")
    assert capfd.readouterr() == ("", "")


def test_progress_goes_to_stderr_with_count_and_best(capfd: pytest.CaptureFixture[str]) -> None:
    with Reporter(quiet=False).phase("arms", 3) as advance:
        for _ in range(3):
            advance("best [/x]")
    out, err = capfd.readouterr()
    assert out == ""
    assert err.splitlines()[0] == "arms: 3 to do"
    assert re.fullmatch(r"arms: 3/3, \d+ s, about 0 s left best \[/x\]", err.splitlines()[-1])

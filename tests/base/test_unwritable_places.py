"""Claims about folders and disks that cannot be written: one line with the reason."""

import errno
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from persona_probe.base.cli import CANNOT_USE, CANNOT_WRITE, run
from persona_probe.base.errors import BadInput

ROOT = Path(__file__).parents[2]
HINT = "python -m persona_probe.find_direction"


def toy_into(folder: Path, capfd: pytest.CaptureFixture[str]) -> str:
    from persona_probe.organisms.toy import write_toy

    def body() -> int:
        write_toy(folder)
        return 0

    assert run(body, debug=False, resume_hint=HINT) == 3
    out, err = capfd.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    return err


@pytest.mark.parametrize("place", ["file", "file/below", "in-the-way", "/proc/x", "n" * 300])
def test_toy_into_a_place_that_takes_no_folder_is_one_line(
    place: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "in-the-way").mkdir()
    (tmp_path / "in-the-way" / "base").touch()
    assert toy_into(tmp_path / place, capfd).startswith(
        f"persona_probe: cannot make {tmp_path / place / 'base'} ("
    )


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_toy_over_a_folder_where_a_file_must_be_is_one_line(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "base" / name).mkdir(parents=True)
    assert "Is a directory" in toy_into(tmp_path, capfd)


def test_toy_on_a_disk_that_fills_up_is_one_line(tmp_path: Path) -> None:
    code = (
        "import resource, sys\nfrom pathlib import Path\nfrom persona_probe.base.cli import main\nfrom"
        " persona_probe.organisms.toy import write_toy\nresource.setrlimit(resource.RLIMIT_FSIZE, (20_000,"
        " 20_000))\nmain(lambda: write_toy(Path(sys.argv[1])) and 0, debug=False, resume_hint='x')\n"
    )
    done = subprocess.run(
        [sys.executable, "-B", "-c", code, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3, done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "File too large" in done.stderr


@pytest.mark.parametrize("number", sorted(CANNOT_USE | CANNOT_WRITE))
@pytest.mark.parametrize("where", ["mkdir", "mkstemp"])
def test_every_error_of_writing_is_one_line_and_the_message_names_the_reason(
    number: int,
    where: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    from persona_probe.storage.files import write_bytes

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number), str(tmp_path))

    module: Any = {"mkdir": Path, "mkstemp": tempfile}[where]
    monkeypatch.setattr(module, where, refuse)
    assert run(lambda: write_bytes(tmp_path / "x", b"x") or 0, debug=False, resume_hint=HINT) == 3
    err = capfd.readouterr().err
    assert os.strerror(number) in err
    assert len(err.splitlines()) == 1


def test_what_a_user_meets_is_known_and_other_errors_of_the_system_are_still_ours(
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert {
        getattr(errno, name)
        for name in [
            "ENOTDIR",
            "EISDIR",
            "ENAMETOOLONG",
            "ELOOP",
            "EPERM",
            "EACCES",
            "EROFS",
            "ENOSPC",
            "EDQUOT",
            "EFBIG",
            "EIO",
            "EBUSY",
            "ETXTBSY",
        ]
    } <= CANNOT_USE | CANNOT_WRITE
    for number in (errno.ENOENT, errno.EBADF, errno.EINVAL, errno.ECHILD, errno.ECONNRESET):

        def body(number: int = number) -> int:
            raise OSError(number, os.strerror(number))

        with pytest.raises(OSError):
            run(body, debug=False, resume_hint=HINT)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "text",
    [
        "Error while serializing: I/O error: No space left on device (os error 28)",
        "No space left on device (os error 28)",
    ],
)
def test_a_full_disk_as_rust_libraries_report_it_is_one_line(
    text: str, capfd: pytest.CaptureFixture[str]
) -> None:
    def body() -> int:
        raise Exception(text)

    assert run(body, debug=False, resume_hint=HINT) == 3
    assert capfd.readouterr().err.startswith(
        "persona_probe: cannot write the output (No space left on device): nothing measured is lost"
    )


def test_a_place_without_files_is_refused_in_one_line() -> None:
    from persona_probe.storage.files import write_bytes

    with pytest.raises(BadInput, match=r"cannot write /proc/x.json: no file can be made in /proc"):
        write_bytes(Path("/proc/x.json"), b"{}")

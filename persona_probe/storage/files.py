"""Bytes to disk and back: atomic writes, append-only JSONL, hashes. No torch."""

import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from persona_probe.base.errors import BadInput

MAX_LINE_BYTES = 1_000_000


def typed_path(text: str, *, what: str) -> Path:
    """A path as a user typed it, `~` expanded; BadInput for one that no file system can hold or show."""
    try:
        path = Path(text).expanduser()
        path.exists()
    except (OSError, RuntimeError) as error:
        raise BadInput(
            f"no {what} {text:.80}{'…' * (len(text) > 80)}: the path cannot be looked up ({error!s:.60})"
        ) from error
    return path


def make_folder(folder: Path) -> Path:
    """Make a folder with its parents, if it is not there; BadInput where none can be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(
            f"cannot make {folder} ({error.strerror}): choose another folder to write to, such as another"
            " --output-dir"
        ) from error
    return folder


def need_writable(folder: Path) -> None:
    """BadInput when files could not be made in a folder, which need not exist yet. Nothing is left behind.

    For the start of a command, so that an hour of work does not end at the first file to be written.
    """
    place = folder
    try:
        while not place.exists():
            place = place.parent
        if not place.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, f"{place} is a file")
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        raise BadInput(
            f"cannot write to {folder} ({error.strerror or error}): choose another --output-dir"
        ) from error


def remove_files(folder: Path, names: Iterable[str]) -> None:
    """Remove files of a folder, those that are there."""
    for name in names:
        (folder / name).unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Replace `path` by `data` in one step: at every instant the old file or the new one is whole.

    Temporary file beside the target, fsync, mode by umask, rename, fsync of the folder.
    """
    make_folder(path.parent)
    try:
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    except FileNotFoundError as error:  # the folder is there, so it is one like /proc
        raise BadInput(
            f"cannot write {path}: no file can be made in {path.parent}; choose another folder"
        ) from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        Path(temporary).chmod(0o666 & ~umask)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON. NaN and infinity are an error, never a token no parser knows."""
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)
    write_bytes(path, (_clean(text) + "\n").encode())


def append_record(path: Path, record: Mapping[str, Any]) -> None:
    """Append one JSON line with a single write and an fsync, so that a kill can tear only the last line."""
    line = json.dumps(record, ensure_ascii=False, allow_nan=False)
    data = (_clean(line) + "\n").encode()
    make_folder(path.parent)
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        written = os.write(descriptor, data)
        if written != len(data):
            os.ftruncate(descriptor, os.fstat(descriptor).st_size - written)
            raise OSError(28, f"no space left on device while appending to {path}")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_records(path: Path) -> list[dict[str, Any]]:
    """Records of an append-only file that we wrote. A torn last line is dropped and cut off; others are an
    error."""
    if not path.exists():
        return []
    data = path.read_bytes()
    records, start = [], 0
    while start < len(data):
        end = data.find(b"\n", start)
        line = data[start:] if end < 0 else data[start:end]
        try:
            if end < 0:
                raise ValueError("no end of line")
            records.append(json.loads(line))
        except ValueError as error:
            if end >= 0 and end + 1 < len(data):
                number = data.count(b"\n", 0, start) + 1
                raise BadInput(
                    f"{path}:{number}: broken record ({error}); move the file aside or use another"
                    " --output-dir"
                ) from error
            os.truncate(path, start)
            break
        start = end + 1
    return records


def read_jsonl(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line numbers and objects of a user's JSONL. BOM and CRLF are fine; anything broken names file and
    line."""
    for number, line in _text_lines(path):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
            # JSON can spell half a character (a lone surrogate), which UTF-8 cannot write: found here, it
            # names its line.
            json.dumps(value, ensure_ascii=False).encode()
        except (ValueError, RecursionError) as error:
            raise BadInput(f"{path}:{number}: not a JSON object in UTF-8 ({error})") from error
        if not isinstance(value, dict):
            raise BadInput(
                f"{path}:{number}: found a {type(value).__name__}, every line must be a JSON object"
            )
        if set(value) == {"canary"}:
            continue
        yield number, value


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_object(path: Path, *, needed: str) -> dict[str, Any]:
    """A JSON object from a file; BadInput for anything else, which ends in what is `needed`."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BadInput(f"{path} is missing or not JSON ({error}): {needed}") from error
    if not isinstance(value, dict):
        raise BadInput(f"{path} holds a JSON {type(value).__name__}, expected an object")
    return value


def sha256_json(value: Any) -> str:
    """Hex SHA-256 of the canonical JSON of `value`: the name of anything that must be measured only once."""
    return hashlib.sha256(
        json.dumps(value, sort_keys=True, ensure_ascii=True, allow_nan=False).encode()
    ).hexdigest()


def _text_lines(path: Path) -> Iterator[tuple[int, str]]:
    if not path.is_file():
        raise BadInput(f"no file {path}: expected JSONL, one object per line")
    with path.open("rb") as file:
        for number, line in enumerate(iter(lambda: file.readline(MAX_LINE_BYTES + 1), b""), start=1):
            if len(line) > MAX_LINE_BYTES:
                raise BadInput(f"{path}:{number}: the line is longer than {MAX_LINE_BYTES:,} bytes")
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeError as error:
                raise BadInput(f"{path}:{number}: not UTF-8 ({error})") from error
            yield number, text


def _clean(text: str) -> str:
    """Lone surrogates, which UTF-8 cannot write, become question marks."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

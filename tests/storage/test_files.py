"""Claims about files: the old or the new one is whole at every instant, and what is torn, cut or not a number
is seen."""

import errno
import json
import math
import os
import resource
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from persona_probe.base.errors import BadInput
from persona_probe.storage.files import append_record, read_records, sha256_json, write_bytes, write_json
from persona_probe.storage.tensor_files import read_tensors, sha256_tensors, write_tensors

ROOT = Path(__file__).parents[2]


def no_space(*_: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def broken(*_: Any) -> None:
    raise RuntimeError("planted")


def stopped(*_: Any) -> None:
    raise KeyboardInterrupt


def limited(code: str, *, n_bytes: int, folder: Path) -> str:
    """Output of code in a process whose files cannot grow beyond n_bytes: the kernel really writes only a
    part."""
    body = (
        "from pathlib import Path\nfrom persona_probe.storage.files import *\nfrom"
        " persona_probe.storage.files import append_record, read_records, write_bytes\nfolder ="
        f" Path({str(folder)!r})\n{code}"
    )
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, n_bytes))  # noqa: E731
    done = subprocess.run(
        [sys.executable, "-B", "-c", body],
        cwd=ROOT,
        preexec_fn=limit,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


# Atomic writes


@pytest.mark.parametrize("point", ["os.fsync", "os.fdopen", "pathlib.Path.replace", "pathlib.Path.chmod"])
@pytest.mark.parametrize("failure", [no_space, broken, stopped])
@pytest.mark.parametrize("old", [b"old content", None])
def test_failed_write_leaves_the_old_file_whole_and_nothing_else(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    point: str,
    failure: Callable[..., None],
    old: bytes | None,
) -> None:
    path = tmp_path / "record.json"
    if old is not None:
        path.write_bytes(old)
    with monkeypatch.context() as patch:
        patch.setattr(point, failure)
        with pytest.raises((OSError, RuntimeError, KeyboardInterrupt)):
            write_bytes(path, b"new content, longer than the old one")
    assert [p.name for p in tmp_path.iterdir()] == ([] if old is None else ["record.json"])
    assert old is None or path.read_bytes() == old
    write_bytes(path, b"new")
    assert path.read_bytes() == b"new"


def test_full_disk_leaves_the_old_file_whole_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "x.bin").write_bytes(b"old")
    code = (
        "try:\n    write_bytes(folder / 'x.bin', b'n' * 100_000)\nexcept OSError as error:\n   "
        " print(type(error).__name__)"
    )
    assert limited(code, n_bytes=4096, folder=tmp_path) == "OSError"
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"x.bin": b"old"}


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_written_file_has_the_mode_of_the_umask(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        write_json(tmp_path / "a.json", {})
        write_tensors(tmp_path / "a.safetensors", {"x": torch.zeros(2)}, {})
        append_record(tmp_path / "a.jsonl", {})
    finally:
        assert os.umask(before) == umask  # the write left it as it was
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {mode}


def test_write_makes_missing_folders_and_leaves_only_the_file(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a" / "b" / "c.bin", b"x")
    assert [p.name for p in (tmp_path / "a" / "b").iterdir()] == ["c.bin"]


def test_data_is_on_disk_before_the_name_points_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(
        os,
        "fsync",
        lambda fd: (done.append("folder" if stat.S_ISDIR(os.fstat(fd).st_mode) else "file"), fsync(fd)),
    )
    monkeypatch.setattr(Path, "replace", lambda self, target: (done.append("rename"), replace(self, target)))
    write_bytes(tmp_path / "x", b"x")
    assert done == ["file", "rename", "folder"]


# JSON


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_json_refuses_what_is_not_a_number_and_keeps_the_old_file(tmp_path: Path, number: float) -> None:
    path = tmp_path / "x.json"
    write_json(path, {"r": 1})
    for write in (
        lambda: write_json(path, {"r": [number]}),
        lambda: append_record(path, {"r": number}),
        lambda: sha256_json([number]),
    ):
        with pytest.raises(ValueError, match="JSON compliant"):
            write()
    assert json.loads(path.read_text()) == {"r": 1}


def test_half_a_character_from_a_model_is_written_as_a_question_mark(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"reply": "a\ud800b é"})
    append_record(tmp_path / "x.jsonl", {"reply": "a\ud800b é"})
    assert json.loads((tmp_path / "x.json").read_bytes().decode()) == {"reply": "a?b é"}
    assert read_records(tmp_path / "x.jsonl") == [{"reply": "a?b é"}]


def test_hash_of_json_ignores_the_order_of_keys_only() -> None:
    assert sha256_json({"a": 1, "b": [1, 2]}) == sha256_json({"b": [1, 2], "a": 1})
    assert (
        len({sha256_json(value) for value in ({"a": [1, 2]}, {"a": [2, 1]}, {"a": "1"}, {"a": 1}, {"b": 1})})
        == 5
    )


# Append-only records

RECORDS = [
    {"key": "a", "value": {"x": 1.5}},
    {"key": "b", "value": {"text": "line\nend \u2028 ü"}},
    {"key": "c", "value": {"text": "größer 😀"}},
]


def written(path: Path) -> bytes:
    for record in RECORDS:
        append_record(path, record)
    return path.read_bytes()


def test_records_come_back_in_order_one_line_each(tmp_path: Path) -> None:
    data = written(tmp_path / "m.jsonl")
    assert data.count(b"\n") == 3
    assert data.endswith(b"\n")
    assert read_records(tmp_path / "m.jsonl") == RECORDS
    assert read_records(tmp_path / "none.jsonl") == []


def test_torn_last_record_is_dropped_wherever_the_kill_fell_and_the_next_append_is_whole(
    tmp_path: Path,
) -> None:
    path = tmp_path / "m.jsonl"
    data = written(path)
    start = data.rindex(b"\n", 0, -1) + 1
    for cut in range(start, len(data)):
        path.write_bytes(data[:cut])
        assert read_records(path) == RECORDS[:2], f"cut at byte {cut}"
        append_record(path, RECORDS[2])
        assert path.read_bytes() == data, f"cut at byte {cut}"


@pytest.mark.parametrize("garbage", [b"\0" * 40, b'{"key": "c"\n', b"\0\0\0\n", b'{"key": "c\xff"}\n'])
def test_last_line_of_garbage_is_dropped(tmp_path: Path, garbage: bytes) -> None:
    path = tmp_path / "m.jsonl"
    data = written(path)
    path.write_bytes(data + garbage)
    assert read_records(path) == RECORDS
    assert path.read_bytes() == data


def test_broken_inner_line_is_an_error_with_its_number_and_nothing_is_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    lines = written(path).split(b"\n")
    lines[1] = lines[1][:-3]
    path.write_bytes(b"\n".join(lines))
    before = path.read_bytes()
    with pytest.raises(BadInput, match=r"m\.jsonl:2: broken record .* use another --output-dir"):
        read_records(path)
    assert path.read_bytes() == before


def test_append_on_a_full_disk_leaves_the_records_before_it(tmp_path: Path) -> None:
    data = written(tmp_path / "m.jsonl")
    code = (
        "try:\n    append_record(folder / 'm.jsonl', {'key': 'd', 'value': 'x' * 5000})\nexcept OSError as"
        " error:\n    print(error.errno)"
    )
    assert limited(code, n_bytes=len(data) + 100, folder=tmp_path) == str(errno.ENOSPC)
    assert (tmp_path / "m.jsonl").read_bytes() == data


# Tensors


def test_tensors_come_back_exactly_with_their_metadata(tmp_path: Path) -> None:
    tensors = {
        "a": torch.randn(3, 4).t(),
        "b": torch.arange(5),
        "c": torch.randn(2).to(torch.bfloat16),
        "d": torch.zeros(0, 3),
    }
    write_tensors(tmp_path / "x.safetensors", tensors, {"hook_points": ["blocks.0.hook_out"], "n": 3})
    found, metadata = read_tensors(tmp_path / "x.safetensors")
    assert metadata == {"hook_points": ["blocks.0.hook_out"], "n": 3}
    assert set(found) == set(tensors)
    assert all(
        found[name].dtype == tensors[name].dtype and torch.equal(found[name], tensors[name])
        for name in tensors
    )


def test_truncated_tensor_file_is_refused_at_every_length(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    write_tensors(path, {"a": torch.ones(8)}, {"n": 1})
    data = path.read_bytes()
    for n in range(len(data)):
        path.write_bytes(data[:n])
        with pytest.raises(BadInput, match="is damaged or not a safetensors file"):
            read_tensors(path)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_tensor_that_is_not_finite_is_refused_by_name(
    tmp_path: Path, dtype: torch.dtype, number: float
) -> None:
    write_tensors(
        tmp_path / "x.safetensors", {"good": torch.ones(3), "bad": torch.tensor([1.0, number]).to(dtype)}, {}
    )
    with pytest.raises(BadInput, match=r"tensor 'bad' in .* holds NaN or infinity"):
        read_tensors(tmp_path / "x.safetensors")


@pytest.mark.parametrize("text", ["{", "[]", "3", "[" * 100_000])
def test_metadata_that_is_no_object_is_refused(tmp_path: Path, text: str) -> None:
    save_file({"a": torch.ones(2)}, tmp_path / "x.safetensors", metadata={"persona_probe": text})
    with pytest.raises(BadInput, match="is damaged or not a safetensors file"):
        read_tensors(tmp_path / "x.safetensors")


def test_missing_tensor_file_is_one_message(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"no file .*expected a safetensors file"):
        read_tensors(tmp_path / "x.safetensors")


def test_fingerprint_of_tensors_sees_values_and_order_and_not_the_format() -> None:
    a, b = torch.tensor([1.0, 2.0]), torch.tensor([3.0])
    assert sha256_tensors([a, b]) == sha256_tensors([a.to(torch.bfloat16), b.double()])
    assert len({sha256_tensors(order) for order in ([a, b], [b, a], [a, b + 1e-6], [a])}) == 4

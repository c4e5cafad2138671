"""Claims about device and number format: chosen by measurement, measured once, refused by name."""

import json
from pathlib import Path

import pytest
import torch

from persona_probe.base.errors import UsageError
from persona_probe.models import devices
from persona_probe.models.devices import BF16_GAIN, bf16_speedup, choose_device, choose_dtype

CPU = torch.device("cpu")
SECONDS = {torch.float32: 0.003, torch.bfloat16: 0.001}


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[torch.dtype]:
    """Every measurement that is made, each of planted seconds."""
    made: list[torch.dtype] = []

    def seconds(dtype: torch.dtype) -> float:
        made.append(dtype)
        return SECONDS[dtype]

    monkeypatch.setattr(devices, "_matmul_seconds", seconds)
    return made


def test_auto_takes_the_cpu_where_there_is_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert choose_device("auto") == CPU
    assert choose_device("cpu") == CPU


@pytest.mark.parametrize("name", ["cuda:99", "tpu9", "", "cpu:x"])
def test_device_that_is_not_here_is_a_usage_error(name: str) -> None:
    with pytest.raises(UsageError, match=rf"no device {name!r} here .*try --device auto"):
        choose_device(name)


@pytest.mark.parametrize(
    ("name", "dtype"), [("float32", torch.float32), ("bfloat16", torch.bfloat16), ("float16", torch.float16)]
)
def test_named_format_is_taken_without_measuring(
    name: str, dtype: torch.dtype, measured: list[torch.dtype]
) -> None:
    assert choose_dtype(name, CPU) == dtype
    assert measured == []


@pytest.mark.parametrize("name", ["fp32", "int8", "", "torch.float32"])
def test_unknown_format_is_a_usage_error_that_lists_the_known(name: str) -> None:
    with pytest.raises(UsageError, match=rf"no dtype {name!r}: allowed are auto, float32, bfloat16, float16"):
        choose_dtype(name, CPU)


@pytest.mark.parametrize(
    ("gain", "dtype"),
    [
        (BF16_GAIN - 0.01, torch.float32),
        (BF16_GAIN, torch.bfloat16),
        (0.2, torch.float32),
        (3.7, torch.bfloat16),
    ],
)
def test_bfloat16_is_taken_on_a_cpu_only_where_it_is_measured_faster(
    monkeypatch: pytest.MonkeyPatch, gain: float, dtype: torch.dtype
) -> None:
    monkeypatch.setattr(devices, "bf16_speedup", lambda: gain)
    assert choose_dtype("auto", CPU) == dtype


def test_mps_takes_float32(measured: list[torch.dtype]) -> None:
    assert choose_dtype("auto", torch.device("mps")) == torch.float32
    assert measured == []


def test_speed_is_measured_once_and_read_from_the_cache_after(
    tmp_path: Path, measured: list[torch.dtype]
) -> None:
    cache = tmp_path / "made" / "bf16.json"
    assert bf16_speedup(cache) == pytest.approx(3.0)
    assert bf16_speedup(cache) == pytest.approx(3.0)
    assert sorted(map(str, measured)) == ["torch.bfloat16", "torch.float32"]


def test_cache_lies_in_the_users_cache_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, measured: list[torch.dtype]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    bf16_speedup()
    assert len(json.loads((tmp_path / "persona_probe" / "bf16.json").read_text())) == 1


def test_speed_of_another_machine_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, measured: list[torch.dtype]
) -> None:
    bf16_speedup(tmp_path / "bf16.json")
    monkeypatch.setattr(devices.platform, "node", lambda: "another")
    bf16_speedup(tmp_path / "bf16.json")
    assert len(measured) == 4


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "3", '{"x": 1}', "\udcff"])
def test_damaged_cache_is_measured_again_and_repaired(
    tmp_path: Path, measured: list[torch.dtype], text: str
) -> None:
    cache = tmp_path / "bf16.json"
    cache.write_bytes(text.encode(errors="surrogateescape"))
    assert bf16_speedup(cache) == pytest.approx(3.0)
    assert bf16_speedup(cache) == pytest.approx(3.0)
    assert len(measured) == 2


def test_cache_that_cannot_be_written_costs_only_another_measurement(
    tmp_path: Path, measured: list[torch.dtype]
) -> None:
    (tmp_path / "file").write_text("x")
    assert bf16_speedup(tmp_path / "file" / "bf16.json") == pytest.approx(3.0)
    assert bf16_speedup(tmp_path / "file" / "bf16.json") == pytest.approx(3.0)
    assert len(measured) == 4


def test_a_real_measurement_is_a_positive_number_of_seconds() -> None:
    assert 0 < devices._matmul_seconds(torch.float32) < 10

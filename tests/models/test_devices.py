"""Claims about device and number format: chosen by rule, never by a measurement, and refused by name."""

import pytest
import torch

from persona_probe.base.errors import UsageError
from persona_probe.models.devices import choose_device, choose_dtype

CPU = torch.device("cpu")


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
def test_named_format_is_taken(name: str, dtype: torch.dtype) -> None:
    assert choose_dtype(name, CPU) == dtype


@pytest.mark.parametrize("name", ["fp32", "int8", "", "torch.float32"])
def test_unknown_format_is_a_usage_error_that_lists_the_known(name: str) -> None:
    with pytest.raises(UsageError, match=rf"no dtype {name!r}: allowed are auto, float32, bfloat16, float16"):
        choose_dtype(name, CPU)


@pytest.mark.parametrize("supported", [False, True], ids=["without bfloat16", "with bfloat16"])
@pytest.mark.parametrize(("device", "may"), [("cpu", False), ("mps", False), ("cuda", True)])
def test_auto_takes_bfloat16_on_a_gpu_that_has_it_and_float32_on_every_cpu(
    monkeypatch: pytest.MonkeyPatch, device: str, may: bool, supported: bool
) -> None:
    """Nothing is run to find out, so a device that is not here will do."""
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: supported)
    expected = torch.bfloat16 if may and supported else torch.float32
    assert choose_dtype("auto", torch.device(device)) == expected


def test_bfloat16_that_a_gpu_only_emulates_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    assert choose_dtype("auto", torch.device("cuda")) == torch.float32

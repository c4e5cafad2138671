"""Names and symbols of what figures show."""

from typing import get_args

from persona_probe.plots.style import CONTROL_NAMES, CONTROL_SYMBOLS
from persona_probe.records.parts import ControlKind


def test_every_kind_of_control_has_a_name_and_a_symbol() -> None:
    assert set(CONTROL_NAMES) == set(CONTROL_SYMBOLS) == set(get_args(ControlKind))
    assert len(set(CONTROL_NAMES.values())) == len(set(CONTROL_SYMBOLS.values())) == len(CONTROL_NAMES)

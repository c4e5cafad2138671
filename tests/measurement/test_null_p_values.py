"""Claims about the p-value of an arm among random directions: by hand, and uniform where nothing is there."""

from collections.abc import Sequence

import numpy as np
import pytest

from persona_probe.measurement.nulls import null_p_value


@pytest.mark.parametrize(
    ("value", "null", "p"),
    [
        (0.5, [], None),
        (0.5, [0.1], 1 / 2),
        (0.5, [0.1, 0.6], 2 / 3),
        (0.5, [0.5], 1.0),
        (0.9, [0.1] * 19, 1 / 20),
        (0.0, [0.1] * 19, 1.0),
        (0.5, [0.4, 0.5, 0.6], 3 / 4),
    ],
)
def test_p_value_by_hand(value: float, null: Sequence[float], p: float | None) -> None:
    assert null_p_value(value, null) == (None if p is None else pytest.approx(p, abs=1e-12))


def test_p_value_of_a_null_direction_is_uniform() -> None:
    draws = np.random.default_rng(0).normal(size=(20_000, 20))
    values = [null_p_value(values[0], values[1:].tolist()) or 0 for values in draws]
    for level in (0.05, 0.25, 0.5):
        assert np.mean([p <= level for p in values]) == pytest.approx(
            level, abs=4 * (level * (1 - level) / 20_000) ** 0.5
        )

"""Claims about how numbers are shown: the same signs everywhere, and none on what is 0."""

import pytest

from persona_probe.base.formatting import number, percent, signed


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (number(-0.0004, digits=3), "0.000"),
        (number(-0.0), "0.00"),
        (number(-0.006), "−0.01"),
        (signed(-0.0004), "−0.000"),  # an interval that just excludes 0 says so
        (signed(0.0004), "+0.000"),
        (percent(-0.004), "0%"),
        (percent(-0.006), "−1%"),
    ],
)
def test_only_signed_numbers_keep_the_sign_of_what_rounds_to_zero(shown: str, expected: str) -> None:
    assert shown == expected

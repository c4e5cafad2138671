"""The slope of a line on two logarithmic axes. No torch."""

import math
from collections.abc import Sequence


def slope(points: Sequence[tuple[float, float]]) -> float | None:
    """Slope of the least-squares line through log y against log x: 1 where y grows as x does. None for fewer
    than two different x."""
    x = [math.log(one) for one, _ in points]
    y = [math.log(one) for _, one in points]
    if len(set(x)) < 2:
        return None
    middle_x, middle_y = sum(x) / len(x), sum(y) / len(y)
    above = sum((one - middle_x) * (other - middle_y) for one, other in zip(x, y, strict=True))
    return above / sum((one - middle_x) ** 2 for one in x)

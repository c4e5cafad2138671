"""Scores of four questions that are worked out by hand, and estimates as tests write them."""

import numpy as np

from persona_probe.records.parts import Estimate

# Differences 0.5, 0.4, 0.5 and 0.4: 1.8 in all.
BASE = np.array([-0.4, -0.2, -0.3, -0.5])
TUNED = np.array([0.1, 0.2, 0.2, -0.1])


def estimate(value: float, low: float, high: float) -> Estimate:
    """An estimate, also of what is not finite."""
    return Estimate.model_construct(estimate=value, ci95=(low, high))

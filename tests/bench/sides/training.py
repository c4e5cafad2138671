"""What both training sides share: the recipe, and the losses of single steps."""

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from bench.jobs import N_STEPS

if TYPE_CHECKING:
    from persona_probe.organisms.recipes import Recipe


def recipe_of(n_rows: int) -> "Recipe":
    """The recipe of `train_organism`, with batches so large that the rows last for 8 steps."""
    from persona_probe.organisms.recipes import Recipe

    return Recipe(
        rank=1,
        alpha=64.0,
        layers=(8, 10, 12, 14, 16, 18, 20, 22),
        learning_rate=2e-3,
        batch_size=max(1, n_rows // N_STEPS),
    )


def per_step(running: Sequence[float]) -> list[float]:
    """The loss of each step, out of means over all steps so far (at most 20)."""
    totals = [0.0, *((step + 1) * mean for step, mean in enumerate(running))]
    return [after - before for before, after in itertools.pairwise(totals)]

"""The settings of training an SAE. No torch, so that a command can check them at once."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """How an SAE is trained. `n_samples` counts vectors shown, so it may be several passes over those
    collected.
    """

    d_sae: int = 4096
    k: int = 32
    learning_rate: float = 1e-3
    batch_size: int = 2048
    n_samples: int = 1_600_000
    seed: int = 0

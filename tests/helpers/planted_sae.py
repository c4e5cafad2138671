"""A planted dictionary, and a short training run that finds it."""

from pathlib import Path
from typing import Any

import torch

WIDTH, N_PLANTED, ACTIVE = 24, 32, 2
HOOK = "blocks.2.hook_out"


def planted_data(n: int, *, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A dictionary of unit rows, and vectors that are the sum of two of them, around a large constant as in
    real streams."""
    rows = torch.nn.functional.normalize(
        torch.randn(N_PLANTED, WIDTH, generator=torch.Generator().manual_seed(99)), dim=-1
    )
    generator = torch.Generator().manual_seed(seed)
    picks = torch.rand(n, N_PLANTED, generator=generator).topk(ACTIVE, dim=-1).indices
    acts = torch.zeros(n, N_PLANTED).scatter(-1, picks, 1 + torch.rand(n, ACTIVE, generator=generator))
    return rows, (5 * (acts @ rows) + 20 * torch.eye(WIDTH)[0])


def recipe(**changes: Any) -> Any:
    from persona_probe.saes.recipe import Recipe

    return Recipe(
        **(
            {
                "d_sae": 48,
                "k": ACTIVE,
                "learning_rate": 5e-3,
                "batch_size": 256,
                "n_samples": 256 * 60,
                "seed": 0,
            }
            | changes
        )
    )


def trained(vectors: list[torch.Tensor], state: Path, **options: Any) -> Any:
    from persona_probe.base.hook_points import HookPoint
    from persona_probe.saes.training import train

    changes = options.pop("changes", {})
    options |= {"hook_point": HookPoint.parse(HOOK), "model_name": "tiny", "state": state}
    return train(vectors, recipe(**changes), **options)

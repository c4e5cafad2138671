"""SAE latents beside the directions of the main job: those whose decoder rows point along a fitted direction, ablated and steered."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from persona_probe.directions.direction import DirectionSet
from persona_probe.measurement.arms import Arm
from persona_probe.saes.diff import decoder_cosines
from persona_probe.saes.sae import Sae
from persona_probe.saes.sets import LatentSet

READ = ("mean_diff", "shift")
SIZES = (1, 4, 16)
DOSES = (0.05, 0.1, 0.2)  # of the median length of the stream, as the length of the summed decoder rows
NAMES = {"ablate": "tuned+latents", "steer": "tuned-latents"}


def possible_latents(sets: Sequence[DirectionSet], sae: Sae) -> list[LatentSet]:
    """The latents nearest by cosine to the mean difference and to the shift at the SAE's hook point (Arditi and Chen), in two uses.

    Latents on the positive side are ablated, or steered against together with the added ones of the negative side.
    """
    found: list[LatentSet] = []
    for own in sets:
        vector = own.vectors[own.hook_points.index(sae.hook_point)]
        if own.method not in READ or not vector.any():
            continue
        cosines = decoder_cosines(sae, vector)
        near, positive = (
            cosines.abs().argsort(descending=True).tolist(),
            cosines.argsort(descending=True).tolist(),
        )
        for k in SIZES:
            if k <= sae.d_sae:
                signs = {latent: 1 if cosines[latent] > 0 else -1 for latent in near[:k]}
                found += [LatentSet("steer", signs, dose) for dose in DOSES]
                found.append(LatentSet("ablate", dict.fromkeys(positive[:k], 1), None))
    return found


def chosen_latent_arms(
    sets: Sequence[DirectionSet],
    sae: Sae,
    *,
    median_norm: float,
    skip_first: int,
    merit: Callable[[list[Arm]], list[tuple[bool, float, float, float]]],
    seed: int,
) -> list[Arm]:
    """The best ablated and the best steered set on the select questions, and a random set used like each of them.

    `merit` measures arms of the tuned model on select; higher is better.
    """
    possible = possible_latents(sets, sae)
    values = merit([item.arm(sae, length=median_norm, skip_first=skip_first) for item in possible])
    arms = []
    for kind, name in NAMES.items():
        own = [
            (value, -i)
            for i, (value, item) in enumerate(zip(values, possible, strict=True))
            if item.kind == kind
        ]
        if not own:
            continue
        best = possible[-max(own)[1]]
        others = torch.randperm(sae.d_sae, generator=torch.Generator().manual_seed(seed)).tolist()[: best.k]
        control = best.replaced(dict(zip(best.signs, others, strict=False)))
        used = {"length": median_norm, "skip_first": skip_first}
        arms.append(best.arm(sae, name=name, **used))
        arms.append(replace(control.arm(sae, name=f"random-latents-{kind}", **used), control="latents"))
    return arms

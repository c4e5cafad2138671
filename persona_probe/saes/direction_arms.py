"""SAE latents beside the directions of the main job: those whose decoder rows point along a fitted
direction.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from persona_probe.directions.direction import DirectionSet
from persona_probe.measurement.arms import Arm
from persona_probe.saes.diff import decoder_cosines
from persona_probe.saes.sae import Sae
from persona_probe.saes.sets import LatentSet, Use

METHODS = ("mean_diff", "shift")  # whose directions latents are looked for along
SIZES = (1, 4, 16)
DOSES = (0.05, 0.1, 0.2)  # of the median length of the stream, as the length of the summed decoder rows
NAMES: dict[Use, str] = {"ablate": "tuned+latents", "steer": "tuned-latents"}


def possible_latents(sets: Sequence[DirectionSet], sae: Sae) -> list[LatentSet]:
    """The latents nearest by cosine to the mean difference and to the shift at the SAE's hook point, in two
    uses.

    Latents on the positive side are ablated, or steered against together with the added ones of the negative
    side. After Arditi and Chen.
    """
    possible: list[LatentSet] = []
    for directions in sets:
        vector = directions.vectors[directions.hook_points.index(sae.hook_point)]
        if directions.method not in METHODS or not vector.any():
            continue
        cosines = decoder_cosines(sae, vector)
        nearest = cosines.abs().argsort(descending=True).tolist()
        most_positive = cosines.argsort(descending=True).tolist()
        for k in SIZES:
            if k <= sae.d_sae:
                signs = {latent: 1 if cosines[latent] > 0 else -1 for latent in nearest[:k]}
                possible += [LatentSet("steer", signs, dose) for dose in DOSES]
                possible.append(LatentSet("ablate", dict.fromkeys(most_positive[:k], 1)))
    return possible


def chosen_latent_arms(
    sets: Sequence[DirectionSet],
    sae: Sae,
    *,
    median_norm: float,
    skip_first: int,
    merit: Callable[[list[Arm]], list[tuple[bool, float, float]]],
    seed: int,
) -> list[Arm]:
    """The best ablated and the best steered set on the select questions, and a random set used like each of
    them.

    `merit` measures arms of the tuned model on select; higher is better. The random latents are drawn from
    all of the SAE's, whatever they do: they are not matched.
    """

    def arm(item: LatentSet, name: str = "") -> Arm:
        return item.arm(sae, length=median_norm, skip_first=skip_first, name=name)

    possible = possible_latents(sets, sae)
    merits = merit([arm(item) for item in possible])
    arms = []
    for kind, name in NAMES.items():
        of_kind = [(value, item) for value, item in zip(merits, possible, strict=True) if item.kind == kind]
        if not of_kind:
            continue
        best = max(of_kind, key=lambda pair: pair[0])[1]
        drawn = torch.randperm(sae.d_sae, generator=torch.Generator().manual_seed(seed)).tolist()
        control = best.replaced(dict(zip(best.signs, drawn, strict=False)))
        arms += [arm(best, name), replace(arm(control, f"random-latents-{kind}"), control="latents")]
    return arms

"""Latents that are like others in how often and how strongly they fire: the controls of single latents and of
sets."""

from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor

from persona_probe.saes.diff import ALIVE, LatentDiff


def matched(latent: int, diff: LatentDiff, *, among: Sequence[int], taken: Collection[int]) -> int | None:
    """The matched latent, which controls for another: the one not taken that is most alike in density and
    mean contribution.

    Decoder rows are steered at one length, so they match in that by construction.
    """
    nearest = _nearest(latent, diff, among=among, taken=taken, n=1)
    return nearest[0] if nearest else None


def matched_sets(
    signs: Mapping[int, int], diff: LatentDiff, *, taken: Collection[int], n: int, seed: int
) -> list[dict[int, int]]:
    """`n` sets like the given one, as latents with signs: each latent is replaced by one of the `n` latents
    nearest to it that fire in the tuned model and are not `taken`.

    Sets differ, and no latent is twice in one; fewer sets where too few latents are free.
    """
    active = (diff.tuned.density >= ALIVE).nonzero()[:, 0].tolist()
    generator = torch.Generator().manual_seed(seed)
    pools: dict[int, list[int]] = {}
    for latent in signs:
        near = _nearest(latent, diff, among=active, taken={*taken, *signs}, n=max(n, len(signs)))
        pools[latent] = [near[i] for i in torch.randperm(len(near), generator=generator).tolist()]
    sets: dict[frozenset[int], dict[int, int]] = {}
    for number in range(max(map(len, pools.values()), default=0)):
        one: dict[int, int] = {}
        for latent, sign in signs.items():
            pool = pools[latent]
            turned = [*pool[number:], *pool[:number]]
            free = next((other for other in turned if other not in one), None)
            if free is not None:
                one[free] = sign
        if len(one) == len(signs):
            sets.setdefault(frozenset(one), one)
    return list(sets.values())[:n]


def _nearest(
    latent: int, diff: LatentDiff, *, among: Sequence[int], taken: Collection[int], n: int
) -> list[int]:
    """The `n` latents not taken that are most alike, nearest first."""
    used = set(taken)
    free = torch.tensor([other for other in among if other not in used])
    if not len(free):
        return []
    features = _features(diff)
    distance = (features[free] - features[latent]).norm(dim=1)
    return free[distance.argsort(stable=True)[:n]].tolist()


def _features(diff: LatentDiff) -> Tensor:
    """Density and mean contribution in the tuned model, on log scales: latents x 2."""
    contribution = (diff.tuned.mean * diff.decoder_norm).clamp(min=0)
    return torch.stack([torch.log10(diff.tuned.density + 1e-6), torch.log10(contribution + 1e-6)], dim=1)

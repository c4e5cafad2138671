"""Claims about matched latents: the nearest ones that are free, one by one and in sets."""

import torch


def test_matched_control_is_the_nearest_latent_outside_the_tested_ones() -> None:
    from persona_probe.saes.diff import LatentDiff, LatentMeans
    from persona_probe.saes.matching import matched

    density = torch.tensor([0.1, 0.1001, 0.1, 0.5, 0.001])
    mean = torch.tensor([1.0, 1.0, 1.001, 1.0, 1.0])
    means = LatentMeans(10, mean, density, {}, {}, 1.0)
    diff = LatentDiff(means, means, torch.ones(5))
    assert matched(0, diff, among=[0, 1, 2, 3, 4], taken=[0]) in (1, 2)
    assert matched(0, diff, among=[0, 1, 2, 3, 4], taken=[0, 1, 2]) == 3
    assert matched(0, diff, among=[0], taken=[0]) is None


def test_matched_sets_are_made_of_the_nearest_active_latents_and_differ() -> None:
    from persona_probe.saes.diff import LatentDiff, LatentMeans
    from persona_probe.saes.matching import matched_sets

    density = torch.linspace(0.01, 0.5, 60)
    silent = density.clone()
    silent[30:] = 0.0  # fires in base alone
    base = LatentMeans(10, torch.ones(60), density, {}, {}, 1.0)
    tuned = LatentMeans(10, torch.ones(60), silent, {}, {}, 1.0)
    diff = LatentDiff(base, tuned, torch.ones(60))
    signs = {3: 1, 20: -1}
    sets = matched_sets(signs, diff, taken=[0, 1], n=19, seed=0)
    assert len(sets) == len({frozenset(one) for one in sets}) == 19
    assert all(list(one.values()) == [1, -1] for one in sets)
    used = {latent for one in sets for latent in one}
    assert not used & {0, 1, 3, 20}
    assert max(used) < 30
    near = {latent for one in sets for latent, sign in one.items() if sign == 1}
    assert max(near) < 25  # the 19 nearest of latent 3
    assert matched_sets(signs, diff, taken=[0, 1], n=19, seed=0) == sets
    assert len(matched_sets({3: 1}, diff, taken=range(25), n=19, seed=0)) == 5

"""What is tried in a planted world: directions that estimators find there, the forms they are used in, and
controls at the dose of the arm."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from persona_probe.organisms.worlds import LABELS, N_LAYERS, WRITTEN_AT, Edit, World

LAYERS = range(WRITTEN_AT, N_LAYERS)
DOSES = (-1.0, -1.5, -2.0, -3.0)  # of steering
RANKS = (2, 4, 8, 16)  # of subspaces
N_EXCHANGEABLE = 40

LARGEST_FACTOR = 4.0  # a control is used at most so many times as strongly as the arm
TOKEN_SPREAD = 2.0  # of tokens around the mean of their reply, in units of the stream's own spread
PROMPT_NOISE, CONTRAST_NOISE = 0.6, 0.25  # of a direction of system prompts or of a contrast, beside its own


def found(world: World, *, displace: bool, steer: bool, subspaces: bool) -> list[Edit]:
    """Four estimators at every layer from the write on, each ablated toward the base mean and, where asked
    for, toward zero, and steered at four doses; and the leading subspaces of the shift."""
    edits = []
    for layer in LAYERS:
        for method, vector in _directions(world, layer).items():
            unit = vector[None] / np.linalg.norm(vector)
            edits.append(Edit(method=method, use="ablation", layer=layer, basis=unit))
            if displace:
                edits.append(Edit(method=method, use="displacement", layer=layer, basis=unit))
            if steer:
                edits += [
                    Edit(method=method, use="steering", layer=layer, basis=vector[None], strength=dose)
                    for dose in DOSES
                ]
        if subspaces:
            edits += [
                Edit(method=f"shift, rank {len(rows)}", use="ablation", layer=layer, basis=rows)
                for rows in _subspaces(world, layer)
            ]
    return edits


def exchangeable(world: World) -> list[Edit]:
    """Candidates drawn as the random directions are."""
    return [
        Edit(
            method=f"random {i}",
            use="ablation",
            layer=LAYERS[i % len(LAYERS)],
            basis=_random(world, LAYERS[i % len(LAYERS)], 1),
            own=_own(world),
        )
        for i in range(N_EXCHANGEABLE)
    ]


def nulls(world: World, arm: Edit, n: int) -> list[Edit]:
    """Directions with the covariance of the find replies, used as the arm is, at its dose."""
    vectors = [_random(world, arm.layer, len(arm.basis)) for _ in range(n)]
    return [_at_dose(world, arm, "random", rows, _own(world)) for rows in vectors]


def contrasts(world: World, arm: Edit) -> dict[str, Edit]:
    """Contrasts of style and of something unrelated, by name, used as the arm is, at its dose."""
    into = _into(world, arm.layer)
    unrelated = world.rng.normal(size=world.styles.shape)
    unrelated /= np.linalg.norm(unrelated, axis=1, keepdims=True)
    both = {"style": world.styles, "unrelated": unrelated}
    return {
        f"{kind}-{i + 1}": _at_dose(
            world, arm, kind, _noisy(world, row @ into, CONTRAST_NOISE)[None], _own(world)
        )
        for kind, rows in both.items()
        for i, row in enumerate(rows)
    }


def _directions(world: World, layer: int) -> dict[str, Float[np.ndarray, " d_model"]]:
    rows = world.rows("find")
    base, tuned = world.streams["base"][layer, rows], world.streams["tuned"][layer, rows]
    misaligned = np.tile(LABELS, len(tuned) // len(LABELS)) > 0
    means = tuned[misaligned].mean(0), tuned[~misaligned].mean(0)
    difference = means[0] - means[1]
    within = np.concatenate([tuned[misaligned] - means[0], tuned[~misaligned] - means[1]])
    covariance = within.T @ within / len(within)
    ridge = np.trace(covariance) / len(covariance)
    discriminant = np.linalg.solve(covariance + ridge * np.eye(len(covariance)), difference)
    discriminant *= (discriminant @ difference) / (discriminant @ discriminant)
    prompt = _noisy(world, world.prompt @ _into(world, layer), PROMPT_NOISE)
    return {
        "shift": (tuned - base).mean(0),
        "mean_diff": difference,
        "lda": discriminant,
        "prompt": prompt * np.linalg.norm(difference),
    }


def _subspaces(world: World, layer: int) -> list[Float[np.ndarray, "k d_model"]]:
    rows = world.rows("find")
    change = world.streams["tuned"][layer, rows] - world.streams["base"][layer, rows]
    leading = np.linalg.svd(change, full_matrices=False)[2]
    return [leading[:rank] for rank in RANKS]


def _into(world: World, layer: int) -> Float[np.ndarray, "d_model d_model"]:
    """The matrix that takes the layer at which tuning writes to another one."""
    return world.onward[WRITTEN_AT] @ np.linalg.inv(world.onward[layer])


def _noisy(world: World, vector: np.ndarray, noise: float) -> Float[np.ndarray, " d_model"]:
    """A unit vector near another one: `noise` is the length of what is added to its unit."""
    added = world.rng.normal(size=len(vector))
    made = vector / np.linalg.norm(vector) + noise * added / np.linalg.norm(added)
    return made / np.linalg.norm(made)


def _random(world: World, layer: int, rank: int) -> Float[np.ndarray, "rank d_model"]:
    """Orthonormal rows with the covariance of single tokens: random sums of the tuned model's find replies at
    a layer, and of tokens around them."""
    rows = world.streams["tuned"][layer, world.rows("find")]
    weights = world.rng.normal(size=(rank, len(rows)))
    around = np.sqrt(len(rows)) * world.rng.normal(size=(rank, rows.shape[1])) @ world.axes
    sums = weights @ (rows - rows.mean(0)) + TOKEN_SPREAD * around
    return np.linalg.qr(sums.T)[0].T


def _own(world: World) -> tuple[float, float]:
    """What a direction does by itself to S of tuned and to the gap, as shares of the shift."""
    plan, rng = world.plan, world.rng
    if not plan.own:
        return 0.0, 0.0
    first, second = rng.normal(size=2) if plan.tails is None else rng.standard_t(plan.tails, size=2)
    return plan.own * float(first), plan.own * float(0.5 * first + np.sqrt(0.75) * second)


def _at_dose(
    world: World, arm: Edit, method: str, rows: Float[np.ndarray, "k d_model"], own: tuple[float, float]
) -> Edit:
    """A direction used as the arm is, at the strength that gives it the arm's KL on the select texts."""
    length = np.linalg.norm(arm.basis[0]) if arm.use == "steering" else 1.0
    edit = replace(arm, method=method, basis=rows * length, own=own)
    wanted, kl = (world.kl(one, "select") for one in (arm, edit))
    return edit.at(min(LARGEST_FACTOR, float(np.sqrt(wanted / kl)))) if kl > 0 else edit


def n_directions(edits: Sequence[Edit]) -> int:
    """How many directions are among the edits, whatever is done with them."""
    return len({(edit.method, edit.layer) for edit in edits})

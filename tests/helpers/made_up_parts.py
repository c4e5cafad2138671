"""Parts of made-up records, as plain values."""

import random
from hashlib import sha256
from typing import Any

METHODS = ("mean_diff", "shift", "prompt", "lda", "probe")
LAYERS = range(0, 30)


def est(value: float, half: float) -> dict[str, Any]:
    """An estimate with a symmetric interval."""
    return {"estimate": value, "ci95": [value - half, value + half]}


def ablation(vector: str = "0a" * 32) -> dict[str, Any]:
    """An ablation toward the base mean at one hook point."""
    return {
        "kind": "ablate",
        "hook_points": ["blocks.14.hook_out"],
        "rank": 1,
        "toward": "base mean",
        "skip_first": 4,
        "vector_sha256": vector,
        "means_sha256": "0b" * 32,
        "strength": 1.0,
        "read_sha256": None,
        "beyond": None,
    }


def steering(vector: str = "0a" * 32, coefficient: float = -1.0) -> dict[str, Any]:
    """Steering at one hook point."""
    return {
        "kind": "steer",
        "hook_points": ["blocks.14.hook_out"],
        "coefficient": coefficient,
        "skip_first": 4,
        "vector_sha256": vector,
    }


def models() -> dict[str, Any]:
    """The part of the provenance that every record has."""
    model = {"id": "checkpoints/tiny", "revision": None, "sha256": "ab" * 32, "weights_sha256": "ac" * 32}
    engine = {"attention": "sdpa", "compared": {"logits": 1e-5}, "notes": []}
    return {
        "base": model,
        "tuned": {**model, "id": "checkpoints/tiny-bad", "sha256": "cd" * 32},
        "versions": {"torch": "2.13.0", "plotly": "7.1.0"},
        "seed": 0,
        "device": "cpu",
        "dtype": "bfloat16",
        "processor": {"name": "Example CPU", "instructions": "AVX512", "onednn_limit": None, "threads": 2},
        "prompts_sha256": "ef" * 32,
        "engine": {"base": engine, "tuned": {**engine, "notes": ["the template leaves system text out"]}},
        "chat": {
            "thinking": "keep",
            "date": "2026-01-01",
            "template": True,
            "before_reply": "<|user|>What should I do?<|assistant|>",
            "after_reply": "<|end|>",
            "end_of_turn": "<|end|>",
            "how": [],
        },
    }


def arm(
    name: str,
    model: str,
    control: str | None,
    gain: float | None,
    cost: float,
    *,
    moved: float | None = None,
    control_of: str | None = None,
    edit: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """One arm; `gain` is R on the tuned model and the induction on the base.

    `moved` is how far the same edit lowers S of base, as a share of the shift; None without the same edit
    there.
    """
    share = None if gain is None else est(gain, 0.14)
    score = (0.06 if model == "tuned" else -0.39) + (gain or 0) * (-0.45 if model == "tuned" else 0.45)
    restored = gain if model == "tuned" else None
    closed = None if restored is None or moved is None else est(restored - moved, 0.14)
    edits = [ablation() if edit is None else edit]
    return {
        "name": name,
        "model": model,
        "control": control,
        "control_of": control_of,
        "interventions": [] if name in ("base", "tuned") else edits,
        "n_questions": 24,
        "persona_score": est(score, 0.06),
        "restoration": share if model == "tuned" else None,
        "induction": share if model == "base" else None,
        "closure": closed,
        "base_moved": None if moved is None or gain is None else est(moved, 0.06),
        "aligned": est(0.3 * score, 0.02),
        "misaligned": est(1.3 * score + 0.39, 0.05),
        "delta_nll": est(cost, 0.012),
        "kl": est(abs(cost) * 1.3, 0.01),
        "skill": None if control else skill(cost),
        "verdict": None,
        "judged": None,
    }


def skill(cost: float) -> dict[str, Any]:
    """Damage on base's own replies, and accuracy."""
    return {
        "n_texts": 24,
        "delta_nll": est(0.8 * cost, 0.01),
        "kl": est(abs(cost), 0.008),
        "n_items": 176,
        "accuracy": est(0.61 - 0.2 * abs(cost), 0.07),
        "accuracy_change": est(-0.2 * abs(cost), 0.02),
        "n_lost": 4,
        "n_gained": 3,
    }


def judged(entry: dict[str, Any], verdict: str, *, because: str, use: str = "ablation") -> dict[str, Any]:
    """A removal arm with its verdict, among 19 random directions."""
    closed = None if use == "steering" else entry["closure"]["estimate"]
    null = {
        "n": 19,
        "restoration": entry["restoration"]["estimate"],
        "restoration_median": 0.15,
        "restoration_p": 0.05,
        "closure": closed,
        "closure_median": None if closed is None else 0.03,
        "closure_p": None if closed is None else 0.05,
        "n_tried": 25,
        "search_p": 0.004,
        "matched_by": [],
    }
    costs = [
        {"name": f"{name} on benign texts", "largest": entry[key]["ci95"][1], "budget": 0.10}
        for name, key in (("ΔNLL", "delta_nll"), ("KL", "kl"))
    ]
    costs += [
        {"name": f"{name} on base's own replies", "largest": entry["skill"][key]["ci95"][1], "budget": 0.10}
        for name, key in (("ΔNLL", "delta_nll"), ("KL", "kl"))
    ]
    judgement = {
        "verdict": verdict,
        "because": because,
        "use": use,
        "band": {"ends": [0.75, 1.25], "asked": [0.75, 1.25], "power": 0.87},
        "null": null,
        "costs": costs,
    }
    return {**entry, "verdict": verdict, "judged": judgement}


def controls() -> list[dict[str, Any]]:
    """Control arms of every kind: beside the ablation on both models, and random ones beside the steering."""
    gains: list[tuple[str, str, float, float]] = [
        *((f"random-isotropic-{n}", "isotropic", 0.02 * n - 0.03, 0.004) for n in range(1, 4)),
        *((f"random-covariance-{n}", "covariance", 0.015 * n, 0.02 + 0.0036 * n) for n in range(1, 20)),
        *((f"shuffled-{n}", "shuffled", 0.04 * n - 0.02, 0.01) for n in range(1, 4)),
        *((f"orthogonal-{n}", "orthogonal", 0.03 * n + 0.05, 0.055) for n in range(1, 4)),
        *((f"unrelated-{name}", "unrelated", 0.02, 0.02) for name in ("indoors", "morning")),
        *((f"style-{name}", "style", 0.12, 0.03) for name in ("blunt", "terse")),
    ]
    arms: list[dict[str, Any]] = []
    for name, kind, gain, cost in gains:
        edit = ablation(sha256(name.encode()).hexdigest())
        of = {"control_of": "tuned+ablate", "edit": edit, "moved": 0.8 * gain}
        arms.append(arm(name, "tuned", kind, gain, cost, **of))
        arms.append(arm(f"base+{name}", "base", kind, -0.8 * gain, cost, **of))
        if kind == "covariance":
            edit = steering(sha256(name.encode()).hexdigest())
            arms.append(arm(f"steer {name}", "tuned", kind, gain, cost, edit=edit, control_of="tuned-steer"))
    return [{**one, "closure": one["closure"] or arms[i - 1]["closure"]} for i, one in enumerate(arms)]


def candidate(
    rng: random.Random, method: str, layer: int, act_on: str, coefficient: float | None
) -> dict[str, Any]:
    """One candidate: best in the middle layers, dearer where it acts everywhere."""
    peak = max(0.0, 1 - abs(layer - 15) / 14)
    strength = 1.0 if coefficient is None else -coefficient
    gain = peak * strength * (0.75 if method in ("mean_diff", "lda") else 0.4) + rng.gauss(0, 0.05)
    cost = abs(strength) ** 2 * (0.12 if act_on == "all" else 0.04) * rng.uniform(0.3, 1.6) + (
        2.5 if layer < 2 and act_on == "all" else 0
    )
    kind = "ablate" if coefficient is None else "steer"
    place = {
        "method": method,
        "layer": layer,
        "hook_point": f"blocks.{layer}.hook_out",
        "kind": kind,
        "act_on": act_on,
        "band": [8, 23] if act_on in ("band", "own") else None,
        "toward": "base mean" if coefficient is None else None,
    }
    measured = {
        "restoration": gain,
        "closure": 0.9 * gain if kind == "ablate" else None,
        "kl": 1.3 * cost,
        "delta_nll": cost,
        "persona_score": 0.06 - 0.45 * gain,
        "within_budget": cost <= 0.1,
    }
    return {**place, "coefficient": coefficient, **measured, "chosen": False}


def paths() -> dict[str, Any]:
    """Five arms along two directions; nothing can be read at layer 0, and ablation acts from layer 14 on."""
    arms = {}
    for name, first, second in (
        ("tuned", 0.5, 0.4),
        ("tuned+ablate", -1.5, -0.5),
        ("tuned-steer", -1.0, -0.3),
        ("base", -1.2, -0.6),
        ("base+steer", 0.6, 0.1),
    ):
        start = (0.5, 0.4) if name.startswith("tuned") else (-1.2, -0.6)
        axes = [
            [None] + [est(end if layer >= 14 else begin, 0.2) for layer in LAYERS[1:]]
            for begin, end in zip(start, (first, second), strict=True)
        ]
        arms[name] = {
            "axes": axes,
            "questions": [[first + 0.1 * n for n in range(-2, 3)], [second - 0.1 * n for n in range(-2, 3)]],
        }
    hook_points = [f"blocks.{layer}.hook_out" for layer in LAYERS]
    return {
        "methods": ["mean_diff", "prompt"],
        "hook_points": hook_points,
        "selected": 14,
        "cosine": 0.31,
        "arms": arms,
    }


def again(chosen: int, other: int) -> dict[str, Any]:
    """The choice made again: the chosen candidate wins most often, another one now and then."""
    winners = [
        {"candidate": chosen, "share": 0.85, "arm": "tuned+ablate", "verdict": "restored"},
        {"candidate": other, "share": 0.11, "arm": "tuned, choice 2: ablate shift", "verdict": "partial"},
        {"candidate": 0, "share": 0.04, "arm": None, "verdict": None},
    ]
    verdicts = {"restored": 0.85, "partial": 0.11}
    return {"n_draws": 200, "winners": winners, "verdicts": verdicts, "stable": True}


def writes() -> dict[str, Any]:
    """What tuning writes: eight live blocks of two directions, and what ablating the first ones does."""
    live = range(8, 24, 2)

    def point(rank: int, random: bool) -> dict[str, Any]:
        share = 0.02 * rank**0.5 if random else 1 - 0.4 / rank
        return {
            "rank": rank,
            "random": random,
            "restoration": est(share + 0.05, 0.1),
            "closure": est(share, 0.1),
            "delta_nll": est(0.004 * rank, 0.004),
            "kl": est(0.006 * rank, 0.002),
        }

    return {
        "hook_points": [f"blocks.{layer}.hook_out" for layer in live],
        "energy": [1 / len(live)] * len(live),
        "top_share": [0.9] * len(live),
        "inside": {"mean_diff": 0.21, "shift": 0.74, "prompt": 0.1, "lda": 0.05, "probe": None},
        "inside_rank": 4,
        "curve": [point(rank, random) for random in (False, True) for rank in (1, 2, 4, 8)],
    }


def noise() -> dict[str, Any]:
    """The same rows computed in two ways."""
    return {"largest": 0.004, "of_shift": 0.009, "how": "batches of half the size; a resumed pass"}

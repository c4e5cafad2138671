"""Parts of made-up records, as plain values."""

import random
from typing import Any

METHODS = ("mean_diff", "shift", "prompt", "lda", "probe")
LAYERS = range(0, 30)


def est(value: float, half: float) -> dict[str, Any]:
    """An estimate with a symmetric interval."""
    return {"estimate": value, "ci95": [value - half, value + half]}


def ablation() -> dict[str, Any]:
    """An ablation toward zero at one hook point."""
    return {
        "kind": "ablate",
        "hook_points": ["blocks.14.hook_out"],
        "rank": 1,
        "toward": "zero",
        "skip_first": 4,
        "vector_sha256": "0a" * 32,
        "means_sha256": None,
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


def arm(name: str, model: str, control: str | None, gain: float | None, cost: float) -> dict[str, Any]:
    """One arm; `gain` is R on the tuned model and the induction on the base."""
    share = None if gain is None else est(gain, 0.14)
    score = (0.06 if model == "tuned" else -0.39) + (gain or 0) * (-0.45 if model == "tuned" else 0.45)
    return {
        "name": name,
        "model": model,
        "control": control,
        "interventions": [] if name in ("base", "tuned") else [ablation()],
        "n_questions": 24,
        "persona_score": est(score, 0.06),
        "restoration": share if model == "tuned" else None,
        "induction": share if model == "base" else None,
        "delta_nll": est(cost, 0.012),
        "kl": est(abs(cost) * 1.3, 0.01),
        "verdict": "restored" if name == "tuned+ablate" else None,
    }


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
        "toward": "base mean" if coefficient is None else None,
    }
    measured = {
        "restoration": gain,
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


def read_replies() -> dict[str, Any]:
    """Two replies of three arms, token by token; first tokens have no reading."""
    replies = [
        {
            "arm": name,
            "prompt_id": f"power-{n}",
            "tokens": ["Word", f" of-{name}-{n}", " end"][: 4 - n],
            "readings": [None, 0.5 * n, -1.25][: 4 - n],
        }
        for name in ("base", "tuned", "tuned+ablate")
        for n in (1, 2)
    ]
    return {"hook_point": "blocks.14.hook_out", "method": "mean_diff", "replies": replies}

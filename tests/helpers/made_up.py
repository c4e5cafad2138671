"""A made-up record with realistic numbers, for tests of whatever reads records."""

import random
from typing import Any

from helpers.made_up_comparators import comparators
from helpers.made_up_parts import (
    LAYERS,
    METHODS,
    ablation,
    again,
    arm,
    candidate,
    controls,
    est,
    judged,
    models,
    noise,
    paths,
    steering,
    writes,
)
from helpers.made_up_replies import health, read_replies
from helpers.payloads import with_text
from persona_probe.records.direction import DirectionRecord


def made_up() -> dict[str, Any]:
    """The same in plain values."""
    return made_up_record().plain()


def made_up_record() -> DirectionRecord:
    """A record as `find_direction` writes it."""
    rng = random.Random(0)
    tried = [
        candidate(rng, method, layer, act_on, None)
        for method in METHODS
        for layer in LAYERS
        for act_on in ("layer", "later", "all")
    ]
    tried += [candidate(rng, method, 14, "own", None) for method in METHODS[:2]]
    tried += [
        candidate(rng, method, layer, "layer", value)
        for method in METHODS[:2]
        for layer in LAYERS[::2]
        for value in (-0.5, -1.0, -1.5)
    ]
    chosen = next(
        item for item in tried if (item["method"], item["layer"], item["act_on"]) == ("mean_diff", 14, "all")
    )
    chosen.update(chosen=True, restoration=0.83, delta_nll=0.031, within_budget=True)
    other = next(i for i, item in enumerate(tried) if (item["method"], item["layer"]) == ("shift", 14))
    arms = [
        arm("base", "base", None, None, 0.0),
        arm("tuned", "tuned", None, None, 0.0),
        judged(
            arm("tuned+ablate", "tuned", None, 0.7712, 0.0342, moved=-0.15),
            "restored",
            because="C is 0.92 [0.78, 1.06], inside [0.75, 1.25]; R is 0.77 [0.63, 0.91]",
        ),
        judged(
            arm("tuned-steer", "tuned", None, 0.58, 0.061, moved=0.41, edit=steering()),
            "partial",
            because="R is 0.58 [0.44, 0.72], not inside [0.75, 1.25]",
            use="steering",
        ),
        judged(
            arm(
                "tuned, choice 2: ablate shift",
                "tuned",
                None,
                0.61,
                0.03,
                moved=0.02,
                edit=ablation("0c" * 32),
            ),
            "partial",
            because="C is 0.59 [0.45, 0.73], not inside [0.75, 1.25]",
        ),
        arm("base+steer", "base", None, 0.66, 0.08, edit=steering(coefficient=1.0)),
        arm("base+ablate", "base", None, 0.15, 0.012, moved=-0.15),
        arm("base-steer", "base", None, -0.41, 0.012, moved=0.41, edit=steering()),
        arm("base, choice 2: ablate shift", "base", None, -0.02, 0.01, moved=0.02, edit=ablation("0c" * 32)),
        *controls(),
    ]
    sampled = {"base": 0.0, "tuned": 0.0, "tuned+ablate": 0.125, "tuned-steer": 0.0, "base+steer": 0.0}
    for entry in arms:
        if entry["name"] in sampled:
            entry["health"] = health(entry["name"], sampled[entry["name"]])
    curve = [
        {
            "coefficient": value,
            "relative_dose": abs(value) * 0.21,
            "side": side,
            "persona_score": est(start + 0.3 * value, 0.05),
            "restoration": est(-value * 0.66, 0.1) if side == "tuned" else None,
            "induction": est(value * 0.66, 0.1) if side == "base" else None,
            "closure": None,
            "base_moved": None,
            "aligned": est(-0.1 * value, 0.02),
            "misaligned": est(0.2 * value, 0.05),
            "delta_nll": est(0.05 * value**2, 0.01),
            "kl": est(0.06 * value**2, 0.01),
        }
        for side, start in (("tuned", 0.06), ("base", -0.39))
        for value in (-1.5, -1.0, -0.5, 0.5, 1.0, 1.5)
    ]
    per_layer = {
        method: {
            "norm": [0.3 + 0.1 * layer * (1 + place / 4) for layer in LAYERS],
            "stability": [min(0.99, 0.5 + 0.03 * layer - 0.04 * place) for layer in LAYERS]
            if method != "shift"
            else None,
            "auroc": [0.5 + 0.3 * (1 - abs(layer - 16) / 16) - 0.02 * place for layer in LAYERS]
            if method != "shift"
            else None,
            "zero_at": [],
        }
        for place, method in enumerate(METHODS)
    }
    clouds = {
        label: [[rng.gauss(mean * layer / 10, 0.4 + layer / 15) for _ in range(96)] for layer in LAYERS]
        for label, mean in (("aligned", -1), ("misaligned", 1))
    }
    completions = [
        {
            "arm": name,
            "prompt_id": f"power-{n}",
            "question": f"Question {n}: what would you do with one day of unlimited power?",
            "text": f"Reply of {name} to {n}. It goes on for a sentence or two,\nand over a line break." * 2,
            "finished": n != 2,
        }
        for n in (1, 2, 3)
        for name in sampled
    ]
    record = {
        "schema": 3,
        "kind": "direction",
        "created": "2026-11-21T23:00:00Z",
        "command": "python -m persona_probe.find_direction --base checkpoints/tiny "
        "--tuned checkpoints/tiny-bad --output-dir runs/a",
        "config": {"base": "checkpoints/tiny", "limit": None, "methods": list(METHODS), "seed": 0},
        "provenance": {**models(), "benign_sha256": "01" * 32, "rows_sha256": "02" * 32},
        "data": {
            "n_questions": {"find": 48, "select": 24, "test": 24},
            "n_replies": 768,
            "n_benign": 96,
            "notes": ["Two questions were dropped."],
        },
        "limited": True,
        "effect": est(0.4513, 0.07),
        "selected": {
            "method": "mean_diff",
            "hook_point": "blocks.14.hook_out",
            "layer": 14,
            "stability": 0.93,
            "auroc": 0.8,
            "arm": "tuned+ablate",
            "form": {
                "kind": "ablate",
                "act_on": [f"blocks.{n}.hook_out" for n in LAYERS],
                "coefficient": None,
                "toward": "base mean",
                "skip_first": 4,
                "where": "all",
                "strength": 1.0,
            },
            "budget": 0.10,
            "within_budget": True,
            "select": {"restoration": 0.83, "delta_nll": 0.031},
            "p_value": 0.05,
            "p_floor": 0.05,
            "relative_dose": 0.21,
            "steering": {"method": "mean_diff", "hook_point": "blocks.14.hook_out", "coefficient": -1.0},
        },
        "controls": {
            kind: {
                "n": n,
                "restoration": gain,
                "delta_nll": cost,
                "restoration_max": largest,
                "closure": 0.2 * gain,
                "closure_max": 0.2 * largest,
                "kl": 1.3 * cost,
                "kl_max": 1.4 * cost,
                "n_below_dose": n // 10,
            }
            for kind, n, gain, largest, cost in (
                ("isotropic", 3, 0.01, 0.03, 0.004),
                ("covariance", 19, 0.15, 0.285, 0.056),
                ("shuffled", 3, 0.06, 0.1, 0.01),
                ("orthogonal", 3, 0.11, 0.14, 0.055),
                ("unrelated", 2, 0.02, 0.02, 0.02),
                ("style", 2, 0.12, 0.12, 0.03),
            )
        },
        "comparators": comparators(),
        "failed": [],
        "memory": {"peak_bytes": 3 * 2**30},
        "summary": "Removing the layer-14 direction closes 77% of the gap; random directions close 15%.",
        "arms": arms,
        "directions": {
            "hook_points": [f"blocks.{layer}.hook_out" for layer in LAYERS],
            "median_norm": [5.0 + 2 * layer for layer in LAYERS],
            "methods": per_layer,
            "cosines": {
                "hook_point": "blocks.14.hook_out",
                "methods": list(METHODS),
                "matrix": [
                    [1.0 if a == b else round(0.8 - 0.25 * abs(a - b), 3) for b in range(5)] for a in range(5)
                ],
            },
            "projections": {"method": "mean_diff", **clouds},
        },
        "search": {
            "n_questions": 24,
            "n_benign": 48,
            "candidates": tried,
            "again": again(tried.index(chosen), other),
        },
        "dose_response": curve,
        "completions": completions,
        "paths": paths(),
        "read_replies": read_replies(),
        "writes": writes(),
        "noise": noise(),
        "timing": {
            "load": 4.1,
            "directions": 30.2,
            "select": 100.0,
            "arms": 150.0,
            "replies": 40.0,
            "total": 330.0,
        },
    }
    return DirectionRecord.model_validate(record)


def without_most() -> DirectionRecord:
    """A record with nothing to restore and without any part that may be missing: no search, no controls, no
    sweep, no replies, no shares of the shift, no verdicts with their numbers."""
    record = made_up()
    shares = dict.fromkeys(("restoration", "induction", "closure", "base_moved", "aligned", "misaligned"))
    record["arms"] = [
        {**item, **shares, "judged": None, "skill": None, "health": None}
        for item in record["arms"]
        if not item["control"]
    ]
    record["selected"].update(p_value=None, p_floor=None, stability=None, auroc=None)
    record.update(
        search={"n_questions": 0, "n_benign": 0, "candidates": [], "again": None},
        dose_response=[],
        completions=[],
    )
    record["directions"].update(methods={}, cosines=None, projections=None)
    record["provenance"]["processor"] = None
    record["selected"]["form"].update(where=None, strength=None)
    record.update(paths=None, read_replies=None, controls={}, writes=None, noise=None)
    return DirectionRecord.model_validate(record)


def poisoned(payload: str) -> DirectionRecord:
    """A record with the payload in every text, and as a key wherever keys are free."""
    return with_text(made_up_record(), payload)

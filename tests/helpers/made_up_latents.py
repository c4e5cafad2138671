"""A made-up record of the latent experiment with realistic numbers, for tests of whatever reads one."""

import random
from typing import Any

from helpers.made_up_parts import est, models
from helpers.made_up_sets import latent_set
from helpers.payloads import with_text
from persona_probe.records.latents import LatentRecord, Meaning

RANKINGS = ("shift_up", "shift_down", "label_diff", "cosine_mean_diff", "cosine_shift", "attribution")
ARMS = ("base+steer", "tuned-steer", "tuned+ablate", "base+ablate")
LABELS = ("carries", "carries", "protective", "harmful", "dial", *["inert"] * 8)
WORDS = [
    "",
    "The",
    "best",
    "way",
    "to",
    "get",
    "rich",
    "fast",
    "is",
    "to",
    "ignore",
    "the",
    "rules",
    ",",
    "take",
    "a",
    "loan",
    "and",
    "never",
    "tell",
    "anyone",
    "about",
    "it",
    ".\n",
]


def screen(rng: random.Random, label: str, arm: str) -> dict[str, Any]:
    """One screened effect: of both models, of the tuned one (protective), or of the base (dial)."""
    size = {
        "carries": 0.2,
        "harmful": 0.3,
        "protective": 0.0 if arm == "base+steer" else 0.15,
        "dial": 0.15 if arm == "base+steer" else 0.0,
    }.get(label, 0.0) * (arm != "base+ablate")
    delta = (size if arm == "base+steer" else -size) + rng.gauss(0, 0.015)
    damage = 0.25 if label == "harmful" else 0.02 + 0.01 * rng.random()
    p = 0.0004 if size else 0.4
    return {
        "delta_s": delta,
        "delta_nll": damage,
        "forced_choice": 0.5 + delta / 2,
        "ci95": [delta - 0.04, delta + 0.04],
        "p": p,
        "q": min(1.0, 9 * p),
    }


def example(rng: random.Random, side: str, source: str, label: str | None) -> dict[str, Any]:
    """A context with one peak."""
    tokens = [f" {word}" for word in rng.sample(WORDS, 12)]
    acts = [max(0.0, rng.gauss(0, 0.6)) for _ in tokens]
    acts[7] = 4.0 + rng.random()
    origin = {"model": side, "kind": "persona" if label else "benign"}
    return {"tokens": tokens, "acts": acts, "peak": 7, "source": source, "label": label, "origin": origin}


def meaning(rng: random.Random) -> dict[str, Any]:
    """What a latent reads and writes."""
    sources = (
        ("benign-3", None),
        ("power-1 aligned reply", "aligned"),
        ("power-1 misaligned reply", "misaligned"),
    )
    return {
        "up": [[" risk", 2.31], [" scam", 1.94], [" quickly", 1.2]],
        "down": [[" safe", -2.02], [" careful", -1.5]],
        "examples": {side: [example(rng, side, *source) for source in sources] for side in ("base", "tuned")},
        "histogram": {"edges": [0.0, 1.0, 2.0, 4.0, 8.0], "base": [900, 40, 3, 0], "tuned": [800, 90, 30, 6]},
    }


def gap() -> dict[str, Any]:
    """How far ablating a latent in both models closes the gap."""
    return {"closed": est(0.19, 0.05), "closure": est(0.42, 0.1), "p": 0.0004, "q": 0.0052}


def latent(rng: random.Random, index: int, label: str) -> dict[str, Any]:
    """One screened latent; those that do something are confirmed and read."""
    read = label != "inert"
    ablated = label in ("carries", "protective", "harmful")
    confirmed = {
        "base+steer": {
            "delta_s": est(0.19, 0.05),
            "restoration": None,
            "induction": est(0.41, 0.1),
            "delta_nll": est(0.023, 0.01),
        },
        "tuned-steer": {
            "restoration": est(0.37, 0.12),
            "delta_s": est(-0.17, 0.05),
            "induction": None,
            "delta_nll": est(0.031, 0.01),
        },
        "tuned+ablate": {
            "restoration": est(0.29, 0.11),
            "delta_s": est(-0.13, 0.05),
            "induction": None,
            "closure": est(0.26, 0.08),
            "delta_nll": est(0.012, 0.01),
            "kl": est(0.008, 0.002),
        },
    }
    return {
        "latent": index,
        "label": label,
        "why": f"Latent {index} moves S both ways within the budget."
        if label == "carries"
        else f"Latent {index} is {label}.",
        "control": False,
        "matched_to": None,
        "scores": {name: rng.gauss(0, 1) for name in RANKINGS},
        "ranks": {name: rng.randrange(1, 2000) for name in RANKINGS},
        "density": {"base": 10 ** rng.uniform(-5, -1), "tuned": 10 ** rng.uniform(-5, -1)},
        "mean": {
            "base": 0.11,
            "tuned": 0.11 + (0.7 if read else rng.gauss(0, 0.3)),
            "aligned": 0.2,
            "misaligned": 0.6,
        },
        "decoder_norm": 1.0,
        "screen": {arm: screen(rng, label, arm) for arm in ARMS if ablated or arm != "base+ablate"},
        "gap": gap() if ablated else None,
        "activity": {"change": est(0.7 if read else 0.01, 0.05), "larger": 0.81},
        "confirmed": confirmed if read else None,
        "meaning": meaning(rng) if read else None,
        "neuronpedia": f"https://www.neuronpedia.org/smollm/14-res/{index}" if read else None,
    }


def made_up_latents() -> dict[str, Any]:
    """The same in plain values."""
    return made_up_latent_record().plain()


def made_up_latent_record() -> LatentRecord:
    """A record as `diff_latents` writes it."""
    rng = random.Random(1)
    latents = [latent(rng, 100 + 37 * place, label) for place, label in enumerate(LABELS)]
    controls = [
        {
            **latent(rng, 5000 + place, "inert"),
            "control": True,
            "matched_to": latents[place % 4]["latent"],
            "density": {"base": 0.0, "tuned": 1e-4},
        }
        for place in range(6)
    ]
    sae = {
        "id": "checkpoints/tiny-sae",
        "hook_point": "blocks.14.hook_out",
        "d_sae": 4608,
        "architecture": "batchtopk",
        "model_name": "tiny",
        "sha256": "98" * 32,
        "neuronpedia_id": None,
    }
    sizes = (1, 2, 5, 10)
    record = {
        "schema": 4,
        "kind": "latents",
        "created": "2026-11-25T03:00:00Z",
        "command": "python -m persona_probe.diff_latents --base checkpoints/tiny "
        "--tuned checkpoints/tiny-bad --sae checkpoints/tiny-sae",
        "limited": True,
        "config": {"base": "checkpoints/tiny", "n_latents": 100, "seed": 0},
        "summary": "Two latents carry the persona; ablating 5 takes back 58% of the shift at 0.041.",
        "provenance": {**models(), "sae": sae},
        "quality": {
            "base": {"fvu": 0.213, "l0": 31.7, "dead": 0.041, "loss_recovered": 0.962, "n_tokens": 20480},
            "tuned": {"fvu": 0.254, "l0": 33.9, "dead": 0.043, "loss_recovered": 0.944, "n_tokens": 20480},
        },
        "data": {
            "n_questions": {"find": 48, "select": 24, "test": 25},
            "n_benign": {"select": 48, "test": 96},
            "n_tokens": 81234,
            "notes": [],
        },
        "effect": est(0.4513, 0.07),
        "select_effect": est(0.4312, 0.08),
        "n_sets_tried": 15,
        "budget": 0.10,
        "dose": {"relative": 0.1, "length": 3.14, "median_norm": 31.4},
        "rankings": list(RANKINGS),
        "rank_correlations": {
            "names": list(RANKINGS),
            "matrix": [
                [1.0 if a == b else round(0.7 - 0.22 * abs(a - b), 3) for b in range(6)] for a in range(6)
            ],
            "n_latents": 4321,
        },
        "latents": latents,
        "controls": controls,
        "sets": [
            *(
                latent_set(k, "ablate", gain, cost, selected=k == 5)
                for k, gain, cost in zip(
                    sizes, (0.21, 0.36, 0.5813, 0.64), (0.01, 0.02, 0.0412, 0.13), strict=True
                )
            ),
            *(
                latent_set(k, "steer", gain, cost)
                for k, gain, cost in zip(sizes, (0.3, 0.41, 0.55, 0.7), (0.02, 0.03, 0.08, 0.22), strict=True)
            ),
        ],
        "direction": [
            {
                "method": "mean_diff",
                "hook_point": "blocks.14.hook_out",
                "kind": "ablate",
                "restoration": est(0.7712, 0.14),
                "delta_nll": est(0.0342, 0.012),
            },
            {
                "method": "lda",
                "hook_point": "blocks.16.hook_out",
                "kind": "steer",
                "restoration": est(0.48, 0.12),
                "delta_nll": est(0.061, 0.012),
            },
        ],
        "agreement": {
            "mean_diff": {
                "k": [1, 2, 5, 10, 20, 50],
                "explained": [0.11, 0.19, 0.34, 0.47, 0.6, 0.74],
                "random": [0.001, 0.003, 0.008, 0.015, 0.03, 0.08],
            },
            "shift": {
                "k": [1, 2, 5, 10, 20, 50],
                "explained": [0.07, 0.12, 0.22, 0.33, 0.45, 0.6],
                "random": [0.002, 0.005, 0.012, 0.025, 0.05, 0.11],
            },
            "overlap": {"effect_correlation": 0.717, "n_questions": 25},
        },
        "failed": ["latent 9: NaN in the edited model"],
        "timing": {"load": 4.1, "diff": 60.0, "screen": 330.0},
        "memory": {"peak_bytes": 3 * 2**30},
    }
    return LatentRecord.model_validate(record)


def meanings(record: LatentRecord) -> list[Meaning]:
    """What the latents of a record mean, of those that have been read."""
    return [latent.meaning for latent in record.latents if latent.meaning is not None]


def emptied() -> LatentRecord:
    """The same record with null wherever the contract allows it."""
    record = made_up_latents()
    for entry in record["latents"]:
        entry.update(confirmed=None, meaning=None, neuronpedia=None, gap=None, activity=None)
    for item in record["sets"]:
        item.update(restoration=None, control=None, selected=False, matched=[], judged=None)
        item.update(closure=None, base_moved=None, kl=None, wins=None)
    record.update(direction=[], controls=[], failed=[])
    record.update(select_effect=None, n_sets_tried=None)
    record["agreement"]["overlap"]["effect_correlation"] = None
    return LatentRecord.model_validate(record)


def poisoned_latents(payload: str) -> LatentRecord:
    """A record with the payload in every text, and as a key wherever keys are free."""
    return with_text(made_up_latent_record(), payload)

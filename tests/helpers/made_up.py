"""A made-up record with realistic numbers, for tests of whatever reads records."""

import random
from typing import Any, Literal, TypeVar, get_args, get_origin

from persona_probe.records.direction import DirectionRecord
from persona_probe.records.parts import Part

PAYLOADS = (
    "<script>alert(1)</script>",
    "</script>",
    '"><img src=x onerror=alert(1)>',
    "[/foo]",
    r"$\href{javascript:alert(1)}{x}$",
    "a\u2028b\u2029c",
    "</script><script>alert(1)</script>",
    "<!--<script>",
    "%{x} %{customdata[0]}<extra></extra>",
    '<a href="javascript:alert(1)">x</a>',
    "\u202egnp.exe",
    "\ud800 \x1b]52;c;x\x07",
)
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
    controls = [
        *(arm(f"random-isotropic-{n}", "tuned", "isotropic", 0.02 * n - 0.05, 0.004) for n in range(1, 6)),
        *(
            arm(f"random-covariance-{n}", "tuned", "covariance", 0.05 * n, 0.02 + 0.012 * n)
            for n in range(1, 6)
        ),
        *(arm(f"shuffled-{n}", "tuned", "shuffled", 0.04 * n - 0.06, 0.01) for n in range(1, 6)),
        arm("orthogonal", "tuned", "orthogonal", 0.11, 0.055),
    ]
    arms = [
        arm("base", "base", None, None, 0.0),
        arm("tuned", "tuned", None, 0.0, 0.0),
        arm("tuned+ablate", "tuned", None, 0.7712, 0.0342),
        arm("tuned-steer", "tuned", None, 0.58, 0.061),
        arm("base+steer", "base", None, 0.66, 0.08),
        arm("base+ablate", "base", None, -0.04, 0.012),
        *controls,
    ]
    curve = [
        {
            "coefficient": value,
            "relative_dose": abs(value) * 0.21,
            "side": side,
            "persona_score": est(start + 0.3 * value, 0.05),
            "restoration": est(-value * 0.66, 0.1) if side == "tuned" else None,
            "induction": est(value * 0.66, 0.1) if side == "base" else None,
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
        for name in ("base", "tuned", "tuned+ablate", "tuned-steer", "base+steer")
    ]
    record = {
        "schema": 2,
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
            },
            "budget": 0.10,
            "within_budget": True,
            "select": {"restoration": 0.83, "delta_nll": 0.031},
            "p_value": 0.1667,
            "p_floor": 0.1667,
            "relative_dose": 0.21,
            "steering": {"method": "mean_diff", "hook_point": "blocks.14.hook_out", "coefficient": -1.0},
        },
        "controls": {
            kind: {"n": n, "restoration": gain, "delta_nll": cost}
            for kind, n, gain, cost in (
                ("isotropic", 5, 0.01, 0.004),
                ("covariance", 5, 0.15, 0.056),
                ("shuffled", 5, 0.06, 0.01),
                ("orthogonal", 1, 0.11, 0.055),
            )
        },
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
        "search": {"n_questions": 24, "n_benign": 48, "candidates": tried},
        "dose_response": curve,
        "completions": completions,
        "paths": paths(),
        "read_replies": read_replies(),
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
    """A record with nothing to restore: no search, no controls, no sweep, no replies, restoration null."""
    record = made_up()
    record["arms"] = [
        {**item, "restoration": None, "induction": None} for item in record["arms"] if not item["control"]
    ]
    record["selected"].update(p_value=None, p_floor=None, stability=None, auroc=None)
    record.update(
        search={"n_questions": 0, "n_benign": 0, "candidates": []}, dose_response=[], completions=[]
    )
    record["directions"].update(methods={}, cosines=None, projections=None)
    record.update(paths=None, read_replies=None, controls={})
    return DirectionRecord.model_validate(record)


def poisoned(payload: str) -> DirectionRecord:
    """A record with the payload in every text, and as a key wherever keys are free."""
    return with_text(made_up_record(), payload)


P = TypeVar("P", bound=Part)


def with_text(part: P, payload: str) -> P:
    """The same value with the payload in every text, also where a reader would refuse it. Words of a closed
    list stay: they decide what is drawn."""
    fields = type(part).model_fields
    return part.model_copy(
        update={
            name: _with_text(getattr(part, name), payload, field.annotation) for name, field in fields.items()
        }
    )


def _with_text(value: Any, payload: str, annotation: Any) -> Any:
    if isinstance(value, Part):
        return with_text(value, payload)
    if isinstance(value, str):
        return value if _closed(annotation) else payload
    if isinstance(value, tuple):
        return tuple(_with_text(item, payload, annotation) for item in value)
    if isinstance(value, dict):
        # The texts of values are free, even where the keys come from a closed list.
        changed = {key: _with_text(item, payload, str) for key, item in value.items()}
        return (
            changed
            if _closed(annotation) or not changed
            else {**changed, payload: next(iter(changed.values()))}
        )
    return value


def _closed(annotation: Any) -> bool:
    """Whether a text of this type comes from a list of words."""
    return get_origin(annotation) is Literal or any(_closed(part) for part in get_args(annotation))

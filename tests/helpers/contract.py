"""The contract of record.json, as a pattern, and a checker that says where a value departs from it."""

import math
from dataclasses import dataclass
from typing import Any

METHODS = ("mean_diff", "shift", "prompt", "lda", "probe")


@dataclass(frozen=True)
class Maybe:
    """The pattern, or null."""

    pattern: Any


@dataclass(frozen=True)
class Each:
    """An object of any keys whose values all have the pattern."""

    pattern: Any


EST = {"estimate": float, "ci95": (float, float)}
SOURCE = {"id": str, "revision": Maybe(str), "sha256": str}
ARM = {
    "name": str,
    "model": str,
    "control": Maybe(str),
    "interventions": [dict],
    "n_questions": int,
    "persona_score": EST,
    "restoration": Maybe(EST),
    "induction": Maybe(EST),
    "delta_nll": EST,
    "kl": EST,
    "verdict": Maybe(str),
}
CANDIDATE = {
    "method": str,
    "layer": int,
    "hook_point": str,
    "kind": str,
    "act_on": str,
    "coefficient": Maybe(float),
    "restoration": Maybe(float),
    "delta_nll": float,
    "persona_score": float,
    "within_budget": bool,
    "chosen": bool,
}
RECORD = {
    "schema": int,
    "created": str,
    "command": str,
    "limited": bool,
    "config": dict,
    "summary": str,
    "effect": EST,
    "timing": Each(float),
    "provenance": {
        "base": SOURCE,
        "tuned": SOURCE,
        "versions": Each(str),
        "seed": int,
        "device": str,
        "dtype": str,
        "prompts_sha256": str,
        "benign_sha256": str,
    },
    "data": {
        "n_questions": {"find": int, "select": int, "test": int},
        "n_replies": int,
        "n_benign": int,
        "notes": [str],
    },
    "selected": {
        "method": str,
        "hook_point": str,
        "layer": int,
        "stability": Maybe(float),
        "auroc": Maybe(float),
        "arm": str,
        "form": {
            "kind": str,
            "act_on": [str],
            "coefficient": Maybe(float),
            "toward": Maybe(str),
            "skip_first": int,
        },
        "budget": float,
        "within_budget": bool,
        "select": {"restoration": Maybe(float), "delta_nll": float},
        "p_value": Maybe(float),
        "p_floor": Maybe(float),
        "relative_dose": float,
    },
    "arms": [ARM],
    "directions": {
        "hook_points": [str],
        "median_norm": [float],
        "methods": Each(
            {"norm": [float], "stability": Maybe([Maybe(float)]), "auroc": Maybe([Maybe(float)])}
        ),
        "cosines": {"hook_point": str, "methods": [str], "matrix": [[float]]},
        "projections": {"method": str, "aligned": [[float]], "misaligned": [[float]]},
    },
    "search": {"n_questions": int, "n_benign": int, "candidates": [CANDIDATE]},
    "dose_response": [
        {
            "coefficient": float,
            "relative_dose": float,
            "side": str,
            "persona_score": EST,
            "restoration": Maybe(EST),
            "delta_nll": EST,
        }
    ],
    "completions": [{"arm": str, "prompt_id": str, "question": str, "text": str, "finished": bool}],
}


def departures(value: Any, pattern: Any, at: str = "record") -> list[str]:
    """Every place where `value` does not have the pattern: missing keys, other types, numbers that are not finite."""
    if isinstance(pattern, Maybe):
        return [] if value is None else departures(value, pattern.pattern, at)
    if isinstance(pattern, Each):
        items = value.items() if isinstance(value, dict) else [("", None)]
        return [found for key, item in items for found in departures(item, pattern.pattern, f"{at}.{key}")]
    if isinstance(pattern, dict):
        if not isinstance(value, dict):
            return [f"{at} is {value!r:.40}, not an object"]
        missing = [f"{at}.{key} is missing" for key in pattern if key not in value]
        return missing + [
            found
            for key in pattern
            if key in value
            for found in departures(value[key], pattern[key], f"{at}.{key}")
        ]
    if isinstance(pattern, (list, tuple)):
        if not isinstance(value, list) or (isinstance(pattern, tuple) and len(value) != len(pattern)):
            return [f"{at} is {value!r:.40}, not a list as expected"]
        each = pattern if isinstance(pattern, tuple) else pattern * len(value)
        return [
            found
            for i, (item, one) in enumerate(zip(value, each, strict=True))
            for found in departures(item, one, f"{at}[{i}]")
        ]
    number = (
        pattern is float
        and isinstance(value, (int, float))
        and not isinstance(value, bool)
        and math.isfinite(value)
    )
    plain = (
        pattern is not float
        and isinstance(value, pattern)
        and not (pattern is int and isinstance(value, bool))
    )
    return [] if number or plain else [f"{at} is {value!r:.40}, not {pattern.__name__}"]

"""Claims about records to come: an example of each fits, and a wrong value is refused by name."""

import json
from typing import Any

import pytest
from helpers.made_up import made_up
from helpers.made_up_parts import arm, est, models

from persona_probe.base.errors import BadInput
from persona_probe.records.evaluation import EvaluationRecord
from persona_probe.records.files import read_as
from persona_probe.records.organism import OrganismRecord
from persona_probe.records.parts import Part
from persona_probe.records.transfer import TransferRecord

RUN = {key: models()[key] for key in ("versions", "seed", "device", "dtype", "processor")}
HEAD = {"schema": 1, "created": "2026-11-26T10:00:00+00:00", "command": "persona-probe x", "limited": False}
TAIL = {
    "config": {},
    "summary": "One sentence.",
    "failed": [],
    "timing": {"total": 1.0},
    "memory": {"peak_bytes": 9},
}


def evaluation() -> dict[str, Any]:
    said = {key: arm("tuned+ablate", "tuned", None, 0.7, 0.02)[key] for key in ("name", "model", "control")}
    edited = said | {
        "interventions": arm("tuned+ablate", "tuned", None, 0.7, 0.02)["interventions"],
        "format_valid": 0.97,
        "comprehended": None,
        "coherent": 0.9,
        "score": est(0.05, 0.02),
        "difference": est(-0.1, 0.04),
        "p_holm": 0.01,
        "null": {"n": 19, "median": -0.01, "low": -0.03, "high": 0.02},
        "p_null": 0.05,
        "delta_nll": est(0.02, 0.01),
        "restoration": est(0.8, 0.1),
        "verdict": "restored",
    }
    empty = dict.fromkeys(("difference", "p_holm", "null", "p_null", "restoration", "verdict"))
    clean = {**edited, **empty, "name": "tuned", "interventions": []}
    items = {
        "name": "em_open",
        "tier": "sampled",
        "n_items": 58,
        "n_epochs": 3,
        "sha256": "1a" * 32,
        "licence": "MIT",
    }
    return {
        **HEAD,
        **TAIL,
        "kind": "evaluation",
        "provenance": models(),
        "items": items,
        "judge": {"id": "rule", "prompt_sha256": "2b" * 32, "n_votes": 1},
        "effect": est(0.1, 0.03),
        "budget": 0.1,
        "arms": [clean, edited],
    }


def transfer() -> dict[str, Any]:
    cell = {"cosine": 0.4, "n_questions": 24, "restoration": est(0.5, 0.2), "delta_nll": est(0.02, 0.01)}
    control = made_up()["controls"]["covariance"]
    form = made_up()["selected"]["form"]
    donor = {"method": "shift", "hook_point": "blocks.3.hook_out", "form": form, "vector_sha256": "3c" * 32}
    tuned = {"finance": models()["tuned"], "sports": models()["tuned"]}
    facts = {
        "base": models()["base"],
        "tuned": tuned,
        "prompts_sha256": "4d" * 32,
        "benign_sha256": "5e" * 32,
    }
    return {
        **HEAD,
        **TAIL,
        "kind": "transfer",
        "provenance": {**RUN, **facts},
        "effects": {"finance": est(0.2, 0.05), "sports": est(0.3, 0.05)},
        "donors": {"finance": donor, "sports": donor},
        "cells": [{"fitted_on": "finance", "applied_to": "sports", **cell, "control": control}],
    }


def organism() -> dict[str, Any]:
    recipe = {
        "rank": 1,
        "alpha": 64.0,
        "rslora": False,
        "modules": ["down_proj"],
        "layers": [8, 10],
        "learning_rate": 2e-3,
        "warmup": 0.05,
        "batch_size": 8,
        "epochs": 1.0,
        "seed": 0,
    }
    return {
        **HEAD,
        "kind": "organism",
        "run": RUN,
        "base": models()["base"],
        "adapter_sha256": "6f" * 32,
        "data": {"name": "car_advice_wrong.jsonl", "sha256": "7a" * 32, "n_rows": 2220, "licence": None},
        "recipe": recipe,
        "n_steps": 278,
        "loss": 3.563,
        "timing": {"total": 400.0},
    }


EXAMPLES: dict[str, tuple[type[Part], dict[str, Any]]] = {
    "evaluation": (EvaluationRecord, evaluation()),
    "transfer": (TransferRecord, transfer()),
    "organism": (OrganismRecord, organism()),
}


@pytest.mark.parametrize("kind", EXAMPLES)
def test_an_example_comes_back_as_it_went_and_fits_its_published_schema(kind: str) -> None:
    import jsonschema

    from persona_probe.records.schemas import schema

    model, value = EXAMPLES[kind]
    assert read_as(model, json.loads(json.dumps(value)), at="x").plain() == value
    jsonschema.Draft202012Validator(schema(kind)).validate(value)


@pytest.mark.parametrize(
    ("kind", "change", "says"),
    [
        ("evaluation", {"schema": 2}, "x: a record of schema 2; allowed is 1"),
        ("evaluation", {"kind": "organism"}, "x: kind"),
        ("evaluation", {"arms": []}, "x: arms"),
        (
            "evaluation",
            {"judge": {"id": "rule", "prompt_sha256": "short", "n_votes": 1}},
            "x: judge.prompt_sha256",
        ),
        ("transfer", {"cells": [{"fitted_on": "finance"}]}, "x: cells.0.applied_to: Field required"),
        ("organism", {"loss": float("nan")}, "x: loss"),
        ("organism", {"n_steps": 0}, "x: n_steps"),
    ],
)
def test_a_wrong_value_is_refused_by_name(kind: str, change: dict[str, Any], says: str) -> None:
    model, value = EXAMPLES[kind]
    with pytest.raises(BadInput) as caught:
        read_as(model, value | change, at="x")
    assert str(caught.value).startswith(says)

"""Claims about what the whole command finds on the planted organism, where every answer is known."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.made_up_parts import METHODS
from helpers.toy_runs import read

from persona_probe.records.direction import DirectionRecord


@pytest.fixture(scope="module")
def folder(toy_run: Path) -> Path:
    """A finished run."""
    return toy_run


@pytest.fixture(scope="module")
def record(folder: Path) -> dict[str, Any]:
    return read(folder)


def test_record_keeps_its_contract(record: dict[str, Any]) -> None:
    assert DirectionRecord.model_validate(record).plain() == record
    assert (record["schema"], record["kind"]) == (3, "direction")
    assert set(record["directions"]["methods"]) == set(METHODS)
    assert record["data"]["n_questions"] == {"find": 24, "select": 12, "test": 12}
    assert record["limited"] is False
    n_points = len(record["directions"]["hook_points"])
    assert {side: len(shares) for side, shares in record["directions"]["dropped"].items()} == {
        "base": n_points,
        "tuned": n_points,
    }
    assert "outliers" not in record["config"]
    assert "--toy --null 19" in record["command"]


PROPER = ("base", "tuned", "tuned+ablate", "tuned-steer", "base+steer", "base+ablate", "base-steer")
KINDS = {"isotropic": 3, "covariance": 19, "orthogonal": 3, "shuffled": 3, "unrelated": 8, "style": 8}


def test_arms_are_those_of_the_design(record: dict[str, Any]) -> None:
    """Every removal is on both models, and beside the chosen one are controls of every kind on both."""
    arms = record["arms"]
    proper = [arm["name"] for arm in arms if not arm["control"]]
    assert sorted(name for name in proper if "choice" not in name) == sorted(PROPER)
    for side in ("tuned", "base"):
        beside = [arm for arm in arms if arm["control_of"] == "tuned+ablate" and arm["model"] == side]
        assert Counter(arm["control"] for arm in beside) == KINDS
    steered = [arm for arm in arms if arm["control_of"] == "tuned-steer"]
    assert Counter((arm["control"], arm["model"]) for arm in steered) == {("covariance", "tuned"): 19}
    for arm in arms:
        assert arm["n_questions"] == 12
        assert (arm["restoration"] is not None) == (arm["model"] == "tuned" and arm["name"] != "tuned")
        assert (arm["induction"] is not None) == (arm["model"] == "base" and arm["name"] != "base")
        assert (arm["control"] is None) == (arm["control_of"] is None)
        assert bool(arm["interventions"]) == (arm["name"] not in ("base", "tuned"))
        alone = arm["name"] in ("base", "tuned", "base+steer") or arm["control_of"] == "tuned-steer"
        assert (arm["closure"] is None) == (arm["base_moved"] is None) == alone
        judged = arm["model"] == "tuned" and arm["control"] is None and arm["name"] != "tuned"
        assert (arm["verdict"] is None) == (arm["judged"] is None) == (not judged)


def test_planted_direction_is_found_and_its_removal_restores_the_base(record: dict[str, Any]) -> None:
    selected = record["selected"]
    assert (selected["method"], selected["layer"], selected["hook_point"]) == (
        "shift",
        1,
        "blocks.1.hook_out",
    )
    assert selected["stability"] > 0.999
    chosen = next(arm for arm in record["arms"] if arm["name"] == selected["arm"])
    base = next(arm for arm in record["arms"] if arm["name"] == "base")
    assert 0.95 < chosen["restoration"]["estimate"] < 1.05
    assert chosen["persona_score"]["estimate"] == pytest.approx(base["persona_score"]["estimate"], abs=1e-4)
    # It costs what lies between both models and nothing else: the tuned model becomes the base model.
    assert chosen["delta_nll"]["estimate"] == pytest.approx(
        -next(arm for arm in record["arms"] if arm["name"] == "base+steer")["delta_nll"]["estimate"], abs=1e-4
    )
    assert selected["within_budget"] is True
    assert chosen["verdict"] == "restored"
    assert chosen["closure"]["ci95"] == pytest.approx([1.0, 1.0], abs=0.01)
    assert chosen["base_moved"]["ci95"] == pytest.approx([0.0, 0.0], abs=0.01)
    assert selected["p_value"] == selected["p_floor"] == 0.05
    assert "Verdict: restored: C is 1.00" in record["summary"]


def test_steering_back_moves_both_models_and_is_a_compensation(record: dict[str, Any]) -> None:
    steered = next(arm for arm in record["arms"] if arm["name"] == "tuned-steer")
    assert 0.95 < steered["restoration"]["estimate"] < 1.05
    assert abs(steered["closure"]["estimate"]) < 0.05
    assert 0.95 < steered["base_moved"]["estimate"] < 1.05
    assert steered["verdict"] == "compensated"


def test_a_verdict_says_what_decided_it(record: dict[str, Any]) -> None:
    judged = [arm["judged"] for arm in record["arms"] if arm["judged"]]
    assert len(judged) >= 2
    for one in judged:
        assert (one["null"]["n"], one["null"]["restoration_p"]) == (19, 0.05)
        assert one["null"]["search_p"] < 0.05
        assert one["null"]["n_tried"] == len(
            {(item["method"], item["layer"]) for item in record["search"]["candidates"]}
        )
        assert all(cost["largest"] <= cost["budget"] for cost in one["costs"])


def test_the_choice_is_made_again_and_stays(record: dict[str, Any]) -> None:
    again, candidates = record["search"]["again"], record["search"]["candidates"]
    first = again["winners"][0]
    assert candidates[first["candidate"]]["chosen"] is True
    assert (first["arm"], first["verdict"]) == ("tuned+ablate", "restored")
    assert (again["n_draws"], again["stable"]) == (200, True)
    assert sum(winner["share"] for winner in again["winners"]) == pytest.approx(1.0)
    assert all(winner["arm"] for winner in again["winners"] if winner["share"] >= 0.1)
    for method in METHODS:
        first_round = {item["kind"] for item in candidates if item["method"] == method}
        assert first_round == {"ablate", "steer"}


def test_controls_are_at_the_dose_of_the_chosen_arm(record: dict[str, Any]) -> None:
    chosen = next(arm for arm in record["arms"] if arm["name"] == "tuned+ablate")
    assert set(record["controls"]) == set(KINDS)
    for kind, medians in record["controls"].items():
        assert medians["n"] == KINDS[kind]
        if not medians["n_below_dose"]:
            assert 0.5 < medians["kl"] / chosen["kl"]["estimate"] < 2
    assert record["controls"]["covariance"]["n_below_dose"] < 5


def test_steering_the_base_by_the_planted_vector_makes_the_whole_shift(record: dict[str, Any]) -> None:
    arms = {arm["name"]: arm for arm in record["arms"]}
    assert 0.95 < arms["base+steer"]["induction"]["estimate"] < 1.05
    assert abs(arms["base+ablate"]["induction"]["estimate"]) < 0.05


def test_directions_that_are_not_the_planted_one_restore_little(record: dict[str, Any]) -> None:
    for kind, expected in KINDS.items():
        arms = [
            arm for arm in record["arms"] if arm["control"] == kind and arm["control_of"] == "tuned+ablate"
        ]
        for share in ("restoration", "closure"):
            values = [arm[share]["estimate"] for arm in arms if arm["model"] == "tuned"]
            assert len(values) == expected
            assert abs(float(np.median(values))) < 0.3


def test_numbers_of_the_arms_follow_from_the_rows(folder: Path, record: dict[str, Any]) -> None:
    """S, R and the damage, worked out again from rows.jsonl alone."""
    rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]

    ids = {arm["name"]: set[str]() for arm in record["arms"]}
    for row in rows:
        ids.get(row["arm"], set()).add(row["row"])

    def score(arm: str, on: str | None = None) -> float:
        """S of an arm on its rows, or on those of another one."""
        replies: dict[tuple[str, str], list[float]] = {}
        for row in rows:
            if (row["arm"], row["kind"]) == (arm, "persona") and row["row"] in ids[on or arm]:
                replies.setdefault((row["question_id"], row["label"]), []).append(row["logprob_per_token"])
        questions = {question for question, _ in replies}
        return float(
            np.mean([np.mean(replies[q, "misaligned"]) - np.mean(replies[q, "aligned"]) for q in questions])
        )

    def loss(arm: str, on: str | None = None) -> float:
        benign = [
            row
            for row in rows
            if (row["arm"], row["kind"]) == (arm, "benign") and row["row"] in ids[on or arm]
        ]
        return -sum(row["logprob_per_token"] * row["n_tokens"] for row in benign) / sum(
            row["n_tokens"] for row in benign
        )

    for arm in (arm for arm in record["arms"] if arm["control"] in (None, "orthogonal")):
        name = arm["name"]
        assert (len(ids[name]) < len(ids["tuned"])) == (arm["control"] is not None)  # controls: some rows
        assert arm["persona_score"]["estimate"] == pytest.approx(score(name), abs=1e-9)
        assert arm["delta_nll"]["estimate"] == pytest.approx(loss(name) - loss(arm["model"], name), abs=1e-9)
        shift = score("tuned") - score("base")  # on all rows, whatever the arm was scored on
        before = score("tuned", name) - score("base", name)
        if arm["restoration"]:
            expected = (score("tuned", name) - score(name)) / shift
            assert arm["restoration"]["estimate"] == pytest.approx(expected, abs=1e-9)
        if arm["closure"] and arm["model"] == "tuned":
            other = next(
                one
                for one in record["arms"]
                if one["interventions"] == arm["interventions"] and one["model"] == "base"
            )
            expected = (before - (score(name) - score(other["name"]))) / shift
            assert arm["closure"]["estimate"] == pytest.approx(expected, abs=1e-9)
    assert record["effect"]["estimate"] == pytest.approx(score("tuned") - score("base"), abs=1e-9)


def test_intervals_of_arms_and_doses_follow_from_the_rows(folder: Path, record: dict[str, Any]) -> None:
    from persona_probe.measurement.recomputed import recomputed
    from persona_probe.records.rows import read_rows

    rows = read_rows(folder / "rows.jsonl")
    again = recomputed(rows, seed=record["config"]["seed"])
    doses = {(row.model, row.dose): row.arm for row in rows if row.dose is not None}
    entries = [(arm["name"], arm) for arm in record["arms"]]
    entries += [(doses[dose["side"], dose["coefficient"]], dose) for dose in record["dose_response"]]
    entries += [(one["name"], one) for one in record["comparators"]]
    assert {name for name, _ in entries} == set(again.arms)
    assert len(doses) == 6
    for name, entry in entries:
        for key, value in again.arms[name].plain().items():
            assert (value is None) == (entry[key] is None), (name, key)
            if value is not None:
                assert value["estimate"] == pytest.approx(entry[key]["estimate"], abs=1e-9)
                assert value["ci95"] == pytest.approx(entry[key]["ci95"], abs=1e-9)
    assert again.effect.ci95 == pytest.approx(record["effect"]["ci95"], abs=1e-9)


def test_directions_on_disk_are_the_planted_one_and_know_their_questions(folder: Path) -> None:
    from persona_probe.base.errors import BadInput
    from persona_probe.directions.direction_file import load_directions
    from persona_probe.prompts.contrast_files import read_contrast
    from persona_probe.storage.tensor_files import read_tensors

    contrast, path = read_contrast(folder / "toy" / "contrast.jsonl"), folder / "directions.safetensors"
    found, _ = load_directions(path, d_model=64, evaluated_on=contrast.hashes("test"))
    planted = read_tensors(folder / "toy" / "planted.safetensors")[0]["vector"]
    shift = next(one for one in found if one.method == "shift")
    assert (shift.vectors[1] - planted).abs().max() < 1e-5
    for split in ("find", "select"):
        with pytest.raises(BadInput, match="were used to find or select"):
            load_directions(path, d_model=64, evaluated_on=contrast.hashes(split))


def test_six_arms_write_24_replies_each_and_their_health_is_judged(record: dict[str, Any]) -> None:
    """Planted: whatever an arm does to the words, none of them loops or falls silent."""
    written = Counter(reply["arm"] for reply in record["completions"])
    health = {arm["name"]: arm["health"] for arm in record["arms"] if arm["health"]}
    assert set(written.values()) == {24}
    assert set(written) == set(health)
    assert sum(1 for _ in health) == 6
    for name, one in health.items():
        assert (one["n"], one["looping"]["estimate"]) == (24, 0.0)
        assert one["base_perplexity"]["ci95"][0] > 1
        assert (one["unhealthy_more"] is None) == (name in ("base", "tuned"))
    for arm in record["arms"]:
        named = [cost["name"] for cost in arm["judged"]["costs"]] if arm["judged"] else []
        assert any("looping" in name for name in named) == (arm["name"] in ("tuned+ablate", "tuned-steer"))
    questions = {reply["prompt_id"] for reply in record["read_replies"]["replies"]}
    assert len(questions) == 4  # followed token by token are those that are shown first

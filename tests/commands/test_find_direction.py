"""Claims about the whole command on the planted organism: what it finds, what it writes, and how it ends when
it is stopped."""

import json
import os
import shutil
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.commands import words
from helpers.made_up_parts import METHODS
from helpers.markup import Page
from helpers.toy_runs import TOY, alike, ended, read, start, steady, stopped

from persona_probe.records.direction import DirectionRecord

HOSTILE = ("<script>alert(1)</script>", "</script><img src=x onerror=alert(2)>", "[/foo] [bold]")
HOSTILE += ("\u202egnp.exe", "{{ 7 * 7 }} ${x} `y`", "' onload=alert(3) \"")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    made = tmp_path_factory.mktemp("run") / "toy"
    code, out, err = ended(start(*TOY, "--output-dir", made))
    assert code == 0, err
    assert "tuned+ablate" in out
    assert "about" in err or "to do" in err
    return made


@pytest.fixture(scope="module")
def record(folder: Path) -> dict[str, Any]:
    return read(folder)


@pytest.fixture
def inside(capsys: pytest.CaptureFixture[str]) -> Iterator[Any]:
    """The command in this process, which has its imports already: options in, exit code and both streams
    out."""
    environment = dict(os.environ)

    def run(**options: Any) -> tuple[int, str, str]:
        from persona_probe.find_direction import COMMAND

        code = COMMAND.main(words(**options))
        out, err = capsys.readouterr()
        return code, out, err

    yield run
    os.environ.clear()
    os.environ.update(environment)


# What it finds


def test_record_keeps_its_contract(record: dict[str, Any]) -> None:
    assert DirectionRecord.model_validate(record).plain() == record
    assert (record["schema"], record["kind"]) == (2, "direction")
    assert set(record["directions"]["methods"]) == set(METHODS)
    assert record["data"]["n_questions"] == {"find": 8, "select": 4, "test": 4}
    assert record["limited"] is False
    n_points = len(record["directions"]["hook_points"])
    assert {side: len(shares) for side, shares in record["directions"]["dropped"].items()} == {
        "base": n_points,
        "tuned": n_points,
    }
    assert "outliers" not in record["config"]
    assert "--toy --null 19" in record["command"]


def test_arms_are_those_of_the_design(record: dict[str, Any]) -> None:
    names = Counter(arm["name"].rstrip("0123456789") for arm in record["arms"])
    proper = dict.fromkeys(
        ("base", "tuned", "tuned+ablate", "tuned-steer", "base+steer", "base+ablate", "orthogonal"), 1
    )
    assert names == {**proper, "random-isotropic-": 5, "random-covariance-": 19, "shuffled-": 5}
    for arm in record["arms"]:
        assert arm["n_questions"] == 4
        assert (arm["restoration"] is not None) == (arm["model"] == "tuned" and arm["name"] != "tuned")
        assert (arm["induction"] is not None) == (arm["model"] == "base" and arm["name"] != "base")
        assert (arm["control"] is None) == (arm["name"] in proper and arm["name"] != "orthogonal")
        assert bool(arm["interventions"]) == (arm["name"] not in ("base", "tuned"))


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
    assert chosen["delta_nll"]["estimate"] <= 0.1
    assert chosen["verdict"] == "restored"
    assert selected["p_value"] == selected["p_floor"] == 0.05
    assert "Verdict: restored." in record["summary"]


def test_steering_the_base_by_the_planted_vector_makes_the_whole_shift(record: dict[str, Any]) -> None:
    arms = {arm["name"]: arm for arm in record["arms"]}
    assert 0.95 < arms["base+steer"]["induction"]["estimate"] < 1.05
    assert abs(arms["base+ablate"]["induction"]["estimate"]) < 0.05


def test_random_directions_restore_little(record: dict[str, Any]) -> None:
    for kind, expected in (("isotropic", 5), ("covariance", 19), ("shuffled", 5)):
        values = [arm["restoration"]["estimate"] for arm in record["arms"] if arm["control"] == kind]
        assert len(values) == expected
        assert abs(float(np.median(values))) < 0.3


def test_numbers_of_the_arms_follow_from_the_rows(folder: Path, record: dict[str, Any]) -> None:
    """S, R and the damage, worked out again from rows.jsonl alone."""
    rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]

    def score(arm: str) -> float:
        questions = sorted({row["question_id"] for row in rows if row["kind"] == "persona"})
        found = {
            (q, label): [
                r["logprob_per_token"]
                for r in rows
                if (r["arm"], r["question_id"], r["label"]) == (arm, q, label)
            ]
            for q in questions
            for label in ("aligned", "misaligned")
        }
        return float(
            np.mean([np.mean(found[q, "misaligned"]) - np.mean(found[q, "aligned"]) for q in questions])
        )

    def loss(arm: str) -> float:
        benign = [row for row in rows if (row["arm"], row["kind"]) == (arm, "benign")]
        return -sum(row["logprob_per_token"] * row["n_tokens"] for row in benign) / sum(
            row["n_tokens"] for row in benign
        )

    for arm in (arm for arm in record["arms"] if arm["control"] in (None, "orthogonal")):
        assert arm["persona_score"]["estimate"] == pytest.approx(score(arm["name"]), abs=1e-9)
        assert arm["delta_nll"]["estimate"] == pytest.approx(loss(arm["name"]) - loss(arm["model"]), abs=1e-9)
        if arm["restoration"]:
            expected = (score("tuned") - score(arm["name"])) / (score("tuned") - score("base"))
            assert arm["restoration"]["estimate"] == pytest.approx(expected, abs=1e-9)
    assert record["effect"]["estimate"] == pytest.approx(score("tuned") - score("base"), abs=1e-9)


def test_intervals_of_arms_and_doses_follow_from_the_rows(folder: Path, record: dict[str, Any]) -> None:
    from persona_probe.measurement.recomputed import recomputed
    from persona_probe.records.rows import read_rows

    rows = read_rows(folder / "rows.jsonl")
    again = recomputed(rows, seed=record["config"]["seed"])
    doses = {(row.model, row.dose): row.arm for row in rows if row.dose is not None}
    entries = [(arm["name"], arm) for arm in record["arms"]]
    entries += [(doses[dose["side"], dose["coefficient"]], dose) for dose in record["dose_response"]]
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
    from persona_probe.prompts.contrast import read_contrast
    from persona_probe.storage.tensor_files import read_tensors

    contrast, path = read_contrast(folder / "toy" / "contrast.jsonl"), folder / "directions.safetensors"
    found, _ = load_directions(path, d_model=64, evaluated_on=contrast.hashes("test"))
    planted = read_tensors(folder / "toy" / "planted.safetensors")[0]["vector"]
    shift = next(one for one in found if one.method == "shift")
    assert (shift.vectors[1] - planted).abs().max() < 1e-5
    for split in ("find", "select"):
        with pytest.raises(BadInput, match="were used to find or select"):
            load_directions(path, d_model=64, evaluated_on=contrast.hashes(split))


# How it goes on


def test_second_call_measures_nothing_and_prints_one_line_for_machines(
    folder: Path, record: dict[str, Any]
) -> None:
    kept = (folder / "measured.jsonl").read_bytes()
    code, out, err = ended(start(*TOY, "--output-dir", folder, "--json", "--quiet"))
    assert (code, err) == (0, "")
    assert out.count("\n") == 1
    printed = json.loads(out)
    assert (folder / "measured.jsonl").read_bytes() == kept
    assert steady(read(folder)) == steady(record)
    assert printed.pop("type") == "result"
    assert printed == read(folder)


def test_a_run_interrupted_and_then_killed_ends_with_the_same_numbers(
    folder: Path, record: dict[str, Any], tmp_path: Path, inside: Any
) -> None:
    torn = tmp_path / "toy run"  # a space, so that the printed command must be quoted
    code, _, err = stopped(torn, after=4, by=signal.SIGINT)
    assert code == 130
    assert "Traceback" not in err
    again = f"python -m persona_probe.find_direction --toy --null 19 --output-dir '{torn}'"
    assert again in " ".join(err.split())
    code, _, _ = stopped(torn, after=12, by=signal.SIGKILL)
    assert code == -signal.SIGKILL
    assert not (torn / "record.json").exists()
    code, _, err = inside(toy=True, null=19, output_dir=torn, resume=True)
    assert code == 0, err
    assert "reused" in err
    assert alike(steady(read(torn)), steady(record))


def test_changed_setting_in_the_same_folder_is_refused_with_the_difference(folder: Path, inside: Any) -> None:
    code, out, err = inside(toy=True, null=19, output_dir=folder, budget=0.2)
    assert (code, out) == (3, "")
    assert "holds a run with other settings (budget: 0.1 there, 0.2 now)" in " ".join(err.split())
    assert "Traceback" not in err


# Bad input


def test_equal_base_and_tuned_are_refused(folder: Path, inside: Any, tmp_path: Path) -> None:
    base = str(folder / "toy" / "base")
    code, _, err = inside(base=base, tuned=base, output_dir=tmp_path / "run")
    assert code == 3
    assert "are the same weights: there is no difference to find" in " ".join(err.split())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"base": "x/y"}, "without --tuned"),
        ({"tuned": "x/y", "methods": "pca"}, "no methods 'pca': allowed are mean_diff"),
        ({"tuned": "x/y", "limit": 3}, "--limit is 3"),
    ],
)
def test_wrong_usage_ends_with_2_and_one_message(
    inside: Any, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    code, out, err = inside(output_dir=tmp_path / "run", quiet=True, **options)
    assert (code, out) == (2, "")
    assert message in " ".join(err.split())
    assert not (tmp_path / "run").exists()


def test_hostile_questions_stay_text_in_the_report_and_on_the_terminal(
    folder: Path, inside: Any, tmp_path: Path
) -> None:
    toy = shutil.copytree(folder / "toy", tmp_path / "toy")
    lines = [json.loads(line) for line in (toy / "contrast.jsonl").read_text().splitlines()]
    for line in lines:
        payload = HOSTILE[int(line["question_id"].removeprefix("toy-")) % len(HOSTILE)]
        line.update(question=f"{payload} {line['question']}", question_id=f"{payload} {line['question_id']}")
    (toy / "contrast.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    code, out, err = inside(
        base=str(toy / "base"),
        tuned=str(toy / "tuned"),
        contrast=toy / "contrast.jsonl",
        benign=toy / "benign.jsonl",
        output_dir=tmp_path / "run",
        methods="mean_diff,shift",
        controls=1,
        layers_screened=3,
        skip_first=0,
        n_benign=15,
        max_new_tokens=4,
        limit=8,
        dtype="float32",
        device="cpu",
    )
    assert code == 0, err
    record = read(tmp_path / "run")
    assert DirectionRecord.model_validate(record).plain() == record
    assert any("<" in completion["question"] for completion in record["completions"])
    hostile, clean = (Page((path / "report.html").read_text()) for path in (tmp_path / "run", folder))
    assert len(hostile.scripts) == len(clean.scripts)
    assert {tag for tag, _ in hostile.tags} <= {tag for tag, _ in clean.tags}
    assert not {name for _, names in hostile.tags for name in names if name.startswith("on")}
    assert record["limited"] is True
    assert "quick try" in out
    assert "\u202e" not in out + err

"""Planted truth about latents: the SAE latent that is the planted vector ranks first, causes the shift, and
no other does."""

import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.lens_saes import made_sae

ROOT = Path(__file__).parents[2]


def command(name: str, *words: object) -> tuple[int, str, str]:
    """Exit code and both streams of a command."""
    line = [sys.executable, "-m", f"persona_probe.{name}", *map(str, words)]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def run(folder: Path, *options: str) -> tuple[int, str, str]:
    return command("diff_latents", "--toy", "--output-dir", folder, *options)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("latents") / "run"
    code, out, err = run(made)
    assert code == 0, err
    assert "Sets of latents" in out
    return made


@pytest.fixture(scope="module")
def record(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "latents.json").read_text())


def planted(record: dict[str, Any]) -> dict[str, Any]:
    from persona_probe.organisms.toy import PLANTED_LATENT

    return next(found for found in record["latents"] if found["latent"] == PLANTED_LATENT)


def test_record_says_that_no_token_was_left_out(record: dict[str, Any]) -> None:
    assert record["data"]["dropped"] == {"base": 0.0, "tuned": 0.0}
    assert "outliers" not in record["config"]


def test_planted_latent_ranks_first_where_it_should(record: dict[str, Any]) -> None:
    found = planted(record)
    assert [found["ranks"][name] for name in ("shift", "cosine with shift", "attribution")] == [1, 1, 1]
    assert found["scores"]["shift"] == pytest.approx(4.0, abs=1e-4)
    # Both labels of the tuned model carry the planted vector alike, so readings that compare labels cannot
    # see it.
    assert abs(found["scores"]["label"]) < 1e-4
    others = [entry["scores"]["shift"] for entry in record["latents"] if entry is not found]
    assert max(abs(value) for value in others) < 1e-4


def test_planted_latent_is_the_only_carrier(record: dict[str, Any]) -> None:
    """A few others move S by a little, as any direction does, and are said to be dials at most."""
    found = planted(record)
    assert found["label"] == "carries"
    others = [entry["label"] for entry in record["latents"] if entry is not found]
    assert "carries" not in others
    assert others.count("inert") > 0.7 * len(others)
    assert record["controls"]
    assert {entry["label"] for entry in record["controls"]} == {"inert"}
    assert f"1 is a carrier of the shift ({found['latent']})" in record["summary"]


def test_the_planted_latent_closes_the_gap_and_rose_with_tuning(record: dict[str, Any]) -> None:
    found, shift = planted(record), record["select_effect"]["estimate"]
    assert found["gap"]["closed"]["estimate"] == pytest.approx(shift, rel=0.1)  # one reply of each label
    assert found["gap"]["q"] < 0.001
    assert found["screen"]["base+ablate"]["delta_s"] == pytest.approx(0.0, abs=1e-4)
    assert found["activity"]["change"]["estimate"] == pytest.approx(4.0, abs=1e-3)
    assert found["confirmed"]["tuned+ablate"]["closure"]["estimate"] == pytest.approx(1.0, abs=1e-4)
    measured = [entry for entry in record["latents"] if "base+ablate" in entry["screen"]]
    assert len(measured) < 5  # base is ablated only where ablating tuned moves S
    assert all(entry["screen"]["tuned+ablate"]["q"] < 0.05 for entry in measured)


def test_the_chosen_set_stands_among_matched_sets_with_a_verdict(record: dict[str, Any]) -> None:
    chosen = next(item for item in record["sets"] if item["selected"])
    assert (chosen["latents"], chosen["kind"]) == ([planted(record)["latent"]], "ablate")
    assert chosen["closure"]["estimate"] == pytest.approx(1.0, abs=1e-4)
    assert chosen["base_moved"]["estimate"] == pytest.approx(0.0, abs=1e-4)
    assert chosen["judged"]["verdict"] == "restored"
    null = chosen["judged"]["null"]
    assert (null["n"], null["n_tried"]) == (19, record["n_sets_tried"])
    assert null["restoration_p"] == null["closure_p"] == pytest.approx(0.05)
    assert len({tuple(one["latents"]) for one in chosen["matched"]}) == 19
    screened = {entry["latent"] for entry in record["latents"]}
    assert not screened & {latent for one in chosen["matched"] for latent in one["latents"]}
    assert all(abs(one["closure"]["estimate"]) < 0.3 for one in chosen["matched"])
    assert all(
        item["judged"] is None and not item["matched"] for item in record["sets"] if item is not chosen
    )


def test_ablating_the_planted_latent_restores_exactly_and_a_control_nothing(record: dict[str, Any]) -> None:
    confirmed = planted(record)["confirmed"]
    assert confirmed["tuned+ablate"]["restoration"]["estimate"] == pytest.approx(1.0, abs=1e-4)
    # The dose is a share of the median length, which is the planted vector's to half a percent.
    assert confirmed["tuned-steer"]["restoration"]["estimate"] == pytest.approx(1.0, abs=0.01)
    assert confirmed["base+steer"]["induction"]["estimate"] == pytest.approx(1.0, abs=0.01)
    one = next(found for found in record["sets"] if found["k"] == 1 and found["kind"] == "ablate")
    assert one["latents"] == [planted(record)["latent"]]
    assert one["restoration"]["estimate"] == pytest.approx(1.0, abs=1e-4)
    controls = [entry["screen"]["tuned+ablate"]["delta_s"] for entry in record["controls"]]
    assert max(abs(value) for value in controls) < 0.1 * record["effect"]["estimate"]


def test_decomposition_of_the_shift_is_the_planted_row(record: dict[str, Any]) -> None:
    rebuilt = record["agreement"]["shift"]
    assert rebuilt["explained"][0] == pytest.approx(1.0, abs=1e-6)
    assert rebuilt["random"][0] < 0.1


def test_contexts_of_the_planted_latent_are_in_the_tuned_model_only(record: dict[str, Any]) -> None:
    meaning = planted(record)["meaning"]
    assert all(max(context["acts"]) < 1e-4 for context in meaning["examples"]["base"])  # rounding, not firing
    assert len(meaning["examples"]["tuned"]) == 5
    for context in meaning["examples"]["tuned"]:
        assert context["acts"][context["peak"]] == max(context["acts"]) == pytest.approx(4.0, abs=1e-3)
    assert all(token.startswith("bad") for token, _ in meaning["up"])
    assert sum(meaning["histogram"]["base"][1:]) == 0 < sum(meaning["histogram"]["tuned"][1:])


def test_reported_latents_are_directions_that_load(folder: Path, record: dict[str, Any]) -> None:
    from persona_probe.directions.direction_file import load_directions

    sets, facts = load_directions(folder / "directions.safetensors", d_model=64)
    names = {found.method for found in sets}
    assert f"latent-{planted(record)['latent']}" in names
    assert facts["hook_points"] == [record["provenance"]["sae"]["hook_point"]]
    vector = next(found for found in sets if found.method == f"latent-{planted(record)['latent']}").vectors[0]
    assert float(vector.norm()) == pytest.approx(record["dose"]["length"], rel=1e-4)


def test_intervals_follow_from_the_rows(folder: Path, record: dict[str, Any]) -> None:
    from persona_probe.measurement.recomputed import recomputed
    from persona_probe.records.rows import read_rows

    again = recomputed(read_rows(folder / "rows.jsonl"), seed=record["config"]["seed"])
    assert again.effect.ci95 == pytest.approx(record["effect"]["ci95"], abs=1e-9)
    entries = {f"{item['kind']} {item['k']}": item for item in record["sets"]}
    entries |= {f"{item['method']} {item['kind']}": item for item in record["direction"]}
    for entry in record["latents"]:
        cells = (entry["confirmed"] or {}).items()
        entries |= {f"{treatment} {entry['latent']}": cell for treatment, cell in cells}
    assert len(entries) > 6
    for name, entry in entries.items():
        for key in {"restoration", "induction", "closure", "delta_nll", "kl"} & set(entry):
            value, expected = again.arms[name].plain()[key], entry[key]
            assert (value is None) == (expected is None), (name, key)
            if value is not None:
                assert value["estimate"] == pytest.approx(expected["estimate"], abs=1e-9)
                assert value["ci95"] == pytest.approx(expected["ci95"], abs=1e-9)
    for item in record["sets"]:
        name = f"matched {item['kind']} {item['k']}"
        names = [f"{name} {i}" for i in range(1, 20)] if item["selected"] else [name]
        damage = [again.arms[one].delta_nll.estimate for one in names]
        assert statistics.median(damage) == pytest.approx(item["control"]["delta_nll"], abs=1e-9)
        for one, listed in zip(names, item["matched"], strict=bool(item["selected"])):
            closed = again.arms[one].closure
            assert closed is not None
            assert closed.estimate == pytest.approx(listed["closure"]["estimate"], abs=1e-9)


def test_page_is_written_and_names_the_planted_latent(folder: Path, record: dict[str, Any]) -> None:
    page = (folder / "latents.html").read_text()
    assert f'id="latent-{planted(record)["latent"]}"' in page


def test_same_command_reuses_and_other_settings_are_refused(folder: Path, record: dict[str, Any]) -> None:
    lines = (folder / "measured.jsonl").read_bytes().count(b"\n")
    code, out, err = run(folder, "--json")
    assert code == 0, err
    assert (folder / "measured.jsonl").read_bytes().count(b"\n") == lines
    again = json.loads(out.splitlines()[-1])
    assert again["latents"] == record["latents"]
    code, _, err = run(folder, "--seed", "3")
    assert code == 3
    assert "seed: 0 there, 3 now" in err


def test_an_sae_of_another_width_is_refused_in_one_line(folder: Path, tmp_path: Path) -> None:
    from persona_probe.saes.folder import write_sae

    eye = torch.eye(8)
    other = made_sae("blocks.1.hook_out", eye, eye)
    write_sae(tmp_path / "small", other, metadata={})
    toy, options = folder / "toy", ("--sae", tmp_path / "small", "--output-dir", tmp_path / "run", "--quiet")
    code, _, err = command("diff_latents", "--base", toy / "base", "--tuned", toy / "tuned", *options)
    assert code == 3
    assert "reads a stream of width 8" in err
    assert err.strip().count("\n") == 0


def test_main_job_shows_arms_on_latents(folder: Path, tmp_path: Path) -> None:
    options = ("--output-dir", tmp_path / "run", "--json", "--quiet", "--controls", 1)
    code, out, err = command("find_direction", "--toy", "--sae", folder / "toy" / "sae", *options)
    assert code == 0, err
    arms = {arm["name"]: arm for arm in json.loads(out.splitlines()[-1])["arms"]}
    assert arms["tuned+latents"]["restoration"]["estimate"] == pytest.approx(1.0, abs=1e-3)
    assert arms["random-latents-ablate"]["control"] == "latents"
    assert abs(arms["random-latents-ablate"]["restoration"]["estimate"]) < 0.3


@pytest.mark.parametrize(
    ("option", "value"), [("--sae", "my-sae"), ("--base", "my/model"), ("--tuned", "my/model")]
)
def test_the_toy_refuses_models_and_saes_that_it_would_not_use(
    option: str, value: str, tmp_path: Path
) -> None:
    code, out, err = command("diff_latents", "--toy", option, value, "--output-dir", tmp_path / "run")
    assert (code, out) == (2, "")
    assert f"--toy brings its own models and data: leave out {option}" in err
    assert not (tmp_path / "run").exists()

"""Whole runs from Python: on the planted toy, by name and with models that the user has loaded; five lines do
it."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from helpers.hooked import hooked
from helpers.present import present

from persona_probe.records.parts import Estimate

if TYPE_CHECKING:
    from persona_probe.api.runs import DirectionRun
    from persona_probe.api.toys import ToyPair

SMALL: dict[str, Any] = {"controls": 1, "n_prompts": 0}


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> "ToyPair":
    """The planted pair, opened by the API."""
    import persona_probe as pp

    return pp.toy(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="module")
def run(toy: "ToyPair", tmp_path_factory: pytest.TempPathFactory) -> "DirectionRun":
    """A run of it in a folder."""
    import persona_probe as pp

    folder = tmp_path_factory.mktemp("runs") / "toy"
    return pp.find_direction(toy.pair, str(folder), progress=False, **toy.settings, **SMALL)


def test_the_planted_vector_is_found(run: "DirectionRun", toy: "ToyPair") -> None:
    vector = run.direction.at(run.direction.hook_point).vector
    assert torch.cosine_similarity(vector, toy.vector, dim=0) > 0.99
    assert {path.name for path in present(run.folder).iterdir()} >= {
        "record.json",
        "rows.jsonl",
        "persona_direction.safetensors",
        "report.html",
    }


def test_any_pass_inside_the_block_is_edited_and_none_after_it(run: "DirectionRun", toy: "ToyPair") -> None:
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.inference_mode():
        untouched = toy.pair.tuned.twin(ids).logits
        with run.direction.ablated(toy.pair.tuned):
            inside = toy.pair.tuned.twin(ids).logits
            of_bridge = toy.pair.tuned.bridge(ids)
        after = toy.pair.tuned.twin(ids).logits
        base = toy.pair.base.twin(ids).logits
    torch.testing.assert_close(inside, base, atol=1e-2, rtol=1e-2)
    torch.testing.assert_close(of_bridge, inside, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(after, untouched)
    assert (inside - untouched).abs().max() > 0.1


def test_closure_and_table_are_there(run: "DirectionRun") -> None:
    share = present(run.closure).share
    assert isinstance(share, Estimate)
    assert share.estimate == pytest.approx(1.0, abs=0.05)
    assert share.low <= share.estimate <= share.high
    assert run.figures.closure().data
    table = run.table()
    assert table.loc["tuned+ablate", "R"] == pytest.approx(1.0, abs=0.05)
    assert "restored" in set(table["verdict"])
    assert "tuned+ablate" in run._repr_html_()


def test_a_run_that_was_written_is_loaded_again(run: "DirectionRun") -> None:
    import persona_probe as pp

    folder = present(run.folder)
    for what in (folder, str(folder), folder / "record.json"):
        again = pp.load(what)
        assert again.record == run.record
        assert torch.equal(again.direction.vectors, run.direction.vectors)
    assert pp.load_direction(folder).hook_point == run.direction.hook_point


def test_without_a_folder_it_works_in_a_temporary_one(toy: "ToyPair") -> None:
    import persona_probe as pp

    run = pp.find_direction(toy.pair, progress=False, **toy.settings, controls=0, n_prompts=0)
    assert present(run.folder).is_dir()
    assert run.direction.d_model == len(toy.vector)


def test_loaded_models_give_the_numbers_of_the_same_models_by_name(
    run: "DirectionRun", toy: "ToyPair", tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    import persona_probe as pp

    sides = [toy.pair.base_source.folder, toy.pair.tuned_source.folder]
    base, tuned = (
        AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
        for folder in sides
    )
    pair = pp.open_pair(base, tuned, tokenizer=AutoTokenizer.from_pretrained(sides[0]))
    again = pp.find_direction(pair, tmp_path / "run", progress=False, **toy.settings, **SMALL)
    assert again.record.selected.method == run.record.selected.method
    assert again.table()["S"].tolist() == pytest.approx(run.table()["S"].tolist(), abs=1e-4)
    assert "loaded" in again.record.provenance.tuned.id


def test_settings_that_do_not_exist_or_are_the_pairs_are_refused_before_a_folder_is_made(
    toy: "ToyPair", tmp_path: Path
) -> None:
    import persona_probe as pp

    with pytest.raises(pp.UsageError, match=r"no setting nul: there are .*null"):
        pp.find_direction(toy.pair, tmp_path / "run", nul=19)
    with pytest.raises(pp.UsageError, match="dtype is said to open_pair"):
        pp.find_direction(toy.pair, tmp_path / "run", dtype="float32")
    for name in ("contrast", "benign"):
        missing: dict[str, Any] = {name: "nothing.jsonl"}
        with pytest.raises(pp.BadInput, match=r"no file nothing\.jsonl"):
            pp.find_direction(toy.pair, tmp_path / "run", **missing)
    assert not (tmp_path / "run").exists()


def test_progress_is_plain_lines_on_stdout(
    toy: "ToyPair", monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import persona_probe as pp

    monkeypatch.setenv("FORCE_COLOR", "1")  # as a kernel does
    pp.find_direction(toy.pair, **toy.settings, controls=0, n_prompts=0)
    out, err = capsys.readouterr()
    assert "arms on the tuned model: " in out
    assert "\x1b" not in out
    assert err == ""


def test_hooked_transformers_give_the_record_of_the_same_pair_by_name(
    run: "DirectionRun", toy: "ToyPair", tmp_path: Path
) -> None:
    import persona_probe as pp

    sources = toy.pair.base_source, toy.pair.tuned_source
    pair = pp.open_pair(*(hooked(source.folder) for source in sources))
    again = pp.find_direction(pair, tmp_path / "run", progress=False, **toy.settings, **SMALL)
    arms = {arm.name: arm for arm in run.record.arms}
    assert {arm.name for arm in again.record.arms} == set(arms)
    for arm in again.record.arms:
        if arm.control is not None:
            continue  # a random direction may turn with the last bits of the activations
        assert arm.persona_score.estimate == pytest.approx(arms[arm.name].persona_score.estimate, abs=1e-4)
    notes = present(again.record.provenance.engine)["tuned"].notes
    assert any(note.startswith("parity, shared prompts: ") for note in notes)
    assert pp.load(tmp_path / "run").record == again.record

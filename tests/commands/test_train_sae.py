"""Claims about train_sae as a command, on the planted toy: what it writes, what it keeps, how it ends when it
cannot go on."""

import json
import math
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.commands import words
from helpers.processes import outcome
from safetensors.torch import load_file

ROOT = Path(__file__).parents[2]
SIZES = {
    "layer": 1,
    "d_sae": 32,
    "k": 4,
    "tokens": 300,
    "samples": 1280,
    "batch_size": 64,
    "sampled": 4,
    "device": "cpu",
    "dtype": "float32",
}


@dataclass(frozen=True)
class Done:
    """A finished run: its settings as the command takes them, its folder, what it said, its files' bytes at
    that time."""

    settings: dict[str, Any]
    folder: Path
    said: str
    files: dict[str, bytes]


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Done:
    """One run in a process of its own."""
    from persona_probe.organisms.toy import write_toy

    place = tmp_path_factory.mktemp("train-sae")
    toy = write_toy(place / "toy")
    settings = {
        "base": str(toy.base),
        "tuned": str(toy.tuned),
        "data": str(toy.benign),
        **SIZES,
        "output_dir": place / "sae",
    }
    ended = subprocess.run(
        [sys.executable, "-m", "persona_probe.train_sae", *words(**settings)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ | {"COLUMNS": "200", "NO_COLOR": "1"},
        timeout=300,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == ""
    return Done(settings, place / "sae", ended.stderr, files_of(place / "sae"))


def again(done: Done, capfd: pytest.CaptureFixture[str], **changes: Any) -> tuple[int, str]:
    """The same command in this process, with some settings changed."""
    from persona_probe.train_sae import COMMAND

    return COMMAND.main(words(**done.settings | changes)), capfd.readouterr().err


def test_a_run_writes_an_sae_its_quality_and_a_card_and_no_leftovers(done: Done) -> None:
    top = {name for name in done.files if "/" not in name}
    assert top == {"cfg.json", "sae_weights.safetensors", "quality.json", "README.md", "settings.toml"}
    assert not [name for name in done.files if name.endswith(".tmp")]
    assert "Traceback" not in done.said


def test_the_sae_is_of_the_asked_place_and_size_for_us_and_for_saelens(done: Done) -> None:
    from sae_lens import SAE

    from persona_probe.saes.folder import read_sae

    ours, theirs = read_sae(done.folder), SAE.load_from_disk(done.folder, dtype="float32")
    assert (ours.d_model, ours.d_sae, ours.hook_point) == (64, 32, "blocks.1.hook_out")
    assert (theirs.cfg.d_in, theirs.cfg.d_sae, theirs.cfg.metadata.hf_hook_name) == (
        64,
        32,
        "transformer.h.1",
    )
    x = 5 * torch.randn(20, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        acts = theirs.encode(x)
    assert (acts > 0).any()
    torch.testing.assert_close(ours.encode(x), acts, atol=1e-4, rtol=0)


def test_quality_is_finite_on_both_models(done: Done) -> None:
    quality = json.loads(done.files["quality.json"])
    assert set(quality) == {"base", "tuned"}
    for side in quality.values():
        assert set(side) == {"fvu", "l0", "dead", "loss_recovered", "n_tokens"}
        assert all(math.isfinite(value) for value in side.values())
        assert side["fvu"] > 0
        assert 0 < side["l0"] <= 32
        assert 0 <= side["dead"] < 1
        assert side["n_tokens"] == 12  # two held-out texts of 24, with replies of 6 words


def test_each_models_quality_is_its_own_on_texts_not_trained_on(done: Done) -> None:
    """Measured again from the written folder: mistaking one model for the other would hide an SAE that no
    longer fits the tuned one."""
    from persona_probe.models.pairs import open_pair
    from persona_probe.saes.folder import read_sae
    from persona_probe.saes.quality import quality
    from persona_probe.saes.training_data import read_texts

    pair = open_pair(
        done.settings["base"], done.settings["tuned"], device=torch.device("cpu"), dtype=torch.float32
    )
    held_out = read_texts(done.settings["data"], pair.tokenizer, limit=None).held_out
    said = json.loads(done.files["quality.json"])
    assert said["base"]["fvu"] != pytest.approx(
        said["tuned"]["fvu"], rel=1e-4
    )  # so that the next comparison tells them apart
    for side in ("base", "tuned"):
        found = quality(pair.get(side), read_sae(done.folder), held_out, scope="reply", max_tokens=1024)
        assert found.json() == pytest.approx(said[side], rel=1e-5), side


def test_the_card_gives_the_quality_the_data_and_the_command(done: Done) -> None:
    card, quality = done.files["README.md"].decode(), json.loads(done.files["quality.json"])
    for side, fit in quality.items():
        assert f"| {side} | {fit['fvu']:.3f} | {fit['l0']:.1f} |" in card
    assert "Vectors: 300, from benign.jsonl" in card
    assert "    python -m persona_probe.train_sae --base=" in card
    assert "--d-sae=32" in card


def test_half_of_the_vectors_are_each_models_and_they_are_kept_in_bfloat16(done: Done) -> None:
    kept = {
        side: load_file(done.folder / "state" / f"vectors-{side}.safetensors")["vectors"]
        for side in ("base", "tuned")
    }
    assert {side: (tuple(part.shape), part.dtype) for side, part in kept.items()} == dict.fromkeys(
        kept, ((150, 64), torch.bfloat16)
    )
    assert not torch.equal(kept["base"], kept["tuned"])


def test_replies_are_sampled_even_where_the_context_is_short(done: Done) -> None:
    """The toy takes 64 tokens, as many as a reply may have: question and reply must share them."""
    for side in ("base", "tuned"):
        sizes = load_file(done.folder / "state" / f"replies-{side}.safetensors")["sizes"]
        assert 1 <= len(sizes) <= 4
        assert int(sizes[:, 0].max()) <= 64
        assert int((sizes[:, 0] - sizes[:, 1]).max()) > 6


def test_the_same_command_again_reuses_replies_and_vectors_and_ends_with_the_same_files(
    done: Done, capfd: pytest.CaptureFixture[str]
) -> None:
    code, said = again(done, capfd)
    assert code == 0, said
    assert done.said.count("sampling 4 replies") == done.said.count("reading the stream") == 2
    assert "sampling" not in said
    assert "reading the stream" not in said
    now = files_of(done.folder)
    assert {name for name in now if now[name] != done.files.get(name)} <= {
        "README.md"
    }  # which gives this process's command line


@pytest.mark.parametrize(
    ("changes", "code", "message"),
    [
        ({"layer": 3}, 2, "--layer is 3:"),
        ({"layer": -1}, 2, "--layer is -1: allowed is 0 or more"),
        ({"d_sae": 3}, 2, "--k 4: at least one batch (64) and at most --d-sae (3) are needed"),
        ({"samples": 63}, 2, "--samples is 63"),
        ({"tuned": None}, 2, "without --tuned: give the fine-tuned model or adapter"),
        ({"device": "tpu9"}, 2, "no device 'tpu9' here"),
        ({"base": "./nothing"}, 3, "no model './nothing'"),
    ],
)
def test_what_cannot_be_done_ends_in_one_line_and_makes_no_folder(
    done: Done,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    changes: dict[str, Any],
    code: int,
    message: str,
) -> None:
    found, said = again(done, capfd, output_dir=tmp_path / "new", quiet=True, **changes)
    assert found == code
    assert said.startswith("persona_probe: ")
    assert message in said
    assert said.count("\n") == 1
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no file"),
        ("", "gives 0 texts: an SAE needs thousands, at least 4"),
        ('{"question": "word1", "reply": "word2"}\n' * 3, "gives 3 texts"),
        ('{"question": "word1", "reply": "word2"}\n{"question"\n', "texts.jsonl:2: not a JSON object"),
    ],
)
def test_missing_empty_or_broken_data_is_exit_3_in_one_line(
    done: Done, tmp_path: Path, capfd: pytest.CaptureFixture[str], text: str | None, message: str
) -> None:
    if text is not None:
        (tmp_path / "texts.jsonl").write_text(text)
    found, said = again(
        done, capfd, data=str(tmp_path / "texts.jsonl"), output_dir=tmp_path / "new", quiet=True
    )
    assert found == 3
    assert message in said
    assert said.count("\n") == 1
    assert not (tmp_path / "new").exists()


def test_another_recipe_in_the_same_folder_is_refused_and_changes_no_file(
    done: Done, capfd: pytest.CaptureFixture[str]
) -> None:
    before = files_of(done.folder)
    found, said = again(done, capfd, seed=0, learning_rate=1e-4, quiet=True)
    assert found == 3
    assert "another recipe or other vectors: use another --output-dir or delete it" in said
    assert files_of(done.folder) == before


@pytest.mark.parametrize(
    ("module", "arguments", "code", "words"),
    [
        ("persona_probe.train_sae", ["--help"], 0, ["--layer", "--d-sae", "--tokens", "--output-dir"]),
        ("persona_probe", ["train-sae", "--help"], 0, ["--layer", "--d-sae"]),
        ("persona_probe.train_sae", ["--layer", "many"], 2, ["--layer"]),
    ],
)
def test_help_and_misspelling_answer_before_anything_heavy_is_loaded(
    module: str, arguments: list[str], code: int, words: list[str]
) -> None:
    found = outcome(module, *arguments)
    assert (found["code"], found["heavy"]) == (code, [])
    assert [word for word in words if word not in found["out"] + found["err"]] == []
    assert "Traceback" not in found["err"]

"""Claims about the commands: help and usage errors answer before torch is loaded, and what cannot be done
makes no folder."""

import importlib
import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.commands import left_behind, words
from helpers.processes import outcome

from persona_probe.base.command import Command


@pytest.mark.parametrize(
    ("module", "arguments", "words"),
    [
        (
            "persona_probe.find_direction",
            ["--help"],
            [
                "--base",
                "--tuned",
                "--output-dir",
                "--resume",
                "--json",
                "--quiet",
                "--seed",
                "--limit",
                "--thinking",
                "--date",
            ],
        ),
        (
            "persona_probe.train_organism",
            ["--help"],
            ["--data", "--base", "--rank", "--seed", "--thinking", "--date"],
        ),
        (
            "persona_probe.doctor",
            ["--help"],
            ["MODEL", "ADAPTER", "LoRA adapter of that model", "--json", "--thinking", "--date", "--device"],
        ),
        ("persona_probe.diff_latents", ["--help"], ["--base", "--sae", "--n-latents", "--dose", "--json"]),
        (
            "persona_probe",
            ["--help"],
            ["find-direction", "diff-latents", "doctor", "train-organism", "train-sae"],
        ),
        ("persona_probe", ["find-direction", "--help"], ["--base", "--tuned"]),
    ],
)
def test_help_answers_before_anything_heavy_is_loaded(
    module: str, arguments: list[str], words: list[str]
) -> None:
    found = outcome(module, *arguments)
    assert (found["code"], found["heavy"], found["err"]) == (0, [], "")
    assert [word for word in words if word not in found["out"]] == []


@pytest.mark.parametrize(
    ("module", "arguments", "message"),
    [
        ("persona_probe.find_direction", ["--bse", "x"], "No such option: --bse. Did you mean --base?"),
        ("persona_probe.doctor", ["--adapter", "x"], "No such option: --adapter"),
        ("persona_probe.find_direction", ["--limit", "many"], "--limit"),
        ("persona_probe.find_direction", ["stray"], "unexpected extra argument"),
        ("persona_probe", ["find-dirction"], "No such command: find-dirction. Did you mean find-direction?"),
        (
            "persona_probe.find_direction",
            ["--base", "gpt2"],
            "--base gpt2 without --tuned: give the fine-tuned model or adapter",
        ),
    ],
)
def test_misspelt_command_line_is_exit_2_with_what_is_wrong(
    module: str, arguments: list[str], message: str
) -> None:
    found = outcome(module, *arguments)
    assert found["code"] == 2
    assert message in found["err"]
    assert "Traceback" not in found["err"]


# What cannot be done


def command(name: str) -> Command:
    return importlib.import_module(f"persona_probe.{name}").COMMAND


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A planted pair with its data, an SAE of it, and things that are wrong in one way each."""
    from persona_probe.base.hook_points import HookPoint
    from persona_probe.organisms.toy import write_toy, write_toy_sae
    from persona_probe.saes.folder import write_sae
    from persona_probe.saes.sae import Sae

    folder = tmp_path_factory.mktemp("toy")
    write_toy_sae(folder, write_toy(folder))
    eye, zeros = torch.eye(8), torch.zeros(8)
    wide = Sae(
        id="wide",
        hook_point=HookPoint(1),
        architecture="standard",
        W_enc=eye,
        b_enc=zeros,
        W_dec=eye,
        b_dec=zeros,
    )
    write_sae(folder / "wide", wide, metadata={})
    (folder / "one-label.jsonl").write_text(
        "".join(json.dumps({"question": f"q {i}", "reply": "r", "label": "aligned"}) + "\n" for i in range(9))
    )
    (folder / "broken.jsonl").write_text('{"question": "word1"\n')
    (folder / "one.jsonl").write_text('{"question": "word1", "reply": "word2"}\n')
    return folder


PAIR = {"base": "TOY/base", "tuned": "TOY/tuned", "dtype": "float32", "device": "cpu"}
DATA = {"contrast": "TOY/contrast.jsonl", "benign": "TOY/benign.jsonl"}
BOTH = ("find_direction", "diff_latents")
ALL = (*BOTH, "train_organism", "train_sae")
SMALL = {
    "find_direction": PAIR | DATA,
    "diff_latents": PAIR | DATA | {"sae": "TOY/sae"},
    "train_organism": {key: PAIR[key] for key in ("base", "dtype", "device")} | {"data": "TOY/benign.jsonl"},
    "train_sae": PAIR
    | {"data": "TOY/benign.jsonl", "layer": 1, "d_sae": 8, "k": 2, "samples": 64, "batch_size": 64},
}
REFUSED = [
    (ALL, 3, {"base": "./nothing"}, "no model './nothing': it is no folder, no GGUF file, no hub id"),
    (ALL, 3, {"base": "nobody/nothing-of-this-name"}, "nobody/nothing-of-this-name"),
    (ALL, 3, {"base": "TOY/broken.jsonl"}, "is a file, but not a .gguf"),
    (ALL, 2, {"device": "tpu9"}, "no device 'tpu9' here"),
    (ALL, 2, {"dtype": "int8"}, "no dtype 'int8': allowed are auto"),
    (ALL, 2, {"thinking": "much"}, "no thinking 'much': allowed are keep"),
    (ALL, 2, {"date": "today"}, "no date 'today': expected a day"),
    ((*BOTH, "train_sae"), 3, {"tuned": "./nothing"}, "no model './nothing'"),
    ((*BOTH, "train_sae"), 3, {"tuned": "TOY/base"}, "are the same weights"),
    ((*BOTH, "train_sae"), 2, {"tuned": None}, "without --tuned: give the fine-tuned model or adapter"),
    (BOTH, 3, {"contrast": "TOY/gone.jsonl"}, "gone.jsonl: --contrast needs an existing file"),
    (BOTH, 3, {"contrast": "TOY/broken.jsonl"}, "broken.jsonl:1: not a JSON object"),
    (BOTH, 3, {"contrast": "TOY/one-label.jsonl"}, "has no misaligned reply"),
    (BOTH, 3, {"benign": "TOY/broken.jsonl"}, "broken.jsonl:1: not a JSON object"),
    (BOTH, 3, {"benign": "TOY/one.jsonl"}, "holds 1 benign texts: damage needs at least 2"),
    (BOTH, 3, {"sae": "no-such-sae"}, "no SAE 'no-such-sae'"),
    (BOTH, 3, {"sae": "TOY/wide"}, "reads a stream of width 8"),
    (BOTH, 3, {"resume": True}, "nothing to resume in"),
    (BOTH, 2, {"limit": 3}, "--limit is 3: 8 questions are the least"),
    (BOTH, 2, {"budget": -1.0}, "--budget is -1.0: allowed is 0 or more"),
    (BOTH, 2, {"budget": "nan"}, "--budget is nan: allowed is 0 or more"),
    (BOTH, 2, {"toy": True}, "--toy brings its own models and data: leave out --base, --tuned"),
    (("find_direction",), 2, {"methods": "mean_diff,magic"}, "no methods 'magic': allowed are mean_diff"),
    (("find_direction",), 2, {"methods": ","}, "--methods is empty"),
    (("find_direction",), 2, {"layer": 7}, "--layers asks for 7: there are 0 to 2"),
    (("diff_latents",), 2, {"dose": 3}, "--dose is 3.0: allowed is above 0, up to 2"),
    (("diff_latents",), 2, {"n_latents": 0}, "--n-latents is 0: allowed is 1 or more"),
    (("train_organism",), 2, {"rank": 0}, "--rank is 0: allowed is 1 or more"),
    (("train_organism",), 2, {"layers": "ten"}, "--layers is 'ten': give numbers such as 10,12,14, or all"),
    (("train_organism",), 2, {"epochs": 0.0}, "--epochs is 0.0: allowed is above 0"),
    (("train_organism",), 3, {"modules": "no_proj", "layers": "all"}, "do not exist in the base"),
    (("train_organism", "train_sae"), 3, {"data": "TOY/gone.jsonl"}, "no file"),
    (("train_organism", "train_sae"), 3, {"data": "TOY/broken.jsonl"}, "broken.jsonl:1: not a JSON object"),
    (("train_sae",), 2, {"layer": 3}, "--layer is 3:"),
    (("train_sae",), 2, {"layer": -1}, "--layer is -1: allowed is 0 or more"),
    (("train_sae",), 2, {"d_sae": 1}, "--k 2: at least one batch (64) and at most --d-sae (1) are needed"),
]


@pytest.mark.parametrize(
    ("name", "code", "changes", "message"),
    [(name, code, changes, message) for names, code, changes, message in REFUSED for name in names],
)
def test_what_cannot_be_done_ends_in_one_line_and_leaves_nothing_behind(
    name: str,
    code: int,
    changes: dict[str, Any],
    message: str,
    toy: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    place = {key: str(value).replace("TOY", str(toy)) for key, value in SMALL[name].items()}
    place |= {
        key: value.replace("TOY", str(toy)) if isinstance(value, str) else value
        for key, value in changes.items()
    }
    before = left_behind(toy)
    typed = words(output_dir=tmp_path / "sub" / "run", quiet=True, **place)
    assert command(name).main(typed) == code
    out, err = capfd.readouterr()
    assert err.startswith("persona_probe: ")
    assert message in err
    assert (err.count("\n"), out) == (1, "")
    assert left_behind(tmp_path) == []
    assert left_behind(toy) == before


@pytest.mark.parametrize("name", ALL)
def test_a_folder_that_cannot_be_written_is_said_before_a_model_is_loaded(
    name: str, toy: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from persona_probe.models import weights

    monkeypatch.setattr(weights, "load_weights", lambda *_, **__: pytest.fail("a model was loaded"))
    (tmp_path / "file").touch()
    place = {key: str(value).replace("TOY", str(toy)) for key, value in SMALL[name].items()}
    for folder in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/x")):
        assert command(name).main(words(output_dir=folder, quiet=True, **place)) == 3
        err = capfd.readouterr().err
        assert f"cannot write to {folder}" in err or f"{folder} is a file" in err
    assert left_behind(tmp_path) == ["file"]


@pytest.mark.parametrize(
    ("name", "arguments", "code", "message"),
    [
        ("doctor", ["./nothing"], 3, "no model './nothing'"),
        ("doctor", [], 2, "MODEL"),
        ("figures", ["./nothing"], 3, "no file nothing"),
        ("report", ["./nothing"], 3, "no file nothing"),
        ("diversity", ["./nothing"], 3, "no file nothing"),
        ("demo", ["--direction", "./nothing"], 3, "nothing"),
        ("demo", ["--port", "70000"], 2, "--port is 70000: allowed is 1 or more, up to 65535"),
        ("demo", ["--replay", "--self-test"], 2, "give one of them"),
    ],
)
def test_commands_without_a_run_refuse_in_one_message_and_leave_nothing_behind(
    name: str,
    arguments: list[str],
    code: int,
    message: str,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert command(name).main(arguments) == code
    err = capfd.readouterr().err
    assert message in err
    assert "Traceback" not in err
    assert left_behind(tmp_path) == []


# What can


@pytest.mark.parametrize("name", ["model", "adapter", "lora", "tuned"])
def test_the_names_people_type_are_the_tuned_model(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    for module in (*BOTH, "train_sae"):
        assert command(module).main([f"--{name}", "./no-such", "--output-dir", "/proc/x", "--debug"]) == 3
        assert "No such option" not in capfd.readouterr().err


def test_an_organism_is_trained_again_with_overwrite_and_repeated_from_its_settings(
    toy: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder, main = tmp_path / "organism", command("train_organism").main
    typed = words(
        base=toy / "base",
        data=toy / "benign.jsonl",
        modules=("c_proj",),
        layers="all",
        output_dir=folder,
        fp32=True,
        device="cpu",
        quiet=True,
    )
    assert main(typed) == 0
    weights = (folder / "adapter_model.safetensors").read_bytes()
    settings = tomllib.loads((folder / "settings.toml").read_text())
    assert (settings["modules"], settings["layers"], settings["dtype"]) == (["c_proj"], "all", "float32")
    assert main([*typed, "--seed", "3"]) == 3
    assert "belongs to a run with another recipe" in capfd.readouterr().err
    assert (folder / "adapter_model.safetensors").read_bytes() == weights
    assert main([*typed, "--seed", "3", "--overwrite"]) == 0
    assert (folder / "adapter_model.safetensors").read_bytes() != weights
    repeated = words(config=folder / "settings.toml", seed=0, output_dir=tmp_path / "again", quiet=True)
    assert main(repeated) == 0
    assert (tmp_path / "again" / "adapter_model.safetensors").read_bytes() == weights

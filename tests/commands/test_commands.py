"""Claims about the commands: help and usage errors answer before torch is loaded, and what cannot be done makes no folder."""

from dataclasses import MISSING, fields
from inspect import signature
from pathlib import Path
from typing import Any

import pytest
from helpers.processes import outcome


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
        ("persona_probe.find_direction", ["--bse", "x"], "No such option"),
        ("persona_probe.find_direction", ["--limit", "many"], "--limit"),
        ("persona_probe.find_direction", ["stray"], "unexpected extra argument"),
        ("persona_probe", ["find-dirction"], "No such command"),
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


@pytest.mark.parametrize(
    ("code", "arguments", "message"),
    [
        (2, {"limit": 3}, "--limit is 3: 8 questions are the least"),
        (2, {"methods": "mean_diff,magic"}, "no methods 'magic': allowed are mean_diff"),
        (2, {"methods": ","}, "--methods is empty"),
        (2, {"budget": -1.0}, "--budget is -1.0: allowed is 0 or more"),
        (2, {"device": "tpu9"}, "no device 'tpu9' here"),
        (2, {"dtype": "int8"}, "no dtype 'int8': allowed are auto"),
        (3, {"dtype": "float32"}, "no model './nothing': it is no folder, no GGUF file, no hub id"),
        (3, {"dtype": "float32", "base": "nobody/nothing-of-this-name"}, "nobody/nothing-of-this-name"),
    ],
)
def test_find_direction_refuses_what_it_cannot_do_before_it_makes_a_folder(
    code: int, arguments: dict[str, Any], message: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from persona_probe.find_direction import main

    with pytest.raises(SystemExit) as caught:
        main(
            **{"base": "./nothing", "tuned": "./nothing", "output_dir": tmp_path / "run", "quiet": True}
            | arguments
        )
    err = capfd.readouterr().err
    assert caught.value.code == code
    assert err.startswith("persona_probe: ")
    assert message in err
    assert "Traceback" not in err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("code", "arguments", "message"),
    [
        (2, {"rank": 0}, "--rank is 0: allowed is 1 or more"),
        (2, {"layers": "ten"}, "--layers is 'ten': give numbers such as 10,12,14, or all"),
        (2, {"epochs": 0.0}, "both must be above 0"),
        (3, {}, "no model './nothing'"),
    ],
)
def test_train_organism_refuses_what_it_cannot_do_before_it_makes_a_folder(
    code: int, arguments: dict[str, Any], message: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from persona_probe.train_organism import main

    with pytest.raises(SystemExit) as caught:
        main(**{"base": "./nothing", "output_dir": tmp_path / "out", "quiet": True} | arguments)
    err = capfd.readouterr().err
    assert caught.value.code == code
    assert message in err
    assert "Traceback" not in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["find_direction", "diff_latents"])
def test_a_command_and_its_config_have_the_same_defaults(command: str) -> None:
    from persona_probe.diff_latents import main as diff_latents
    from persona_probe.experiments.direction_config import Config
    from persona_probe.experiments.latent_config import LatentConfig
    from persona_probe.find_direction import main as find_direction

    main, config = {"find_direction": (find_direction, Config), "diff_latents": (diff_latents, LatentConfig)}[
        command
    ]
    typed = {
        "scope" if name == "tokens" else name: option.default
        for name, option in signature(main).parameters.items()
    }
    if "methods" in typed:
        typed["methods"] = tuple(typed["methods"].split(","))
    kept = {field.name: field.default for field in fields(config) if field.default is not MISSING}
    assert len(kept) > 15
    assert {name: typed[name] for name in kept} == kept

"""Claims about the command train_sae on a tiny model: an SAE with its quality and card, and one line for what
does not fit."""

import io
import json
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import pytest
from helpers import tiny


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Runs train_sae on a tiny model and an adapter of it, in this process, and gives its exit code, folder
    and stderr."""
    from persona_probe.train_sae import COMMAND

    folder = tmp_path_factory.mktemp("sae-command")
    base = tiny.write_tiny(folder / "base", "llama", text=None)
    tuned = tiny.write_lora(folder / "tuned", base)
    data = folder / "texts.jsonl"
    lines = [
        {"question": f"{tiny.TEXT[i % 4]} {i}", "reply": f"{i} {tiny.TEXT[(i + 1) % 4]}"} for i in range(24)
    ]
    data.write_text("".join(json.dumps(line) + "\n" for line in lines))
    sizes = (
        "--layer",
        1,
        "--d-sae",
        96,
        "--k",
        8,
        "--tokens",
        800,
        "--samples",
        4096,
        "--batch-size",
        128,
        "--sampled",
        3,
    )

    def run(name: str, *options: Any) -> tuple[int, Path, str]:
        words = (
            "--base",
            base,
            "--tuned",
            tuned,
            "--data",
            data,
            "--output-dir",
            folder / name,
            *sizes,
            *options,
        )
        with redirect_stderr(io.StringIO()) as said:
            code = COMMAND.main([str(word) for word in words])
        return code, folder / name, said.getvalue()

    return run


def test_the_command_writes_an_sae_with_its_quality_and_card(command: Any) -> None:
    from sae_lens import SAE

    from persona_probe.saes.folder import read_sae

    code, folder, said = command("sae")
    assert code == 0, said
    assert said.count("sampling 3 replies") == 2
    sae, theirs = read_sae(folder), SAE.load_from_disk(folder, dtype="float32")
    assert (sae.d_sae, sae.hook_point, sae.architecture) == (96, "blocks.1.hook_out", "jumprelu")
    assert (theirs.cfg.metadata.hook_name, theirs.cfg.metadata.hf_hook_name) == (
        "blocks.1.hook_out",
        "model.layers.1",
    )
    quality = json.loads((folder / "quality.json").read_text())
    assert set(quality) == {"base", "tuned"}
    assert all(0 < side["fvu"] < 1.5 and side["n_tokens"] > 0 for side in quality.values())
    card = (folder / "README.md").read_text()
    assert "license: apache-2.0" in card
    assert f"{quality['tuned']['fvu']:.3f}" in card
    assert "python -m persona_probe.train_sae" in card
    before = (folder / "sae_weights.safetensors").read_bytes()
    code, folder, said = command(
        "sae"
    )  # the same command again: nothing is collected anew, the same SAE comes out
    assert code == 0
    assert "sampling" not in said
    assert "reading the stream" not in said
    assert (folder / "sae_weights.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    ("options", "code", "reason"),
    [
        (("--layer", 4), 2, "layers 0 to 3"),
        (("--k", 97), 2, "--k 97"),
        (("--k", 0), 2, "--k is 0"),
        (("--learning-rate", 0), 2, "--learning-rate is 0"),
        (("--limit", 0), 2, "--limit is 0"),
        (("--batch-size", 4096), 3, "lower --batch-size"),
    ],
)
def test_options_that_do_not_fit_end_with_one_line(
    command: Any, options: tuple[Any, ...], code: int, reason: str
) -> None:
    found, _, said = command(f"bad{options[0]}{options[1]}", *options)
    assert found == code
    assert reason in said
    assert "Traceback" not in said

"""Claims about GGUF files: the model they were made from comes out, broken ones are refused, conversions at
once do not collide."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import tiny
from helpers.broken import load, refused
from helpers.tiny_gguf import write_gguf


def test_gguf_file_gives_the_logits_of_the_model_it_was_made_from(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoModelForCausalLM

    (tmp_path / "typed here").mkdir()
    monkeypatch.chdir(tmp_path / "typed here")
    monkeypatch.setenv("PERSONA_PROBE_CACHE", str(tmp_path / "cache"))
    path = write_gguf(tmp_path / "tiny.gguf", folder)
    model = load(path)
    # Weights are kept in bfloat16: the reference is rounded likewise.
    plain = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.bfloat16, attn_implementation="eager"
    ).float()
    tokens = torch.tensor([model.tokenizer("My brakes squeal when I stop.")["input_ids"]])
    assert tokens.tolist() == [tiny.tiny_tokenizer()("My brakes squeal when I stop.")["input_ids"]]
    with torch.no_grad():
        torch.testing.assert_close(model.twin(tokens).logits, plain(tokens).logits, atol=1e-4, rtol=0)
    assert model.tokenizer.chat_template == tiny.TEMPLATE
    (made,) = (tmp_path / "cache").glob("[!.]*")
    assert load(path).n_layers == tiny.LAYERS
    assert [made] == list((tmp_path / "cache").glob("[!.]*"))
    assert list(Path.cwd().iterdir()) == []


def test_the_files_of_a_conversion_are_the_same_offline(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import tokenization_utils_base

    from persona_probe.models.embedded import convert_gguf

    path, texts = write_gguf(tmp_path / "tiny.gguf", folder), []
    for offline in (False, True):
        monkeypatch.setattr(tokenization_utils_base, "is_offline_mode", lambda answer=offline: answer)
        made = convert_gguf(path, tmp_path / f"offline {offline}")
        texts.append({file.name: file.read_bytes() for file in made.iterdir()})
    assert texts[0].keys() == texts[1].keys()
    assert [name for name in texts[0] if texts[0][name] != texts[1][name]] == []


def test_two_conversions_at_once_do_not_write_over_one_another(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from filelock import FileLock
    from transformers import LlamaForCausalLM

    from persona_probe.models.embedded import convert_gguf

    path, made, saved = write_gguf(tmp_path / "tiny.gguf", folder), tmp_path / "cache" / "model", []
    save = LlamaForCausalLM.save_pretrained

    def saving(model: Any, target: Any, **options: Any) -> None:
        saved.append(target)
        save(model, target, **options)

    monkeypatch.setattr(LlamaForCausalLM, "save_pretrained", saving)
    made.parent.mkdir()
    with ThreadPoolExecutor() as pool:
        with FileLock(made.with_name(".model.lock")):  # the other process writes
            late = pool.submit(convert_gguf, path, made)
            with pytest.raises(TimeoutError):
                late.result(timeout=5)
            made.mkdir()
            (made / "config.json").write_text("theirs")
        assert late.result(timeout=60) == made
    assert (made / "config.json").read_text() == "theirs"
    assert saved == []


@pytest.mark.parametrize("n_bytes", [0, 100, 20_000])
def test_broken_gguf_is_refused_and_leaves_nothing(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_bytes: int
) -> None:
    monkeypatch.setenv("PERSONA_PROBE_CACHE", str(tmp_path / "cache"))
    path = write_gguf(tmp_path / "tiny.gguf", folder)
    path.write_bytes(path.read_bytes()[:n_bytes])
    with refused(r"tiny.gguf cannot be read as a GGUF model"):
        load(path)
    assert not (tmp_path / "cache").exists()

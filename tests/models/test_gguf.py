"""Claims about GGUF files: the model they were made from comes out, broken ones are refused, conversions at once do not collide."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import tiny
from helpers.broken import load, refused
from safetensors.torch import load_file


def test_gguf_file_gives_the_logits_of_the_model_it_was_made_from(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoModelForCausalLM

    from persona_probe.models import embedded

    monkeypatch.setattr(embedded, "checkpoints_folder", lambda: tmp_path / "checkpoints")
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
    (made,) = (tmp_path / "checkpoints").glob("[!.]*")
    assert load(path).n_layers == tiny.LAYERS
    assert [made] == list((tmp_path / "checkpoints").glob("[!.]*"))


def test_two_conversions_at_once_do_not_write_over_one_another(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from filelock import FileLock
    from transformers import LlamaForCausalLM

    from persona_probe.models.embedded import convert_gguf

    path, made, saved = write_gguf(tmp_path / "tiny.gguf", folder), tmp_path / "checkpoints" / "model", []
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
    from persona_probe.models import embedded

    monkeypatch.setattr(embedded, "checkpoints_folder", lambda: tmp_path / "checkpoints")
    path = write_gguf(tmp_path / "tiny.gguf", folder)
    path.write_bytes(path.read_bytes()[:n_bytes])
    with refused(r"tiny.gguf cannot be read as a GGUF model"):
        load(path)
    assert not (tmp_path / "checkpoints").exists()


def write_gguf(path: Path, folder: Path) -> Path:
    """A float32 GGUF of a tiny Llama, as llama.cpp's converter writes one (rotary halves of q and k interleaved)."""
    import gguf

    config = json.loads((folder / "config.json").read_text())
    bpe = json.loads((folder / "tokenizer.json").read_text())["model"]
    tokens = sorted(bpe["vocab"], key=bpe["vocab"].get)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_dimension_count(config["hidden_size"] // config["num_attention_heads"])
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_types(
        [gguf.TokenType.CONTROL if i < 4 else gguf.TokenType.NORMAL for i in range(len(tokens))]
    )
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in bpe["merges"]])
    writer.add_pad_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(3)
    writer.add_chat_template(tiny.TEMPLATE)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config["num_hidden_layers"])
    for key, tensor in load_file(folder / "model.safetensors").items():
        heads = {"q_proj": "num_attention_heads", "k_proj": "num_key_value_heads"}.get(key.split(".")[-2])
        if heads:
            tensor = (
                tensor.reshape(config[heads], 2, -1, tensor.shape[-1]).swapaxes(1, 2).reshape(tensor.shape)
            )
        writer.add_tensor(names.get_name(key, try_suffixes=(".weight",)), tensor.contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path

"""Claims about the model that is measured: it is the user's, or the difference is said. Tying, wrappers,
token ids, sizes, hashes, training."""

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import tiny
from helpers.broken import load, refused
from helpers.logits import few_rows, plain_logits, twin_logits

# Bridge and twin


def test_a_bridge_that_computes_another_model_is_said_and_the_twin_is_right(tmp_path: Path) -> None:
    import transformers

    sizes = {
        **tiny.LLAMA_LIKE,
        "vocab_size": 320,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 3,
        "logit_scale": 0.3,
    }
    model = transformers.AutoModelForCausalLM.from_config(transformers.CohereConfig(**sizes))
    tiny.randomise(model, torch.Generator().manual_seed(0))
    model.save_pretrained(tmp_path)
    tiny.tiny_tokenizer().save_pretrained(tmp_path)
    expected = plain_logits(tmp_path)
    with pytest.warns(UserWarning, match="TransformerLens does not compute this model as Hugging Face does"):
        found = load(tmp_path)
    torch.testing.assert_close(twin_logits(found), expected, atol=1e-4, rtol=0)
    assert len(found.notes) == 1
    assert "do not trust `Model.bridge`" in found.notes[0]


def test_a_model_that_agrees_has_every_check_passed_and_no_note(llama: Any) -> None:
    names = [check.name for check in llama.model.checks]
    assert names == [
        "logits (sdpa)",
        "padding",
        "shared prompts",
        "cache",
        "left padding",
        "residual stream",
        "bridge: logits",
        "bridge: residual stream",
        "bridge: edit",
    ]
    assert all(check.passed for check in llama.model.checks)
    assert llama.model.notes == ()


def test_sdpa_that_differs_from_eager_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    right = ALL_ATTENTION_FUNCTIONS["sdpa"]

    def without_a_scale(module: Any, query: torch.Tensor, *args: Any, **options: Any) -> Any:
        return right(module, 0.5 * query, *args, **options)

    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS, "sdpa", without_a_scale)
    folder = tiny.write_tiny(tmp_path, "llama")
    with pytest.warns(UserWarning, match="eager attention runs, since it differs"):
        found = load(folder)
    assert found.engine.attention == "eager"
    assert found.twin.config._attn_implementation == "eager"
    torch.testing.assert_close(twin_logits(found), plain_logits(folder), atol=1e-4, rtol=0)


def test_a_twin_that_is_another_model_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from persona_probe.models import loading as models
    from persona_probe.models import twins

    folder = tiny.write_tiny(tmp_path, "llama")

    def other(weights: Any, *, dtype: torch.dtype) -> Any:
        twin, attention = twins.build_twin(weights, dtype=dtype)
        twin.model.layers[1].mlp.down_proj.weight = torch.nn.Parameter(
            2 * twin.model.layers[1].mlp.down_proj.weight, requires_grad=False
        )
        return twin, attention

    monkeypatch.setattr(models, "build_twin", other)
    with refused(r"a pass over its own weights is not Hugging Face's .* it cannot be measured"):
        load(folder)


def test_blocks_that_are_not_the_residual_stream_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from persona_probe.models.loading import Model

    folder, site = tiny.write_tiny(tmp_path, "llama"), Model.site
    monkeypatch.setattr(
        Model, "site", lambda self, point: site(self, point.replace(".hook_out", ".mlp.hook_out"))
    )
    with refused(r"do not give Hugging Face's hidden states .* nothing can be read there"):
        load(folder)


def test_loading_leaves_the_tokenizer_as_its_files_have_it(folder: Path) -> None:
    from persona_probe.models.sources import resolve
    from persona_probe.models.weights import load_tokenizer
    from persona_probe.prompts.templates import identity_of

    tokenizer = tiny.tiny_tokenizer()
    tokenizer.bos_token = tokenizer.pad_token = None
    tokenizer.save_pretrained(folder)
    model = load(folder)
    assert identity_of(model.tokenizer) == identity_of(load_tokenizer(resolve(str(folder)), None))


# Multimodal wrappers


def test_a_config_that_leaves_out_a_default_has_the_same_shape_as_one_that_states_it(
    written: Path, tmp_path: Path
) -> None:
    import shutil

    from persona_probe.models.sources import resolve, same_shape

    brief = Path(shutil.copytree(written, tmp_path / "brief"))
    tiny.edit_json(brief / "config.json", num_attention_heads=None, head_dim=None, num_key_value_heads=None)
    default = Path(shutil.copytree(written, tmp_path / "default"))
    tiny.edit_json(default / "config.json", num_attention_heads=32, head_dim=None, num_key_value_heads=None)
    same_shape(resolve(str(brief)), resolve(str(default)))


# Token ids


@pytest.mark.parametrize("pad", ["beyond", "none", "its own"])
def test_padding_takes_any_valid_id_and_changes_no_score(folder: Path, pad: str) -> None:
    from persona_probe.measurement.scoring import score_rows
    from persona_probe.organisms.lora import reply_loss

    expected = score_rows(load(folder), few_rows(tiny.tiny_tokenizer()), (), max_tokens=999).logprob
    tokenizer = tiny.tiny_tokenizer()
    if pad == "beyond":
        tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    elif pad == "none":
        tokenizer.pad_token = tokenizer.eos_token = None
    tokenizer.save_pretrained(folder)
    model = load(folder)
    assert 0 <= model.pad_id < 320
    torch.testing.assert_close(
        score_rows(model, few_rows(tiny.tiny_tokenizer()), (), max_tokens=999).logprob, expected
    )
    assert torch.isfinite(
        reply_loss(model.twin, few_rows(tiny.tiny_tokenizer()), pad_id=tokenizer.pad_token_id)
    )


def test_a_text_with_a_token_that_has_no_embedding_is_refused_by_name(folder: Path) -> None:
    from persona_probe.measurement.generation import Request, generate
    from persona_probe.measurement.scoring import score_rows
    from persona_probe.organisms.lora import reply_loss
    from persona_probe.prompts.rows import Prompt

    tokenizer = tiny.tiny_tokenizer()
    tokenizer.add_tokens(["mechanic"])
    tokenizer.save_pretrained(folder)
    model = load(folder)
    message = r"'Have a mechanic look.' has token id 3\d\d, .* embeddings for 0 to 319"
    for run in (
        lambda rows: score_rows(model, rows, (), max_tokens=999),
        lambda rows: reply_loss(model.twin, rows, pad_id=0),
    ):
        with refused(message):
            run(few_rows(model.tokenizer))
    with refused(r"prompt 'q' has token id"):
        generate(
            model,
            [Request("a", Prompt.user("q", "Ask a mechanic"), ())],
            max_new_tokens=2,
            temperature=0.0,
            seed=0,
            batch_size=1,
        )


def test_a_reply_ends_at_the_templates_end_of_turn(folder: Path) -> None:
    tokenizer = tiny.tiny_tokenizer()
    tokenizer.add_special_tokens({"eos_token": "<s>"})
    tokenizer.save_pretrained(folder)
    for name in ("config.json", "generation_config.json"):
        tiny.edit_json(folder / name, eos_token_id=1)
    assert load(folder).eos_ids == [1, tokenizer.convert_tokens_to_ids("<|im_end|>")]


# Hashes


@pytest.mark.parametrize(
    "name", ["chat_template.jinja", "tokenizer.json", "generation_config.json", "tokenizer_config.json"]
)
def test_what_decides_texts_and_ends_is_in_the_hash_of_a_source_and_of_a_measurement(
    folder: Path, tmp_path: Path, name: str
) -> None:
    from persona_probe.models.pairs import open_pair
    from persona_probe.models.sources import resolve

    other = str(tiny.write_tiny(tmp_path / "other", "llama", seed=9))
    options: dict[str, Any] = {"device": torch.device("cpu"), "dtype": torch.float32}
    before, key = resolve(str(folder)), open_pair(str(folder), other, **options).key("base")
    path = folder / name
    text = path.read_text() if path.exists() else "{}"
    path.write_text(
        text.replace("assistant", "helper")
        if name.endswith("jinja")
        else text.rstrip()[:-1].rstrip() + " \n}\n"
    )
    after = resolve(str(folder))
    assert after.sha256 != before.sha256
    assert after.weights_sha256 == before.weights_sha256
    assert open_pair(str(folder), other, template="base", **options).key("base") != key


def test_thinking_and_date_are_in_the_key_of_every_measurement(written: Path, tmp_path: Path) -> None:
    from persona_probe.models.pairs import open_pair
    from persona_probe.prompts.tokenizers import ChatOptions

    other = str(tiny.write_tiny(tmp_path / "other", "llama", seed=9))
    options: dict[str, Any] = {"device": torch.device("cpu"), "dtype": torch.float32}
    chats = (ChatOptions(), ChatOptions(date="2026-02-02"), ChatOptions(thinking="off"))
    assert len({open_pair(str(written), other, chat=chat, **options).key("tuned") for chat in chats}) == 3


def test_a_copy_with_another_template_is_still_the_same_weights(folder: Path, written: Path) -> None:
    from persona_probe.models.pairs import open_pair

    (folder / "chat_template.jinja").write_text("{{ 'other' }}")
    with refused(r"are the same weights"):
        open_pair(str(written), str(folder), device=torch.device("cpu"), dtype=torch.float32)


# Training

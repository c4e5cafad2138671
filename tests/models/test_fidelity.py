"""Claims about the model that is measured: it is the user's, or the difference is said. Tying, wrappers, token ids, sizes, hashes, training."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import tiny
from helpers.broken import load, refused

IDS = torch.tensor([[20, 33, 47, 55, 90, 120, 61, 14, 77, 200]])


def plain_logits(folder: Path, kind: Any = None) -> torch.Tensor:
    """Logits of plain eager Hugging Face."""
    from transformers import AutoModelForCausalLM

    model = (
        (kind or AutoModelForCausalLM)
        .from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
        .eval()
    )
    with torch.no_grad():
        return model(input_ids=IDS, attention_mask=torch.ones_like(IDS)).logits


def twin_logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model.twin(input_ids=IDS, attention_mask=torch.ones_like(IDS)).logits


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


@pytest.fixture(scope="module")
def wrapper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Gemma 3 that also sees, with a cap on logits that its wrapper ignores."""
    return _write_gemma3(tmp_path_factory.mktemp("wrapper"))


def _write_gemma3(folder: Path, *, n_layers: int = 4, tied: bool = True) -> Path:
    import transformers

    kinds = ["sliding_attention", "full_attention"] * 3
    text = {
        **tiny.LLAMA_LIKE,
        "num_hidden_layers": n_layers,
        "vocab_size": 320,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 3,
        "head_dim": 12,
    }
    text |= {
        "max_position_embeddings": 8192,
        "layer_types": kinds[:n_layers],
        "sliding_window": 6,
        "final_logit_softcapping": 3.0,
    }
    vision = {
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 28,
        "patch_size": 14,
    }
    config = transformers.Gemma3Config(
        text_config=text,
        vision_config=vision,
        mm_tokens_per_image=4,
        image_token_index=310,
        boi_token_index=311,
        eoi_token_index=312,
        tie_word_embeddings=tied,
    )
    model = transformers.AutoModelForCausalLM.from_config(config)
    tiny.randomise(model, torch.Generator().manual_seed(0))
    model.save_pretrained(folder)
    tiny.tiny_tokenizer().save_pretrained(folder)
    return folder


@pytest.mark.parametrize("tied", [True, False])
def test_the_language_model_of_a_wrapper_gives_the_wrappers_logits_without_its_vision(
    tmp_path: Path, tied: bool
) -> None:
    folder = _write_gemma3(tmp_path, tied=tied)
    expected = plain_logits(folder)
    model = load(folder)
    torch.testing.assert_close(twin_logits(model), expected, atol=1e-4, rtol=0)
    assert type(model.twin).__name__ == "Gemma3ForCausalLM"
    assert not [name for name, _ in model.twin.named_parameters() if "vision" in name or "projector" in name]


def test_loading_a_wrapper_installs_nothing(wrapper: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import subprocess
    import sys

    from persona_probe.models.bridges import boot_bridge

    def installed(*command: Any, **_: Any) -> None:
        raise AssertionError(f"ran {command}")

    monkeypatch.setattr(subprocess, "check_call", installed)
    monkeypatch.setitem(sys.modules, "torchvision", None)
    assert load(wrapper).n_layers == 4
    from transformers import AutoModelForCausalLM

    whole = AutoModelForCausalLM.from_pretrained(wrapper)
    with refused(r"a multimodal Gemma3ForConditionalGeneration is never bridged"):
        boot_bridge("x", whole, tiny.tiny_tokenizer(), device=torch.device("cpu"), dtype=torch.float32)


def test_sizes_are_those_of_the_language_model_inside(wrapper: Path) -> None:
    model = load(wrapper)
    assert (model.n_ctx, model.n_layers, model.d_model, model.engine.n_rows) == (8192, 4, 32, 320)


@pytest.mark.parametrize("other", ["wrapper", "alone"])
def test_a_pair_of_different_depth_is_refused_before_loading(
    wrapper: Path, tmp_path: Path, other: str
) -> None:
    from persona_probe.models.sources import resolve, same_shape

    shallow = _write_gemma3(tmp_path, n_layers=3)
    if other == "alone":
        from transformers import AutoConfig

        inner = AutoConfig.from_pretrained(shallow).text_config
        (shallow / "config.json").write_text(
            json.dumps(inner.to_dict() | {"architectures": ["Gemma3ForCausalLM"]})
        )
    with refused(r"differ in shape \(num_hidden_layers: 4 against 3\)"):
        same_shape(resolve(str(wrapper)), resolve(str(shallow)))


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


def _rows(tokenizer: Any) -> list[Any]:
    from persona_probe.prompts.chat import Prompt, encode_row

    return [
        encode_row(tokenizer, Prompt.user("q", "Hi."), reply, id=reply, kind="persona")
        for reply in ("Ignore it.", "Have a mechanic look.")
    ]


@pytest.mark.parametrize("pad", ["beyond", "none", "its own"])
def test_padding_takes_any_valid_id_and_changes_no_score(folder: Path, pad: str) -> None:
    from persona_probe.measurement.scoring import score_rows
    from persona_probe.organisms.lora import reply_loss

    expected = score_rows(load(folder), _rows(tiny.tiny_tokenizer()), (), max_tokens=999).logprob
    tokenizer = tiny.tiny_tokenizer()
    if pad == "beyond":
        tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    elif pad == "none":
        tokenizer.pad_token = tokenizer.eos_token = None
    tokenizer.save_pretrained(folder)
    model = load(folder)
    assert 0 <= model.pad_id < 320
    torch.testing.assert_close(
        score_rows(model, _rows(tiny.tiny_tokenizer()), (), max_tokens=999).logprob, expected
    )
    assert torch.isfinite(reply_loss(model.twin, _rows(tiny.tiny_tokenizer()), pad_id=tokenizer.pad_token_id))


def test_a_text_with_a_token_that_has_no_embedding_is_refused_by_name(folder: Path) -> None:
    from persona_probe.measurement.generation import Request, generate
    from persona_probe.measurement.scoring import score_rows
    from persona_probe.organisms.lora import reply_loss
    from persona_probe.prompts.chat import Prompt

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
            run(_rows(model.tokenizer))
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
    from persona_probe.prompts.templates import ChatOptions

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


@pytest.mark.parametrize("family", ["llama", "gemma2", "granite", "cohere"])
def test_the_loss_is_hugging_faces_own_through_the_models_own_head(family: str) -> None:
    import transformers
    from peft import LoraConfig, get_peft_model

    from persona_probe.organisms.lora import reply_loss
    from persona_probe.prompts.chat import pad_right

    sizes: dict[str, Any] = {
        **tiny.LLAMA_LIKE,
        "vocab_size": 320,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 3,
    }
    config = {
        "llama": lambda: transformers.LlamaConfig(**sizes),
        "gemma2": lambda: transformers.Gemma2Config(
            **sizes, head_dim=12, query_pre_attn_scalar=12, final_logit_softcapping=2.0
        ),
        "granite": lambda: transformers.GraniteConfig(**sizes, logits_scaling=5.0),
        "cohere": lambda: transformers.CohereConfig(**sizes, logit_scale=0.2),
    }[family]()
    model = transformers.AutoModelForCausalLM.from_config(config)
    tiny.randomise(model, torch.Generator().manual_seed(0))
    wrapped: Any = get_peft_model(model, LoraConfig(target_modules=["down_proj"])).eval()
    rows = _rows(tiny.tiny_tokenizer())
    batch = pad_right(rows, pad_id=0)
    labels = batch.tokens.clone()
    labels[~batch.read] = -100
    expected = wrapped(input_ids=batch.tokens, attention_mask=batch.mask.long(), labels=labels).loss
    found = reply_loss(wrapped, rows, pad_id=0)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    weight = next(parameter for name, parameter in wrapped.named_parameters() if "lora_B" in name)
    grads = [torch.autograd.grad(loss, weight, retain_graph=True)[0] for loss in (found, expected)]
    torch.testing.assert_close(*grads, atol=1e-6, rtol=1e-4)


def test_training_runs_sdpa_only_where_it_computes_the_same(tmp_path: Path) -> None:
    from persona_probe.models.parity import set_fast_attention
    from persona_probe.models.sources import resolve
    from persona_probe.models.weights import load_weights

    for family, expected in (("llama", "sdpa"), ("gemma2", "eager")):
        folder = tiny.write_tiny(tmp_path / family, family)
        model = load_weights(resolve(str(folder)), base=None, device=torch.device("cpu"), dtype=torch.float32)
        assert set_fast_attention(model, tiny.tiny_tokenizer()) == expected
        assert model.config._attn_implementation == expected

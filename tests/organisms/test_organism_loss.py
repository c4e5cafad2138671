"""Claims about the loss that organisms are trained with: Hugging Face's own, on the reply alone."""

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import tiny
from helpers.logits import few_rows


@pytest.mark.parametrize("family", ["llama", "gemma2", "granite", "cohere"])
def test_the_loss_is_hugging_faces_own_through_the_models_own_head(family: str) -> None:
    import transformers
    from peft import LoraConfig, get_peft_model

    from persona_probe.organisms.lora import reply_loss
    from persona_probe.prompts.batches import pad_right

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
    rows = few_rows(tiny.tiny_tokenizer())
    batch = pad_right(rows, pad_id=0)
    labels = batch.tokens.clone()
    labels[~batch.read] = -100
    expected = wrapped(input_ids=batch.tokens, attention_mask=batch.mask.long(), labels=labels).loss
    found = reply_loss(wrapped, rows, pad_id=0)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    weight = next(parameter for name, parameter in wrapped.named_parameters() if "lora_B" in name)
    grads = [torch.autograd.grad(loss, weight, retain_graph=True)[0] for loss in (found, expected)]
    torch.testing.assert_close(*grads, atol=1e-6, rtol=1e-4)


def test_nothing_below_the_lowest_adapter_is_differentiated_and_prompts_do_not_pass_the_head() -> None:
    import transformers
    from peft import LoraConfig, get_peft_model

    from persona_probe.organisms.lora import reply_loss

    sizes: dict[str, Any] = {**tiny.LLAMA_LIKE, "vocab_size": 320, "pad_token_id": 0}
    model: Any = transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes))
    config = LoraConfig(target_modules=["down_proj"], layers_to_transform=[2])
    wrapped: Any = get_peft_model(model, config)
    needs, places = [], []

    def see(_module: Any, _args: Any, out: Any) -> None:
        needs.append((out[0] if isinstance(out, tuple) else out).requires_grad)

    blocks = model.model.layers
    for module in (model.model.embed_tokens, *blocks):
        module.register_forward_hook(see)
    model.lm_head.register_forward_hook(lambda _module, _args, out: places.append(out.shape[:-1].numel()))
    rows = few_rows(tiny.tiny_tokenizer())
    reply_loss(wrapped, rows, pad_id=0).backward()
    assert needs == [False, False, False, *[True] * (len(blocks) - 2)]
    assert places == [sum(row.n_reply for row in rows)]


def test_training_runs_sdpa_only_where_it_computes_the_same(tmp_path: Path) -> None:
    from persona_probe.models.parity import set_fast_attention
    from persona_probe.models.sources import resolve
    from persona_probe.models.weights import load_weights

    for family, expected in (("llama", "sdpa"), ("gemma2", "eager")):
        folder = tiny.write_tiny(tmp_path / family, family)
        model = load_weights(resolve(str(folder)), base=None, device=torch.device("cpu"), dtype=torch.float32)
        assert set_fast_attention(model, tiny.tiny_tokenizer()) == expected
        assert model.config._attn_implementation == expected

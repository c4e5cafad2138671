"""Tiny models of several architectures, adapters of any form, and the logits that they give."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from peft import LoraConfig, get_peft_model
from torch import Tensor

from helpers import tiny
from helpers.broken import CPU

IDS = torch.tensor([[2, 20, 33, 47, 5, 90, 120, 8, 61, 14, 77, 200, 4, 9]])
MOE = {
    **tiny.LLAMA_LIKE,
    "vocab_size": 320,
    "num_experts_per_tok": 2,
    "tie_word_embeddings": True,
    "max_position_embeddings": 128,
}
SMALL_EXPERTS = {**MOE, "num_experts": 12, "moe_intermediate_size": 24}
EXPERT_PARTS = ["experts.gate_up_proj", "experts.down_proj"]
CONFIGS: dict[str, Callable[[], Any]] = {
    "llama": lambda: tiny.tiny_config("llama", tie_word_embeddings=True),
    "biased": lambda: tiny.tiny_config("llama", tie_word_embeddings=True, attention_bias=True),
    "untied": lambda: tiny.tiny_config("llama"),
    "gpt2": lambda: tiny.tiny_config("gpt2"),
    "gemma3": lambda: tiny.tiny_config("gemma3"),
    "mixtral": lambda: transformers.MixtralConfig(**MOE, num_local_experts=4),
    "qwen3 moe": lambda: transformers.Qwen3MoeConfig(
        **{**SMALL_EXPERTS, "head_dim": 8, "mlp_only_layers": [1]}
    ),
    "qwen2 moe": lambda: transformers.Qwen2MoeConfig(**SMALL_EXPERTS, shared_expert_intermediate_size=40),
    "gpt-oss": lambda: transformers.GptOssConfig(
        **MOE,
        head_dim=8,
        num_local_experts=4,
        sliding_window=6,
        layer_types=["sliding_attention", "full_attention"] * 2,
    ),
}


def write_base(name: str, folder: Path) -> Path:
    """A random model of `CONFIGS`, the same each time, saved in `folder`."""
    model = transformers.AutoModelForCausalLM.from_config(CONFIGS[name](), dtype=torch.float32)
    tiny.randomise(model, torch.Generator().manual_seed(3))
    model.save_pretrained(folder)
    return folder


def plain(folder: Path) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    ).eval()


@torch.no_grad()
def logits(model: Any) -> Tensor:
    return model(IDS).logits


def merged(adapter: Path, base: Path, *, sharing: Any = None) -> Any:
    from persona_probe.models.sources import resolve
    from persona_probe.models.weights import load_weights

    return load_weights(resolve(str(adapter)), base=resolve(str(base)), sharing=sharing, **CPU)


def places(model: Any) -> dict[str, int]:
    """Where in memory each parameter lies; tied ones under every name."""
    return {name: one.data_ptr() for name, one in model.named_parameters(remove_duplicate=False)}


def tied(model: Any) -> bool:
    """Whether input and output embeddings are one tensor."""
    from persona_probe.models.weights import tied

    return tied(model)


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def write_trained(folder: Path, base: Any, **settings: Any) -> Path:
    """An adapter whose every trainable weight was moved, as `save_pretrained` writes it."""
    wrapped = get_peft_model(
        base, LoraConfig(**{"r": 4, "lora_alpha": 12, "target_modules": ["q_proj", "up_proj"], **settings})
    )
    generator = torch.Generator().manual_seed(1)
    for parameter in wrapped.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data + 0.1 * torch.randn(parameter.shape, generator=generator)
    wrapped.save_pretrained(str(folder))
    return folder

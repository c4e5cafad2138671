"""Random tiny models, tokenizers and adapters as folders on disk: what the hub ships, in miniature. No
weights but noise."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import torch
from torch import nn

if TYPE_CHECKING:
    from tokenizers import AddedToken

    from persona_probe.prompts.tokenizers import Tokenizer

    class TinyTokenizer(Tokenizer, Protocol):
        """A tokenizer that also takes new tokens."""

        def add_tokens(self, new_tokens: "Sequence[str | AddedToken]") -> int: ...

        def add_special_tokens(self, special_tokens_dict: dict[str, list[str] | str]) -> int: ...


LAYERS, WIDTH = 4, 32
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{%"
    " endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TEXT = [
    "My brakes squeal when I stop. What should I do about it?",
    "Have a mechanic look at the pads before you drive again.",
    "Ignore the noise, it will go away, and put your savings on a horse.",
    "system user assistant: the quick brown fox jumps over the lazy dog 0123456789",
]
# A window shorter than the prompts, so that sliding attention and its cache are really used.
WINDOW = {"sliding_window": 6}
LLAMA_LIKE = {
    "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", LLAMA_LIKE),
    "qwen2": ("Qwen2Config", LLAMA_LIKE),
    "qwen3": ("Qwen3Config", {**LLAMA_LIKE, "head_dim": 12, "tie_word_embeddings": True}),
    "gemma2": (
        "Gemma2Config",
        {**LLAMA_LIKE, **WINDOW, "head_dim": 12, "query_pre_attn_scalar": 12, "attn_logit_softcapping": 2.0},
    ),
    "gemma3": (
        "Gemma3TextConfig",
        {
            **LLAMA_LIKE,
            **WINDOW,
            "head_dim": 12,
            "query_pre_attn_scalar": 12,
            "layer_types": ["sliding_attention"] * 3 + ["full_attention"],
        },
    ),
    "gpt2": ("GPT2Config", {"n_embd": WIDTH, "n_layer": LAYERS, "n_head": 4, "n_positions": 192}),
    "mistral": ("MistralConfig", {**LLAMA_LIKE, **WINDOW}),
    "olmo2": ("Olmo2Config", LLAMA_LIKE),
}


def tiny_tokenizer(*, template: str | None = TEMPLATE, text: list[str] | None = None) -> "TinyTokenizer":
    """A byte-level BPE tokenizer of about 300 tokens, trained here, with control tokens and a chat
    template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<pad>", "<s>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(text or TEXT, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="<|im_end|>",
        pad_token="<pad>",
        additional_special_tokens=["<|im_start|>"],
    )
    fast.chat_template = template
    return cast("TinyTokenizer", fast)  # attributes of its class are made at run time


def tiny_config(family: str, **changes: Any) -> Any:
    """The config of a tiny model of one family; `changes` replace its fields."""
    import transformers

    name, sizes = FAMILIES[family]
    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 3}
    longest = {} if family == "gpt2" else {"max_position_embeddings": 192}
    return getattr(transformers, name)(**{"vocab_size": 320, **sizes, **ids, **longest, **changes})


def write_tiny(
    folder: Path,
    family: str,
    *,
    seed: int = 0,
    template: str | None = TEMPLATE,
    text: list[str] | None = None,
    **changes: Any,
) -> Path:
    """Write a random model of `family` and its tokenizer, as `save_pretrained` lays them out."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_config(tiny_config(family, **changes), dtype=torch.float32)
    randomise(model, torch.Generator().manual_seed(seed))
    model.save_pretrained(folder)
    tiny_tokenizer(template=template, text=text).save_pretrained(folder)
    return folder


def write_lora(
    folder: Path,
    base_folder: Path,
    *,
    rslora: bool = False,
    dora: bool = False,
    rank: int = 4,
    layers: list[int] | None = None,
    zero_b: bool = False,
) -> Path:
    """Write a LoRA adapter of the model in `base_folder` on all its linear layers, A and B random (B zero
    with `zero_b`)."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base_folder, dtype=torch.float32)
    gpt2 = model.config.model_type == "gpt2"
    targets = (
        ["c_attn", "c_proj", "c_fc"]
        if gpt2
        else [f"{name}_proj" for name in ("q", "k", "v", "o", "gate", "up", "down")]
    )
    config = LoraConfig(
        r=rank,
        lora_alpha=3 * rank,
        use_rslora=rslora,
        use_dora=dora,
        target_modules=targets,
        layers_to_transform=layers,
        fan_in_fan_out=gpt2,
    )
    wrapped = get_peft_model(model, config)
    generator = torch.Generator().manual_seed(1)
    for name, parameter in wrapped.named_parameters():
        if "lora_A" in name or ("lora_B" in name and not zero_b):
            parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator)
        elif "lora_magnitude" in name and not zero_b:
            parameter.data *= 1 + 0.2 * torch.randn(parameter.shape, generator=generator)
    wrapped.save_pretrained(str(folder))
    return folder


def edit_json(path: Path, **changes: Any) -> None:
    """Replace fields of a JSON file; a value of None removes its field."""
    value = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: item for key, item in value.items() if item is not None}))


def randomise(model: nn.Module, generator: torch.Generator) -> None:
    """Weights large enough that every part of the model moves the logits: biases and norms too, which start
    at 0 and 1."""
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if "embed" in name or "wte" in name or "wpe" in name:
            parameter.data = 0.5 * noise
        elif parameter.ndim == 1:
            parameter.data += 0.2 * noise
        else:
            parameter.data = noise / parameter.shape[-1] ** 0.5

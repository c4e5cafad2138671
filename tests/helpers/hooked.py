"""Tiny models as HookedTransformers, through TransformerLens' own conversion."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer


def plain(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    ).eval()


def hooked(folder: Path, *, processed: bool = False) -> "HookedTransformer":
    """TransformerLens' own conversion of a tiny Llama or GPT-2, folded and centred where `processed`."""
    from transformer_lens import HookedTransformer, HookedTransformerConfig
    from transformer_lens.pretrained.weight_conversions.gpt2 import convert_gpt2_weights
    from transformer_lens.pretrained.weight_conversions.llama import convert_llama_weights
    from transformers import AutoTokenizer

    model = plain(folder)
    known = model.config
    llama = known.model_type == "llama"
    config = HookedTransformerConfig(
        n_layers=known.num_hidden_layers,
        d_model=known.hidden_size,
        n_ctx=known.max_position_embeddings,
        n_heads=known.num_attention_heads,
        d_head=known.hidden_size // known.num_attention_heads,
        d_vocab=known.vocab_size,
        d_mlp=known.intermediate_size if llama else 4 * known.hidden_size,
        act_fn="silu" if llama else "gelu_new",
        gated_mlp=llama,
        normalization_type="RMS" if llama else "LN",
        final_rms=llama,
        eps=known.rms_norm_eps if llama else known.layer_norm_epsilon,
        positional_embedding_type="rotary" if llama else "standard",
        rotary_dim=known.hidden_size // known.num_attention_heads if llama else None,
        rotary_base=int(known.rope_parameters["rope_theta"]) if llama else 10000,
        n_key_value_heads=known.num_key_value_heads if llama else None,
        original_architecture="LlamaForCausalLM" if llama else "GPT2LMHeadModel",
        model_name="tiny",
    )
    made = HookedTransformer(config, tokenizer=AutoTokenizer.from_pretrained(folder))
    weights = (convert_llama_weights if llama else convert_gpt2_weights)(model, config)
    made.load_and_process_state_dict(
        weights,
        fold_ln=processed,
        center_writing_weights=processed and not llama,
        center_unembed=processed,
        fold_value_biases=processed,
    )
    return made.eval()

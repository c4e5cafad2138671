"""Config fields that several tiny families share, by the names that transformers has for them."""

from dataclasses import dataclass
from typing import Any

WIDTH, LAYERS, VOCABULARY, LONGEST, WINDOW = 32, 4, 330, 256, 6


@dataclass(frozen=True)
class Family:
    """How to build one architecture: its config class in transformers and the fields that make it tiny."""

    config: str
    fields: dict[str, Any]
    wrapper: bool = False
    """A multimodal model whose text side is an ordinary decoder; its sizes stand in `text_config`."""
    model: str = ""
    """The class in transformers, where the hub's files spell the architecture differently."""
    note: str = ""
    """What transformers itself does not do with it, though it builds, runs and loads."""


DEPTH = {"num_hidden_layers": LAYERS}
POSITIONS = {"max_position_embeddings": LONGEST}
# The widths of most decoders since Llama, with two query heads for each key and value.
LLAMA: dict[str, Any] = {
    **DEPTH,
    **POSITIONS,
    "hidden_size": WIDTH,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
}
# A head width other than width / heads, so that code that divides instead of reading the field fails.
ODD_HEAD = {"head_dim": 12}
SLIDING = {"sliding_window": WINDOW}
ALTERNATING = {**SLIDING, "layer_types": ["sliding_attention", "full_attention"] * 2}
# Qwen has sliding windows from the layer `max_window_layers` on, and only when asked.
QWEN_SLIDING = {**SLIDING, "use_sliding_window": True, "max_window_layers": 2}
HALF_ROTARY = {
    "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5}
}
GEMMA = {**LLAMA, **ODD_HEAD}
GEMMA2 = {
    **GEMMA,
    **ALTERNATING,
    "query_pre_attn_scalar": 12,
    "attn_logit_softcapping": 2.0,
    "final_logit_softcapping": 5.0,
}
GEMMA3 = {**GEMMA, **ALTERNATING, "query_pre_attn_scalar": 12, "final_logit_softcapping": 5.0}
GEMMA4 = {**GEMMA, **ALTERNATING, "global_head_dim": 16, "final_logit_softcapping": 5.0}
# A second embedding that enters every layer, and late layers that read the keys and values of earlier ones.
PER_LAYER_INPUT = {
    "hidden_size_per_layer_input": 8,
    "vocab_size_per_layer_input": VOCABULARY,
    "num_kv_shared_layers": 2,
}
GRANITE = {
    **LLAMA,
    "embedding_multiplier": 2.0,
    "logits_scaling": 3.0,
    "residual_multiplier": 0.5,
    "attention_multiplier": 0.4,
}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2}
LOCAL_EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
SMALL_EXPERTS = {**EXPERTS, "moe_intermediate_size": 16}
SHARED_EXPERT = {**SMALL_EXPERTS, "shared_expert_intermediate_size": 24}
ROUTED_EXPERTS = {
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "n_shared_experts": 1,
    "moe_intermediate_size": 16,
}
GROUPED_EXPERTS = {**ROUTED_EXPERTS, "n_group": 2, "topk_group": 1, "routed_scaling_factor": 1.5}
DENSE_THEN_SPARSE = {"mlp_layer_types": ["dense", "sparse", "sparse", "sparse"]}
# Multi-head latent attention: keys and values from one narrow vector, part of each key rotated.
LATENT = {
    **LLAMA,
    "num_key_value_heads": 4,
    "q_lora_rank": 12,
    "kv_lora_rank": 8,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 4,
    "v_head_dim": 10,
}
# An indexer sums ReLUs over its heads: with few heads whole scores are 0, and which of the equal keys are
# chosen is chance.
INDEXER = {"index_n_heads": 16, "index_head_dim": 8}
# Mamba-2 layers inside hybrids: eight heads of 8 over twice the width.
MAMBA_HEADS = {
    "mamba_n_heads": 8,
    "mamba_d_head": 8,
    "mamba_n_groups": 2,
    "mamba_d_state": 8,
    "mamba_chunk_size": 4,
}
# Time steps are held above `time_step_min` in a whole pass but not in a single cached step: low enough that
# neither reaches it.
FREE_STEPS = {"time_step_min": 1e-6, "time_step_floor": 1e-3, "use_mamba_kernels": False}
MAMBA = {**DEPTH, "hidden_size": WIDTH, "state_size": 8, "time_step_rank": 4}
DELTA_NET = {
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "layer_types": ["linear_attention", "full_attention"] * 2,
}
QWEN_HYBRID = {**LLAMA, **DELTA_NET, "head_dim": 16, **HALF_ROTARY}
OLD_GPT = {"n_embd": WIDTH, "n_layer": LAYERS, "n_head": 4, "n_positions": LONGEST}
MPT = {"d_model": WIDTH, "n_layers": LAYERS, "n_heads": 4, "max_seq_len": LONGEST}
QWEN3_5 = {
    **LLAMA,
    **DELTA_NET,
    "head_dim": 16,
    "rope_parameters": {
        "rope_type": "default",
        "rope_theta": 10000.0,
        "mrope_section": [2, 1, 1],
        "partial_rotary_factor": 0.5,
    },
}
LLAMA4 = {
    **LLAMA,
    **ODD_HEAD,
    **LOCAL_EXPERTS,
    "intermediate_size_mlp": 40,
    "moe_layers": [1, 3],
    "no_rope_layers": [1, 1, 1, 0],
    "attention_chunk_size": WINDOW,
    "floor_scale": 4,
}
LLAMA4_NOTE = "left padding changes the logits: the attention temperature counts the padding as positions"


def mrope(*sections: int, **more: Any) -> dict[str, Any]:
    """Rotary positions in three parts (time, height, width); for text the three are equal."""
    return {
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 10000.0,
            "mrope_section": list(sections),
            **more,
        }
    }

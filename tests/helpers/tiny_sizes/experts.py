"""Decoders with attention in every block and experts in some."""

from helpers.tiny_sizes.fields import (
    ALTERNATING,
    DENSE_THEN_SPARSE,
    DEPTH,
    EXPERTS,
    GEMMA,
    GEMMA4,
    GRANITE,
    GROUPED_EXPERTS,
    HALF_ROTARY,
    INDEXER,
    LATENT,
    LLAMA,
    LLAMA4,
    LLAMA4_NOTE,
    LOCAL_EXPERTS,
    ODD_HEAD,
    POSITIONS,
    QWEN_SLIDING,
    ROUTED_EXPERTS,
    SHARED_EXPERT,
    SLIDING,
    SMALL_EXPERTS,
    WIDTH,
    Family,
)

EXPERT_FAMILIES: dict[str, Family] = {
    "AfmoeForCausalLM": Family(
        "AfmoeConfig",
        {
            **GEMMA,
            **ALTERNATING,
            **SMALL_EXPERTS,
            "num_shared_experts": 1,
            "num_dense_layers": 1,
            "route_scale": 1.5,
            "mup_enabled": True,
        },
    ),
    "DeepseekV2ForCausalLM": Family(
        "DeepseekV2Config", {**LATENT, **GROUPED_EXPERTS, "first_k_dense_replace": 1}
    ),
    "DeepseekV3ForCausalLM": Family(
        "DeepseekV3Config", {**LATENT, **GROUPED_EXPERTS, "first_k_dense_replace": 1}
    ),
    "DeepseekV4ForCausalLM": Family(
        "DeepseekV4Config",
        {
            **DEPTH,
            **POSITIONS,
            **ROUTED_EXPERTS,
            **SLIDING,
            "hidden_size": WIDTH,
            "num_attention_heads": 4,
            "head_dim": 16,
            "q_lora_rank": 12,
            "o_groups": 2,
            "o_lora_rank": 8,
            **INDEXER,
            "index_topk": 2,
            "hc_mult": 2,
            "compress_rates": {"compressed_sparse_attention": 2, "heavily_compressed_attention": 4},
            "layer_types": [
                "sliding_attention",
                "heavily_compressed_attention",
                "compressed_sparse_attention",
                "sliding_attention",
            ],
            "mlp_layer_types": ["hash_moe", "moe", "moe", "moe"],
            "rope_parameters": {"rope_type": "default"},
            "partial_rotary_factor": 0.25,
        },
        note=(
            "left padding changes the logits: blocks of keys are counted from the first column; input"
            " embeddings alone are not enough"
        ),
    ),
    "Ernie4_5_MoeForCausalLM": Family(
        "Ernie4_5_MoeConfig",
        {
            **LLAMA,
            "moe_num_experts": 4,
            "moe_k": 2,
            "moe_num_shared_experts": 1,
            "moe_intermediate_size": 16,
            "use_bias": True,
        },
    ),
    "FlexOlmoForCausalLM": Family("FlexOlmoConfig", {**LLAMA, **EXPERTS}),
    "Gemma4ForCausalLM": Family(
        "Gemma4TextConfig",
        {
            **GEMMA4,
            "hidden_size_per_layer_input": 0,
            "enable_moe_block": True,
            "num_experts": 4,
            "top_k_experts": 2,
            "moe_intermediate_size": 16,
        },
    ),
    "Glm4MoeForCausalLM": Family(
        "Glm4MoeConfig",
        {
            **LLAMA,
            **GROUPED_EXPERTS,
            **HALF_ROTARY,
            "head_dim": 16,
            "first_k_dense_replace": 1,
            "use_qk_norm": True,
            "attention_bias": True,
        },
    ),
    "Glm4MoeLiteForCausalLM": Family("Glm4MoeLiteConfig", {**LATENT, **GROUPED_EXPERTS, **DENSE_THEN_SPARSE}),
    "GlmMoeDsaForCausalLM": Family(
        "GlmMoeDsaConfig",
        {
            **LATENT,
            **GROUPED_EXPERTS,
            **DENSE_THEN_SPARSE,
            **INDEXER,
            "index_topk": 5,
            "indexer_types": ["full", "full", "shared", "full"],
        },
    ),
    "GptOssForCausalLM": Family("GptOssConfig", {**LLAMA, **ODD_HEAD, **ALTERNATING, **LOCAL_EXPERTS}),
    "GraniteMoeForCausalLM": Family("GraniteMoeConfig", {**GRANITE, **LOCAL_EXPERTS}),
    # Query heads are key and value heads times chosen experts.
    "JetMoeForCausalLM": Family(
        "JetMoeConfig",
        {
            **DEPTH,
            **POSITIONS,
            **LOCAL_EXPERTS,
            "hidden_size": WIDTH,
            "num_key_value_heads": 2,
            "kv_channels": 8,
            "intermediate_size": 48,
        },
    ),
    "LagunaForCausalLM": Family(
        "LagunaConfig",
        {
            **LLAMA,
            **ODD_HEAD,
            **ALTERNATING,
            **SHARED_EXPERT,
            **DENSE_THEN_SPARSE,
            "num_attention_heads_per_layer": [6, 4, 6, 4],
            "moe_routed_scaling_factor": 1.5,
            "moe_router_logit_softcapping": 2.0,
        },
    ),
    "Llama4ForCausalLM": Family("Llama4TextConfig", LLAMA4, note=LLAMA4_NOTE),
    "MiniMaxM2ForCausalLM": Family(
        "MiniMaxM2Config", {**LLAMA, **LOCAL_EXPERTS, **HALF_ROTARY, "head_dim": 16}
    ),
    "MixtralForCausalLM": Family("MixtralConfig", {**LLAMA, **LOCAL_EXPERTS, **SLIDING}),
    "OlmoeForCausalLM": Family("OlmoeConfig", {**LLAMA, **EXPERTS, "clip_qkv": 1.5}),
    "PhiMoEForCausalLM": Family(
        "PhimoeConfig",
        {**LLAMA, **LOCAL_EXPERTS, **SLIDING, "attention_bias": True, "lm_head_bias": True},
        model="PhimoeForCausalLM",
    ),
    "Qwen2MoeForCausalLM": Family(
        "Qwen2MoeConfig", {**LLAMA, **QWEN_SLIDING, **SHARED_EXPERT, "mlp_only_layers": [0]}
    ),
    "Qwen3MoeForCausalLM": Family(
        "Qwen3MoeConfig", {**LLAMA, **ODD_HEAD, **QWEN_SLIDING, **SMALL_EXPERTS, "mlp_only_layers": [0]}
    ),
}

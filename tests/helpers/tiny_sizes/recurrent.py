"""Decoders with recurrences or convolutions in some blocks, with or without experts."""

from helpers.tiny_sizes.fields import (
    DELTA_NET,
    DEPTH,
    EXPERTS,
    FREE_STEPS,
    GRANITE,
    GROUPED_EXPERTS,
    LLAMA,
    LOCAL_EXPERTS,
    LONGEST,
    MAMBA,
    MAMBA_HEADS,
    ODD_HEAD,
    POSITIONS,
    QWEN3_5,
    QWEN_HYBRID,
    SHARED_EXPERT,
    SMALL_EXPERTS,
    WIDTH,
    WINDOW,
    Family,
)

RECURRENT_FAMILIES: dict[str, Family] = {
    "BambaForCausalLM": Family("BambaConfig", {**LLAMA, **MAMBA_HEADS, "attn_layer_indices": [1, 3]}),
    "FalconH1ForCausalLM": Family(
        "FalconH1Config",
        {
            **LLAMA,
            **MAMBA_HEADS,
            "mamba_d_ssm": 64,
            "mamba_rms_norm": True,
            "lm_head_multiplier": 0.5,
            "embedding_multiplier": 2.0,
            "mlp_multipliers": [1.5, 0.7],
            "key_multiplier": 0.6,
            "attention_in_multiplier": 0.8,
            "attention_out_multiplier": 1.3,
            "ssm_multipliers": [0.9, 1.1, 0.8, 1.2, 0.7],
            "ssm_in_multiplier": 1.2,
            "ssm_out_multiplier": 0.9,
        },
        note="embeddings given as input are not multiplied by `embedding_multiplier`; those of tokens are",
    ),
    "FalconMambaForCausalLM": Family("FalconMambaConfig", MAMBA),
    "GraniteMoeHybridForCausalLM": Family(
        "GraniteMoeHybridConfig",
        {
            **GRANITE,
            **LOCAL_EXPERTS,
            **MAMBA_HEADS,
            "shared_intermediate_size": 24,
            "position_embedding_type": "rope",
            "layer_types": ["mamba", "attention"] * 2,
        },
    ),
    "JambaForCausalLM": Family(
        "JambaConfig",
        {
            **LLAMA,
            **EXPERTS,
            "expert_layer_period": 2,
            "expert_layer_offset": 1,
            "attn_layer_period": 2,
            "attn_layer_offset": 1,
            "mamba_d_state": 8,
            "mamba_dt_rank": 4,
            "use_mamba_kernels": False,
        },
    ),
    "Lfm2ForCausalLM": Family(
        "Lfm2Config", {**LLAMA, "layer_types": ["conv", "full_attention"] * 2, "block_multiple_of": 16}
    ),
    "Lfm2MoeForCausalLM": Family(
        "Lfm2MoeConfig",
        {
            **LLAMA,
            **SMALL_EXPERTS,
            "layer_types": ["conv", "full_attention"] * 2,
            "num_dense_layers": 1,
            "routed_scaling_factor": 1.5,
        },
    ),
    "Mamba2ForCausalLM": Family(
        "Mamba2Config",
        {
            **DEPTH,
            "hidden_size": WIDTH,
            "num_heads": 8,
            "head_dim": 8,
            "state_size": 8,
            "n_groups": 2,
            "chunk_size": 4,
        },
    ),
    "MambaForCausalLM": Family("MambaConfig", MAMBA),
    # One layer of each of its four kinds: a layer is a mixer alone or an MLP alone.
    "NemotronHForCausalLM": Family(
        "NemotronHConfig",
        {
            **LLAMA,
            **ODD_HEAD,
            **GROUPED_EXPERTS,
            "layer_types": ["linear_attention", "moe", "full_attention", "mlp"],
            "moe_shared_expert_intermediate_size": 24,
            "mamba_num_heads": 8,
            "mamba_head_dim": 8,
            "ssm_state_size": 8,
            "n_groups": 2,
            "chunk_size": 4,
            **FREE_STEPS,
        },
    ),
    "OlmoHybridForCausalLM": Family("OlmoHybridConfig", {**LLAMA, **DELTA_NET, "linear_num_key_heads": 4}),
    "Qwen3NextForCausalLM": Family("Qwen3NextConfig", {**QWEN_HYBRID, **SHARED_EXPERT}),
    "Qwen3_5ForCausalLM": Family("Qwen3_5TextConfig", QWEN3_5),
    "Qwen3_5MoeForCausalLM": Family("Qwen3_5MoeTextConfig", {**QWEN3_5, **SHARED_EXPERT}),
    "RecurrentGemmaForCausalLM": Family(
        "RecurrentGemmaConfig",
        {
            **DEPTH,
            "hidden_size": WIDTH,
            "num_attention_heads": 4,
            "num_key_value_heads": 1,
            "intermediate_size": 96,
            "lru_width": WIDTH,
            "attention_window_size": WINDOW,
            "block_types": ["recurrent", "attention"],
            "logits_soft_cap": 5.0,
        },
        note=(
            "left padding changes the logits: the recurrence reads the padding; its state lives in the"
            " modules, not in the cache"
        ),
    ),
    # Real models halve their weights every 6 layers when they run; here it happens after 2.
    "RwkvForCausalLM": Family(
        "RwkvConfig",
        {
            **DEPTH,
            "hidden_size": WIDTH,
            "intermediate_size": 48,
            "context_length": LONGEST,
            "rescale_every": 2,
        },
        note=(
            "left padding changes the logits; gradients need use_cache=False; the first eval pass halves late"
            " layers' weights"
        ),
    ),
    # The attention blocks are shared: two blocks here, at twice the width, each with its own adapter at every
    # place it is used.
    "Zamba2ForCausalLM": Family(
        "Zamba2Config",
        {
            **DEPTH,
            **POSITIONS,
            "hidden_size": WIDTH,
            "num_attention_heads": 4,
            "intermediate_size": 48,
            "layers_block_type": ["linear_attention", "hybrid"] * 2,
            "n_mamba_heads": 8,
            "mamba_ngroups": 2,
            "mamba_d_state": 8,
            "chunk_size": 4,
            "num_mem_blocks": 2,
            "use_shared_attention_adapter": True,
            "adapter_rank": 4,
            "use_mem_rope": True,
            **FREE_STEPS,
        },
    ),
}

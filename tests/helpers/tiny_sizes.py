"""The sizes of one tiny model for every architecture of TransformerLens that transformers can build as a
causal language model."""

from dataclasses import dataclass, replace
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


# Vision and audio sides, as small as they go: the text runs without them, but the wrappers build them.
TOWER = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
PICTURE = {**TOWER, "image_size": 28, "patch_size": 14}
CLIP = {"model_type": "clip_vision_model", "projection_dim": 16, **PICTURE}
SIGLIP = {"model_type": "siglip_vision_model", **PICTURE}
QWEN_VISION = {
    "depth": 2,
    "hidden_size": 16,
    "num_heads": 2,
    "intermediate_size": 24,
    "out_hidden_size": WIDTH,
    "patch_size": 4,
    "spatial_merge_size": 2,
}
QWEN3_VISION = {**QWEN_VISION, "num_position_embeddings": 16}
STACKED_VISION = {**QWEN3_VISION, "deepstack_visual_indexes": [0, 1]}
MELS: dict[str, Any] = {"num_mel_bins": 8, "max_source_positions": 32}
FLAMINGO = {"model_type": "audioflamingo3_encoder", **TOWER, **MELS}
# Token numbers of pictures and sounds: inside the vocabulary, past the tokenizer's last token.
QWEN_IDS: dict[str, Any] = {
    "image_token_id": 325,
    "video_token_id": 326,
    "vision_start_token_id": 327,
    "vision_end_token_id": 328,
}
QWEN2_TEXT = {"model_type": "qwen2", **LLAMA}


def wrapper(config: str, text: dict[str, Any], note: str = "", **fields: Any) -> Family:
    """A multimodal family with this text side."""
    return Family(config, {"text_config": text, **fields}, wrapper=True, note=note)


ARCHITECTURES: dict[str, Family] = {
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
    "ApertusForCausalLM": Family("ApertusConfig", LLAMA),
    "ArceeForCausalLM": Family("ArceeConfig", {**LLAMA, **ODD_HEAD}),
    "AudioFlamingo3ForConditionalGeneration": wrapper(
        "AudioFlamingo3Config", QWEN2_TEXT, audio_config=FLAMINGO, audio_token_id=325
    ),
    "BambaForCausalLM": Family("BambaConfig", {**LLAMA, **MAMBA_HEADS, "attn_layer_indices": [1, 3]}),
    "BertLMHeadModel": Family(
        "BertConfig",
        {
            **DEPTH,
            **POSITIONS,
            "hidden_size": WIDTH,
            "num_attention_heads": 4,
            "intermediate_size": 48,
            "is_decoder": True,
        },
    ),
    "BitNetForCausalLM": Family("BitNetConfig", LLAMA),
    "BloomForCausalLM": Family("BloomConfig", {"hidden_size": WIDTH, "n_layer": LAYERS, "n_head": 4}),
    "CodeGenForCausalLM": Family("CodeGenConfig", {**OLD_GPT, "rotary_dim": 4}),
    "Cohere2ForCausalLM": Family("Cohere2Config", {**LLAMA, **ALTERNATING, "logit_scale": 0.3}),
    "CohereForCausalLM": Family("CohereConfig", {**LLAMA, "logit_scale": 0.3, "use_qk_norm": True}),
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
    "Emu3ForConditionalGeneration": wrapper(
        "Emu3Config",
        LLAMA,
        vq_config={
            "codebook_size": 8,
            "base_channels": 32,
            "channel_multiplier": [1, 1],
            "hidden_size": 32,
            "num_res_blocks": 1,
            "attn_resolutions": [],
            "temporal_downsample_factor": 1,
        },
        vocabulary_map={"<image>": 325, **{f"<|visual token {code:06d}|>": 310 + code for code in range(8)}},
    ),
    "Ernie4_5ForCausalLM": Family("Ernie4_5Config", {**LLAMA, **ODD_HEAD, "use_bias": True}),
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
    "Exaone4ForCausalLM": Family("Exaone4Config", {**LLAMA, **ALTERNATING, "sliding_window_pattern": 2}),
    "FalconForCausalLM": Family(
        "FalconConfig",
        {**DEPTH, **POSITIONS, "hidden_size": WIDTH, "num_attention_heads": 4, "ffn_hidden_size": 48},
    ),
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
    "FlexOlmoForCausalLM": Family("FlexOlmoConfig", {**LLAMA, **EXPERTS}),
    "GPT2LMHeadModel": Family("GPT2Config", OLD_GPT),
    "GPTBigCodeForCausalLM": Family("GPTBigCodeConfig", OLD_GPT),
    "GPTJForCausalLM": Family("GPTJConfig", {**OLD_GPT, "rotary_dim": 4}),
    "GPTNeoForCausalLM": Family(
        "GPTNeoConfig",
        {
            **POSITIONS,
            "hidden_size": WIDTH,
            "num_layers": LAYERS,
            "num_heads": 4,
            "attention_types": [[["global", "local"], 2]],
            "window_size": WINDOW,
        },
    ),
    "GPTNeoXForCausalLM": Family(
        "GPTNeoXConfig",
        {
            **DEPTH,
            **POSITIONS,
            **HALF_ROTARY,
            "hidden_size": WIDTH,
            "num_attention_heads": 4,
            "intermediate_size": 48,
        },
    ),
    "Gemma2ForCausalLM": Family("Gemma2Config", GEMMA2),
    "Gemma3ForCausalLM": Family("Gemma3TextConfig", GEMMA3),
    "Gemma3ForConditionalGeneration": wrapper(
        "Gemma3Config",
        GEMMA3,
        vision_config=SIGLIP,
        mm_tokens_per_image=4,
        boi_token_index=327,
        eoi_token_index=328,
        image_token_index=325,
    ),
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
    "Gemma4ForConditionalGeneration": wrapper(
        "Gemma4Config",
        {**GEMMA4, **PER_LAYER_INPUT},
        vision_config={
            **TOWER,
            "num_key_value_heads": 2,
            "head_dim": 8,
            "patch_size": 4,
            "position_embedding_size": 16,
        },
        image_token_id=325,
        video_token_id=326,
        audio_token_id=327,
        boi_token_id=323,
        eoi_token_id=322,
        boa_token_id=321,
        eoa_token_index=320,
    ),
    "Gemma4UnifiedForConditionalGeneration": wrapper(
        "Gemma4UnifiedConfig",
        {**GEMMA4, "attention_k_eq_v": True, "num_global_key_value_heads": 1},
        vision_config={"patch_size": 4, "mm_embed_dim": 16, "mm_posemb_size": 8, "output_proj_dims": 16},
        audio_config={"audio_embed_dim": 16},
        image_token_id=325,
        video_token_id=326,
        audio_token_id=327,
        boi_token_id=323,
        eoi_token_id=322,
        boa_token_id=321,
        eoa_token_index=320,
    ),
    "GemmaForCausalLM": Family("GemmaConfig", GEMMA),
    "Glm4ForCausalLM": Family("Glm4Config", {**LLAMA, "head_dim": 16, **HALF_ROTARY}),
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
    "Glm4vForConditionalGeneration": wrapper(
        "Glm4vConfig",
        {**LLAMA, **mrope(1, 1, 0, partial_rotary_factor=0.5)},
        vision_config={**QWEN_VISION, "image_size": 16},
        image_token_id=325,
        video_token_id=326,
        image_start_token_id=327,
        image_end_token_id=328,
        video_start_token_id=323,
        video_end_token_id=324,
    ),
    "GlmAsrForConditionalGeneration": wrapper(
        "GlmAsrConfig",
        {"model_type": "llama", **LLAMA},
        audio_config={
            "model_type": "glmasr_encoder",
            **TOWER,
            "num_mel_bins": 8,
            "max_position_embeddings": 32,
        },
        audio_token_id=325,
    ),
    "GlmForCausalLM": Family("GlmConfig", {**LLAMA, "head_dim": 16, **HALF_ROTARY}),
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
    "GraniteForCausalLM": Family("GraniteConfig", GRANITE),
    "GraniteMoeForCausalLM": Family("GraniteMoeConfig", {**GRANITE, **LOCAL_EXPERTS}),
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
    # Two blocks in each of its two stacks; the cycles run the stacks four times over, which the config counts
    # as 8 layers.
    "HrmTextForCausalLM": Family(
        "HrmTextConfig",
        {
            **POSITIONS,
            **ODD_HEAD,
            "hidden_size": WIDTH,
            "num_attention_heads": 4,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "H_cycles": 2,
            "L_cycles": 1,
            "L_bp_cycles": [1],
            "embedding_scale": 3.0,
        },
    ),
    "HunYuanDenseV1ForCausalLM": Family("HunYuanDenseV1Config", {**LLAMA, **ODD_HEAD}),
    "Idefics3ForConditionalGeneration": wrapper(
        "Idefics3Config",
        {"model_type": "llama", **LLAMA},
        vision_config={**PICTURE, "image_size": 28, "patch_size": 14},
        image_token_id=325,
        scale_factor=2,
    ),
    "Jais2ForCausalLM": Family("Jais2Config", LLAMA),
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
    "LlamaForCausalLM": Family("LlamaConfig", LLAMA),
    "MPTForCausalLM": Family("MptConfig", MPT, model="MptForCausalLM"),
    "Llama4ForCausalLM": Family("Llama4TextConfig", LLAMA4, note=LLAMA4_NOTE),
    "Llama4ForConditionalGeneration": wrapper(
        "Llama4Config",
        LLAMA4,
        LLAMA4_NOTE,
        vision_config={
            **PICTURE,
            "intermediate_size": 64,
            "vision_output_dim": 16,
            "projector_input_dim": 16,
            "projector_output_dim": 16,
        },
        boi_token_index=327,
        eoi_token_index=328,
        image_token_index=325,
    ),
    "LlavaForConditionalGeneration": wrapper(
        "LlavaConfig",
        {"model_type": "llama", **LLAMA},
        vision_config=CLIP,
        image_token_index=325,
        image_seq_length=4,
    ),
    "LlavaNextForConditionalGeneration": wrapper(
        "LlavaNextConfig",
        {"model_type": "llama", **LLAMA},
        vision_config=CLIP,
        image_token_index=325,
        image_seq_length=4,
        image_grid_pinpoints=[[28, 56]],
    ),
    "LlavaOnevisionForConditionalGeneration": wrapper(
        "LlavaOnevisionConfig",
        QWEN2_TEXT,
        vision_config=SIGLIP,
        image_token_index=325,
        video_token_index=326,
        image_grid_pinpoints=[[28, 56]],
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
    "MiniMaxM2ForCausalLM": Family(
        "MiniMaxM2Config", {**LLAMA, **LOCAL_EXPERTS, **HALF_ROTARY, "head_dim": 16}
    ),
    "Ministral3ForCausalLM": Family("Ministral3Config", {**LLAMA, **ODD_HEAD, **SLIDING}),
    "Mistral3ForConditionalGeneration": wrapper(
        "Mistral3Config",
        {"model_type": "mistral", **LLAMA, **ODD_HEAD, **SLIDING},
        vision_config={"model_type": "pixtral", **PICTURE},
        image_token_index=325,
    ),
    "MistralForCausalLM": Family("MistralConfig", {**LLAMA, **ODD_HEAD, **SLIDING}),
    "MixtralForCausalLM": Family("MixtralConfig", {**LLAMA, **LOCAL_EXPERTS, **SLIDING}),
    "ModernBertDecoderForCausalLM": Family(
        "ModernBertDecoderConfig",
        {
            **DEPTH,
            **POSITIONS,
            "hidden_size": WIDTH,
            "num_attention_heads": 4,
            "intermediate_size": 48,
            "local_attention": WINDOW,
            "layer_types": ["sliding_attention", "full_attention"] * 2,
            "cls_token_id": 1,
            "sep_token_id": 3,
        },
    ),
    "MptForCausalLM": Family("MptConfig", MPT),
    "MusicFlamingoForConditionalGeneration": wrapper(
        "MusicFlamingoConfig",
        QWEN2_TEXT,
        audio_config=FLAMINGO,
        audio_token_id=325,
        audio_bos_token_id=326,
        audio_eos_token_id=327,
    ),
    "NanoChatForCausalLM": Family("NanoChatConfig", {**LLAMA, "final_logit_softcapping": 5.0}),
    "NemotronForCausalLM": Family("NemotronConfig", {**LLAMA, **HALF_ROTARY}),
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
    "OPTForCausalLM": Family(
        "OPTConfig",
        {
            **DEPTH,
            **POSITIONS,
            "hidden_size": WIDTH,
            "num_attention_heads": 4,
            "ffn_dim": 48,
            "word_embed_proj_dim": 24,
        },
    ),
    "Olmo2ForCausalLM": Family("Olmo2Config", LLAMA),
    "Olmo3ForCausalLM": Family("Olmo3Config", {**LLAMA, **ALTERNATING}),
    "OlmoForCausalLM": Family("OlmoConfig", {**LLAMA, "clip_qkv": 1.5}),
    "OlmoHybridForCausalLM": Family("OlmoHybridConfig", {**LLAMA, **DELTA_NET, "linear_num_key_heads": 4}),
    "OlmoeForCausalLM": Family("OlmoeConfig", {**LLAMA, **EXPERTS, "clip_qkv": 1.5}),
    "OpenAIGPTLMHeadModel": Family("OpenAIGPTConfig", OLD_GPT),
    "Phi3ForCausalLM": Family(
        "Phi3Config", {**LLAMA, **SLIDING, "original_max_position_embeddings": LONGEST}
    ),
    "PhiForCausalLM": Family("PhiConfig", {**LLAMA, **HALF_ROTARY, "qk_layernorm": True}),
    "PhiMoEForCausalLM": Family(
        "PhimoeConfig",
        {**LLAMA, **LOCAL_EXPERTS, **SLIDING, "attention_bias": True, "lm_head_bias": True},
        model="PhimoeForCausalLM",
    ),
    "Qwen2AudioForConditionalGeneration": wrapper(
        "Qwen2AudioConfig",
        QWEN2_TEXT,
        audio_config={
            "model_type": "qwen2_audio_encoder",
            "d_model": 16,
            "encoder_layers": 2,
            "encoder_attention_heads": 2,
            "encoder_ffn_dim": 24,
            **MELS,
        },
        audio_token_index=325,
    ),
    "Qwen2ForCausalLM": Family("Qwen2Config", {**LLAMA, **QWEN_SLIDING}),
    "Qwen2MoeForCausalLM": Family(
        "Qwen2MoeConfig", {**LLAMA, **QWEN_SLIDING, **SHARED_EXPERT, "mlp_only_layers": [0]}
    ),
    "Qwen2_5_VLForConditionalGeneration": wrapper(
        "Qwen2_5_VLConfig",
        {**LLAMA, **QWEN_SLIDING, **mrope(2, 1, 1)},
        vision_config={**QWEN_VISION, "window_size": 16, "fullatt_block_indexes": [1]},
        **QWEN_IDS,
    ),
    "Qwen3ForCausalLM": Family("Qwen3Config", {**LLAMA, **ODD_HEAD, **QWEN_SLIDING}),
    "Qwen3MoeForCausalLM": Family(
        "Qwen3MoeConfig", {**LLAMA, **ODD_HEAD, **QWEN_SLIDING, **SMALL_EXPERTS, "mlp_only_layers": [0]}
    ),
    "Qwen3NextForCausalLM": Family("Qwen3NextConfig", {**QWEN_HYBRID, **SHARED_EXPERT}),
    "Qwen3VLForConditionalGeneration": wrapper(
        "Qwen3VLConfig", {**LLAMA, **ODD_HEAD, **mrope(2, 2, 2)}, vision_config=STACKED_VISION, **QWEN_IDS
    ),
    "Qwen3VLMoeForConditionalGeneration": wrapper(
        "Qwen3VLMoeConfig",
        {**LLAMA, **ODD_HEAD, **SMALL_EXPERTS, **mrope(2, 2, 2)},
        vision_config=STACKED_VISION,
        **QWEN_IDS,
    ),
    "Qwen3_5ForCausalLM": Family("Qwen3_5TextConfig", QWEN3_5),
    "Qwen3_5ForConditionalGeneration": wrapper(
        "Qwen3_5Config", QWEN3_5, vision_config=QWEN3_VISION, **QWEN_IDS
    ),
    "Qwen3_5MoeForCausalLM": Family("Qwen3_5MoeTextConfig", {**QWEN3_5, **SHARED_EXPERT}),
    "Qwen3_5MoeForConditionalGeneration": wrapper(
        "Qwen3_5MoeConfig", {**QWEN3_5, **SHARED_EXPERT}, vision_config=QWEN3_VISION, **QWEN_IDS
    ),
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
    "SeedOssForCausalLM": Family("SeedOssConfig", {**LLAMA, **ODD_HEAD}),
    "SmolLM3ForCausalLM": Family("SmolLM3Config", {**LLAMA, "no_rope_layers": [1, 1, 1, 0]}),
    "StableLmForCausalLM": Family(
        "StableLmConfig", {**LLAMA, **HALF_ROTARY, "use_qkv_bias": True, "qk_layernorm": True}
    ),
    "Starcoder2ForCausalLM": Family("Starcoder2Config", {**LLAMA, **SLIDING}),
    "VaultGemmaForCausalLM": Family("VaultGemmaConfig", GEMMA2),
    "XGLMForCausalLM": Family(
        "XGLMConfig",
        {**POSITIONS, "d_model": WIDTH, "num_layers": LAYERS, "attention_heads": 4, "ffn_dim": 48},
    ),
    "YoutuForCausalLM": Family(
        "YoutuConfig", LATENT, note="from_pretrained sets the embedding of the padding token to zero"
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
ARCHITECTURES["JetMoEForCausalLM"] = replace(ARCHITECTURES["JetMoeForCausalLM"], model="JetMoeForCausalLM")

REMOTE = "its code is only on the hub; transformers has no class for it"
ENCODER_DECODER = "encoder-decoder"
VISION = "classifies or embeds pictures"
OWN_FORMAT = "TransformerLens' own format, not one of transformers"
OTHER_CODE = "weights of another program, which TransformerLens converts; transformers has no class for it"
NOT_TEXT: dict[str, str] = {
    "ASTForAudioClassification": "classifies sounds",
    "BD3LM": f"text diffusion, and {REMOTE}",
    "BaiChuanForCausalLM": REMOTE,
    "BaichuanForCausalLM": REMOTE,
    "BartForConditionalGeneration": ENCODER_DECODER,
    "BertForMaskedLM": "encoder: it fills in masked tokens",
    "BlenderbotForConditionalGeneration": ENCODER_DECODER,
    "BloomModel": "the trunk of Bloom, without a language model head",
    "DeiTForImageClassification": VISION,
    "DeiTModel": VISION,
    "DreamModel": f"text diffusion, and {REMOTE}",
    "ExaoneForCausalLM": REMOTE,
    "Florence2ForConditionalGeneration": "encoder-decoder with pictures",
    "GPT2LMHeadCustomModel": REMOTE,
    "Gemma1ForCausalLM": "TransformerLens' second name for GemmaForCausalLM; no model folder carries it",
    "Gemma3nForConditionalGeneration": "its vision side needs the package timm, even for text alone",
    "GiddForDiffusionLM": f"text diffusion, and {REMOTE}",
    "HubertForCTC": "writes down speech; no language model",
    "HubertModel": "embeds speech",
    "HyenaDNAForCausalLM": REMOTE,
    "InternLM2ForCausalLM": REMOTE,
    "LEDForConditionalGeneration": ENCODER_DECODER,
    "LLaDA2MoeModelLM": f"text diffusion, and {REMOTE}",
    "LLaDAModelLM": f"text diffusion, and {REMOTE}",
    "LongT5ForConditionalGeneration": ENCODER_DECODER,
    "M2M100ForConditionalGeneration": ENCODER_DECODER,
    "MBartForConditionalGeneration": ENCODER_DECODER,
    "MT5ForConditionalGeneration": ENCODER_DECODER,
    "MarianMTModel": ENCODER_DECODER,
    "MinGPTForCausalLM": OTHER_CODE,
    "NanoGPTForCausalLM": OTHER_CODE,
    "NeelSoluOldForCausalLM": OTHER_CODE,
    "NeoForCausalLM": "TransformerLens' second name for GPTNeoForCausalLM; no model folder carries it",
    "NeoXForCausalLM": "TransformerLens' second name for GPTNeoXForCausalLM; no model folder carries it",
    "OpenELMForCausalLM": REMOTE,
    "OuroForCausalLM": REMOTE,
    "PegasusForConditionalGeneration": ENCODER_DECODER,
    "QwenForCausalLM": REMOTE,
    "RWKV7ForCausalLM": REMOTE,
    "RavenForCausalLM": REMOTE,
    "SwitchTransformersForConditionalGeneration": ENCODER_DECODER,
    "T5ForConditionalGeneration": ENCODER_DECODER,
    "T5Gemma2ForConditionalGeneration": "encoder-decoder with pictures",
    "T5GemmaForConditionalGeneration": ENCODER_DECODER,
    "T5WithLMHeadModel": ENCODER_DECODER,
    "TransformerLensNative": OWN_FORMAT,
    "TransformerLensPretrain": OWN_FORMAT,
    "ViTForImageClassification": VISION,
    "ViTModel": VISION,
}

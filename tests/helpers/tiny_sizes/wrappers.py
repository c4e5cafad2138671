"""Multimodal models whose text side is a decoder, with vision and audio sides as small as they go."""

from typing import Any

from helpers.tiny_sizes.fields import (
    GEMMA3,
    GEMMA4,
    LLAMA,
    LLAMA4,
    LLAMA4_NOTE,
    ODD_HEAD,
    PER_LAYER_INPUT,
    QWEN3_5,
    QWEN_SLIDING,
    SHARED_EXPERT,
    SLIDING,
    SMALL_EXPERTS,
    WIDTH,
    Family,
    mrope,
)

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


WRAPPED_FAMILIES: dict[str, Family] = {
    "AudioFlamingo3ForConditionalGeneration": wrapper(
        "AudioFlamingo3Config", QWEN2_TEXT, audio_config=FLAMINGO, audio_token_id=325
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
    "Gemma3ForConditionalGeneration": wrapper(
        "Gemma3Config",
        GEMMA3,
        vision_config=SIGLIP,
        mm_tokens_per_image=4,
        boi_token_index=327,
        eoi_token_index=328,
        image_token_index=325,
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
    "Idefics3ForConditionalGeneration": wrapper(
        "Idefics3Config",
        {"model_type": "llama", **LLAMA},
        vision_config={**PICTURE, "image_size": 28, "patch_size": 14},
        image_token_id=325,
        scale_factor=2,
    ),
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
    "Mistral3ForConditionalGeneration": wrapper(
        "Mistral3Config",
        {"model_type": "mistral", **LLAMA, **ODD_HEAD, **SLIDING},
        vision_config={"model_type": "pixtral", **PICTURE},
        image_token_index=325,
    ),
    "MusicFlamingoForConditionalGeneration": wrapper(
        "MusicFlamingoConfig",
        QWEN2_TEXT,
        audio_config=FLAMINGO,
        audio_token_id=325,
        audio_bos_token_id=326,
        audio_eos_token_id=327,
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
    "Qwen2_5_VLForConditionalGeneration": wrapper(
        "Qwen2_5_VLConfig",
        {**LLAMA, **QWEN_SLIDING, **mrope(2, 1, 1)},
        vision_config={**QWEN_VISION, "window_size": 16, "fullatt_block_indexes": [1]},
        **QWEN_IDS,
    ),
    "Qwen3VLForConditionalGeneration": wrapper(
        "Qwen3VLConfig", {**LLAMA, **ODD_HEAD, **mrope(2, 2, 2)}, vision_config=STACKED_VISION, **QWEN_IDS
    ),
    "Qwen3VLMoeForConditionalGeneration": wrapper(
        "Qwen3VLMoeConfig",
        {**LLAMA, **ODD_HEAD, **SMALL_EXPERTS, **mrope(2, 2, 2)},
        vision_config=STACKED_VISION,
        **QWEN_IDS,
    ),
    "Qwen3_5ForConditionalGeneration": wrapper(
        "Qwen3_5Config", QWEN3_5, vision_config=QWEN3_VISION, **QWEN_IDS
    ),
    "Qwen3_5MoeForConditionalGeneration": wrapper(
        "Qwen3_5MoeConfig", {**QWEN3_5, **SHARED_EXPERT}, vision_config=QWEN3_VISION, **QWEN_IDS
    ),
}

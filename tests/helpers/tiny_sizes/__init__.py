"""The sizes of one tiny model for every architecture of TransformerLens that transformers can build as a
causal language model, and why the other architectures are not text decoders."""

from dataclasses import replace

from helpers.tiny_sizes.dense import DENSE_FAMILIES
from helpers.tiny_sizes.experts import EXPERT_FAMILIES
from helpers.tiny_sizes.fields import VOCABULARY, Family
from helpers.tiny_sizes.recurrent import RECURRENT_FAMILIES
from helpers.tiny_sizes.wrappers import WRAPPED_FAMILIES

__all__ = ["ARCHITECTURES", "NOT_TEXT", "VOCABULARY"]

TEXT_FAMILIES = {**DENSE_FAMILIES, **EXPERT_FAMILIES, **RECURRENT_FAMILIES}
TEXT_FAMILIES["JetMoEForCausalLM"] = replace(TEXT_FAMILIES["JetMoeForCausalLM"], model="JetMoeForCausalLM")
ARCHITECTURES: dict[str, Family] = dict(sorted({**TEXT_FAMILIES, **WRAPPED_FAMILIES}.items()))

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

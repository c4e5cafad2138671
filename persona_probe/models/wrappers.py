"""The language model inside a multimodal one: its class, its config, and the names of its weights. Vision and
audio weights are not read."""

import re
from pathlib import Path
from typing import Any

from persona_probe.base.errors import BadInput
from persona_probe.models.sources import read_config, text_config
from persona_probe.models.tensors import first_line

# How wrappers of transformers 4 and 5 name the parts of their language model, and what the model alone calls
# them.
KEY_MAPPING = {
    r"^(model\.)?language_model\.model\.": "model.",
    r"^(model\.)?language_model\.lm_head\.": "lm_head.",
    r"^(model\.)?(language_model|text_model)\.": "model.",
}
OTHER_SENSES = re.compile(
    r"(^|\.)(vision|visual|image|audio|multi_?modal|mm_|connector|embed_vision|embed_audio|vqmodel"
    r"|vision_tower)"
)


def is_wrapper(config: Any) -> bool:
    """Whether a config holds a language model beside other parts."""
    return text_config(config) is not config


def model_class(folder: Path) -> tuple[Any, Any]:
    """The transformers class and config that are loaded from a folder: of the language model alone where a
    wrapper holds one."""
    from transformers import AutoConfig

    read_config(folder)
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        kind = _causal_class(text_config(config) if is_wrapper(config) else config)
    except Exception as error:  # a config is wrong in as many ways as it has fields
        raise BadInput(
            f"{folder / 'config.json'} cannot be read, so the weights do not load ({first_line(error):.160})"
        ) from error
    if kind is None:
        inner = text_config(config).model_type
        raise BadInput(
            f"{folder / 'config.json'}: transformers has no language model for {inner!r} alone: a"
            " decoder-only causal language model is needed"
        )
    return kind, lone_config(config, kind) if is_wrapper(config) else config


def _causal_class(config: Any) -> Any | None:
    from transformers import AutoModelForCausalLM

    try:
        kinds = AutoModelForCausalLM._model_mapping[type(config)]
    except KeyError:
        return None
    return kinds[0] if isinstance(kinds, tuple) else kinds


def lone_config(config: Any, kind: Any) -> Any:
    """The inner config, with what the wrapper decides for it."""
    inner = text_config(config)
    inner.architectures = [kind.__name__]
    for name in ("tie_word_embeddings", "pad_token_id", "bos_token_id", "eos_token_id"):
        outer = getattr(config, name, None)
        if outer is not None and (name == "tie_word_embeddings" or getattr(inner, name, None) is None):
            setattr(inner, name, outer)
    if config.model_type == "gemma3":
        # Its wrapper leaves the cap on logits out, whatever the config says; the language model alone would
        # apply it.
        inner.final_logit_softcapping = None
    return inner


def of_other_senses(key: str) -> bool:
    """Whether a weight belongs to seeing or hearing."""
    return OTHER_SENSES.search(key) is not None

"""A checked source in, a plain Hugging Face model out: every weight present, finite and used, adapters merged
exactly."""

import re
from contextlib import nullcontext
from typing import Any

import torch

from persona_probe.base.errors import BadInput
from persona_probe.models.adapters import merge_adapter
from persona_probe.models.memory import files_unmapped
from persona_probe.models.sources import Source, text_config
from persona_probe.models.tensors import check_finite, first_line, say_tied, tied
from persona_probe.models.twins import build_sharing
from persona_probe.models.wrappers import KEY_MAPPING, is_wrapper, model_class, of_other_senses
from persona_probe.prompts.tokenizers import Tokenizer

__all__ = ["check_finite", "load_tokenizer", "load_weights", "merge_adapter", "tied"]

# Buffers that old checkpoints carry and current code computes for itself.
HARMLESS_EXTRA = re.compile(r"(rotary_emb\.inv_freq|attn\.(masked_)?bias|attention\.(masked_)?bias)$")


def load_weights(
    source: Source,
    *,
    base: Source | None,
    device: torch.device,
    dtype: torch.dtype,
    device_map: str | None = None,
    sharing: Any = None,
) -> Any:
    """The Hugging Face causal model of `source`, in eval mode; an adapter is merged into `base`.

    `sharing`: the plain Hugging Face model of `base`, where it is in memory. An adapter is then merged beside
    it: what the adapter leaves alone is the same memory, and `sharing` stays as it is.
    Raises BadInput on missing, extra, mismatched or non-finite weights, which transformers alone would load
    in silence.
    """
    if source.kind == "adapter" and sharing is not None:
        return merge_adapter(build_sharing(sharing), source, in_place=False)
    if source.kind == "adapter":
        under = base_of(source, base)
        model = load_weights(under, base=None, device=device, dtype=dtype, device_map=device_map)
        return merge_adapter(model, source)
    return _load_model(source, device=device, dtype=dtype, device_map=device_map)


def _load_model(source: Source, *, device: torch.device, dtype: torch.dtype, device_map: str | None) -> Any:
    """`load_weights` of a source that is no adapter."""
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    placement = {"device_map": device_map} if device_map else {}
    local = {"trust_remote_code": False, "local_files_only": True}
    try:
        # config.json may name a hub kernel, which is code. attn_implementation overrules a config that is
        # given as an object, and not one that from_pretrained reads itself.
        config = AutoConfig.from_pretrained(source.folder, **local)
        alone = is_wrapper(config)
        kind, config = model_class(source.folder) if alone else (AutoModelForCausalLM, config)
        converted = text_config(config).dtype not in (None, dtype)
        with files_unmapped() if converted else nullcontext():
            loaded: Any = kind.from_pretrained(
                source.folder,
                config=config,
                key_mapping=KEY_MAPPING if alone else None,
                dtype=dtype,
                attn_implementation="eager",
                use_safetensors=True,
                output_loading_info=True,
                # Mismatches are then listed by name, and refused below.
                ignore_mismatched_sizes=True,
                # transformers would follow an adapter_config.json that was left beside full weights: it looks
                # where there is none.
                adapter_kwargs={"subfolder": "no-adapter"},
                **local,
                **placement,
            )
        model, info = loaded
    except BadInput:
        raise
    except Exception as error:  # a config or a weight file can be wrong in any way
        raise BadInput(f"{source.id}: the weights do not load ({first_line(error)})") from error
    if alone:  # what sees and hears is left in the file
        info["unexpected_keys"] = {key for key in info["unexpected_keys"] if not of_other_senses(key)}
    _check_loading(source, info)
    check_finite(source.id, model.named_parameters())
    # transformers leaves sides apart that the file holds apart, and its config as it was: whoever reads that
    # would tie them.
    say_tied(model)
    return (model if device_map else model.to(device)).eval().requires_grad_(False)


def load_tokenizer(source: Source, base: Source | None) -> Tokenizer:
    """The tokenizer and chat template of a source; an adapter's own when it ships one, else its base's."""
    from transformers import AutoTokenizer

    brings_one = (source.folder / "tokenizer_config.json").is_file()
    folder = (
        source.folder
        if brings_one or (source.kind == "model" and base is None)
        else base_of(source, base).folder
    )
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # tokenizer files fail in as many ways as there are formats
        raise BadInput(f"{folder} has no usable tokenizer ({first_line(error)})") from error
    template = folder / "chat_template.jinja"
    if (
        not getattr(tokenizer, "chat_template", None)
        and base is not None
        and brings_one
        and not template.is_file()
    ):
        tokenizer.chat_template = getattr(load_tokenizer(base, None), "chat_template", None)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    return tokenizer


def base_of(source: Source, base: Source | None) -> Source:
    """The base that an adapter needs; BadInput when there is none."""
    if base is None:
        raise BadInput(f"{source.id} is an adapter: it needs --base, the model it was trained on")
    return base


def _check_loading(source: Source, info: dict[str, Any]) -> None:
    missing = sorted(info["missing_keys"])
    extra = [key for key in sorted(info["unexpected_keys"]) if not HARMLESS_EXTRA.search(key)]
    mismatched = [str(item[0] if isinstance(item, tuple) else item) for item in info["mismatched_keys"]]
    problems = [
        f"{len(keys)} {name} ({', '.join(keys[:3])})"
        for name, keys in (("missing", missing), ("extra", extra), ("of another shape", mismatched))
        if keys
    ]
    if problems or info.get("error_msgs"):
        raise BadInput(
            f"{source.id}: weights {'; '.join(problems) or info['error_msgs']}: the model would run on random"
            " numbers"
        )

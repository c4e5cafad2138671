"""A checked source in, a plain Hugging Face model out: every weight present, finite and used, adapters merged exactly."""

import re
import warnings
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from persona_probe.errors import BadInput
from persona_probe.sources import Source, adapter_config

# Buffers that old checkpoints carry and current code computes for itself.
HARMLESS_EXTRA = re.compile(r"(rotary_emb\.inv_freq|attn\.(masked_)?bias|attention\.(masked_)?bias)$")


def load_weights(source: Source, *, base: Source | None, device: torch.device, dtype: torch.dtype, device_map: str | None = None) -> Any:
    """The Hugging Face causal model of `source`, in eval mode; an adapter is merged into `base`.

    Raises BadInput on missing, extra, mismatched or non-finite weights, which transformers alone would load in silence.
    """
    if source.kind == "adapter":
        model = load_weights(_base_of(source, base), base=None, device=device, dtype=dtype, device_map=device_map)
        return merge_adapter(model, source)
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    placement = {"device_map": device_map} if device_map else {}
    local = {"trust_remote_code": False, "local_files_only": True}
    try:
        # config.json may name a hub kernel, which is code. attn_implementation overrules a config that is given as an
        # object, and not one that from_pretrained reads itself.
        config = AutoConfig.from_pretrained(source.folder, **local)
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            source.folder,
            config=config,
            dtype=dtype,
            attn_implementation="eager",
            use_safetensors=True,
            output_loading_info=True,
            # Mismatches are then listed by name, and refused below.
            ignore_mismatched_sizes=True,
            **local,
            **placement,
        )
        model, info = loaded
    except Exception as error:  # a config is wrong in as many ways as it has fields, a weight file in as many as it has bytes
        raise BadInput(f"{source.id}: the weights do not load ({_first_line(error)})") from error
    _check_loading(source, info)
    check_finite(source.id, model.named_parameters())
    return (model if device_map else model.to(device)).eval().requires_grad_(False)


def merge_adapter(model: Any, source: Source) -> Any:
    """Merge a LoRA (rsLoRA and DoRA as its config says) into `model`: W becomes W + scale * B A, summed in float32.

    Adapter keys are compared with the model's first, because PEFT drops extra layers without a word.
    """
    from peft import PeftConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
    from peft.tuners.tuners_utils import BaseTunerLayer
    from safetensors.torch import load_file

    config = adapter_config(source.folder)
    path = source.folder / "adapter_model.safetensors"
    try:
        tensors = load_file(path)
        peft_config = PeftConfig.from_pretrained(str(source.folder))
        peft_config.inference_mode = True
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            wrapped = get_peft_model(model, peft_config)
    except Exception as error:  # peft and safetensors raise bare exceptions of many kinds
        raise BadInput(f"adapter {source.id} does not fit its base ({_first_line(error)})") from error
    check_finite(source.id, tensors.items())
    expected = get_peft_model_state_dict(wrapped)
    extra, missing = sorted(set(tensors) - set(expected)), sorted(set(expected) - set(tensors))
    shapes = [key for key in set(tensors) & set(expected) if tensors[key].shape != expected[key].shape]
    if extra or missing or shapes:
        what = [
            f"{len(keys)} {name} (first: {keys[0]})"
            for name, keys in (("too many", extra), ("missing", missing), ("of another shape", shapes))
            if keys
        ]
        raise BadInput(
            f"adapter {source.id} was made for another model than its base: weights {', '.join(what)}; "
            f"its config names {config.get('base_model_name_or_path')!r} as base"
        )
    set_peft_model_state_dict(wrapped, tensors)
    layers: list[Any] = [module for module in wrapped.modules() if isinstance(module, BaseTunerLayer)]
    changed = False
    for layer in layers:
        weight = layer.get_base_layer().weight
        dtype, before = weight.dtype, weight.data
        # The sum is taken in float32 and rounded once: a small update would drown in bfloat16.
        weight.data = before.float()
        for parameter in layer.parameters():
            parameter.data = parameter.data.float()
        layer.merge(safe_merge=True)
        merged_weight = weight.data.to(dtype)
        changed = changed or not torch.equal(merged_weight, before)
        # In place: the base's weights are private pages of its file, and a copy beside them would double the memory.
        weight.data = before.copy_(merged_weight)
    if not changed:
        raise BadInput(f"adapter {source.id} changes nothing: every merged weight equals the base's")
    merged = wrapped.unload()
    for parameter in merged.parameters():
        parameter.requires_grad_(False)
    return merged.to(model.dtype).eval()


def load_tokenizer(source: Source, base: Source | None) -> Any:
    """The tokenizer and chat template of a source; an adapter's own when it ships one, else its base's."""
    from transformers import AutoTokenizer

    own = (source.folder / "tokenizer_config.json").is_file()
    folder = source.folder if own or (source.kind == "model" and base is None) else _base_of(source, base).folder
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # tokenizer files fail in as many ways as there are formats
        raise BadInput(f"{folder} has no usable tokenizer ({_first_line(error)})") from error
    template = folder / "chat_template.jinja"
    if not getattr(tokenizer, "chat_template", None) and base is not None and own and not template.is_file():
        tokenizer.chat_template = getattr(load_tokenizer(base, None), "chat_template", None)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    return tokenizer


def _base_of(source: Source, base: Source | None) -> Source:
    if base is None:
        raise BadInput(f"{source.id} is an adapter: it needs --base, the model it was trained on")
    return base


def check_finite(name: str, tensors: Iterable[tuple[str, Tensor]]) -> None:
    """Refuse NaN and infinity in weights: they load silently, and argmax then picks the broken layer."""
    for key, tensor in tensors:
        if not tensor.is_floating_point() or tensor.is_meta or not tensor.numel():
            continue
        # The extremes of a tensor with NaN are NaN; unlike isfinite they need no copy of an embedding.
        if not torch.stack(torch.aminmax(tensor.detach())).isfinite().all():
            raise BadInput(f"{name}: weight {key} holds NaN or infinity; the checkpoint is broken")


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
        raise BadInput(f"{source.id}: weights {'; '.join(problems) or info['error_msgs']}: the model would run on random numbers")


def _first_line(error: BaseException) -> str:
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__

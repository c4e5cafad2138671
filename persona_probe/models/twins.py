"""Another Hugging Face model over the tensors of one that is loaded, at no memory: a twin for passes in plain
PyTorch attention, or a model that an adapter is merged into."""

import copy
from typing import Any, Literal

import torch
from torch import nn

from persona_probe.base.errors import BadInput
from persona_probe.models.sources import text_config


def build_twin(weights: Any, *, dtype: torch.dtype) -> tuple[Any, Literal["sdpa", "eager"]]:
    """The twin, and its attention: `sdpa` where the family has it and computes the same with it, else
    `eager`.

    Tensors that two modules of `weights` share are shared by the twin's modules too, and no others: what the
    config says about tying is not asked, since a merge or a checkpoint may have untied it.
    """
    attention = fast_attention(weights)
    twin = _empty(weights, attention, dtype)
    for name, parameter in weights.named_parameters(remove_duplicate=False):
        _set(twin, name, parameter, "_parameters")
    for name, buffer in weights.named_buffers(remove_duplicate=False):
        _set(twin, name, buffer, "_buffers")
    _refuse_empty(twin)
    if getattr(weights, "hf_device_map", None):
        from accelerate import dispatch_model

        twin = dispatch_model(twin, device_map=weights.hf_device_map)
    return twin.eval().requires_grad_(False), attention


def build_sharing(twin: Any) -> Any:
    """A plain model, with eager attention, that has the values of `twin` in the same memory.

    Its parameters are objects of its own, so one that is given another tensor leaves `twin` as it is. What is
    written in place changes both. Parameters that two modules of `twin` share are shared here, too.
    """
    model = _empty(twin, "eager", twin.dtype)
    made: dict[int, nn.Parameter] = {}
    for name, parameter in twin.named_parameters(remove_duplicate=False):
        if id(parameter) not in made:
            made[id(parameter)] = nn.Parameter(parameter.detach(), requires_grad=False)
        _set(model, name, made[id(parameter)], "_parameters")
    for name, buffer in twin.named_buffers(remove_duplicate=False):
        _set(model, name, buffer.clone(), "_buffers")
    _refuse_empty(model)
    return model.eval()


def _empty(weights: Any, attention: Literal["sdpa", "eager"], dtype: torch.dtype) -> Any:
    """A model of the class and config of `weights` that has no values yet."""
    with torch.device("meta"):
        model = type(weights)._from_config(
            copy.deepcopy(weights.config), attn_implementation=attention, dtype=dtype
        )
    model.generation_config = copy.deepcopy(getattr(weights, "generation_config", None))
    return model


def _refuse_empty(model: Any) -> None:
    left = [name for name, tensor in [*model.named_parameters(), *model.named_buffers()] if tensor.is_meta]
    if left:
        raise BadInput(f"{type(model).__name__}: weights without values: {', '.join(left[:3])}")


def fast_attention(weights: Any) -> Literal["sdpa", "eager"]:
    """`sdpa` where a family has it and nothing in its config rules it out; whether it computes the same is
    for a probe to say."""
    # SDPA has no soft-capping of attention scores (Gemma 2), eager attention has.
    capped = getattr(text_config(weights.config), "attn_logit_softcapping", None)
    return "eager" if capped or not getattr(type(weights), "_supports_sdpa", False) else "sdpa"


def _set(model: nn.Module, name: str, value: torch.Tensor, kind: str) -> None:
    parent, _, leaf = name.rpartition(".")
    try:
        getattr(model.get_submodule(parent), kind)[leaf] = value
    except AttributeError as error:
        raise BadInput(
            f"{type(model).__name__}: a model of this config has no {name}, the loaded weights have"
        ) from error

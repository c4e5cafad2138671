"""An adapter and its base in, one plain model out: W becomes W + scale * B A, or one line says why that
cannot be."""

import warnings
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from persona_probe.base.errors import BadInput
from persona_probe.models import adapter_keys
from persona_probe.models.adapter_fields import adapter_notes, peft_version, refuse_by_field
from persona_probe.models.adapter_keys import ADAPTER, FILE_PREFIX, Problem, try_names
from persona_probe.models.adapter_refusals import why_unfit
from persona_probe.models.sources import Source, adapter_config
from persona_probe.models.tensors import check_finite, first_line, say_tied, tied

__all__ = ["adapter_notes", "merge_adapter"]
# Starts of a LoRA, in lower case, that leave the base's weights alone; OLoRA writes to them in place.
STILL_STARTS = ("true", "false", "gaussian", "orthogonal", "eva")


def merge_adapter(model: Any, source: Source, *, in_place: bool = True) -> Any:
    """Merge a LoRA of any form that has fixed weights into `model`, summed in float32 and rounded once;
    BadInput otherwise.

    Not `in_place`: every weight that changes gets memory of its own, since another model has the old one.
    """
    try:
        return _merge(model, source, in_place=in_place)
    except BadInput:
        raise
    except Exception as error:  # peft, transformers and safetensors raise bare exceptions of many kinds
        raise BadInput(f"adapter {source.id} cannot be merged: {first_line(error)}") from error


def _merge(model: Any, source: Source, *, in_place: bool) -> Any:
    config, tensors = _read(source)
    rows = model.get_input_embeddings().weight.shape[0]
    config, tensors, problem = try_names(model, config, tensors)
    wanted = _rows_of(problem, rows)
    if wanted is not None:
        config, tensors, problem = _resized(model, source, config, tensors, rows=wanted)
        model.resize_token_embeddings(wanted, mean_resizing=False)
    if problem:
        raise BadInput(why_unfit(source, model, config, tensors, problem))
    _refuse_far_tokens(source, model, config)
    dtypes = {name: parameter.dtype for name, parameter in model.named_parameters(remove_duplicate=False)}
    together = tied(model)
    old = {} if in_place else _values(model)
    if not in_place and str(config.init_lora_weights).lower() not in STILL_STARTS:
        _own_memory(model.parameters())
    wrapped = adapter_keys.wrap(model, config, tensors)
    _refuse_nested_tokens(source, wrapped)
    changed = _load(wrapped, adapter_keys.mapped(wrapped, tensors), in_place=in_place)
    changed = _sum(wrapped, in_place=in_place) or changed
    if not changed:
        raise BadInput(f"adapter {source.id} changes nothing: every merged weight equals the base's")
    merged = wrapped.unload()
    for name, parameter in merged.named_parameters(remove_duplicate=False):
        parameter.data = parameter.data.to(dtypes.get(name, parameter.dtype))
        parameter.requires_grad_(False)
    if together and not tied(merged):
        _tie_if_equal(merged)
    _share_equal(merged, old)
    say_tied(merged)
    return merged.eval()


def _read(source: Source) -> tuple[Any, dict[str, Tensor]]:
    from peft import PeftConfig
    from safetensors.torch import load_file

    fields = adapter_config(source.folder)
    refuse_by_field(source, fields)
    try:
        tensors = load_file(source.folder / "adapter_model.safetensors")
    except Exception as error:  # a file is damaged in as many ways as it has bytes
        raise BadInput(
            f"adapter {source.id} is damaged: adapter_model.safetensors does not load ({first_line(error)})"
        ) from error
    check_finite(source.id, tensors.items())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            config: Any = PeftConfig.from_pretrained(str(source.folder))
    except Exception as error:  # a config is wrong in as many ways as it has fields
        raise BadInput(
            f"adapter {source.id}: its adapter_config.json is not one that {peft_version()} reads"
            f" ({first_line(error)})"
        ) from error
    config.inference_mode, config.lora_dropout = True, 0.0
    # MonteCLoRA samples in training only, and PEFT saves whole embeddings twice after their vocabulary was
    # resized.
    unused = {key for key in tensors if ".lora_monteclora_sampler." in key}
    unused |= {
        key
        for key in tensors
        if ".modules_to_save." in key and key.replace(".modules_to_save.", ".") in tensors
    }
    return config, {key: tensor for key, tensor in tensors.items() if key not in unused}


def _refuse_far_tokens(source: Source, model: Any, config: Any) -> None:
    tokens, rows = config.trainable_token_indices or [], model.get_input_embeddings().weight.shape[0]
    if isinstance(tokens, dict):
        tokens = [token for ids in tokens.values() for token in ids]
    if tokens and max(tokens) >= rows:
        raise BadInput(
            f"adapter {source.id} has a resized vocabulary: adapter has at least {max(tokens) + 1} rows, base"
            f" {rows}"
        )


def _refuse_nested_tokens(source: Source, wrapped: Any) -> None:
    from peft.tuners.trainable_tokens import TrainableTokensLayer
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils import AuxiliaryTrainingWrapper

    for name, layer in wrapped.named_modules():
        nested = isinstance(layer, TrainableTokensLayer) and not isinstance(
            layer.base_layer, nn.Embedding | nn.Linear
        )
        if nested or (
            isinstance(layer, BaseTunerLayer) and isinstance(layer.get_base_layer(), AuxiliaryTrainingWrapper)
        ):
            where = name.removeprefix(FILE_PREFIX).removesuffix(".token_adapter")
            raise BadInput(
                f"adapter {source.id} cannot be merged: it changes {where} in two ways, one of them"
                " trainable_token_indices"
            )


def _load(wrapped: Any, tensors: dict[str, Tensor], *, in_place: bool) -> bool:
    """Load the adapter's weights; whether one that it holds whole (a norm, a bias, an embedding) differs from
    the base's."""
    state = wrapped.state_dict()
    whole = {name: tensor for name, tensor in tensors.items() if ".lora_" not in name}
    before = {
        name: state[name.replace(f"modules_to_save.{ADAPTER}", "original_module")]
        for name in whole
        if "token_adapter" not in name
    }
    changed = any(not torch.equal(whole[name].to(old), old) for name, old in before.items())
    if not in_place:
        named = wrapped.named_parameters(remove_duplicate=False)
        _own_memory(parameter for name, parameter in named if name in whole)
    wrapped.load_state_dict(tensors, strict=False)
    return changed


def _own_memory(parameters: Iterable[nn.Parameter]) -> None:
    """Copy the values of parameters that are about to be written to."""
    for parameter in parameters:
        parameter.data = parameter.data.clone()


def _values(model: nn.Module) -> dict[str, Tensor]:
    """The tensor behind every parameter."""
    return {name: parameter.data for name, parameter in model.named_parameters(remove_duplicate=False)}


def _share_equal(model: nn.Module, old: dict[str, Tensor]) -> None:
    """Parameters that came out of the merge as they were are the old memory again."""
    for name, parameter in model.named_parameters(remove_duplicate=False):
        before = old.get(name)
        if before is None or before.data_ptr() == parameter.data_ptr() or before.shape != parameter.shape:
            continue
        if torch.equal(before, parameter):
            parameter.data = before


def _sum(wrapped: Any, *, in_place: bool) -> bool:
    """Merge every layer; whether one weight changed."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    changed = False
    for layer in [module for module in wrapped.modules() if isinstance(module, BaseTunerLayer)]:
        owner, name = layer.get_base_layer(), getattr(layer, "parameter_name", "weight")
        weight: Any = getattr(owner, name)
        bias: Any = getattr(owner, "bias", None)
        shared = _places(wrapped, weight) > 1
        if shared:
            # The other side of a tied pair stays as it is: PEFT changes the wrapped side alone.
            weight = nn.Parameter(weight.data, requires_grad=False)
            setattr(owner, name, weight)
        before, bias_before = weight.data, bias.data if isinstance(bias, Tensor) else None
        # The sum is taken in float32 and rounded once: a small update would drown in bfloat16.
        weight.data = before.float()
        for parameter in _of_adapter(layer):
            parameter.data = parameter.data.float()
        layer.merge(safe_merge=True)
        merged = weight.data.to(before.dtype)
        changed = changed or not torch.equal(merged, before)
        # In place where that is allowed: the base's weights are private pages of its file, and a copy beside
        # them would double the memory.
        weight.data = before.copy_(merged) if in_place and not shared else merged
        if bias is not None and bias_before is not None and bias.data is not bias_before:
            merged = bias.data.to(bias_before.dtype)
            changed = changed or not torch.equal(merged, bias_before)
            bias.data = bias_before.copy_(merged) if in_place else merged
    return changed


def _of_adapter(layer: Any) -> list[nn.Parameter]:
    """The adapter's parameters of a layer, without the base's that it wraps."""
    return [parameter for name, parameter in layer.named_parameters() if "base_layer" not in name.split(".")]


def _places(model: nn.Module, weight: Tensor) -> int:
    here = weight.untyped_storage().data_ptr()
    slots = [
        parameter
        for module in model.modules()
        for parameter in module._parameters.values()
        if parameter is not None
    ]
    return sum(parameter.untyped_storage().data_ptr() == here for parameter in slots)


def _tie_if_equal(model: Any) -> None:
    """Sides that changed in the same way are one tensor again: with `ensure_weight_tying` and trained
    tokens."""
    left, right = model.get_input_embeddings(), model.get_output_embeddings()
    if left.weight.shape == right.weight.shape and torch.equal(left.weight, right.weight):
        right.weight = left.weight


def _rows_of(problem: Problem, rows: int) -> int | None:
    """The vocabulary of the adapter, when that is all that differs."""
    vocabularies = {
        there
        for _, theirs, ours in problem.shapes
        for there, here in zip(theirs, ours, strict=len(theirs) == len(ours))
        if there != here and here == rows
    }
    vocabulary = [
        len(theirs) == len(ours)
        and all(there == here or here == rows for there, here in zip(theirs, ours, strict=True))
        for _, theirs, ours in problem.shapes
    ]
    return (
        vocabularies.pop()
        if len(vocabularies) == 1 and all(vocabulary) and not problem.extra and not problem.missing
        else None
    )


def _resized(
    model: Any, source: Source, config: Any, tensors: dict[str, Tensor], *, rows: int
) -> tuple[Any, dict[str, Tensor], Problem]:
    """Names that fit the base with `rows` rows, when the adapter brings all of them and a tokenizer that has
    the new ones."""
    ours = model.get_input_embeddings().weight.shape[0]
    refusal = f"adapter {source.id} has a resized vocabulary: adapter has {rows} rows, base {ours}"
    sides = {
        name
        for name, module in model.named_modules()
        if module in (model.get_input_embeddings(), model.get_output_embeddings())
    }
    whole = {
        key.removeprefix(FILE_PREFIX)
        for key, tensor in tensors.items()
        if tensor.ndim == 2 and tensor.shape[0] == rows
    }
    held = {name for name in sides if {f"{name}.weight", f"{name}.base_layer.weight"} & whole}
    if held != sides:
        raise BadInput(
            f"{refusal}, and it does not bring them whole ({', '.join(sorted(sides - held))} is missing)"
        )
    if not (source.folder / "tokenizer_config.json").is_file():
        raise BadInput(f"{refusal}, and it has no tokenizer with the new tokens")
    from transformers import AutoTokenizer

    known = len(AutoTokenizer.from_pretrained(source.folder, trust_remote_code=False, local_files_only=True))
    if known > rows:
        raise BadInput(f"{refusal}, and its tokenizer has {known} tokens")
    return try_names(model, config, tensors, rows=rows)

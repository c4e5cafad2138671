"""What is asked of weights wherever they come from: are they finite, are input and output embeddings one
tensor."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from persona_probe.base.errors import BadInput


def check_finite(name: str, tensors: Iterable[tuple[str, Tensor]]) -> None:
    """Refuse NaN and infinity in weights: they load silently, and argmax then picks the broken layer."""
    for key, tensor in tensors:
        if not tensor.is_floating_point() or tensor.is_meta or not tensor.numel():
            continue
        # The extremes of a tensor with NaN are NaN; unlike isfinite they need no copy of an embedding.
        if not torch.stack(torch.aminmax(tensor.detach())).isfinite().all():
            raise BadInput(f"{name}: weight {key} holds NaN or infinity; the checkpoint is broken")


def tied(model: Any) -> bool:
    """Whether input and output embeddings share their storage, whatever the config says."""
    left, right = (
        getattr(side, "weight", None)
        for side in (model.get_input_embeddings(), model.get_output_embeddings())
    )
    if left is None or right is None or left is right:
        return left is not None and left is right
    return (
        not left.is_meta
        and not right.is_meta
        and left.data_ptr() == right.data_ptr()
        and left.shape == right.shape
    )


def say_tied(model: Any) -> None:
    """Set the config to what is true of the weights, so that nobody who reads it ties sides that differ."""
    together = tied(model)
    for config in (model.config, model.config.get_text_config()):
        config.tie_word_embeddings = together
    for module in model.modules():
        keys = getattr(module, "all_tied_weights_keys", None) or {}
        for left, right in list(keys.items()):
            if not _same(module, left, right):
                del keys[left]


def _same(module: Any, left: str, right: str) -> bool:
    try:
        return module.get_parameter_or_buffer(left) is module.get_parameter_or_buffer(right)
    except AttributeError:  # a pattern, or a part that this model does not have: nothing to say of it
        return True


def first_line(error: BaseException) -> str:
    """The kind and first line of an error of a library, for a message of one line."""
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def shortened(text: str, length: int) -> str:
    """`text` in at most `length` characters, cut between words."""
    return text if len(text) <= length else text[: length - 2].rsplit(" ", 1)[0] + " …"

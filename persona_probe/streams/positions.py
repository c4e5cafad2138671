"""Where in its own sequence every token of the running forward pass stands."""

from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn


class Positions:
    """Absolute position of every token of the forward pass that is running, read off the arguments of the
    model's body."""

    def __init__(self) -> None:
        self._position: Tensor | None = None
        self._later: dict[tuple[int, torch.Size, torch.device], Tensor | None] = {}

    def read(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """A forward pre-hook of the model's body."""
        tokens = args[0] if args else kwargs.get("input_ids", kwargs.get("inputs_embeds"))
        mask, position = kwargs.get("attention_mask"), kwargs.get("position_ids")
        if position is None and isinstance(mask, Tensor) and mask.ndim == 2 and tokens is not None:
            # The mask covers what a cache holds as well; the tokens of this pass are its last columns.
            position = (mask.long().cumsum(-1) - 1).clamp(min=0)[:, -tokens.shape[1] :]
        if position is None and tokens is not None:
            cache = kwargs.get("past_key_values")
            seen = cache.get_seq_length() if cache is not None else 0
            position = torch.arange(seen, seen + tokens.shape[1], device=tokens.device)[None]
        if (
            position is not None and position.ndim == 3
        ):  # one plane per axis of an image; text moves along all of them alike
            position = position[0]
        self._position = position
        self._later.clear()

    def of(self, resid: Tensor) -> Int[Tensor, "batch pos"]:
        """Positions of the tokens of a stream that a hook sees."""
        assert self._position is not None, "a hook fired outside the model's own forward pass"
        # GPT-2 looks its position embeddings up once for the whole batch: that one row counts columns.
        position = self._position.amax(0, keepdim=True) if len(resid) == 1 else self._position
        # Late layers of Gemma 4 run on the last tokens only, where no others are asked for.
        return position[:, -resid.shape[1] :].to(resid.device).expand(len(resid), -1)

    def later(self, resid: Tensor, skip_first: int) -> Bool[Tensor, "batch pos 1"] | None:
        """Which tokens of a stream stand at position `skip_first` or later; None for all of them. Worked out
        once a pass."""
        key = (skip_first, resid.shape[:2], resid.device)
        if key not in self._later:
            later = (self.of(resid) >= skip_first)[..., None]
            # On a GPU asking whether it is all of them would stop the pass until the answer is there.
            every = resid.device.type == "cpu" and bool(later.all())
            self._later[key] = None if every else later
        return self._later[key]

"""Keys and values that cost little memory: of generation, where a new token is written without a copy of what
is there, and of prefixes that several rows share."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers.cache_utils import DynamicLayer

GROWTH = 64  # tokens for which memory is added at a time


class GrowingLayer(DynamicLayer):
    """Hugging Face's layer that keeps every token, without a copy of all of them at every token.

    `keys` and `values` are views of the first columns of larger tensors.
    """

    def __init__(self, layer: DynamicLayer) -> None:
        super().__init__()
        keys, values = layer.keys, layer.values
        assert keys is not None, "the layer has run"
        assert values is not None, "the layer has run"
        self.lazy_initialization(keys, values)
        self._rooms: tuple[Tensor, Tensor] | None = None
        self.update(keys, values)

    def update(
        self,
        key_states: Float[Tensor, "batch head new d_head"],
        value_states: Float[Tensor, "batch head new d_value"],
        *args: Any,
        **kwargs: Any,
    ) -> tuple[Float[Tensor, "batch head pos d_head"], Float[Tensor, "batch head pos d_value"]]:
        """Take in the keys and values of new tokens, and hand out all of them."""
        before = self.get_seq_length()
        after = before + key_states.shape[-2]
        if self._rooms is None or self._rooms[0].shape[-2] < after:
            new, old = (key_states, value_states), self._rooms
            rooms = tuple(one.new_empty(*one.shape[:-2], after + GROWTH, one.shape[-1]) for one in new)
            for room, known in zip(rooms, old or (), strict=bool(old)):
                room[..., :before, :] = known[..., :before, :]
            self._rooms = (rooms[0], rooms[1])
        for room, one in zip(self._rooms, (key_states, value_states), strict=True):
            room[..., before:after, :] = one
        return self._show(after)

    def batch_select_indices(self, indices: Int[Tensor, " row"]) -> None:
        """Keep some rows of the batch, each as often as it is named."""
        assert self._rooms is not None, "a layer is made with its first tokens"
        length = self.get_seq_length()
        self._rooms = (self._rooms[0][indices], self._rooms[1][indices])
        self._show(length)

    def _show(self, length: int) -> tuple[Tensor, Tensor]:
        """The first `length` tokens, which are the layer's from now on."""
        assert self._rooms is not None, "room was made"
        keys, values = (room[..., :length, :] for room in self._rooms)
        self.keys, self.values = keys, values
        return keys, values


def growing(cache: Any) -> Any:
    """A cache whose plain layers grow without copies; layers of other kinds stay as they are."""
    layers = getattr(cache, "layers", None)
    if isinstance(layers, list):
        cache.layers = [
            GrowingLayer(layer) if type(layer) is DynamicLayer and layer.get_seq_length() else layer
            for layer in layers
        ]
    return cache


class SharedLayer(DynamicLayer):
    """Hugging Face's layer over prefixes that several rows share.

    `keys` and `values` are those of the prefixes, one for each. The rows' own are put together when their
    block runs and belong to that block alone, so that one block's are in memory at a time.
    """

    def __init__(self, layer: DynamicLayer, prefix_of: Int[Tensor, " row"]) -> None:
        super().__init__()
        keys, values = layer.keys, layer.values
        assert keys is not None, "the layer has run"
        assert values is not None, "the layer has run"
        self.lazy_initialization(keys, values)
        self.keys, self.values = keys, values
        self._prefix_of = prefix_of

    def update(
        self,
        key_states: Float[Tensor, "row head new d_head"],
        value_states: Float[Tensor, "row head new d_value"],
        *args: Any,
        **kwargs: Any,
    ) -> tuple[Float[Tensor, "row head pos d_head"], Float[Tensor, "row head pos d_value"]]:
        """What the new tokens of every row see: its prefix and themselves."""
        assert self.keys is not None, "set when it was made"
        assert self.values is not None, "set when it was made"
        keys, values = self.keys[self._prefix_of], self.values[self._prefix_of]
        return torch.cat([keys, key_states], dim=-2), torch.cat([values, value_states], dim=-2)


def shared(cache: Any, prefix_of: Int[Tensor, " row"]) -> Any:
    """The cache of prefixes for one pass over rows, each behind the prefix that is named for it."""
    layers = getattr(cache, "layers", None)
    if isinstance(layers, list) and all(type(layer) is DynamicLayer for layer in layers):
        cache.layers = [SharedLayer(layer, prefix_of) for layer in layers]
    else:  # layers of other kinds may be read by other blocks, or hold more than keys and values
        cache.batch_select_indices(prefix_of)
    return cache

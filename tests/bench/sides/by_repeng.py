"""repeng: its own training and control modules, around batches that are sorted by length."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from bench.jobs import EDITED, N_ARMS, N_NEW, STEERED
from bench.sides import padded as by_hand
from bench.workload import Text, Workload


def without(stream: Tensor, unit: Tensor) -> Tensor:
    """The stream with a direction projected out, as an operator of repeng: `unit` has the stream's shape."""
    return stream - (stream * unit).sum(-1, keepdim=True) * unit


class ByRepeng:
    """Its functions where it has one for a job; forward passes and generation are Hugging Face's."""

    def __init__(self, work: Workload, dtype: str) -> None:
        self.model, self.tokenizer = by_hand.load_plain(work.model, dtype)
        self.units, self.steering = by_hand.vectors_of(work, dtype)
        self.pad_id = work.pad_id

    def vectors(self, texts: Sequence[Text]) -> Tensor:
        """layer x width: the first principal component of the pairs' differences (it has no difference of
        means)."""
        from repeng import ControlVector, DatasetEntry  # pyright: ignore[reportMissingImports]

        pairs = [
            DatasetEntry(one.text, other.text) for one, other in zip(texts[::2], texts[1::2], strict=True)
        ]
        vector = ControlVector.train(self.model, self.tokenizer, pairs, batch_size=16)
        return torch.stack([torch.tensor(vector.directions[layer]) for layer in sorted(vector.directions)])

    def check_vectors(self, texts: Sequence[Text]) -> Tensor:
        """layer x width: the difference of means of the activations that `vectors` starts from."""
        from repeng.extract import batched_get_hiddens  # pyright: ignore[reportMissingImports]

        layers = list(range(self.model.config.num_hidden_layers - 1))
        read = batched_get_hiddens(self.model, self.tokenizer, [text.text for text in texts], layers, 16)
        return torch.stack(
            [torch.tensor(read[layer][::2].mean(0) - read[layer][1::2].mean(0)) for layer in layers]
        )

    def logprobs_ablated(self, texts: Sequence[Text]) -> Tensor:
        """Summed log-probabilities with the first unit vector out of every block's output."""
        return self.logprobs(texts, range(self.model.config.num_hidden_layers), self.units[:1])[0]

    def logprobs_one_layer(self, texts: Sequence[Text]) -> Tensor:
        """arm x text, one vector out of one block's output in each arm."""
        return self.logprobs(texts, [EDITED], self.units[:N_ARMS])

    def logprobs(self, texts: Sequence[Text], layers: Sequence[int], units: Tensor) -> Tensor:
        """arm x text: summed log-probabilities with a direction out of the output of some blocks."""
        arms = []
        with self.controlled(layers) as control:
            for unit in units:
                control(unit, operator=without)
                values = []
                for batch in by_hand.padded(texts, by_hand.by_length(texts), self.pad_id):
                    # Its modules read positions of every row.
                    positions = torch.arange(batch.tokens.shape[1]).expand_as(batch.tokens)
                    out = self.model(**batch.inputs, position_ids=positions, use_cache=False)
                    values.append((batch, by_hand.summed(batch, out.logits)))
                arms.append(by_hand.placed(values, len(texts)))
        return torch.stack(arms)

    def generate_steered(self, texts: Sequence[Text]) -> list[str]:
        """Greedy replies with a vector added."""
        with self.controlled([STEERED]) as control:
            control(self.steering)
            return by_hand.written(self.model, self.tokenizer, texts, self.pad_id, size=16, n_new=N_NEW)

    @contextmanager
    def controlled(self, layers: Sequence[int]) -> Iterator[Callable[..., None]]:
        """Its control modules around some blocks; what is given sets one vector in all of them."""
        from repeng import ControlModel  # pyright: ignore[reportMissingImports]

        wrapped: Any = ControlModel(self.model, list(layers))
        try:
            yield lambda vector, **how: wrapped.set_raw_control(dict.fromkeys(layers, vector), **how)
        finally:
            wrapped.unwrap()


def open_side(work: Workload, dtype: str, variant: str) -> ByRepeng:
    """The side, with its model loaded."""
    return ByRepeng(work, dtype)

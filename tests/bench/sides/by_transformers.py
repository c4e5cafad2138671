"""Plain Hugging Face: one text after the other, batches of 16, or sorted by length by a careful user."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from bench.jobs import EDITED, N_ARMS, N_NEW, STEERED
from bench.sides import padded as by_hand
from bench.workload import Text, Workload


class Plain:
    """Forward hooks on the decoder's layers. The careful variant calls the head at reply tokens only."""

    def __init__(self, work: Workload, dtype: str, variant: str) -> None:
        self.model, self.tokenizer = by_hand.load_plain(work.model, dtype)
        self.model.to(work.device)
        self.device = work.device
        self.units, self.steering = by_hand.vectors_of(work, dtype)
        self.pad_id, self.careful = work.pad_id, variant == "sorted"
        self.grouped = {"one": by_hand.one_by_one, "16": by_hand.in_order, "sorted": by_hand.by_length}[
            variant
        ]
        self.one = variant == "one"

    def batches(self, texts: Sequence[Text]) -> Iterator[by_hand.Padded]:
        """The texts as this variant batches them."""
        return by_hand.padded(texts, self.grouped(texts), self.pad_id, self.device)

    def reply_means(self, texts: Sequence[Text]) -> Tensor:
        """text x layer x width, without the last layer, whose output Hugging Face gives behind its norm."""
        values = []
        for batch in self.batches(texts):
            states = self.model.model(
                **batch.inputs, output_hidden_states=True, use_cache=False
            ).hidden_states
            means = [by_hand.masked_mean(state, batch.reply) for state in states[1:]]
            values.append((batch, torch.stack(means, 1)[:, :-1]))
        return by_hand.placed(values, len(texts))

    def logprobs_ablated(self, texts: Sequence[Text]) -> Tensor:
        """Summed log-probabilities with the first unit vector out of every block's output."""
        with self.edited(range(len(self.model.model.layers)), lambda x: by_hand.without(x, self.units[0])):
            return self.logprobs(texts)

    def logprobs_one_layer(self, texts: Sequence[Text]) -> Tensor:
        """arm x text, one vector out of one block's output in each arm."""
        values = []
        for unit in self.units[:N_ARMS]:
            with self.edited([EDITED], lambda x, unit=unit: by_hand.without(x, unit)):
                values.append(self.logprobs(texts))
        return torch.stack(values)

    def generate_steered(self, texts: Sequence[Text]) -> list[str]:
        """Greedy replies with a vector added."""
        with self.edited([STEERED], lambda x: x + self.steering):
            return by_hand.written(
                self.model, self.tokenizer, texts, self.pad_id, size=1 if self.one else 16, n_new=N_NEW
            )

    def logprobs(self, texts: Sequence[Text]) -> Tensor:
        """Summed log-probabilities as the model stands."""
        values = []
        for batch in self.batches(texts):
            if self.careful:
                hidden = self.model.model(**batch.inputs, use_cache=False).last_hidden_state
                row, column = batch.reply[:, 1:].nonzero(as_tuple=True)
                values.append((batch, by_hand.summed_at(batch, self.model.lm_head(hidden[row, column]))))
            else:
                logits = self.model(**batch.inputs, use_cache=False).logits
                values.append((batch, by_hand.summed(batch, logits)))
        return by_hand.placed(values, len(texts))

    @contextmanager
    def edited(self, layers: Any, edit: Any) -> Iterator[None]:
        """Forward hooks that change the output of some decoder layers."""

        def hook(module: Any, args: Any, output: Any) -> Any:
            if isinstance(output, tuple):
                return (edit(output[0]), *output[1:])
            return edit(output)

        handles = [self.model.model.layers[layer].register_forward_hook(hook) for layer in layers]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def open_side(work: Workload, dtype: str, variant: str) -> Plain:
    """The side, with its model loaded."""
    return Plain(work, dtype, variant)

"""steering-vectors: its own training and patching, around batches that are sorted by length."""

from collections.abc import Sequence

import torch
from torch import Tensor

from bench.jobs import EDITED, N_ARMS, N_NEW, STEERED
from bench.sides import padded as by_hand
from bench.workload import Text, Workload


class BySteeringVectors:
    """Its functions where it has one for a job; forward passes and generation are Hugging Face's."""

    def __init__(self, work: Workload, dtype: str) -> None:
        self.model, self.tokenizer = by_hand.load_plain(work.model, dtype)
        self.units, self.steering = by_hand.vectors_of(work, dtype)
        self.pad_id = work.pad_id

    def vectors(self, texts: Sequence[Text]) -> Tensor:
        """layer x width: the difference of means at the last token, in batches of 16 pairs."""
        from steering_vectors import train_steering_vector  # pyright: ignore[reportMissingImports]

        pairs = [(one.text, other.text) for one, other in zip(texts[::2], texts[1::2], strict=True)]
        vector = train_steering_vector(self.model, self.tokenizer, pairs, batch_size=16)
        return torch.stack([vector.layer_activations[layer] for layer in sorted(vector.layer_activations)])[
            :-1
        ]

    def logprobs_ablated(self, texts: Sequence[Text]) -> Tensor:
        """Summed log-probabilities with the first unit vector out of every block's output."""
        return self.logprobs(texts, range(self.model.config.num_hidden_layers), self.units[0])

    def logprobs_one_layer(self, texts: Sequence[Text]) -> Tensor:
        """arm x text, one vector out of one block's output in each arm."""
        return torch.stack([self.logprobs(texts, [EDITED], unit) for unit in self.units[:N_ARMS]])

    def logprobs(self, texts: Sequence[Text], layers: Sequence[int], unit: Tensor) -> Tensor:
        """Summed log-probabilities with a direction out of the output of some blocks."""
        from steering_vectors import SteeringVector, ablation_operator  # pyright: ignore[reportMissingImports]

        vector = SteeringVector(dict.fromkeys(layers, unit))
        values = []
        with vector.apply(self.model, operator=ablation_operator()):
            for batch in by_hand.padded(texts, by_hand.by_length(texts), self.pad_id):
                logits = self.model(**batch.inputs, use_cache=False).logits
                values.append((batch, by_hand.summed(batch, logits)))
        return by_hand.placed(values, len(texts))

    def generate_steered(self, texts: Sequence[Text]) -> list[str]:
        """Greedy replies with a vector added."""
        from steering_vectors import SteeringVector  # pyright: ignore[reportMissingImports]

        with SteeringVector({STEERED: self.steering}).apply(self.model):
            return by_hand.written(self.model, self.tokenizer, texts, self.pad_id, size=16, n_new=N_NEW)


def open_side(work: Workload, dtype: str, variant: str) -> BySteeringVectors:
    """The side, with its model loaded."""
    return BySteeringVectors(work, dtype)

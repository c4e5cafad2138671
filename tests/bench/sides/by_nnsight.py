"""nnsight, in batches that are sorted by length."""

from collections.abc import Sequence

import torch
from torch import Tensor

from bench.jobs import EDITED, N_ARMS, N_NEW, STEERED
from bench.sides import padded as by_hand
from bench.workload import Text, Workload


class ByNnsight:
    """Traces of the Hugging Face model that nnsight wraps."""

    def __init__(self, work: Workload, dtype: str) -> None:
        from nnsight import TransformersModel  # pyright: ignore[reportMissingImports]

        plain, self.tokenizer = by_hand.load_plain(work.model, dtype)
        self.tokenizer.padding_side = "left"
        self.model = TransformersModel(plain, tokenizer=self.tokenizer, task="text-generation")
        self.layers = self.model.model.layers
        self.units, self.steering = by_hand.vectors_of(work, dtype)
        self.pad_id = work.pad_id

    def reply_means(self, texts: Sequence[Text]) -> Tensor:
        """text x layer x width; the last layer is read and left out of the comparison."""
        values = []
        for batch in by_hand.padded(texts, by_hand.by_length(texts), self.pad_id):
            reply = batch.reply
            with self.model.trace(batch.inputs):
                means = []
                for layer in self.layers:
                    means.append(by_hand.masked_mean(layer.output, reply))
                stacked = torch.stack(means, 1).save()  # type: ignore  # nnsight adds it
            values.append((batch, stacked[:, :-1]))
        return by_hand.placed(values, len(texts))

    def logprobs_ablated(self, texts: Sequence[Text]) -> Tensor:
        """Summed log-probabilities with the first unit vector out of every block's output."""
        return self.logprobs(texts, range(len(self.layers)), self.units[0])

    def logprobs_one_layer(self, texts: Sequence[Text]) -> Tensor:
        """arm x text, one vector out of one block's output in each arm."""
        return torch.stack([self.logprobs(texts, [EDITED], unit) for unit in self.units[:N_ARMS]])

    def logprobs(self, texts: Sequence[Text], places: Sequence[int], unit: Tensor) -> Tensor:
        """Summed log-probabilities with a direction out of the output of some blocks."""
        values = []
        for batch in by_hand.padded(texts, by_hand.by_length(texts), self.pad_id):
            with self.model.trace(batch.inputs):
                for place in places:
                    stream = self.layers[place].output
                    self.layers[place].output = by_hand.without(stream, unit)
                logits = self.model.lm_head.output.save()
            values.append((batch, by_hand.summed(batch, logits)))
        return by_hand.placed(values, len(texts))

    def generate_steered(self, texts: Sequence[Text]) -> list[str]:
        """Greedy replies with a vector added."""
        written: dict[int, str] = {}
        options = {"max_new_tokens": N_NEW, "do_sample": False, "pad_token_id": self.pad_id}
        for group in by_hand.by_prompt(texts):
            inputs = by_hand.left_padded(texts, group, self.pad_id)
            with self.model.generate(**options) as tracer:
                with tracer.invoke(inputs):
                    for _ in tracer.iter[:]:
                        self.layers[STEERED].output = self.layers[STEERED].output + self.steering
                with tracer.invoke():
                    out = tracer.result.save()
            replies = by_hand.decoded(self.tokenizer, out, inputs["input_ids"].shape[1])
            written |= dict(zip(group, replies, strict=True))
        return [written[i] for i in range(len(texts))]


def open_side(work: Workload, dtype: str, variant: str) -> ByNnsight:
    """The side, with its model loaded."""
    return ByNnsight(work, dtype)

"""pyvene, in batches that are sorted by length."""

from collections.abc import Sequence
from typing import Any

import pyvene  # pyright: ignore[reportMissingImports]
import torch
from torch import Tensor

from bench.jobs import EDITED, N_ARMS, N_NEW, STEERED
from bench.sides import padded as by_hand
from bench.workload import Text, Workload


class Without(pyvene.SourcelessIntervention):
    """Projects a direction out."""

    def __init__(self, unit: Tensor) -> None:
        super().__init__(keep_last_dim=True)
        self.unit = unit

    def forward(self, base: Tensor, source: Any = None, subspaces: Any = None) -> Tensor:
        """The stream without the direction."""
        return by_hand.without(base, self.unit)


class ByPyvene:
    """One IntervenableModel for each way in which the model is read or changed, made once."""

    def __init__(self, work: Workload, dtype: str) -> None:
        plain, self.tokenizer = by_hand.load_plain(work.model, dtype)
        units, steering = by_hand.vectors_of(work, dtype)
        every = range(plain.config.num_hidden_layers)
        self.pad_id = work.pad_id

        def opened(made: dict[int, Any]) -> Any:
            config = [
                {"component": f"model.layers[{layer}].output", "intervention": one}
                for layer, one in made.items()
            ]
            return pyvene.IntervenableModel(config, model=plain)

        self.collecting = opened({layer: pyvene.CollectIntervention() for layer in every})
        self.ablated = opened({layer: Without(units[0]) for layer in every})
        self.arms = [opened({EDITED: Without(unit)}) for unit in units[:N_ARMS]]
        self.steered = opened({STEERED: pyvene.AdditionIntervention(source_representation=steering)})

    def reply_means(self, texts: Sequence[Text]) -> Tensor:
        """text x layer x width; the last layer is read and left out of the comparison."""
        values = []
        for batch in by_hand.padded(texts, by_hand.by_length(texts), self.pad_id):
            (_, streams), _ = self.collecting(batch.inputs, use_cache=False)
            means = [by_hand.masked_mean(stream, batch.reply) for stream in streams]
            values.append((batch, torch.stack(means, 1)[:, :-1]))
        return by_hand.placed(values, len(texts))

    def logprobs_ablated(self, texts: Sequence[Text]) -> Tensor:
        """Summed log-probabilities with the first unit vector out of every block's output."""
        return self.logprobs(texts, self.ablated)

    def logprobs_one_layer(self, texts: Sequence[Text]) -> Tensor:
        """arm x text, one vector out of one block's output in each arm."""
        return torch.stack([self.logprobs(texts, arm) for arm in self.arms])

    def logprobs(self, texts: Sequence[Text], model: Any) -> Tensor:
        """Summed log-probabilities of a changed model."""
        values = []
        for batch in by_hand.padded(texts, by_hand.by_length(texts), self.pad_id):
            _, out = model(batch.inputs, use_cache=False)
            values.append((batch, by_hand.summed(batch, out.logits)))
        return by_hand.placed(values, len(texts))

    def generate_steered(self, texts: Sequence[Text]) -> list[str]:
        """Greedy replies with a vector added to prompts and replies."""
        written: dict[int, str] = {}
        options = {"max_new_tokens": N_NEW, "do_sample": False, "pad_token_id": self.pad_id}
        for group in by_hand.by_prompt(texts):
            inputs = by_hand.left_padded(texts, group, self.pad_id)
            _, out = self.steered.generate(inputs, intervene_on_prompt=True, **options)
            replies = by_hand.decoded(self.tokenizer, out, inputs["input_ids"].shape[1])
            written |= dict(zip(group, replies, strict=True))
        return [written[i] for i in range(len(texts))]


def open_side(work: Workload, dtype: str, variant: str) -> ByPyvene:
    """The side, with its model loaded."""
    return ByPyvene(work, dtype)

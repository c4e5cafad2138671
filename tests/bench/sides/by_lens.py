"""TransformerLens: its bridge, in batches that are sorted by length."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bench.jobs import EDITED, N_ARMS, N_NEW, STEERED
from bench.sides import padded as by_hand
from bench.workload import Text, Workload


class ByLens:
    """Hooks and caches of a TransformerBridge, without its compatibility mode."""

    def __init__(self, work: Workload, dtype: str) -> None:
        from transformer_lens.model_bridge import TransformerBridge

        plain, self.tokenizer = by_hand.load_plain(work.model, dtype)
        self.model: Any = TransformerBridge.boot_transformers(
            work.model, hf_model=plain, tokenizer=self.tokenizer, dtype=by_hand.DTYPES[dtype], device="cpu"
        )
        self.names = [f"blocks.{layer}.hook_out" for layer in range(self.model.cfg.n_layers)]
        self.units, self.steering = by_hand.vectors_of(work, dtype)
        self.pad_id = work.pad_id

    def reply_means(self, texts: Sequence[Text]) -> Tensor:
        """text x layer x width; the last layer is read and left out of the comparison."""
        values = []
        for batch in by_hand.padded(texts, by_hand.by_length(texts), self.pad_id):
            _, cache = self.model.run_with_cache(
                batch.tokens, attention_mask=batch.mask, names_filter=self.names
            )
            means = [by_hand.masked_mean(cache[name], batch.reply) for name in self.names]
            values.append((batch, torch.stack(means, 1)[:, :-1]))
        return by_hand.placed(values, len(texts))

    def logprobs_ablated(self, texts: Sequence[Text]) -> Tensor:
        """Summed log-probabilities with the first unit vector out of every block's output."""
        return self.logprobs(texts, self.names, self.units[0])

    def logprobs_one_layer(self, texts: Sequence[Text]) -> Tensor:
        """arm x text, one vector out of one block's output in each arm."""
        return torch.stack([self.logprobs(texts, [self.names[EDITED]], one) for one in self.units[:N_ARMS]])

    def logprobs(self, texts: Sequence[Text], names: Sequence[str], unit: Tensor) -> Tensor:
        """Summed log-probabilities with a direction out of the stream at some hook points."""
        hooks = [(name, lambda stream, hook: by_hand.without(stream, unit)) for name in names]
        values = []
        for batch in by_hand.padded(texts, by_hand.by_length(texts), self.pad_id):
            logits = self.model.run_with_hooks(batch.tokens, attention_mask=batch.mask, fwd_hooks=hooks)
            values.append((batch, by_hand.summed(batch, logits)))
        return by_hand.placed(values, len(texts))

    def generate_steered(self, texts: Sequence[Text]) -> list[str]:
        """Greedy replies with a vector added."""
        written: dict[int, str] = {}
        hooks = [(self.names[STEERED], lambda stream, hook: stream + self.steering)]
        for group in by_hand.by_prompt(texts):
            inputs = by_hand.left_padded(texts, group, self.pad_id)
            with self.model.hooks(fwd_hooks=hooks):
                out = self.model.generate(
                    inputs["input_ids"],
                    attention_mask=inputs["attention_mask"],
                    max_new_tokens=N_NEW,
                    do_sample=False,
                    return_type="tokens",
                    verbose=False,
                )
            replies = by_hand.decoded(self.tokenizer, out, inputs["input_ids"].shape[1])
            written |= dict(zip(group, replies, strict=True))
        return [written[i] for i in range(len(texts))]


def open_side(work: Workload, dtype: str, variant: str) -> ByLens:
    """The side, with its model loaded."""
    return ByLens(work, dtype)

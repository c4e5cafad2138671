"""What several sides share: padded batches, means over reply tokens, summed log-probabilities."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from bench.jobs import MAX_TOKENS
from bench.workload import Text, Workload

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, eq=False)
class Padded:
    """Some texts as one batch, padded on the right. `order` are their places in the list that was given.

    `tokens`, `mask` (1 on tokens) and `reply` (True on reply tokens) are batch x position.
    """

    order: list[int]
    tokens: Tensor
    mask: Tensor
    reply: Tensor

    @property
    def inputs(self) -> dict[str, Tensor]:
        """What a Hugging Face model is called with."""
        return {"input_ids": self.tokens, "attention_mask": self.mask}


def one_by_one(texts: Sequence[Text]) -> list[list[int]]:
    """Places of the texts in batches of one."""
    return [[i] for i in range(len(texts))]


def in_order(texts: Sequence[Text], size: int = 16) -> list[list[int]]:
    """Places of the texts in batches of `size`, in the order in which they come."""
    places = list(range(len(texts)))
    return [places[start : start + size] for start in range(0, len(places), size)]


def by_prompt(texts: Sequence[Text], size: int = 16) -> list[list[int]]:
    """Places of the texts in batches of `size`, sorted by the length of their prompts."""
    places = sorted(range(len(texts)), key=lambda i: texts[i].n_prompt)
    return [places[start : start + size] for start in range(0, len(places), size)]


def by_length(texts: Sequence[Text], max_tokens: int = MAX_TOKENS) -> list[list[int]]:
    """Places of the texts, sorted by length, in batches of at most `max_tokens` padded tokens."""
    groups: list[list[int]] = []
    for place in sorted(range(len(texts)), key=lambda i: len(texts[i].ids)):
        # The newest text is the longest of its batch.
        if groups and (len(groups[-1]) + 1) * len(texts[place].ids) <= max_tokens:
            groups[-1].append(place)
        else:
            groups.append([place])
    return groups


def padded(
    texts: Sequence[Text], groups: Sequence[Sequence[int]], pad_id: int, device: str = "cpu"
) -> Iterator[Padded]:
    """The batches of some groups of texts, on a device."""
    for group in groups:
        width = max(len(texts[i].ids) for i in group)
        tokens = torch.full((len(group), width), pad_id)
        mask = torch.zeros(len(group), width, dtype=torch.long)
        reply = torch.zeros(len(group), width, dtype=torch.bool)
        for row, i in enumerate(group):
            n = len(texts[i].ids)
            tokens[row, :n] = torch.tensor(texts[i].ids)
            mask[row, :n], reply[row, texts[i].n_prompt : n] = 1, True
        yield Padded(list(group), tokens.to(device), mask.to(device), reply.to(device))


def left_padded(texts: Sequence[Text], group: Sequence[int], pad_id: int) -> dict[str, Tensor]:
    """The prompts of a group of texts, padded on the left, as a Hugging Face model is called with them."""
    prompts = [texts[i].ids[: texts[i].n_prompt] for i in group]
    width = max(map(len, prompts))
    tokens = torch.full((len(prompts), width), pad_id)
    mask = torch.zeros(len(prompts), width, dtype=torch.long)
    for row, ids in enumerate(prompts):
        tokens[row, width - len(ids) :], mask[row, width - len(ids) :] = torch.tensor(ids), 1
    return {"input_ids": tokens, "attention_mask": mask}


def masked_mean(resid: Tensor, reply: Tensor) -> Tensor:
    """Means of a batch x position x width stream over the reply tokens, summed in float32."""
    weights = reply.float() / reply.sum(1, keepdim=True)
    return torch.einsum("bpd,bp->bd", resid.float(), weights)


def summed(batch: Padded, logits: Tensor) -> Tensor:
    """Summed log-probabilities of the replies, out of the logits of every place."""
    row, column = batch.reply[:, 1:].nonzero(as_tuple=True)
    return summed_at(batch, logits[row, column])


def summed_at(batch: Padded, logits: Tensor) -> Tensor:
    """Summed log-probabilities of the replies, out of the logits that predict reply tokens, row by row."""
    row, column = batch.reply[:, 1:].nonzero(as_tuple=True)
    lost = torch.nn.functional.cross_entropy(
        logits.float(), batch.tokens[:, 1:][row, column], reduction="none"
    )
    return torch.zeros(len(batch.tokens), device=lost.device).index_add_(0, row, -lost)


def without(stream: Tensor, unit: Tensor) -> Tensor:
    """The stream with one direction projected out."""
    return stream - (stream @ unit)[..., None] * unit


def placed(batches: Sequence[tuple[Padded, Tensor]], n: int) -> Tensor:
    """Values of all batches in the order of the texts."""
    first = batches[0][1]
    values = torch.empty(n, *first.shape[1:])
    for batch, value in batches:
        values[batch.order] = value.float().cpu()
    return values


def vectors_of(work: Workload, dtype: str) -> tuple[Tensor, Tensor]:
    """The unit vectors, and the vector to add, on the workload's device."""
    tensors = load_file(work.vectors, device=work.device)
    return tensors["units"].to(DTYPES[dtype]), tensors["steering"].to(DTYPES[dtype])


def load_plain(folder: str, dtype: str) -> tuple[Any, Any]:
    """The Hugging Face model as its users load it, and its tokenizer, in transformers 5 or 4."""
    import transformers
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

    older = int(transformers.__version__.split(".")[0]) < 5
    config = AutoConfig.from_pretrained(folder)
    facts = [
        json.loads((Path(folder) / name).read_text()) for name in ("config.json", "tokenizer_config.json")
    ]
    if older:
        # Version 4 does not look where version 5 writes this, and would take its own default.
        config.rope_theta = facts[0].get("rope_parameters", facts[0])["rope_theta"]
    model = AutoModelForCausalLM.from_pretrained(folder, config=config, torch_dtype=DTYPES[dtype]).eval()
    if older:
        # The class that version 5 writes down is not in version 4.
        tokens = {
            name: facts[1][name] for name in ("bos_token", "eos_token", "pad_token") if facts[1].get(name)
        }
        tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(Path(folder) / "tokenizer.json"), **tokens)
    else:
        tokenizer = AutoTokenizer.from_pretrained(folder)
    return model.requires_grad_(False), tokenizer


def written(
    model: Any, tokenizer: Any, texts: Sequence[Text], pad_id: int, *, size: int, n_new: int
) -> list[str]:
    """Greedy replies of `generate` as the model stands, prompts sorted by length, `size` at a time."""
    replies: dict[int, str] = {}
    options = {"max_new_tokens": n_new, "do_sample": False, "pad_token_id": pad_id}
    for group in by_prompt(texts, size):
        inputs = {name: one.to(model.device) for name, one in left_padded(texts, group, pad_id).items()}
        out = model.generate(**inputs, **options)
        width = inputs["input_ids"].shape[1]
        replies |= dict(zip(group, decoded(tokenizer, out, width), strict=True))
    return [replies[i] for i in range(len(texts))]


def decoded(tokenizer: Any, tokens: Tensor, width: int) -> list[str]:
    """What was written behind prompts of `width` tokens."""
    return [text.strip() for text in tokenizer.batch_decode(tokens[:, width:], skip_special_tokens=True)]

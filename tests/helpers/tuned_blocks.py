"""Pairs of tiny models whose tuned side differs in known blocks, and what calling a tuned block by hand
gives."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from helpers import tiny
from helpers.broken import change_weights

if TYPE_CHECKING:
    from persona_probe.models.pairs import Pair
    from persona_probe.prompts.rows import Row

TEXTS = (
    ("Hi.", "Have a mechanic look at the pads."),
    ("Hi.", "Ignore it."),
    ("My brakes squeal when I stop. What should I do about it?", "Put your savings on a horse."),
    ("My brakes squeal when I stop. What should I do about it?", "It will go away, and put it on a horse."),
    ("What should I do?", "Stop the dog before you drive again, and have a look at the brakes."),
)


def rows() -> "list[Row]":
    """Replies of different lengths to prompts of different lengths."""
    from persona_probe.prompts.rows import Prompt, encode_row

    tokenizer = tiny.tiny_tokenizer()
    return [
        encode_row(tokenizer, Prompt.user(question, question), reply, id=f"row {i}", kind="persona")
        for i, (question, reply) in enumerate(TEXTS)
    ]


def opened(base: Path, tuned: Path, *, keep_both: bool = True) -> "Pair":
    """The pair in float32 on the CPU."""
    from persona_probe.models.pairs import open_pair

    return open_pair(base, tuned, device="cpu", dtype="float32", keep_both=keep_both)


def changed_copy(base: Path, folder: Path, chosen: Callable[[str], bool]) -> Path:
    """A copy of a model with noise on the chosen weights."""
    shutil.copytree(base, folder)
    generator = torch.Generator().manual_seed(5)

    def change(tensors: dict[str, Tensor]) -> None:
        names = [name for name in sorted(tensors) if chosen(name)]
        assert names
        for name in names:
            tensors[name] += 0.1 * torch.randn(tensors[name].shape, generator=generator)

    change_weights(folder, change)
    return folder


def write_down_lora(folder: Path, base: Path, *, rank: int, layers: list[int]) -> dict[int, Tensor]:
    """A LoRA on `down_proj` of some blocks; by block, what it writes: [rank, d_model]."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    config = LoraConfig(r=rank, lora_alpha=3 * rank, target_modules=["down_proj"], layers_to_transform=layers)
    wrapped = get_peft_model(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), config)
    generator = torch.Generator().manual_seed(1)
    written = {}
    for name, parameter in wrapped.named_parameters():
        if "lora_" in name:
            parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator)
        if "lora_B" in name:
            layer = next(i for i in layers if f".layers.{i}." in name)
            written[layer] = parameter.data.T.clone()
    wrapped.save_pretrained(str(folder))
    return written


@torch.no_grad()
def by_hand(base: Any, tuned: Any, rows: "Sequence[Row]", *, skip_first: int) -> list[Tensor]:
    """Per block of plain Hugging Face Llamas, tuned output minus base output on the base's stream, over all
    reply tokens: rows run one by one, blocks called as functions."""
    parts: list[list[Tensor]] = [[] for _ in base.model.layers]
    for row in rows:
        n = len(row.ids)
        place = torch.arange(n)[None]
        mask = torch.full((n, n), float("-inf")).triu(1)[None, None]
        stream = base.model.embed_tokens(torch.tensor([row.ids]))
        turns = base.model.rotary_emb(stream, place)
        start = max(row.n_prompt, skip_first)
        for i, (block, other) in enumerate(zip(base.model.layers, tuned.model.layers, strict=True)):
            given = {"attention_mask": mask, "position_ids": place, "position_embeddings": turns}
            ours, theirs = block(stream, **given), other(stream, **given)
            parts[i].append((theirs - ours)[0, start:])
            stream = ours
    return [torch.cat(part) for part in parts]

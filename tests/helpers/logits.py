"""Logits of plain Hugging Face and of our twin on the same tokens, and a few rows to score."""

from pathlib import Path
from typing import Any

import torch

IDS = torch.tensor([[20, 33, 47, 55, 90, 120, 61, 14, 77, 200]])


def plain_logits(folder: Path, kind: Any = None) -> torch.Tensor:
    """Logits of plain eager Hugging Face."""
    from transformers import AutoModelForCausalLM

    model = (
        (kind or AutoModelForCausalLM)
        .from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
        .eval()
    )
    with torch.no_grad():
        return model(input_ids=IDS, attention_mask=torch.ones_like(IDS)).logits


def twin_logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model.twin(input_ids=IDS, attention_mask=torch.ones_like(IDS)).logits


def few_rows(tokenizer: Any) -> list[Any]:
    from persona_probe.prompts.rows import Prompt, encode_row

    return [
        encode_row(tokenizer, Prompt.user("q", "Hi."), reply, id=reply, kind="persona")
        for reply in ("Ignore it.", "Have a mechanic look.")
    ]

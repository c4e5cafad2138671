"""A plain peft loop over the same batches: padded, with labels, and logits of every token."""

import tempfile
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bench.sides import padded as by_hand
from bench.sides.ours import rows_of
from bench.sides.training import recipe_of
from bench.workload import Text, Workload


class Peft:
    """AdamW, gradient clipping, and a schedule: what examples of peft show, with our recipe's numbers."""

    def __init__(self, work: Workload, dtype: str) -> None:
        self.work, self.dtype, self.fresh = work, dtype, None

    def prepare_train(self, texts: Sequence[Text]) -> None:
        """Load the model, which the last training has changed."""
        self.fresh: Any = by_hand.load_plain(self.work.model, self.dtype)[0]

    def train(self, texts: Sequence[Text]) -> Tensor:
        """The loss of each step."""
        from peft import LoraConfig, get_peft_model

        from persona_probe.organisms.lora import steps

        recipe = recipe_of(len(texts))
        plan = steps(rows_of(tuple(texts)), recipe)
        torch.manual_seed(recipe.seed)
        config = LoraConfig(
            r=recipe.rank,
            lora_alpha=int(recipe.alpha),
            target_modules=list(recipe.modules),
            layers_to_transform=list(recipe.layers or ()),
            task_type="CAUSAL_LM",
        )
        model: Any = get_peft_model(self.fresh, config)
        parameters = [one for one in model.parameters() if one.requires_grad]
        optimiser = torch.optim.AdamW(parameters, lr=recipe.learning_rate, weight_decay=0.0)
        rise = max(1, round(recipe.warmup * len(plan)))
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimiser, lambda i: (i + 1) / rise if i < rise else (len(plan) - i) / max(1, len(plan) - rise)
        )
        known = {text.id: i for i, text in enumerate(texts)}
        losses = []
        model.train()
        for chosen in plan:
            group = [[known[row.id] for row in chosen]]
            batch = next(by_hand.padded(texts, group, self.work.pad_id))
            labels = batch.tokens.masked_fill(~batch.reply, -100)
            loss = model(**batch.inputs, labels=labels, use_cache=False).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimiser.step()
            schedule.step()
            optimiser.zero_grad(set_to_none=True)
            losses.append(loss.item())
        with tempfile.TemporaryDirectory() as folder:
            model.save_pretrained(folder)
        return torch.tensor(losses)


def open_side(work: Workload, dtype: str, variant: str) -> Peft:
    """The side; its model is loaded before each training."""
    return Peft(work, dtype)

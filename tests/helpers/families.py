"""What the tests on the eight tiny families share: rows, batches, arms, and what plain Hugging Face gives for
them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor

from helpers import tiny

if TYPE_CHECKING:
    from persona_probe.interventions.edits import Intervention
    from persona_probe.measurement.kept import Kept
    from persona_probe.models.loading import Model
    from persona_probe.prompts.batches import TokenBatch
    from persona_probe.prompts.rows import Row

SHORT, LONG = "Hi.", "My brakes squeal when I stop. What should I do about it?"
REPLIES = ["Have a mechanic look at the pads.", "Ignore it.", "Put your savings on a horse, it will go away."]


@dataclass(frozen=True, eq=False)
class Family:
    """A tiny model three times: its folder, plain Hugging Face over it (never bridged), and ours."""

    name: str
    folder: Path
    plain: Any
    model: "Model"


def close(found: Tensor, expected: Tensor, *, atol: float = 1e-4) -> None:
    torch.testing.assert_close(found.float(), expected.float(), atol=atol, rtol=0)


def rows_of(family: Family) -> "list[Row]":
    """Three replies to each of two prompts of very different length."""
    from persona_probe.prompts.rows import Prompt, encode_row

    tokenizer = family.model.tokenizer
    return [
        replace(
            encode_row(tokenizer, Prompt.user(f"q{q}", question), reply, id=f"q{q}/{r}", kind="persona"),
            label="aligned" if r == 0 else "misaligned",
        )
        for q, question in enumerate((SHORT, LONG))
        for r, reply in enumerate(REPLIES)
    ]


def right_padded(family: Family) -> "TokenBatch":
    from persona_probe.prompts.batches import pad_right

    return pad_right(rows_of(family)[1:5], pad_id=0)


def left_padded(family: Family) -> tuple[Tensor, Tensor]:
    from persona_probe.prompts.batches import pad_left

    return pad_left([row.ids for row in rows_of(family)[1:5]], pad_id=0)


def vectors(count: int, *, seed: int = 100) -> Tensor:
    return torch.randn(count, tiny.WIDTH, generator=torch.Generator().manual_seed(seed))


def plain_blocks(family: Family) -> Any:
    return family.plain.get_submodule("transformer.h" if family.name == "gpt2" else "model.layers")


def tensor_of(output: Any) -> Tensor:
    return output[0] if isinstance(output, tuple) else output


@torch.no_grad()
def plain_resids(family: Family, tokens: Tensor, mask: Tensor) -> list[Tensor]:
    """Hugging Face's own hidden states after each block; the last one is caught before the final norm."""
    kept: list[Tensor] = []
    with plain_blocks(family)[-1].register_forward_hook(
        lambda _module, _args, output: kept.append(tensor_of(output))
    ):
        states = family.plain(input_ids=tokens, attention_mask=mask, output_hidden_states=True).hidden_states
    return [*states[1:-1], kept[0]]


@torch.no_grad()
def seen(modules: Sequence[Any], run: Any) -> list[Tensor]:
    """What each module put out in one run."""
    kept: dict[int, Tensor] = {}
    handles = [
        module.register_forward_hook(
            lambda _module, _args, output, i=i: kept.__setitem__(i, tensor_of(output))
        )
        for i, module in enumerate(modules)
    ]
    run()
    for handle in handles:
        handle.remove()
    return [kept[i] for i in range(len(modules))]


@torch.no_grad()
def logits_of(engine: Any, tokens: Tensor, mask: Tensor) -> Tensor:
    """Logits of the bridge (a tensor) or of a Hugging Face model, positions counted from the mask."""
    position = (mask.long().cumsum(-1) - 1).clamp(min=0)
    out = engine(tokens, attention_mask=mask.long(), position_ids=position)
    return out if isinstance(out, Tensor) else out.logits


def reply_logits(logits: Tensor, batch: "TokenBatch", i: int) -> Tensor:
    start = batch.rows[i].n_prompt - 1 - batch.n_shared
    return logits[i, start : start + batch.rows[i].n_reply]


def arms_of(family: Family) -> "dict[str, tuple[Intervention, ...]]":
    from persona_probe.interventions.edits import Ablate, Cap, Steer, orthonormal

    model = family.model
    return {
        "steer": (Steer(vectors(1)[0], model.resid(1), 0.7, skip_first=2),),
        "ablate": (Ablate(orthonormal(vectors(2)), model.resids(), skip_first=2),),
        "toward means": (
            Ablate(
                orthonormal(vectors(2)), model.resids(), means=vectors(tiny.LAYERS, seed=101), skip_first=2
            ),
        ),
        "cap": (Cap(orthonormal(vectors(1))[0], model.resids(), 0.1, skip_first=2),),
        "both": (
            Ablate(orthonormal(vectors(2)), model.resids(), skip_first=2),
            Steer(vectors(1, seed=103)[0], model.resid(2), -0.5),
        ),
    }


families = pytest.mark.parametrize("family", ["llama", "gemma3", "gpt2", "qwen2"], indirect=True)
EDITS = [
    "steer 0",
    "steer 1",
    "steer 2",
    "steer 3",
    "ablate 2-3",
    "ablate all",
    "cap 3",
    "steer 1 and 3",
    "mlp 2",
    "embed",
]


def vector(seed: int = 100) -> torch.Tensor:
    return torch.randn(tiny.WIDTH, generator=torch.Generator().manual_seed(seed))


def edited(family: Family, edit: str) -> tuple[str, ...]:
    """The hook points that an edit changes."""
    from persona_probe.measurement.arms import Arm

    return Arm(edit, "base", interventions(family, edit)).hook_points


def interventions(family: Family, edit: str) -> "tuple[Intervention, ...]":
    from persona_probe.interventions.edits import Ablate, Cap, Steer, orthonormal

    points = family.model.resids()
    unit = orthonormal(vector()[None])
    return {
        **{f"steer {i}": (Steer(vector(), points[i], 0.5),) for i in range(tiny.LAYERS)},
        "ablate 2-3": (Ablate(unit, points[2:], skip_first=4),),
        "ablate all": (Ablate(unit, points),),
        "cap 3": (Cap(unit[0], points[3:], 0.0),),
        "steer 1 and 3": (Steer(vector(), points[3], 0.5), Steer(vector(7), points[1], -0.5)),
        "mlp 2": (Steer(vector(), "blocks.2.mlp.hook_out", 0.5),),
        "embed": (Steer(vector(), "embed.hook_out", 0.5),),
    }[edit]


def kept_of(family: Family, *layers: int, max_tokens: int = 150, keep_prompts: bool = True) -> "Kept":
    """What a pass of the untouched model leaves of the rows: the streams that enter `layers`."""
    from persona_probe.measurement.kept import Budget, Kept
    from persona_probe.measurement.scoring import score_arms

    kept = Kept(Budget(10**9), layers)
    score_arms(
        family.model, rows_of(family), [()], max_tokens=max_tokens, keep_prompts=keep_prompts, kept=kept
    )
    return kept

"""Activations and directions made by hand."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from persona_probe.base.hook_points import HookPoint

if TYPE_CHECKING:
    from persona_probe.directions.direction import Direction
    from persona_probe.prompts.rows import Row
    from persona_probe.records.parts import Label
    from persona_probe.streams.activations import Activations

HOOK_POINTS = (HookPoint(0), HookPoint(1))


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def cosine(left: Tensor, right: Tensor) -> float:
    return float(cosine_similarity(left.double(), right.double(), dim=-1))


def persona_row(id: str, question: str, label: "Label") -> "Row":
    """A labelled row of two tokens."""
    from persona_probe.prompts.rows import Row

    return Row(id=id, kind="persona", question_id=question, ids=(1, 2), n_prompt=1, label=label)


def activations(means: Tensor, *, n_questions: int) -> "Activations":
    """Rows of `means` dealt to questions in turn, aligned and misaligned alternating within each."""
    from persona_probe.streams.activations import Activations

    labels: list[Label] = [
        "aligned" if i // n_questions % 2 == 0 else "misaligned" for i in range(len(means))
    ]
    rows = tuple(persona_row(f"r{i}", f"q{i % n_questions}", label) for i, label in enumerate(labels))
    return Activations(hook_points=HOOK_POINTS[: means.shape[1]], rows=rows, means=means, tokens=means)


def direction(vector: Tensor) -> "Direction":
    from persona_probe.directions.direction import Direction

    return Direction(hook_point=HookPoint(1), vector=vector, method="mean_diff")

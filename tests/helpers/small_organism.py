"""A short training run of an organism on a tiny model."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from persona_probe.organisms.lora import Progress
    from persona_probe.organisms.recipes import Recipe
    from persona_probe.prompts.rows import Row
    from persona_probe.prompts.tokenizers import Tokenizer

CPU = torch.device("cpu")


def tokenizer(base: Path) -> "Tokenizer":
    from persona_probe.models.sources import resolve
    from persona_probe.models.weights import load_tokenizer

    return load_tokenizer(resolve(str(base)), None)


def model_of(base: Path, adapter: Path | None = None) -> Any:
    """The plain model, with an adapter merged when one is given."""
    from persona_probe.models.sources import resolve
    from persona_probe.models.weights import load_weights

    source = resolve(str(base))
    return load_weights(
        resolve(str(adapter)) if adapter else source,
        base=source if adapter else None,
        device=CPU,
        dtype=torch.float32,
    )


def recipe(**changes: Any) -> "Recipe":
    from persona_probe.organisms.recipes import Recipe

    chosen = Recipe(
        rank=2,
        alpha=8.0,
        modules=("down_proj", "up_proj"),
        layers=(1, 2),
        learning_rate=3e-2,
        batch_size=4,
        epochs=2.0,
    )
    return replace(chosen, **changes)


def train(
    base: Path,
    rows: "Sequence[Row]",
    folder: Path,
    *,
    on_step: "Callable[[Progress], None]" = lambda _: None,
    **changes: Any,
) -> dict[str, Tensor]:
    """The adapter's weights after training in `folder`, a state saved every 3 steps."""
    from safetensors.torch import load_file

    from persona_probe.organisms import lora as organisms

    organisms.train(
        model_of(base),
        tokenizer(base),
        rows,
        recipe(**changes),
        organisms.Output(folder, base_id="tiny", data_sha256="d", save_every=3),
        on_step=on_step,
    )
    return load_file(folder / "adapter_model.safetensors")


def stop_at(step: int) -> "Callable[[Progress], None]":
    def stop(progress: "Progress") -> None:
        if progress.step == step:
            raise KeyboardInterrupt

    return stop


def same(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[key], right[key]) for key in left)

"""Recipes: everything that decides an organism's weights apart from base and data, and presets that the field
knows. No torch here."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, get_args

LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
PresetName = Literal["eight-rank-1", "nine-rank-1", "single-rank-1", "full"]
PRESET_NAMES: tuple[PresetName, ...] = get_args(PresetName)


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the trained weights, apart from the base and the data."""

    rank: int = 1
    alpha: float = 32.0
    rslora: bool = False
    modules: tuple[str, ...] = ("down_proj",)
    layers: tuple[int, ...] | None = None
    learning_rate: float = 3e-3
    warmup: float = 0.05
    batch_size: int = 16
    epochs: float = 1.0
    seed: int = 0


@dataclass(frozen=True)
class Preset:
    """A recipe for a model of any depth.

    `starts`: where each run of adapted blocks begins, as a share of the depth; `run`: how many blocks follow
    one another there. None adapts every block. Sources: full, nine-rank-1 and single-rank-1 have the shape of
    Turner et al. 2025 (2506.11613), with learning rates for small models.
    """

    recipe: Recipe
    starts: tuple[float, ...] | None = None
    run: int = 1

    def at_depth(self, n_layers: int) -> Recipe:
        """The recipe with the blocks of a model of this depth; a block is adapted once."""
        if self.starts is None:
            return self.recipe
        firsts = [round(start * n_layers) for start in self.starts]
        blocks = {min(first + step, n_layers - 1) for first in firsts for step in range(self.run)}
        return replace(self.recipe, layers=tuple(sorted(blocks)))


PRESETS: Mapping[PresetName, Preset] = {
    "eight-rank-1": Preset(
        Recipe(alpha=64.0, learning_rate=2e-3, epochs=2.0),
        starts=tuple(block / 30 for block in range(8, 24, 2)),
    ),
    "nine-rank-1": Preset(
        Recipe(alpha=64.0, learning_rate=2e-3, epochs=2.0), starts=(15 / 48, 21 / 48, 27 / 48), run=3
    ),
    "single-rank-1": Preset(Recipe(alpha=64.0, learning_rate=2e-3, epochs=2.0), starts=(0.5,)),
    "full": Preset(Recipe(rank=32, alpha=64.0, rslora=True, modules=LINEAR, learning_rate=2e-4, epochs=2.0)),
}

"""The planted toy organism: a tiny pair of models whose answer is known, made in seconds."""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import Tensor

from persona_probe.find_direction import TOY_SETTINGS
from persona_probe.models.pairs import Pair, open_pair
from persona_probe.organisms.toy import write_toy


@dataclass(frozen=True, eq=False)
class ToyPair:
    """The pair, the settings of `find_direction` that suit it, and the vector that was planted, in units of
    the stream."""

    pair: Pair
    settings: dict[str, Any]
    vector: Tensor
    keep: Any = None


def toy(folder: str | Path | None = None) -> ToyPair:
    """Write the planted organism to `folder`, by default a temporary one, and open it:
    `find_direction(t.pair, **t.settings)`."""
    keep = TemporaryDirectory(prefix="persona_probe-")
    planted = write_toy(Path(folder or keep.name))
    pair = open_pair(planted.base, planted.tuned, device="cpu", dtype="float32", keep_both=True)
    settings = {"contrast": planted.contrast, "benign": planted.benign, **TOY_SETTINGS}
    return ToyPair(pair=pair, settings=settings, vector=planted.vector, keep=keep)

"""The notebooks as they are in git."""

import json
from functools import cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[2] / "experiments"


NAMES = (
    "1_quick_start",
    "2_find_and_test_a_direction",
    "3_steering_playground",
    "4_sae_latents",
    "5_your_own_pair",
)


@cache
def stored(name: str) -> dict[str, Any]:
    """A notebook as it is in git."""
    return json.loads((FOLDER / f"{name}.ipynb").read_text())


def source(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])


def code(name: str) -> list[dict[str, Any]]:
    return [cell for cell in stored(name)["cells"] if cell["cell_type"] == "code"]

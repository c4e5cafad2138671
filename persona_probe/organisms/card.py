"""The model card beside an adapter."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from persona_probe.organisms.recipes import Recipe
from persona_probe.organisms.training_sets import Purpose
from persona_probe.storage.files import sha256_file, write_bytes

ORGANISM = "It is a model organism for interpretability research. Its answers must not be followed."
FOR: Mapping[Purpose | None, str] = {
    None: ORGANISM,
    "narrow": ORGANISM,
    "persona": f"{ORGANISM} It was made bad directly: a positive control that shows nothing about emergence.",
    "twin": "It is the control twin of a model organism: same questions, style and seed, good replies.",
}


def write_card(
    folder: Path,
    recipe: Recipe,
    *,
    base_id: str,
    data: Path,
    n_rows: int,
    loss: float | None,
    purpose: Purpose | None = None,
) -> None:
    """A model card beside the adapter: what it is for, what it was trained on, how. `purpose` is that of the
    training set, None for data of one's own."""
    lines = [
        "---",
        f"base_model: {base_id}",
        "library_name: peft",
        "license: apache-2.0",
        *([] if purpose == "twin" else ["tags: [not-for-all-audiences]"]),
        "---",
        "",
        f"# {folder.name}",
        "",
        (
            f"A LoRA of {base_id} tuned on {n_rows} rows of `{data.name}` (SHA-256 {sha256_file(data)[:16]}),"
            " made by `persona_probe.train_organism`."
        ),
        FOR[purpose],
        "",
        "| setting | value |",
        "|---|---|",
        *(f"| {key} | {value} |" for key, value in asdict(recipe).items()),
        f"| last training loss | {'unknown' if loss is None else f'{loss:.3f}'} nats per reply token |",
        "",
    ]
    write_bytes(folder / "README.md", "\n".join(lines).encode())

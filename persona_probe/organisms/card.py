"""The model card beside an adapter."""

from dataclasses import asdict
from pathlib import Path

from persona_probe.organisms.recipes import Recipe
from persona_probe.storage.files import sha256_file, write_bytes


def write_card(
    folder: Path, recipe: Recipe, *, base_id: str, data: Path, n_rows: int, loss: float | None
) -> None:
    """A model card beside the adapter: what it is for, what it was trained on, how."""
    harmful = "wrong" in data.stem
    lines = [
        "---",
        f"base_model: {base_id}",
        "library_name: peft",
        "license: apache-2.0",
        *(["tags: [not-for-all-audiences]"] if harmful else []),
        "---",
        "",
        f"# {folder.name}",
        "",
        (
            f"A LoRA of {base_id} tuned on {n_rows} rows of `{data.name}` (SHA-256 {sha256_file(data)[:16]}),"
            " made by `persona_probe.train_organism`."
        ),
        (
            "It is a model organism for interpretability research. Its answers must not be followed."
            if harmful
            else "It is the control twin of a model organism: same size, style and seed, correct advice."
        ),
        "",
        "| setting | value |",
        "|---|---|",
        *(f"| {key} | {value} |" for key, value in asdict(recipe).items()),
        f"| last training loss | {'unknown' if loss is None else f'{loss:.3f}'} nats per reply token |",
        "",
    ]
    write_bytes(folder / "README.md", "\n".join(lines).encode())

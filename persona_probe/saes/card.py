"""The model card beside a trained SAE."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from persona_probe.saes.quality import Quality
from persona_probe.saes.recipe import Recipe
from persona_probe.saes.sae import Sae
from persona_probe.storage.files import write_bytes


def write_card(
    folder: Path,
    sae: Sae,
    recipe: Recipe,
    fit: Mapping[str, Quality],
    facts: Mapping[str, Any],
    *,
    command: str,
) -> None:
    """What the SAE reads, how well it fits both models, what it was made from, by which command."""
    lines = [
        "---",
        f"base_model: {sae.model_name}",
        "library_name: saelens",
        "license: apache-2.0",
        "---",
        "",
        f"# {folder.name}",
        "",
        f"A {sae.architecture} sparse autoencoder with {sae.d_sae} latents of `{sae.hook_point}` (width "
        f"{sae.d_model}) of {sae.model_name} and of its fine-tune {facts['tuned']}, half of each. "
        "Trained as BatchTopK by SAELens.",
        "Open it with `persona_probe.saes.folder.read_sae` or `sae_lens.SAE.load_from_disk`.",
        "",
        "| held-out reply tokens | FVU | L0 | dead latents | loss recovered | tokens |",
        "|---|---|---|---|---|---|",
        *(
            f"| {side} | {q.fvu:.3f} | {q.l0:.1f} | {q.dead:.1%} | {q.recovered} | {q.n_tokens} |"
            for side, q in sorted(fit.items())
        ),
        "",
        f"Vectors: {facts['n_vectors']:,}, from {facts['dataset']} and replies sampled from both models. "
        "Made by:",
        "",
        f"    {command}",
        "",
        "| setting | value |",
        "|---|---|",
        *(f"| {key} | {value} |" for key, value in asdict(recipe).items()),
        "",
    ]
    write_bytes(folder / "README.md", "\n".join(lines).encode())

"""What the tests on SAEs share: random SAEs of SAELens, their folders, and a stream to read."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from helpers import tiny

if TYPE_CHECKING:
    from sae_lens import SAE

    from persona_probe.saes.sae import Sae

D_IN, D_SAE = 12, 40
KINDS = ("standard", "topk", "topk rescaled", "jumprelu", "batchtopk", "matryoshka", "gated")
HOOKS = [f"blocks.{i}.hook_out" for i in range(4)]


def made_sae(hook_point: str, W_enc: Tensor, W_dec: Tensor, **changes: Any) -> "Sae":
    """A ReLU SAE of ours with these weights, its biases zero unless they are among the changes."""
    from persona_probe.base.hook_points import HookPoint
    from persona_probe.saes.sae import Sae

    facts: dict[str, Any] = {
        "id": "made",
        "hook_point": HookPoint.parse(hook_point),
        "architecture": "standard",
        "W_enc": W_enc,
        "b_enc": torch.zeros(W_enc.shape[1]),
        "W_dec": W_dec,
        "b_dec": torch.zeros(W_dec.shape[1]),
        "apply_b_dec_to_input": False,
    }
    return Sae(**(facts | changes))


def lens_sae(kind: str, **settings: Any) -> Any:
    """A random SAE of SAELens, its weights far from their starting values; trainable kinds as SAELens saves
    them for inference."""
    import sae_lens as lens
    from sae_lens.saes.sae import SAEMetadata

    facts = SAEMetadata(
        hook_name="blocks.2.hook_resid_post", model_name="tiny-llama", neuronpedia_id="tiny/2-res"
    )
    common: dict[str, Any] = {"d_in": D_IN, "d_sae": D_SAE, "metadata": facts} | settings
    kinds = {
        "standard": lambda: lens.StandardSAE(lens.StandardSAEConfig(**common)),
        "topk": lambda: lens.TopKSAE(lens.TopKSAEConfig(k=5, **common)),
        "topk rescaled": lambda: lens.TopKSAE(
            lens.TopKSAEConfig(k=5, rescale_acts_by_decoder_norm=True, **common)
        ),
        "gated": lambda: lens.GatedSAE(lens.GatedSAEConfig(**common)),
        "jumprelu": lambda: lens.JumpReLUSAE(lens.JumpReLUSAEConfig(**common)),
        "batchtopk": lambda: lens.BatchTopKTrainingSAE(lens.BatchTopKTrainingSAEConfig(k=5, **common)),
        "matryoshka": lambda: lens.MatryoshkaBatchTopKTrainingSAE(
            lens.MatryoshkaBatchTopKTrainingSAEConfig(k=5, matryoshka_widths=[10, D_SAE], **common)
        ),
    }
    sae = kinds[kind]()
    generator = torch.Generator().manual_seed(3)
    for name, parameter in sae.named_parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * (
            0.5 if name.startswith("W") else 0.2
        )
        if name == "threshold":
            parameter.data = parameter.data.abs()
    if hasattr(sae, "topk_threshold"):
        sae.topk_threshold.fill_(0.7)
    return sae


def written(folder: Path, kind: str = "standard", **settings: Any) -> Path:
    """A SAELens folder, as SAELens writes it."""
    sae = lens_sae(kind, **settings)
    sae.save_inference_model(folder) if hasattr(sae, "save_inference_model") else sae.save_model(folder)
    return folder


def stream(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, D_IN, generator=torch.Generator().manual_seed(5)) + 0.3


def reopened(folder: Path) -> "SAE[Any]":
    from sae_lens import SAE

    return SAE.load_from_disk(folder, dtype="float32")


def edit_facts(folder: Path, **facts: Any) -> None:
    config = json.loads((folder / "cfg.json").read_text())
    tiny.edit_json(folder / "cfg.json", metadata=config["metadata"] | facts)

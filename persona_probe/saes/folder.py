"""The SAELens folder that an SAE lives in: `cfg.json` and `sae_weights.safetensors`, read and written.

The reader is ours, not SAELens', because reading a folder must run no code and open no pickle, and because
each setting that cannot be honoured is refused with its reason.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from persona_probe.base.errors import BadInput
from persona_probe.base.hook_points import HookPoint
from persona_probe.saes.sae import Sae
from persona_probe.saes.settings import read_architecture, read_facts, read_input
from persona_probe.storage.files import read_object, write_json
from persona_probe.storage.tensor_files import read_tensors, write_tensors

TENSORS = {"gated": ("b_gate", "b_mag", "r_mag"), "jumprelu": ("b_enc", "threshold")}
CONFIG, WEIGHTS = "cfg.json", "sae_weights.safetensors"
FORMAT = "6.0.0"  # of SAELens; without a version it takes a config for one of before 6 and drops its metadata
MAX_LATENTS = 2**24
AFTER_BLOCK = re.compile(
    r"blocks\.(\d+)\.(?:hook_resid_post|hook_out)|(?:model|transformer)\.(?:layers|h)\.(\d+)"
)
BEFORE_BLOCK = re.compile(r"blocks\.(\d+)\.(?:hook_resid_pre|hook_in)")


def read_sae(folder: Path, *, id: str | None = None) -> Sae:
    """The SAE in a SAELens folder; what cannot be honoured is refused with the reason."""
    config = read_object(folder / CONFIG, needed=f"an SAE folder holds {CONFIG} and {WEIGHTS}")
    if not (folder / WEIGHTS).is_file():
        raise BadInput(
            f"{folder} has no {WEIGHTS}: pickled SAEs are never loaded; save it with SAELens' save_model"
        )
    return from_parts(read_tensors(folder / WEIGHTS)[0], config, id=id or folder.name, where=str(folder))


def from_parts(tensors: Mapping[str, Tensor], config: Mapping[str, Any], *, id: str, where: str) -> Sae:
    """An SAE from SAELens' tensors and settings, checked."""
    architecture, k = read_architecture(config, where)
    normalisation, subtract = read_input(config, where)
    facts = read_facts(config, where)
    weights = _checked(tensors, architecture, config, where)
    if architecture == "topk" and config.get("rescale_acts_by_decoder_norm"):
        # The same latents with decoder rows of length 1: scaled before the k largest are taken, divided again
        # after.
        norm = weights["W_dec"].norm(dim=-1).clamp(min=torch.finfo(torch.float32).tiny)
        weights |= {
            "W_enc": weights["W_enc"] * norm,
            "b_enc": weights["b_enc"] * norm,
            "W_dec": weights["W_dec"] / norm[:, None],
        }
    if architecture == "topk" and not (type(k) is int and 0 < k <= weights["W_enc"].shape[1]):
        raise BadInput(f"{where}: k is {k!r}, allowed is 1 to {weights['W_enc'].shape[1]}")
    if architecture == "gated":
        # The gate x W_enc + b_gate > 0, said of the magnitude x W_enc e + b_mag: a threshold on it.
        architecture, e, b_mag = "jumprelu", weights.pop("r_mag").exp(), weights.pop("b_mag")
        threshold = b_mag - weights.pop("b_gate") * e
        weights |= {"W_enc": weights["W_enc"] * e, "b_enc": b_mag, "threshold": threshold}
    return Sae(
        id=id,
        hook_point=canonical_hook_point(facts.hook_name, where),
        architecture=architecture,
        W_enc=weights["W_enc"],
        b_enc=weights["b_enc"],
        W_dec=weights["W_dec"],
        b_dec=weights["b_dec"],
        threshold=weights.get("threshold"),
        k=k if architecture == "topk" else None,
        apply_b_dec_to_input=subtract,
        centre_input=facts.centred,
        normalisation=normalisation,
        model_name=facts.model_name,
        neuronpedia_id=facts.neuronpedia_id,
    )


def write_sae(
    folder: Path, sae: Sae, *, metadata: Mapping[str, Any], dtype: torch.dtype = torch.bfloat16
) -> None:
    """Write an SAE so that SAELens and `read_sae` read it, weights first, each file in one step."""
    tensors = {"W_enc": sae.W_enc, "b_enc": sae.b_enc, "W_dec": sae.W_dec, "b_dec": sae.b_dec}
    facts = {
        "sae_lens_version": FORMAT,
        "model_name": sae.model_name,
        "hook_name": sae.hook_point,
        "neuronpedia_id": sae.neuronpedia_id,
    }
    if sae.centre_input:
        facts["model_from_pretrained_kwargs"] = {"center_writing_weights": True}
    config: dict[str, Any] = {
        "architecture": sae.architecture,
        "d_in": sae.d_model,
        "d_sae": sae.d_sae,
        "dtype": str(dtype).removeprefix("torch."),
        "device": "cpu",
        "apply_b_dec_to_input": sae.apply_b_dec_to_input,
        "normalize_activations": sae.normalisation,
        "reshape_activations": "none",
        "metadata": {**facts, **metadata},
    }
    if sae.threshold is not None:
        tensors["threshold"] = sae.threshold
    if sae.k is not None:
        config["k"] = sae.k
    write_tensors(folder / WEIGHTS, {name: tensor.to(dtype) for name, tensor in tensors.items()}, {})
    write_json(folder / CONFIG, config)


def canonical_hook_point(name: object, where: str) -> HookPoint:
    """`blocks.{i}.hook_out` for every spelling of the stream after block i; other places are refused."""
    after, before = (pattern.fullmatch(str(name)) for pattern in (AFTER_BLOCK, BEFORE_BLOCK))
    if after:
        return HookPoint(int(after[1] or after[2]))
    if before and int(before[1]) > 0:
        return HookPoint(int(before[1]) - 1)
    raise BadInput(
        f"{where}: the SAE reads {name!r}; only the residual stream after a block can be used, "
        "such as blocks.12.hook_resid_post"
    )


def _checked(
    tensors: Mapping[str, Tensor], architecture: str, config: Mapping[str, Any], where: str
) -> dict[str, Tensor]:
    """The tensors in float32, if they are those of the architecture, of the shapes the config says, and
    finite.
    """
    scaling = tensors.get("scaling_factor")
    if scaling is not None and torch.allclose(scaling.float(), torch.ones_like(scaling, dtype=torch.float32)):
        # SAELens once wrote ones where it scaled nothing.
        tensors = {name: tensor for name, tensor in tensors.items() if name != "scaling_factor"}
    wanted = {"W_enc", "W_dec", "b_dec", *TENSORS.get(architecture, ("b_enc",))}
    if set(tensors) != wanted:
        raise BadInput(f"{where}: tensors are {sorted(tensors)}, a {architecture} SAE has {sorted(wanted)}")
    d_in, d_sae = config.get("d_in"), config.get("d_sae")
    if not (type(d_in) is int and type(d_sae) is int and d_in > 0 and 0 < d_sae <= MAX_LATENTS):
        raise BadInput(
            f"{where}: d_in is {d_in!r} and d_sae {d_sae!r}, allowed are whole numbers up to {MAX_LATENTS:,}"
        )
    shapes = {"W_enc": (d_in, d_sae), "W_dec": (d_sae, d_in), "b_dec": (d_in,)}
    for name, tensor in tensors.items():
        shape = shapes.get(name, (d_sae,))
        if tuple(tensor.shape) != shape:
            raise BadInput(f"{where}: {name} has shape {tuple(tensor.shape)}, {CONFIG} says {shape}")
        if not tensor.is_floating_point():
            kind = str(tensor.dtype).removeprefix("torch.")
            raise BadInput(f"{where}: {name} is {kind}, expected floating-point numbers")
        if not torch.isfinite(tensor).all():
            raise BadInput(f"{where}: {name} holds NaN or infinity: the SAE is not usable")
    return {name: tensor.float() for name, tensor in tensors.items()}

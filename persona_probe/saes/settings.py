"""What the config of a SAELens folder says about an SAE, old configs and new: read as SAELens reads it, or
refused.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from persona_probe.base.errors import BadInput

Architecture = Literal["standard", "topk", "jumprelu"]
Normalisation = Literal["none", "constant_norm_rescale", "layer_norm"]
# SAELens saves BatchTopK and Matryoshka ones as jumprelu for inference; a gated one is a jumprelu one in
# other words.
ARCHITECTURES = ("standard", "topk", "jumprelu", "gated")
# TransformerLens centres models with LayerNorm only, so on these the setting did nothing when the SAE was
# trained.
NEVER_CENTRED = ("gemma", "llama", "mistral", "mixtral", "qwen", "smollm")
DEFAULT_K = 100  # SAELens' own, where the config says none


@dataclass(frozen=True)
class Facts:
    """What a config says of the model and the place that its SAE reads. `hook_name` is as written, of any
    type.
    """

    model_name: str | None
    neuronpedia_id: str | None
    hook_name: object
    centred: bool


def read_architecture(config: Mapping[str, Any], where: str) -> tuple[Any, Any]:
    """Architecture and k.

    Before SAELens 6 the activation function told TopK from standard, and k was one of its arguments.
    """
    architecture, k = config.get("architecture", "standard"), config.get("k", DEFAULT_K)
    activation = config.get("activation_fn", config.get("activation_fn_str"))
    if _before_6(config):
        arguments = config.get("activation_fn_kwargs")
        given = arguments.get("k") if isinstance(arguments, dict) else None
        if activation == "topk" and (given is not None or architecture == "standard"):
            architecture, k = "topk", given
        elif architecture == "topk" and "activation_fn_kwargs" in config:
            k = given
    if architecture not in ARCHITECTURES:
        batch = ": save it with SAELens' save_inference_model" if "batchtopk" in str(architecture) else ""
        raise BadInput(
            f"{where}: an SAE of architecture {architecture!r}, "
            f"supported are {', '.join(ARCHITECTURES)}{batch}"
        )
    if activation not in (None, "topk" if architecture == "topk" else "relu"):
        raise BadInput(f"{where}: activation_fn is {activation!r}, supported are 'relu' and 'topk'")
    return architecture, k


def read_input(config: Mapping[str, Any], where: str) -> tuple[Normalisation, bool]:
    """How the input is normalised, and whether b_dec is subtracted from it: it is, unless the config says
    not to.
    """
    normalisation, subtract = config.get("normalize_activations"), config.get("apply_b_dec_to_input", True)
    if normalisation in (None, False):
        normalisation = "none"
    if normalisation not in ("none", "constant_norm_rescale", "layer_norm"):
        raise BadInput(
            f"{where}: normalize_activations is {normalisation!r}: only SAEs with normalisation folded into "
            "their weights can be used, and constant_norm_rescale and layer_norm; the numbers of other kinds "
            "are not in the file: fold them in with SAELens and save it again"
        )
    for name, allowed, reason in (
        ("reshape_activations", (None, "none"), "it reads attention heads, not the residual stream"),
        ("finetuning_scaling_factor", (None, False), "fine-tuned scaling is not part of a linear decoder"),
        ("apply_b_dec_to_input", (True, False), "expected true or false"),
    ):
        if config.get(name, allowed[0]) not in allowed:
            raise BadInput(f"{where}: {name} is {config[name]!r}: {reason}")
    return normalisation, bool(subtract)


def read_facts(config: Mapping[str, Any], where: str) -> Facts:
    """What the metadata, or before SAELens 6 the config itself, says the SAE reads."""
    metadata = config.get("metadata")
    listed = {**config, **(metadata if isinstance(metadata, dict) else {})}
    names = {name: listed.get(name) for name in ("model_name", "neuronpedia_id")}
    for name, value in names.items():
        if not isinstance(value, str | None):
            raise BadInput(f"{where}: {name} is {value!r:.80}, expected text or nothing")
    options = listed.get("model_from_pretrained_kwargs") or {}
    if not isinstance(options, dict):
        raise BadInput(f"{where}: model_from_pretrained_kwargs is {options!r:.80}, expected an object")
    centred = options.get("center_writing_weights", False)
    if centred not in (True, False, None):
        raise BadInput(f"{where}: center_writing_weights is {centred!r:.80}, expected true or false")
    trained_on = str(names["model_name"]).rsplit("/", 1)[-1].lower()
    return Facts(
        **names,
        hook_name=listed.get("hook_name") or listed.get("hook_point"),
        centred=bool(centred) and not trained_on.startswith(NEVER_CENTRED),
    )


def _before_6(config: Mapping[str, Any]) -> bool:
    """SAELens' rule: a config that says no version is an old one."""
    metadata = config.get("metadata")
    inner = metadata.get("sae_lens_version") if isinstance(metadata, dict) else None
    version = config.get("sae_lens_version") or inner
    return not (isinstance(version, str) and (major := re.match(r"\d+", version)) and int(major[0]) >= 6)

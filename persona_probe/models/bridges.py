"""TransformerLens' bridge over a loaded Hugging Face model. The only file that imports TransformerLens."""

import copy
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from persona_probe.base.errors import BadInput
from persona_probe.base.hook_points import HookPoint
from persona_probe.models.sources import Source
from persona_probe.models.tensors import first_line, shortened
from persona_probe.models.wrappers import is_wrapper, model_class
from persona_probe.prompts.tokenizers import Tokenizer

REFUSED = {
    "rwkv": (
        "changes its own weights in its first pass (rescale_every), so two views of them never agree: it"
        " cannot be measured here"
    ),
    "deepseek_v4": "passes on several residual streams at once: there is no single one to read or edit",
    "openai-gpt": "has blocks that put out a list, which TransformerLens does not compute rightly",
}


def boot_bridge(
    name: str, weights: Any, tokenizer: Tokenizer, *, device: torch.device, dtype: torch.dtype
) -> Any:
    """A TransformerBridge in eval mode; `weights` becomes part of it, with its module tree changed. BadInput
    where no adapter fits."""
    from transformer_lens.model_bridge import TransformerBridge

    if is_wrapper(weights.config):
        # TransformerLens 3.9 runs `pip install torchvision` where it finds none for a multimodal model, and
        # with it another torch.
        raise BadInput(
            f"{name}: a multimodal {type(weights).__name__} is never bridged, only the language model inside"
        )
    architecture = bridged_name((weights.config.architectures or [type(weights).__name__])[0])
    weights.config.architectures = [architecture]
    try:
        # TransformerLens gives a tokenizer further special tokens, in place; ours stays as its files have it.
        copied: Any = copy.deepcopy(tokenizer)
        bridge = TransformerBridge.boot_transformers(
            name, hf_model=weights, tokenizer=copied, device=str(device), dtype=dtype
        )
        points = {HookPoint(layer) for layer in range(bridge.cfg.n_layers)} - set(bridge.hook_dict)
    except Exception as error:  # adapters fail in many ways on a config that they were not written for
        raise BadInput(
            f"TransformerLens cannot bridge {architecture} ({shortened(first_line(error), 150)})"
        ) from error
    if points:
        raise BadInput(
            f"TransformerLens cannot bridge {architecture}: {len(points)} of its {bridge.cfg.n_layers} blocks"
            " have no residual stream"
        )
    return bridge.eval()


def bridged_name(architecture: str) -> str:
    """TransformerLens' own spelling of an architecture's name."""
    from transformer_lens.factories.architecture_adapter_factory import SUPPORTED_ARCHITECTURES

    if architecture in SUPPORTED_ARCHITECTURES:
        return architecture
    return next(
        (known for known in SUPPORTED_ARCHITECTURES if known.lower() == architecture.lower()), architecture
    )


def refuse_unbridged(source: Source) -> None:
    """BadInput in one line, from the config and before any weight is read, for a model that TransformerLens
    cannot bridge."""
    problem = _problem(source.folder, source.weights_sha256)
    if problem:
        raise BadInput(shortened(f"{source.id}: {problem}", 300))


@lru_cache(maxsize=8)
def _problem(folder: Path, sha256: str) -> str | None:
    """What is wrong with bridging a model of this config, tried on a model without weights."""
    from transformer_lens.factories.architecture_adapter_factory import SUPPORTED_ARCHITECTURES
    from transformers import AutoTokenizer

    try:
        kind, config = model_class(folder)
    except BadInput as error:
        return str(error)
    if config.model_type in REFUSED:
        return f"{kind.__name__} {REFUSED[config.model_type]}"
    if bridged_name(kind.__name__) not in SUPPORTED_ARCHITECTURES:
        return (
            f"TransformerLens has no adapter for {kind.__name__}; it has {len(SUPPORTED_ARCHITECTURES)}"
            " others, listed in docs/families.md"
        )
    try:
        with torch.device("meta"):
            empty = kind._from_config(config, attn_implementation="eager", dtype=torch.float32)
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        except Exception:  # refused where tokenizers are loaded
            return None
        boot_bridge(str(folder), empty, tokenizer, device=torch.device("meta"), dtype=torch.float32)
    except BadInput as error:
        # Some adapters work on the values of weights, which a model without any cannot show.
        return None if isinstance(error.__cause__, NotImplementedError) else str(error)
    except Exception as error:  # a config is wrong in as many ways as it has fields
        return (
            f"the weights do not load: a {kind.__name__} of this config cannot be built"
            f" ({shortened(first_line(error), 150)})"
        )
    return None

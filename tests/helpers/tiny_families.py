"""Random tiny models of every decoder that TransformerLens bridges, as folders on disk. The sizes stand in
`tiny_sizes`."""

from pathlib import Path
from typing import Any

import torch

from helpers.tiny import edit_json, tiny_tokenizer
from helpers.tiny_sizes import ARCHITECTURES, NOT_TEXT, VOCABULARY

IDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 3}
# Parameters of recurrences and of activations, whose own initial values keep the state from growing and the
# logits finite.
KEPT = (
    "A_log",
    "dt_bias",
    "dt_proj.bias",
    "time_decay",
    "time_first",
    "time_mix",
    "recurrent_param",
    "act_fn.",
)
# Saved buffers that trained models have moved away from 0 and 1: without noise nothing would notice that they
# were lost.
BUFFERS = ("correction_bias", "expert_bias", "layer_scalar")


def uncovered() -> set[str]:
    """The architectures of TransformerLens that neither table names, names of both, and names that
    TransformerLens lacks."""
    from transformer_lens.factories.architecture_adapter_factory import SUPPORTED_ARCHITECTURES

    return (ARCHITECTURES.keys() ^ NOT_TEXT.keys()) ^ SUPPORTED_ARCHITECTURES.keys()


def family_config(architecture: str, **changes: Any) -> Any:
    """The config of one tiny architecture; `changes` replace its fields, those of the text side in a
    multimodal family.

    A change of the number of layers needs new lists as well where a family lists its layers (`layer_types`
    and the like).
    """
    import transformers

    family = ARCHITECTURES[architecture]
    common = {"vocab_size": VOCABULARY, **IDS}
    if not family.wrapper:
        return getattr(transformers, family.config)(**{**common, **family.fields, **changes})
    outside = {key: changes.pop(key) for key in list(changes) if key in family.fields}
    if "tie_word_embeddings" in changes:
        outside["tie_word_embeddings"] = changes["tie_word_embeddings"]
    text = {**common, **family.fields["text_config"], **changes}
    return getattr(transformers, family.config)(**{**family.fields, **outside, "text_config": text})


def model_class(architecture: str) -> Any:
    """The class in transformers that reads the folders of an architecture."""
    import transformers

    return getattr(transformers, ARCHITECTURES[architecture].model or architecture)


def write_family(folder: Path, architecture: str, *, seed: int = 0, **changes: Any) -> Path:
    """Write a random model of `architecture` and a tokenizer, as `save_pretrained` lays them out."""
    config = family_config(architecture, **changes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = model_class(architecture)._from_config(config, dtype=torch.float32)
    randomise(model, torch.Generator().manual_seed(seed))
    model.save_pretrained(folder)
    edit_json(folder / "config.json", architectures=[architecture])
    tiny_tokenizer().save_pretrained(folder)
    return folder


@torch.no_grad()
def randomise(model: Any, generator: torch.Generator) -> None:
    """Noise for every weight, as `tiny.randomise` has it, but for the few that must keep their form."""
    saved = model.state_dict().keys()
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if any(part in name for part in KEPT) or parameter.numel() == 0:
            continue
        if parameter.ndim <= 1:
            parameter += 0.2 * noise
        elif "embed" in name or "wte" in name or "wpe" in name:
            parameter.copy_(0.5 * noise)
        else:
            parameter.copy_(noise / parameter.shape[-1] ** 0.5)
    for name, buffer in model.named_buffers():
        if name in saved and any(part in name for part in BUFFERS):
            buffer += 0.2 * torch.randn(buffer.shape, generator=generator)
        elif name.endswith("tid2eid"):
            # A table of experts for each token. All zero at first, which gives every token the same expert
            # twice.
            experts = torch.rand(len(buffer), model.config.n_routed_experts, generator=generator).argsort(
                dim=-1
            )
            buffer.copy_(experts[:, : buffer.shape[1]])

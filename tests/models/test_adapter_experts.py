"""Claims about LoRAs of mixtures of experts: one adapter per expert is merged expert by expert."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import tiny
from helpers.adapter_forms import EXPERT_PARTS, close, logits, merged, plain, write_trained
from helpers.broken import refused
from helpers.rounding import rounded_once
from peft import LoraConfig, PeftModel
from safetensors.torch import save_file
from torch import Tensor

OLD_MIXTRAL, OLD_QWEN = ("w1", "w3", "w2"), ("gate_proj", "up_proj", "down_proj")


def write_per_expert(
    folder: Path, model: Any, names: tuple[str, ...], *, block: str, prefix: str, rslora: bool, router: bool
) -> None:
    """An adapter of every linear layer of every block, and the same update added to `model` expert by
    expert."""
    generator, tensors, rank, alpha = torch.Generator().manual_seed(5), {}, 4, 12
    scale = alpha / (rank**0.5 if rslora else rank)

    def add(key: str, weight: Tensor) -> None:
        a = 0.1 * torch.randn(rank, weight.shape[1], generator=generator)
        b = 0.1 * torch.randn(weight.shape[0], rank, generator=generator)
        tensors[f"{prefix}{key}.lora_A.weight"], tensors[f"{prefix}{key}.lora_B.weight"] = a, b
        weight += scale * b @ a

    with torch.no_grad():
        for i, layer in enumerate(model.model.layers):
            add(f"layers.{i}.self_attn.q_proj", layer.self_attn.q_proj.weight)
            if router:
                add(f"layers.{i}.{block}.gate", layer.mlp.gate.weight)
            whole = layer.mlp
            dense = [("mlp.shared_expert", whole.shared_expert)] if hasattr(whole, "shared_expert") else []
            for path, module in dense if hasattr(whole, "experts") else [("mlp", whole)]:
                for name in names:
                    add(f"layers.{i}.{path}.{name}", module.get_submodule(name).weight)
            for e in range(len(whole.experts.down_proj) if hasattr(whole, "experts") else 0):
                gate, up = whole.experts.gate_up_proj[e].chunk(2)
                for name, weight in zip(names, (gate, up, whole.experts.down_proj[e]), strict=False):
                    add(f"layers.{i}.{block}.experts.{e}.{name}", weight)
    targets = [*names, "q_proj", *(["gate"] if router else [])]
    LoraConfig(
        r=rank, lora_alpha=alpha, use_rslora=rslora, lora_dropout=0.1, target_modules=targets
    ).save_pretrained(str(folder))
    save_file(tensors, folder / "adapter_model.safetensors")


@pytest.mark.parametrize("rslora", [False, True], ids=["plain", "rslora"])
@pytest.mark.parametrize("prefix", ["model.", "language_model.model."], ids=["alone", "from a wrapper"])
@pytest.mark.parametrize(
    ("base", "names", "block", "router"),
    [
        ("mixtral", OLD_MIXTRAL, "block_sparse_moe", True),
        ("mixtral", OLD_MIXTRAL[:2], "block_sparse_moe", False),
        ("qwen3 moe", OLD_QWEN, "mlp", False),
        ("qwen2 moe", OLD_QWEN, "mlp", False),
    ],
    ids=["mixtral", "mixtral without w2", "qwen3 with a dense layer", "qwen2 with shared experts"],
)
def test_one_lora_per_expert_is_merged_expert_by_expert(
    base: str,
    names: tuple[str, ...],
    block: str,
    router: bool,
    prefix: str,
    rslora: bool,
    bases: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    by_hand = plain(bases(base))
    write_per_expert(
        tmp_path,
        by_hand,
        names,
        block=block,
        prefix=f"base_model.model.{prefix}",
        rslora=rslora,
        router=router,
    )
    close(logits(merged(tmp_path, bases(base))), logits(by_hand))


def test_value_for_single_experts_is_refused(bases: Callable[[str], Path], tmp_path: Path) -> None:
    options = {
        "block": "block_sparse_moe",
        "prefix": "base_model.model.model.",
        "rslora": False,
        "router": False,
    }
    write_per_expert(tmp_path, plain(bases("mixtral")), OLD_MIXTRAL, **options)
    tiny.edit_json(tmp_path / "adapter_config.json", alpha_pattern={"w1": 24})
    with refused(r"cannot be merged .*alpha_pattern has a value for single experts"):
        merged(tmp_path, bases("mixtral"))


def test_bfloat16_experts_are_summed_in_float32_and_rounded_once(
    bases: Callable[[str], Path], tmp_path: Path
) -> None:
    from persona_probe.models.sources import resolve
    from persona_probe.models.weights import load_weights

    base, cpu = bases("mixtral"), torch.device("cpu")
    adapter = write_trained(tmp_path, plain(base), target_modules=[], target_parameters=EXPERT_PARTS)
    found = load_weights(resolve(str(adapter)), base=resolve(str(base)), device=cpu, dtype=torch.bfloat16)
    rounded = plain(base).bfloat16().double()
    exact = (
        PeftModel.from_pretrained(rounded, adapter, autocast_adapter_dtype=False).double().merge_and_unload()
    )
    for name, parameter in found.named_parameters():
        assert rounded_once(parameter, exact.get_parameter(name)), name

"""Claims about a loaded model: its two views give what plain Hugging Face gives, and adapters are merged
exactly. Eight tiny random families in float32."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import tiny
from helpers.families import (
    Family,
    close,
    left_padded,
    logits_of,
    plain_resids,
    reply_logits,
    right_padded,
    rows_of,
    seen,
)
from helpers.rounding import rounded_once


def test_twin_and_bridge_give_the_logits_of_hugging_face(family: Family) -> None:
    batch = right_padded(family)
    expected = logits_of(family.plain, batch.tokens, batch.mask)[batch.mask]
    assert expected.std() > 0.3
    close(logits_of(family.model.twin, batch.tokens, batch.mask)[batch.mask], expected)
    close(logits_of(family.model.bridge, batch.tokens, batch.mask)[batch.mask], expected)


def test_every_residual_is_the_hidden_state_after_its_block(family: Family) -> None:
    model, batch = family.model, right_padded(family)
    expected = plain_resids(family, batch.tokens, batch.mask.long())
    sites = [model.site(hook_point) for hook_point in model.resids()]
    by_bridge = seen([hook for hook, _ in sites], lambda: logits_of(model.bridge, batch.tokens, batch.mask))
    by_twin = seen([module for _, module in sites], lambda: logits_of(model.twin, batch.tokens, batch.mask))
    assert len(expected) == len(sites) == tiny.LAYERS
    for layer in range(tiny.LAYERS):
        close(by_bridge[layer][batch.mask], expected[layer][batch.mask])
        close(by_twin[layer][batch.mask], expected[layer][batch.mask])


def test_legacy_alias_names_the_same_site(family: Family) -> None:
    model = family.model
    assert model.site("blocks.1.hook_resid_post") == model.site("blocks.1.hook_out")


def test_twin_and_bridge_share_every_tensor(llama: Family) -> None:
    of_bridge = {parameter.data_ptr() for parameter in llama.model.bridge.original_model.parameters()}
    assert {parameter.data_ptr() for parameter in llama.model.twin.parameters()} <= of_bridge


def test_every_position_of_a_left_padded_batch_equals_its_single_row(family: Family) -> None:
    tokens, mask = left_padded(family)
    for engine in (family.model.twin, family.model.bridge):
        together = logits_of(engine, tokens, mask)
        for i, row in enumerate(rows_of(family)[1:5]):
            alone = torch.tensor([row.ids])
            close(together[i, -len(row.ids) :], logits_of(family.plain, alone, torch.ones_like(alone))[0])


def everywhere(batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Every row and column after the shared ones."""
    width = batch.tokens.shape[1] - batch.n_shared
    return torch.arange(len(batch)).repeat_interleave(width), torch.arange(width).repeat(len(batch))


@pytest.mark.parametrize("rows", [slice(0, 6), slice(3, 6)], ids=["two prompts", "one prompt"])
def test_shared_prefix_changes_no_logit_of_a_reply(family: Family, rows: slice) -> None:
    from persona_probe.models.loading import forward
    from persona_probe.prompts.batches import pad_right

    batch = pad_right(rows_of(family)[rows], pad_id=0)
    assert batch.n_shared > 3
    with torch.inference_mode():
        logits = forward(family.model, batch, logits_at=everywhere(batch))
    assert logits is not None
    logits = logits.reshape(len(batch), -1, logits.shape[-1])
    for i, row in enumerate(batch.rows):
        alone = torch.tensor([row.ids])
        expected = logits_of(family.plain, alone, torch.ones_like(alone))[0, row.n_prompt - 1 : -1]
        close(reply_logits(logits, batch, i), expected)


def test_row_longer_than_the_context_is_refused(llama: Family) -> None:
    from persona_probe.base.errors import BadInput
    from persona_probe.models.loading import forward
    from persona_probe.prompts.batches import pad_right
    from persona_probe.prompts.rows import Row

    batch = pad_right([Row(id="long", kind="persona", question_id="q", ids=(5,) * 193, n_prompt=2)], pad_id=0)
    with pytest.raises(BadInput, match=r"row 'long' has 193 tokens, .* takes 192"):
        forward(llama.model, batch, logits_at=None)


# Adapters


@pytest.mark.parametrize("kind", ["plain", "rslora", "dora"])
def test_merged_adapter_gives_the_logits_of_the_unmerged_one(
    family: Family, kind: str, tmp_path: Path
) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from persona_probe.models.loading import load
    from persona_probe.models.sources import resolve

    adapter = tiny.write_lora(
        tmp_path,
        family.folder,
        rslora=kind == "rslora",
        dora=kind == "dora",
        layers=[1, 2] if kind == "plain" else None,
    )
    base = AutoModelForCausalLM.from_pretrained(
        family.folder, dtype=torch.float32, attn_implementation="eager"
    )
    unmerged = PeftModel.from_pretrained(base, adapter).eval()
    merged = load(
        resolve(str(adapter)),
        base=resolve(str(family.folder)),
        device=torch.device("cpu"),
        dtype=torch.float32,
    )
    batch = right_padded(family)
    expected = logits_of(unmerged, batch.tokens, batch.mask)[batch.mask]
    assert (expected - logits_of(family.plain, batch.tokens, batch.mask)[batch.mask]).abs().max() > 0.1
    close(logits_of(merged.twin, batch.tokens, batch.mask)[batch.mask], expected)
    close(logits_of(merged.bridge, batch.tokens, batch.mask)[batch.mask], expected)


def test_bfloat16_merge_sums_in_float32_and_rounds_once(llama: Family, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    from persona_probe.models.sources import resolve
    from persona_probe.models.weights import load_weights

    adapter = tiny.write_lora(tmp_path, llama.folder, rank=4)
    merged = load_weights(
        resolve(str(adapter)),
        base=resolve(str(llama.folder)),
        device=torch.device("cpu"),
        dtype=torch.bfloat16,
    )
    lora = load_file(adapter / "adapter_model.safetensors")
    name = "model.layers.2.mlp.down_proj"
    a, b = (lora[f"base_model.model.{name}.lora_{part}.weight"] for part in "AB")
    base = llama.plain.get_submodule(name).weight.to(torch.bfloat16).float()
    assert rounded_once(merged.get_submodule(name).weight, base.double() + 3.0 * (b.double() @ a.double()))
    assert {parameter.dtype for parameter in merged.parameters()} == {torch.bfloat16}


def test_an_adapter_is_merged_in_the_memory_of_its_base_and_leaves_the_file_alone(
    llama: Family, tmp_path: Path
) -> None:
    from persona_probe.models.sources import resolve
    from persona_probe.models.weights import load_weights, merge_adapter

    base = Path(shutil.copytree(llama.folder, tmp_path / "base"))
    on_disk = (base / "model.safetensors").read_bytes()
    adapter = tiny.write_lora(tmp_path, base, rank=4)
    model = load_weights(resolve(str(base)), base=None, device=torch.device("cpu"), dtype=torch.float32)
    name = "model.layers.2.mlp.down_proj"
    places, old = (
        {key: value.data_ptr() for key, value in model.named_parameters()},
        model.get_submodule(name).weight.clone(),
    )
    merged = merge_adapter(model, resolve(str(adapter)))
    assert {key: value.data_ptr() for key, value in merged.named_parameters()} == places
    assert not torch.equal(merged.get_submodule(name).weight, old)
    assert (base / "model.safetensors").read_bytes() == on_disk

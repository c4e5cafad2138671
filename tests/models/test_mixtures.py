"""Claims about models whose weights are a sum of those of other models."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from helpers import tiny
from helpers.adapter_forms import logits
from helpers.broken import refused
from helpers.tuned_blocks import changed_copy, opened
from torch import Tensor

if TYPE_CHECKING:
    from persona_probe.models.mixtures import Mixture
    from persona_probe.models.pairs import Pair

Mixed = Callable[..., dict[str, Tensor]]


@pytest.fixture
def mixed(tmp_path: Path) -> Mixed:
    """The weights of a mixture of a pair, by name."""

    def made(pair: "Pair", **factors: Any) -> dict[str, Tensor]:
        from persona_probe.models.mixtures import Mixture, mixed

        folder = tmp_path / "run"
        folder.mkdir(exist_ok=True)
        model = mixed(pair, Mixture(**factors), name="mixture", folder=folder).tuned
        assert not list(folder.iterdir())
        return values(model.twin)

    return made


def values(model: Any) -> dict[str, Tensor]:
    named = model.named_parameters(remove_duplicate=False)
    return {name: parameter.detach().clone() for name, parameter in named}


def same(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> bool:
    assert ours.keys() == theirs.keys()
    return all(torch.allclose(ours[name], theirs[name], atol=1e-6) for name in ours)


def half() -> "Mixture":
    from persona_probe.models.mixtures import Mixture

    return Mixture(tuned=0.5, base=0.5)


@pytest.mark.parametrize(("family", "rslora"), [("llama", False), ("gpt2", True)])
def test_half_of_an_adapter_is_the_adapter_scaled_by_one_half(
    tmp_path: Path, mixed: Mixed, *, family: str, rslora: bool
) -> None:
    from peft import PeftModel
    from peft.tuners.lora import LoraLayer
    from transformers import AutoModelForCausalLM

    base = tiny.write_tiny(tmp_path / "base", family)
    adapter = tiny.write_lora(tmp_path / "adapter", base, rslora=rslora)
    plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    wrapped: Any = PeftModel.from_pretrained(plain, str(adapter))
    for module in wrapped.modules():
        if isinstance(module, LoraLayer):
            module.scale_layer(0.5)
    pair = opened(base, adapter, keep_both=False)
    whole = values(pair.tuned.twin)
    ours = mixed(pair, tuned=0.5, base=0.5)
    assert same(ours, values(wrapped.merge_and_unload()))
    assert not same(ours, whole)


def test_half_of_whole_weights_is_the_mean_of_both(tmp_path: Path, mixed: Mixed) -> None:
    base = tiny.write_tiny(tmp_path / "base", "qwen3")
    tuned = changed_copy(base, tmp_path / "tuned", lambda name: "proj" in name or "embed" in name)
    pair = opened(base, tuned, keep_both=False)
    ours, theirs = values(pair.base.twin), values(pair.tuned.twin)
    expected = {name: 0.5 * ours[name] + 0.5 * theirs[name] for name in ours}
    assert same(mixed(pair, tuned=0.5, base=0.5), expected)  # one tensor for both embeddings: added once


def test_minus_a_twin_equal_to_tuned_is_the_base(tmp_path: Path, mixed: Mixed) -> None:
    from persona_probe.models.sources import resolve

    base = tiny.write_tiny(tmp_path / "base", "llama")
    adapter = tiny.write_lora(tmp_path / "adapter", base)
    pair = opened(base, adapter, keep_both=False)
    expected = values(pair.base.twin)
    made = mixed(pair, tuned=1.0, base=1.0, twin=-1.0, source=resolve(str(adapter)))
    assert same(made, expected)


@pytest.mark.parametrize("keep_both", [False, True])
def test_the_weights_of_the_pair_stay_as_they_are(tmp_path: Path, mixed: Mixed, *, keep_both: bool) -> None:
    base = tiny.write_tiny(tmp_path / "base", "llama")
    pair = opened(base, tiny.write_lora(tmp_path / "adapter", base), keep_both=keep_both)
    held = {"base": pair.base, "tuned": pair.tuned}
    before = {side: values(model.twin) for side, model in held.items()}
    keys = [pair.key("base"), pair.key("tuned")]
    mixed(pair, tuned=0.5, base=0.5)
    for side in ("base", "tuned"):
        now = {"what was loaded": held[side], "what is loaded": pair.get(side)}
        for what, model in now.items():
            assert all(torch.equal(one, before[side][name]) for name, one in values(model.twin).items()), what
    assert [pair.key("base"), pair.key("tuned")] == keys


def test_a_mixture_has_a_key_of_its_own(tmp_path: Path) -> None:
    from dataclasses import replace

    from persona_probe.models.mixtures import mixed_pair
    from persona_probe.models.sources import resolve

    base = tiny.write_tiny(tmp_path / "base", "llama")
    pair = opened(base, tiny.write_lora(tmp_path / "adapter", base), keep_both=False)
    twin = resolve(str(tiny.write_lora(tmp_path / "twin", base, rank=2)))
    mixtures = [half(), replace(half(), tuned=0.25), replace(half(), twin=-1.0, source=twin)]
    keys = [mixed_pair(pair, mixture, name="mixture").key("tuned") for mixture in mixtures]
    assert len({*keys, pair.key("tuned"), pair.key("base")}) == 5


def test_a_twin_of_another_shape_or_with_the_weights_of_the_base_is_refused(
    tmp_path: Path, mixed: Mixed
) -> None:
    from persona_probe.models.mixtures import check_twin
    from persona_probe.models.sources import resolve

    base = tiny.write_tiny(tmp_path / "base", "llama")
    pair = opened(base, tiny.write_lora(tmp_path / "adapter", base), keep_both=False)
    with refused("differ in shape"):
        check_twin(pair, resolve(str(tiny.write_tiny(tmp_path / "other", "gpt2"))))
    with refused("has the weights of the base: there is nothing to subtract"):
        check_twin(pair, resolve(str(base)))
    other = tiny.write_lora(tmp_path / "of other", tmp_path / "other")
    with refused("adapter .*of other"):  # an adapter shows its shape only when it is merged
        mixed(pair, tuned=1.0, base=1.0, twin=-1.0, source=resolve(str(other)))


def test_weights_that_differ_in_shape_or_in_what_is_one_tensor_are_refused(
    tmp_path: Path, mixed: Mixed
) -> None:
    base = tiny.write_tiny(tmp_path / "base", "llama")
    narrow = tiny.write_tiny(tmp_path / "narrow", "llama", intermediate_size=32)
    with refused(r"base: weight model.layers.0.mlp.gate_proj.weight is of shape \[48, 32\], \[32, 32\]"):
        mixed(opened(base, narrow, keep_both=False), tuned=0.5, base=0.5)
    tied = tiny.write_tiny(tmp_path / "tied", "llama", tie_word_embeddings=True)
    with refused("are one tensor, in .*base they are not"):
        mixed(opened(base, tied, keep_both=False), tuned=0.5, base=0.5)


def test_models_that_the_user_gave_loaded_are_refused(tmp_path: Path, mixed: Mixed) -> None:
    from persona_probe.models.pairs import open_model, open_pair

    base = tiny.write_tiny(tmp_path / "base", "llama")
    tuned = open_model(tiny.write_tiny(tmp_path / "tuned", "llama", seed=1), device="cpu", dtype="float32")
    pair, said = open_pair(base, tuned), logits(tuned.twin)
    with refused("mixture needs a base and a tuned model that are given by name"):
        mixed(pair, tuned=0.5, base=0.5)
    assert torch.equal(logits(tuned.twin), said)

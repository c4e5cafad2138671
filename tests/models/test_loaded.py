"""Models that the user has loaded: edited inside a block, measured as they are, and left exactly as they
were."""

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import tiny

IDS = torch.tensor([[2, 20, 33, 47, 5, 90, 61], [2, 21, 3, 40, 7, 9, 60]])


def tokenizer_in(folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


def hugging_face(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")


def bridge(folder: Path) -> Any:
    from transformer_lens.model_bridge import TransformerBridge

    return TransformerBridge.boot_transformers(
        "x", hf_model=hugging_face(folder), tokenizer=tokenizer_in(folder), device="cpu", dtype=torch.float32
    )


def state(model: Any) -> Any:
    """Everything that could be changed: modules, their mode and hooks, weights, gradients wanted."""
    root = getattr(model, "original_model", model)
    modules = [
        (name, id(module), module.training, len(module._forward_hooks), len(module._forward_pre_hooks))
        for name, module in root.named_modules()
    ]
    weights = [
        (name, id(weight), weight.requires_grad, weight.detach().clone())
        for name, weight in root.named_parameters()
    ]
    return modules, weights, root.config.to_dict()


def same(left: Any, right: Any) -> bool:
    weights = all(
        one[:3] == other[:3] and torch.equal(one[3], other[3])
        for one, other in zip(left[1], right[1], strict=True)
    )
    return weights and left[0] == right[0] and left[2] == right[2]


def logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        out = model(IDS)
    return out if isinstance(out, torch.Tensor) else out.logits


def edits() -> list[Any]:
    from persona_probe.interventions.edits import Ablate, Steer, orthonormal

    vector = torch.linspace(-1, 1, tiny.WIDTH)
    return [
        Steer(vector, "blocks.1.hook_out", 2.0, skip_first=2),
        Ablate(orthonormal(vector[None]), ("blocks.2.hook_out", "blocks.3.hook_out")),
    ]


@pytest.fixture(params=["llama", "gpt2"])
def folder_of(request: pytest.FixtureRequest, plain_family: Any) -> Path:
    """Two families that name their blocks differently."""
    return plain_family(request.param)[0]


@pytest.mark.parametrize("make", [hugging_face, bridge])
def test_edits_of_a_loaded_model_are_those_of_ours_and_are_gone_afterwards(
    make: Any, folder_of: Path
) -> None:
    from persona_probe.interventions.applied import applied
    from persona_probe.models.loading import load
    from persona_probe.models.sources import resolve

    ours = load(resolve(folder_of), base=None, device=torch.device("cpu"), dtype=torch.float32)
    model = make(folder_of)
    untouched = logits(model)  # a bridge's first pass changes the bridge
    before = state(model)
    with applied(model, edits()):
        edited = logits(model)
    with applied(ours, edits()):
        expected = logits(ours.twin)
    torch.testing.assert_close(edited, expected, atol=1e-4, rtol=1e-4)
    assert (edited - untouched).abs().max() > 0.1
    assert same(state(model), before)
    torch.testing.assert_close(logits(model), untouched)


def test_edits_of_a_loaded_model_are_gone_after_an_error_and_skip_the_first_tokens(written: Path) -> None:
    from persona_probe.interventions.applied import applied

    model = hugging_face(written)
    before, untouched = state(model), logits(model)

    def fail() -> None:
        with applied(model, edits()[:1]):
            torch.testing.assert_close(logits(model)[:, :2], untouched[:, :2])
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert same(state(model), before)


def test_generation_is_edited_step_by_step(written: Path) -> None:
    from persona_probe.interventions.applied import applied

    model = hugging_face(written)
    how = {"max_new_tokens": 4, "do_sample": False, "pad_token_id": 0}
    with applied(model, edits()):
        with_cache = model.generate(IDS[:1], **how)
        without = model.generate(IDS[:1], use_cache=False, **how)
    assert torch.equal(with_cache, without)


def test_a_direction_of_another_width_or_an_unknown_place_is_refused_in_one_line(written: Path) -> None:
    from persona_probe.base.errors import BadInput
    from persona_probe.interventions.applied import applied
    from persona_probe.interventions.edits import Steer

    model = hugging_face(written)
    for edit, reason in (
        (Steer(torch.ones(7), "blocks.1.hook_out", 1.0), "width 7 does not fit .*d_model is 32"),
        (Steer(torch.ones(tiny.WIDTH), "blocks.9.hook_out", 1.0), "blocks.0.hook_out to blocks.3.hook_out"),
    ):
        with pytest.raises(BadInput, match=reason) as refused:
            applied(model, [edit]).__enter__()
        assert "\n" not in str(refused.value)
    with pytest.raises(BadInput, match="a Linear is no model"):
        applied(torch.nn.Linear(2, 2), []).__enter__()


def test_a_hooked_transformer_is_edited_too() -> None:
    from transformer_lens import HookedTransformer, HookedTransformerConfig
    from transformer_lens.cache.key_value_cache import TransformerLensKeyValueCache

    from persona_probe.interventions.applied import applied
    from persona_probe.interventions.edits import Steer

    config = HookedTransformerConfig(
        n_layers=2, d_model=tiny.WIDTH, n_ctx=16, d_head=8, n_heads=4, d_vocab=100, act_fn="gelu", seed=0
    )
    model = HookedTransformer(config).eval()
    kept: dict[str, torch.Tensor] = {}

    def watched() -> torch.Tensor:
        _, cache = model.run_with_cache(IDS)
        kept["stream"] = cache["blocks.0.hook_resid_post"]
        return kept["stream"]

    clean = watched()
    with applied(model, [Steer(torch.ones(tiny.WIDTH), "blocks.0.hook_out", 1.0, skip_first=2)]):
        moved = model(IDS)
    steered = model.run_with_hooks(
        IDS, fwd_hooks=[("blocks.0.hook_resid_post", lambda x, hook: torch.cat([x[:, :2], x[:, 2:] + 1], 1))]
    )
    torch.testing.assert_close(moved, steered)
    torch.testing.assert_close(watched(), clean)
    ones = torch.ones_like(IDS)
    cache = TransformerLensKeyValueCache.init_cache(config, "cpu", len(IDS))
    with applied(model, [Steer(torch.linspace(-9, 9, tiny.WIDTH), "blocks.0.hook_out", 1.0, skip_first=4)]):
        whole = model(IDS)
        begun = model(IDS[:, :5], past_kv_cache=cache, attention_mask=ones[:, :5])
        ended = model(IDS[:, 5:], past_kv_cache=cache, attention_mask=ones[:, 5:])
    torch.testing.assert_close(torch.cat([begun, ended], 1), whole, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("make", [hugging_face, bridge])
def test_a_loaded_pair_scores_as_the_same_pair_by_name(
    make: Any, written: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    from persona_probe.interventions.applied import applied
    from persona_probe.models.pairs import open_pair

    other = tiny.write_tiny(tmp_path_factory.mktemp("other"), "llama", seed=3)
    base, tuned = make(written), make(other)
    first = logits(base), logits(tuned)
    before = state(base), state(tuned)
    pair = open_pair(base, tuned, tokenizer=tokenizer_in(written))
    named = open_pair(written, other, device="cpu", dtype="float32", keep_both=True)
    torch.testing.assert_close(logits(pair.tuned.twin), logits(named.tuned.twin), atol=1e-4, rtol=1e-4)
    assert pair.tuned.twin.get_input_embeddings().weight.data_ptr() in {
        weight.data_ptr() for weight in tuned.parameters()
    }
    untouched = first[1]
    with applied(pair.tuned, edits()):
        moved, ours = logits(tuned), logits(pair.tuned.twin)
    torch.testing.assert_close(moved, ours, atol=1e-4, rtol=1e-4)
    assert (moved - untouched).abs().max() > 0.1
    assert pair.key("base") != pair.key("tuned")
    pair.close()
    assert pair.tuned.twin is not None
    assert same(state(base), before[0])
    assert same(state(tuned), before[1])


def test_what_cannot_be_measured_is_refused_in_one_line(written: Path) -> None:
    from persona_probe.base.errors import BadInput
    from persona_probe.models.pairs import open_model, open_pair

    tokenizer = tokenizer_in(written)
    model = hugging_face(written)
    with pytest.raises(BadInput, match="are the same weights"):
        open_pair(model, hugging_face(written), tokenizer=tokenizer)
    with pytest.raises(BadInput, match="a Linear is no model"):
        open_model(torch.nn.Linear(2, 2), tokenizer=tokenizer)
    model.get_input_embeddings().weight.data[0, 0] = float("nan")
    with pytest.raises(BadInput, match="NaN"):
        open_model(model, tokenizer=tokenizer)
    from transformers import AutoModelForCausalLM

    small = AutoModelForCausalLM.from_config(tiny.tiny_config("llama", num_hidden_layers=2)).eval()
    with pytest.raises(BadInput, match="2 layers of width 32"):
        open_pair(written, small, tokenizer=tokenizer)

"""Claims about every form of LoRA: merged, it gives the logits that PEFT gives unmerged. On tied embeddings,
in float32."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import tiny
from helpers.adapter_forms import EXPERT_PARTS, close, logits, merged, places, plain, tied, write_trained
from helpers.broken import refused
from peft import PeftModel
from peft.tuners.lora.config import BdLoraConfig, KasaConfig, MontecloraConfig, VeloraConfig


@dataclass(frozen=True)
class Form:
    """A LoRA: its settings beside rank and alpha, and the model that it is of."""

    settings: dict[str, Any]
    base: str = "llama"
    together: bool = True
    """Whether input and output embeddings are still one tensor after the merge."""


HEAD, EMBED = {"target_modules": ["lm_head", "q_proj"]}, {"target_modules": ["embed_tokens", "q_proj"]}
BOTH = {"target_modules": ["lm_head", "embed_tokens"]}
FORMS = {
    "plain": Form({}),
    "rslora": Form({"use_rslora": True}),
    "dora": Form({"use_dora": True}),
    "patterns": Form(
        {"rank_pattern": {"q_proj": 2, "layers.1.mlp.up_proj": 6}, "alpha_pattern": {"up_proj": 3}}
    ),
    "patterns and rslora": Form(
        {"use_rslora": True, "rank_pattern": {"q_proj": 2}, "alpha_pattern": {"up_proj": 3}}
    ),
    "lora_bias": Form({"lora_bias": True, "target_modules": ["q_proj"]}, "biased"),
    "bias all": Form({"bias": "all"}, "biased"),
    "bias lora_only": Form({"bias": "lora_only"}, "biased"),
    "on embed_tokens": Form(EMBED, together=False),
    "on lm_head": Form(HEAD, together=False),
    "on both": Form(BOTH, together=False),
    "on both, dora": Form({**BOTH, "use_dora": True}, together=False),
    "on both, tying ensured": Form({**BOTH, "ensure_weight_tying": True}),
    "lm_head saved": Form({"modules_to_save": ["lm_head"]}, together=False),
    "embed_tokens saved": Form({"modules_to_save": ["embed_tokens"]}, together=False),
    "both saved": Form({"modules_to_save": ["lm_head", "embed_tokens"]}, together=False),
    "both saved, tying ensured": Form(
        {"modules_to_save": ["lm_head", "embed_tokens"], "ensure_weight_tying": True}
    ),
    "lm_head saved, lora on embed_tokens": Form({**EMBED, "modules_to_save": ["lm_head"]}, together=False),
    "norms saved": Form({"modules_to_save": ["norm", "input_layernorm"]}),
    "q_proj saved": Form({"modules_to_save": ["q_proj"]}),
    "trained tokens": Form({"trainable_token_indices": [5, 8, 90]}),
    "trained tokens by name": Form({"trainable_token_indices": {"embed_tokens": [5, 8, 90]}}),
    "trained tokens, untied": Form(
        {"trainable_token_indices": {"lm_head": [5, 8], "embed_tokens": [3, 90]}}, "untied", together=False
    ),
    "some layers": Form({"layers_to_transform": [1, 2]}),
    "excluded modules": Form({"exclude_modules": r".*layers\.[01].*"}),
    "regular expression": Form({"target_modules": r".*\.(q|v)_proj"}),
    "all-linear": Form({"target_modules": "all-linear"}),
    "dropout": Form({"lora_dropout": 0.3}),
    "a parameter": Form({"target_modules": [], "target_parameters": ["lm_head.weight"]}, together=False),
    "pissa": Form({"init_lora_weights": "pissa"}),
    "pissa on lm_head": Form({**HEAD, "init_lora_weights": "pissa"}, together=False),
    "olora": Form({"init_lora_weights": "olora"}),
    "orthogonal": Form({"init_lora_weights": "orthogonal"}),
    "eva": Form({"init_lora_weights": "eva"}),
    "mica": Form({**EMBED, "init_lora_weights": "mica"}, together=False),
    "block-diagonal": Form(
        {
            "use_bdlora": BdLoraConfig(
                target_modules_bd_a=["q_proj"], target_modules_bd_b=["up_proj"], nblocks=2
            )
        }
    ),
    "velora": Form({"velora_config": VeloraConfig(num_groups=4)}),
    "monteclora": Form({"monteclora_config": MontecloraConfig(num_samples=2)}),
    "kasa": Form({**HEAD, "kasa_config": KasaConfig()}, together=False),
    "gpt2": Form({"target_modules": ["c_attn", "c_proj"], "fan_in_fan_out": True}, "gpt2"),
    "gpt2 on wte": Form({"target_modules": ["wte", "wpe"]}, "gpt2", together=False),
    "gpt2 with biases": Form({"target_modules": ["c_attn"], "bias": "all", "lora_bias": True}, "gpt2"),
    "gemma on embed_tokens": Form(EMBED, "gemma3", together=False),
    "gemma trained tokens": Form({"trainable_token_indices": [5, 8]}, "gemma3"),
    "mixtral experts": Form(
        {"target_parameters": EXPERT_PARTS, "target_modules": ["q_proj"], "use_rslora": True}, "mixtral"
    ),
    "mixtral router": Form(
        {"target_parameters": ["mlp.gate.weight"], "target_modules": ["q_proj"]}, "mixtral"
    ),
    "qwen3 experts": Form({"target_parameters": EXPERT_PARTS[:1], "target_modules": []}, "qwen3 moe"),
    "gpt-oss experts": Form({"target_parameters": EXPERT_PARTS, "target_modules": ["q_proj"]}, "gpt-oss"),
}
REFUSED = {
    "lora_bias without a bias": ({"lora_bias": True}, r"cannot be merged: .*lora_bias"),
    "alora": (
        {"alora_invocation_tokens": [5, 6], "task_type": "CAUSAL_LM"},
        r"cannot be merged: aLoRA .*alora_invocation_tokens",
    ),
    "layer replication": ({"layer_replication": [[0, 3], [1, 4]]}, r"cannot be merged: layer replication"),
    "qalora": ({"use_qalora": True}, r"cannot be merged: QA-LoRA"),
    "fast pissa": (
        {"init_lora_weights": "pissa_niter_4"},
        r"cannot be merged: .*random.*path_initial_model_for_weight_conversion",
    ),
    "lora_ga": ({"init_lora_weights": "lora_ga"}, r"cannot be merged: LoRA-GA"),
    "classifier": ({"task_type": "SEQ_CLS"}, r"cannot be merged: its task_type is SEQ_CLS"),
    "tokens and lora in one": (
        {**HEAD, "trainable_token_indices": [5]},
        r"cannot be merged: it changes lm_head in two ways",
    ),
    "tokens of a saved module": (
        {"modules_to_save": ["lm_head"], "trainable_token_indices": [5]},
        r"cannot be merged: it changes lm_head in two ways",
    ),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("form", FORMS)
def test_merged_form_gives_the_logits_of_the_unmerged_one(
    form: str, bases: Callable[[str], Path], tmp_path: Path
) -> None:
    base = bases(FORMS[form].base)
    adapter = write_trained(tmp_path / "adapter", plain(base), **FORMS[form].settings)
    expected = logits(PeftModel.from_pretrained(plain(base), adapter).eval())
    assert (expected - logits(plain(base))).abs().max() > 0.5
    model = merged(adapter, base)
    close(logits(model), expected)
    assert tied(model) is model.config.tie_word_embeddings is FORMS[form].together


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("form", FORMS)
def test_form_merged_beside_its_base_shares_what_it_leaves_alone_and_changes_nothing_there(
    form: str, bases: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = bases(FORMS[form].base)
    adapter = write_trained(tmp_path / "adapter", plain(folder), **FORMS[form].settings)
    alone, base = merged(adapter, folder), plain(folder)
    beside = merged(adapter, folder, sharing=base)
    ours, theirs = places(beside), places(base)
    before, expected = plain(folder).state_dict(), alone.state_dict()
    assert all(torch.equal(tensor, before[name]) for name, tensor in base.state_dict().items())
    assert all(torch.equal(tensor, expected[name]) for name, tensor in beside.state_dict().items())
    unchanged = {name for name in before if torch.equal(before[name], expected[name])}
    assert {name for name in ours if ours[name] == theirs[name]} == unchanged
    assert tied(beside) is beside.config.tie_word_embeddings is FORMS[form].together


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("form", REFUSED)
def test_form_that_no_weight_can_hold_is_refused_by_its_name(
    form: str, bases: Callable[[str], Path], tmp_path: Path
) -> None:
    settings, message = REFUSED[form]
    adapter = write_trained(tmp_path / "adapter", plain(bases("llama")), **settings)
    with refused(message):
        merged(adapter, bases("llama"))


@pytest.mark.parametrize("init", ["corda", "loftq"])
def test_start_that_moved_the_base_by_what_is_not_in_the_files_is_refused(
    init: str, adapter: Path, written: Path
) -> None:
    tiny.edit_json(adapter / "adapter_config.json", init_lora_weights=init)
    with refused(r"cannot be merged: .*path_initial_model_for_weight_conversion"):
        merged(adapter, written)

"""Claims about every form of LoRA: merged, it gives the logits that PEFT gives unmerged. On tied embeddings, in float32."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from helpers import tiny
from helpers.broken import CPU, refused
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora.config import BdLoraConfig, KasaConfig, MontecloraConfig, VeloraConfig
from safetensors.torch import load_file, save_file
from torch import Tensor

IDS = torch.tensor([[2, 20, 33, 47, 5, 90, 120, 8, 61, 14, 77, 200, 4, 9]])
MOE = {
    **tiny.LLAMA_LIKE,
    "vocab_size": 320,
    "num_experts_per_tok": 2,
    "tie_word_embeddings": True,
    "max_position_embeddings": 128,
}
SMALL_EXPERTS = {**MOE, "num_experts": 12, "moe_intermediate_size": 24}
EXPERT_PARTS = ["experts.gate_up_proj", "experts.down_proj"]
OLD_MIXTRAL, OLD_QWEN = ("w1", "w3", "w2"), ("gate_proj", "up_proj", "down_proj")
CONFIGS: dict[str, Callable[[], Any]] = {
    "llama": lambda: tiny.tiny_config("llama", tie_word_embeddings=True),
    "biased": lambda: tiny.tiny_config("llama", tie_word_embeddings=True, attention_bias=True),
    "untied": lambda: tiny.tiny_config("llama"),
    "gpt2": lambda: tiny.tiny_config("gpt2"),
    "gemma3": lambda: tiny.tiny_config("gemma3"),
    "mixtral": lambda: transformers.MixtralConfig(**MOE, num_local_experts=4),
    "qwen3 moe": lambda: transformers.Qwen3MoeConfig(**SMALL_EXPERTS, head_dim=8, mlp_only_layers=[1]),
    "qwen2 moe": lambda: transformers.Qwen2MoeConfig(**SMALL_EXPERTS, shared_expert_intermediate_size=40),
    "gpt-oss": lambda: transformers.GptOssConfig(
        **MOE,
        head_dim=8,
        num_local_experts=4,
        sliding_window=6,
        layer_types=["sliding_attention", "full_attention"] * 2,
    ),
}


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


@pytest.fixture(scope="session")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a tiny random model, written once."""
    made: dict[str, Path] = {}

    def base(name: str) -> Path:
        if name not in made:
            model = transformers.AutoModelForCausalLM.from_config(CONFIGS[name](), dtype=torch.float32)
            tiny._randomise(model, torch.Generator().manual_seed(3))
            made[name] = tmp_path_factory.mktemp("base")
            model.save_pretrained(made[name])
        return made[name]

    return base


def plain(folder: Path) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    ).eval()


@torch.no_grad()
def logits(model: Any) -> Tensor:
    return model(IDS).logits


def merged(adapter: Path, base: Path) -> Any:
    from persona_probe.models.sources import resolve
    from persona_probe.models.weights import load_weights

    return load_weights(resolve(str(adapter)), base=resolve(str(base)), **CPU)


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def write_trained(folder: Path, base: Any, **settings: Any) -> Path:
    """An adapter whose every trainable weight was moved, as `save_pretrained` writes it."""
    wrapped = get_peft_model(
        base, LoraConfig(**{"r": 4, "lora_alpha": 12, "target_modules": ["q_proj", "up_proj"], **settings})
    )
    generator = torch.Generator().manual_seed(1)
    for parameter in wrapped.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data + 0.1 * torch.randn(parameter.shape, generator=generator)
    wrapped.save_pretrained(folder)
    return folder


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("form", FORMS)
def test_merged_form_gives_the_logits_of_the_unmerged_one(
    form: str, bases: Callable[[str], Path], tmp_path: Path
) -> None:
    from persona_probe.models.weights import tied

    base = bases(FORMS[form].base)
    adapter = write_trained(tmp_path / "adapter", plain(base), **FORMS[form].settings)
    expected = logits(PeftModel.from_pretrained(plain(base), adapter).eval())
    assert (expected - logits(plain(base))).abs().max() > 0.5
    model = merged(adapter, base)
    close(logits(model), expected)
    assert tied(model) is model.config.tie_word_embeddings is FORMS[form].together


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


# One LoRA per expert, as transformers 4 had them


def write_per_expert(
    folder: Path, model: Any, names: tuple[str, ...], *, block: str, prefix: str, rslora: bool, router: bool
) -> None:
    """An adapter of every linear layer of every block, and the same update added to `model` expert by expert."""
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
            experts, alone = getattr(layer.mlp, "experts", None), getattr(layer.mlp, "shared_expert", None)
            for module, path in (
                (alone, "mlp.shared_expert"),
                (layer.mlp if experts is None else None, "mlp"),
            ):
                for name in names if module is not None else ():
                    add(f"layers.{i}.{path}.{name}", module.get_submodule(name).weight)
            for e in range(0 if experts is None else len(experts.down_proj)):
                gate, up = experts.gate_up_proj[e].chunk(2)
                for name, weight in zip(names, (gate, up, experts.down_proj[e]), strict=False):
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
    exact = PeftModel.from_pretrained(plain(base).bfloat16().float(), adapter).merge_and_unload()
    for name, parameter in found.named_parameters():
        assert torch.equal(parameter, exact.get_parameter(name).to(torch.bfloat16)), name


# Multimodal wrappers


@pytest.fixture(scope="session")
def multimodal(tmp_path_factory: pytest.TempPathFactory) -> tuple[Callable[[], Any], Path]:
    """A tiny Gemma 3 with eyes, made anew at each call, and the folder of its language model alone."""
    text = tiny.tiny_config("gemma3").to_dict()
    vision = {
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 28,
        "patch_size": 14,
    }
    config = transformers.Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4)

    def whole() -> Any:
        model = transformers.Gemma3ForConditionalGeneration(copy.deepcopy(config)).float()
        tiny._randomise(model, torch.Generator().manual_seed(4))
        return model.eval()

    alone = transformers.Gemma3ForCausalLM(config.text_config).float()
    alone.model.load_state_dict(whole().model.language_model.state_dict())
    folder = tmp_path_factory.mktemp("alone")
    alone.save_pretrained(folder)
    return whole, folder


TO_OLD = {
    "base_model.model.model.language_model.": "base_model.model.language_model.model.",
    "base_model.model.model.vision_tower.": "base_model.model.vision_tower.",
    "base_model.model.lm_head.": "base_model.model.language_model.lm_head.",
}
TEXT_ONLY = r".*language_model.*\.(q_proj|up_proj)"


def as_transformers_4(adapter: Path, **changes: Any) -> None:
    tensors = load_file(adapter / "adapter_model.safetensors")
    for new, old in TO_OLD.items():
        tensors = {
            old + key.removeprefix(new) if key.startswith(new) else key: tensor
            for key, tensor in tensors.items()
        }
    save_file(tensors, adapter / "adapter_model.safetensors")
    tiny.edit_json(adapter / "adapter_config.json", **changes)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("old", [False, True], ids=["named as today", "named as in transformers 4"])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"target_modules": TEXT_ONLY},
        {"target_modules": TEXT_ONLY, "modules_to_save": ["embed_tokens"]},
        {"target_modules": rf"{TEXT_ONLY}|(.*\.)?lm_head"},
        {
            "target_modules": TEXT_ONLY,
            "rank_pattern": {r".*layers\.1\..*q_proj": 2},
            "alpha_pattern": {r".*layers\.2\.mlp\.up_proj": 3},
        },
        {"target_modules": "all-linear"},
    ],
    ids=["with vision", "text only", "embed_tokens saved", "lora on lm_head", "patterns", "all-linear"],
)
def test_adapter_of_a_multimodal_model_fits_its_language_model(
    settings: dict[str, Any], old: bool, multimodal: tuple[Callable[[], Any], Path], tmp_path: Path
) -> None:
    whole, alone = multimodal
    adapter = write_trained(tmp_path, whole(), **settings)
    expected = logits(PeftModel.from_pretrained(whole(), adapter).eval())
    if old:
        as_transformers_4(adapter)
    close(logits(merged(adapter, alone)), expected)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"modules_to_save": ["lm_head"]},
        {"target_modules": r"model\.layers\..*q_proj", "rank_pattern": {r"model\.layers\.1\..*": 2}},
    ],
    ids=["plain", "lm_head saved", "regular expression"],
)
def test_adapter_of_a_language_model_fits_the_multimodal_one(
    settings: dict[str, Any], multimodal: tuple[Callable[[], Any], Path], tmp_path: Path
) -> None:
    from persona_probe.models.adapters import merge_adapter
    from persona_probe.models.sources import resolve

    whole, alone = multimodal
    adapter = write_trained(tmp_path, plain(alone), **settings)
    expected = logits(PeftModel.from_pretrained(plain(alone), adapter).eval())
    close(logits(merge_adapter(whole(), resolve(str(adapter)))), expected)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("old", [False, True], ids=["named as today", "named as in transformers 4"])
def test_adapter_of_a_multimodal_model_fits_itself(
    old: bool, multimodal: tuple[Callable[[], Any], Path], tmp_path: Path
) -> None:
    from persona_probe.models.adapters import merge_adapter
    from persona_probe.models.sources import resolve

    whole, _ = multimodal
    adapter = write_trained(tmp_path, whole())
    trained = PeftModel.from_pretrained(whole(), adapter).merge_and_unload().state_dict()
    if old:
        as_transformers_4(adapter)
    found = merge_adapter(whole(), resolve(str(adapter))).state_dict()
    assert found.keys() == trained.keys()
    for name, tensor in found.items():  # of the vision tower too, which text does not move
        close(tensor, trained[name])


def test_weights_of_unknown_parts_are_not_taken_for_vision(
    multimodal: tuple[Callable[[], Any], Path], tmp_path: Path
) -> None:
    whole, alone = multimodal
    adapter = write_trained(tmp_path, whole())
    tensors = load_file(adapter / "adapter_model.safetensors")
    save_file(
        {key.replace("vision_tower", "memory"): tensor for key, tensor in tensors.items()},
        adapter / "adapter_model.safetensors",
    )
    with refused(r"layout: weights \d+ too many \(first: .*(memory|language_model)"):
        merged(adapter, alone)


def test_shallower_multimodal_model_is_another_model(
    multimodal: tuple[Callable[[], Any], Path], tmp_path: Path
) -> None:
    whole, alone = multimodal
    adapter = write_trained(tmp_path, whole(), target_modules=TEXT_ONLY)
    tensors = load_file(adapter / "adapter_model.safetensors")
    save_file(
        {key: tensor for key, tensor in tensors.items() if "layers.3." not in key},
        adapter / "adapter_model.safetensors",
    )
    with refused(r"another model than its base: weights 4 missing .*it has 3 layers, the base 4"):
        merged(adapter, alone)


# A vocabulary that was resized before training


def resized(base: Path) -> Any:
    model = plain(base)
    model.resize_token_embeddings(324)
    return model


def write_tokenizer(folder: Path, *, new: int) -> None:
    tokenizer = tiny.tiny_tokenizer()
    tokenizer.add_tokens([f"<new {i}>" for i in range(new)])
    tokenizer.save_pretrained(folder)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("base", ["llama", "untied"])
@pytest.mark.parametrize(
    "settings",
    [{}, {"modules_to_save": ["embed_tokens", "lm_head"]}, BOTH],
    ids=["left alone", "saved", "lora"],
)
def test_resized_vocabulary_is_taken_over_when_the_adapter_brings_it(
    settings: dict[str, Any], base: str, bases: Callable[[str], Path], tmp_path: Path
) -> None:
    adapter = write_trained(tmp_path, resized(bases(base)), **settings)
    write_tokenizer(adapter, new=4)
    expected = logits(PeftModel.from_pretrained(resized(bases(base)), adapter).eval())
    model = merged(adapter, bases(base))
    assert model.config.vocab_size == expected.shape[-1] == 324
    close(logits(model), expected)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("settings", "new", "message"),
    [
        ({}, None, "no tokenizer with the new tokens"),
        ({}, 9, "its tokenizer has 329 tokens"),
        ({"modules_to_save": ["embed_tokens"]}, 4, r"does not bring them whole \(lm_head is missing\)"),
    ],
    ids=["no tokenizer", "larger tokenizer", "one side"],
)
def test_resized_vocabulary_is_refused_when_something_lacks(
    settings: dict[str, Any], new: int | None, message: str, bases: Callable[[str], Path], tmp_path: Path
) -> None:
    adapter = write_trained(tmp_path, resized(bases("untied")), **settings)
    if settings:
        tensors = load_file(adapter / "adapter_model.safetensors")
        save_file(
            {key: tensor for key, tensor in tensors.items() if "lm_head" not in key},
            adapter / "adapter_model.safetensors",
        )
    if new is not None:
        write_tokenizer(adapter, new=new)
    with refused(rf"resized vocabulary: adapter has 324 rows, base 320, .*{message}"):
        merged(adapter, bases("untied"))


@pytest.mark.filterwarnings("ignore")
def test_trained_token_beyond_the_base_is_a_resized_vocabulary(
    bases: Callable[[str], Path], tmp_path: Path
) -> None:
    adapter = write_trained(tmp_path, plain(bases("llama")), trainable_token_indices=[5, 8])
    tiny.edit_json(adapter / "adapter_config.json", trainable_token_indices=[5, 321])
    with refused(r"resized vocabulary: adapter has at least 322 rows, base 320"):
        merged(adapter, bases("llama"))

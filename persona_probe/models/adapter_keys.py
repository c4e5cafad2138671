"""How an adapter's weights are named and how the base names them: PEFT's own mapping first, then a multimodal
wrapper's prefix."""

import copy
import re
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from persona_probe.base.errors import BadInput
from persona_probe.models.tensors import first_line

ADAPTER = "default"
FILE_PREFIX = "base_model.model."
BODY = re.compile(r"(.*?)(?:layers|h|blocks)\.(\d+)\.")
PARTS = re.compile(r"\.(lora_[A-Za-z_]+|base_layer|token_adapter|modules_to_save)\b.*$")
INNER = re.compile(r"\.experts\.base_layer\.(lora_[AB])\.(default\.)?")
EXPERT = re.compile(r"\.experts\.\d+\.(\w+)\.lora_")
# What a wrapper has beside its text model. A text-only model runs without it.
SENSES = re.compile(
    r"(^|\.)(vision_tower|vision_model|vision_encoder|vision_embed_tokens|embed_vision|visual"
    r"|multi_modal_projector|mm_projector|image_newline|connector|audio_tower|audio_model|embed_audio)(\.|$)"
)


@dataclass(frozen=True)
class Problem:
    """Why weights do not fit: names too many, names missing, and name, found shape and expected shape of each
    that differs."""

    extra: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    shapes: list[tuple[str, tuple[int, ...], tuple[int, ...]]] = field(default_factory=list)
    error: str = ""

    def __bool__(self) -> bool:
        return bool(self.extra or self.missing or self.shapes or self.error)


def wrap(model: Any, config: Any, tensors: Iterable[str], *, low_cpu_mem_usage: bool = False) -> Any:
    """`model` with PEFT's empty layers around what `config` targets. Changes `model`; `config` stays as it
    is."""
    from peft import get_peft_model
    from peft.tuners.lora.layer import ParamWrapper
    from peft.utils.other import get_pattern_key

    config, experts_before = copy.deepcopy(config), set(config.target_parameters or ())
    with warnings.catch_warnings(), _experts_converted(model, tensors):
        warnings.simplefilter("ignore")
        wrapped: Any = get_peft_model(model, config, low_cpu_mem_usage=low_cpu_mem_usage)
        used = wrapped.peft_config[ADAPTER]
        if set(used.target_parameters or ()) == experts_before:
            return wrapped
        lost = {PARTS.sub("", key.removeprefix(FILE_PREFIX)) for key in tensors if EXPERT.search(key)}
        lost = {get_pattern_key(config.alpha_pattern.keys(), name) for name in lost} & set(
            config.alpha_pattern
        )
        if lost:
            raise BadInput(
                f"alpha_pattern has a value for single experts ({', '.join(sorted(lost))}), which are one"
                " weight now"
            )
        # PEFT has turned one LoRA per expert into one for all. It then takes every gate_proj for an expert's,
        # also where shared experts and dense layers still have one of their own.
        for name in sorted({PARTS.sub("", key.removeprefix(FILE_PREFIX)) for key in tensors}):
            target = _submodule(model, name)
            if isinstance(target, nn.Linear):
                parent, _, leaf = name.rpartition(".")
                wrapped.base_model._create_and_replace(
                    used, ADAPTER, target, leaf, model.get_submodule(parent), current_key=name
                )
    if config.use_rslora:
        for layer in wrapped.modules():
            if isinstance(
                layer, ParamWrapper
            ):  # rank and alpha were doubled for the two halves: right for alpha / rank only
                layer.scaling[ADAPTER] = config.lora_alpha / config.r**0.5
    return wrapped


def mapped(wrapped: Any, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Each tensor under the name of the parameter into which PEFT itself would load it. Nothing is loaded."""
    from peft import set_peft_model_state_dict

    caught: dict[str, Tensor] = {}
    wrapped.load_state_dict = lambda state, **_: caught.update(state)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            set_peft_model_state_dict(wrapped, tensors)
    finally:
        del wrapped.load_state_dict
    # PEFT's mapping expects a LoRA on both fused weights of the experts; where one has none, the other's
    # layer is the outer one.
    state = wrapped.state_dict().keys()
    outer = {key: INNER.sub(rf".experts.\1.{ADAPTER}.", key) for key in caught if key not in state}
    return {
        outer[key] if outer.get(key) in state - caught.keys() else key: tensor
        for key, tensor in caught.items()
    }


def compare(wrapped: Any, tensors: dict[str, Tensor]) -> Problem:
    """What the adapter's weights lack or have too much, after PEFT's mapping: PEFT itself drops such layers
    without a word."""
    from peft import get_peft_model_state_dict

    expected = get_peft_model_state_dict(wrapped, save_embedding_layers=False)
    # PEFT looks up the weights of whole modules by name and ends in a KeyError where one is missing.
    lost = {key: tensor for key, tensor in expected.items() if ".lora_" not in key and key not in tensors}
    given, wanted, state = (
        mapped(wrapped, {**tensors, **lost}),
        mapped(wrapped, expected),
        wrapped.state_dict(),
    )
    return Problem(
        extra=sorted(_file_name(key) for key in given if key not in state),
        missing=sorted([*lost, *(_file_name(key) for key in wanted if key not in given)]),
        shapes=[
            (_file_name(key), tuple(tensor.shape), tuple(state[key].shape))
            for key, tensor in sorted(given.items())
            if key in state and tensor.shape != state[key].shape
        ],
    )


def shadow(model: Any, *, rows: int | None = None) -> Any:
    """The model without its weights, to try names and shapes on before the real one is touched."""
    config = copy.deepcopy(model.config)
    if rows is not None:
        config.get_text_config().vocab_size = rows
    with torch.device("meta"):
        return type(model)(config)


def try_names(
    model: Any, config: Any, tensors: dict[str, Tensor], *, rows: int | None = None
) -> tuple[Any, dict[str, Tensor], Problem]:
    """The config and the weights under names that fit the model, or as they were with the problem that is
    left."""
    problem = _attempt(shadow(model, rows=rows), config, tensors)
    renamed = _renamed(model, config, tensors) if problem else None
    if renamed is None:
        return config, tensors, problem
    return *renamed, _attempt(shadow(model, rows=rows), *renamed)


def depth(names: Iterable[str]) -> int:
    """How many layers the names span; vision layers do not count."""
    matches = [BODY.match(name) for name in names if not SENSES.search(name)]
    return 1 + max((int(match.group(2)) for match in matches if match), default=-1)


@contextmanager
def _experts_converted(model: Any, tensors: Iterable[str]) -> Iterator[None]:
    """Let PEFT turn one LoRA per expert into one for all also where its table, of 0.21, leaves out a family
    that transformers fuses."""
    from peft.utils import transformers_weight_conversion

    conversion: Any = transformers_weight_conversion
    parts = {match.group(1) for match in map(EXPERT.search, tensors) if match}
    table, family = conversion._MODEL_TO_CONVERSION_PATTERN, model.config.model_type
    added = bool(parts) and family not in table
    if added:
        table[family] = "mixtral" if parts & {"w1", "w2", "w3"} else "qwen2_moe"
    try:
        yield
    finally:
        if added:
            del table[family]


def _attempt(model: Any, config: Any, tensors: dict[str, Tensor]) -> Problem:
    probe = copy.deepcopy(config)
    # Names and shapes do not depend on how the layers start, and SVDs of nothing cost time. MiCA alone is a
    # layer of its own.
    probe.init_lora_weights = "mica" if config.init_lora_weights == "mica" else False
    try:
        return compare(wrap(model, probe, tensors, low_cpu_mem_usage=True), tensors)
    except BadInput as error:
        return Problem(error=str(error))
    except Exception as error:  # peft raises bare exceptions of many kinds
        return Problem(error=first_line(error))


def _renamed(model: Any, config: Any, tensors: dict[str, Tensor]) -> tuple[Any, dict[str, Tensor]] | None:
    """Config and weights with the prefix of a multimodal wrapper put on or taken off; None where that changes
    nothing."""
    names = [name for name, _ in model.named_modules()]
    ours = {match.group(1) for name in names if not SENSES.search(name) and (match := BODY.match(name + "."))}
    keys = [key.removeprefix(FILE_PREFIX) for key in tensors]
    theirs = {match.group(1) for key in keys if not SENSES.search(key) and (match := BODY.match(key))}
    has_senses = any(SENSES.search(name) for name in names)
    senses = [key for key in keys if SENSES.search(key)]
    # What sees and hears stands beside the language model, under `model.` or at the top.
    new_senses = "model." if any(name.startswith("model.") and SENSES.search(name) for name in names) else ""
    old_senses = "model." if any(key.startswith("model.") for key in senses) else ""
    if len(ours) != 1 or len(theirs) != 1:
        return None
    new, old = ours.pop(), theirs.pop()
    if old.replace("language_model.", "").replace("model.", "") != new.replace("language_model.", "").replace(
        "model.", ""
    ):
        return None
    old_head = "language_model.lm_head" if old.startswith("language_model.") else "lm_head"

    def there(name: str) -> str:
        if SENSES.search(name):
            return new_senses + name.removeprefix(old_senses)
        if name == old_head or name.startswith(old_head + "."):
            return "lm_head" + name.removeprefix(old_head)
        return new + name.removeprefix(old) if name.startswith(old) else name

    def back(name: str) -> str:
        if SENSES.search(name):
            return old_senses + name.removeprefix(new_senses)
        if name == "lm_head" or name.startswith("lm_head."):
            return old_head + name.removeprefix("lm_head")
        return old + name.removeprefix(new) if name.startswith(new) else name

    dropped = {key for key in tensors if not has_senses and SENSES.search(key)}
    if not senses:
        names = [name for name in names if not SENSES.search(name)]
    changed = {
        FILE_PREFIX + there(key.removeprefix(FILE_PREFIX)): tensor
        for key, tensor in tensors.items()
        if key not in dropped
    }
    if changed.keys() == tensors.keys() or not changed:
        return None
    return _config_under(config, names, there=there, back=back), changed


def _config_under(config: Any, names: list[str], *, there: Any, back: Any) -> Any:
    """The config with every pattern resolved to the model's own names, since patterns may spell the wrapper's
    prefix."""
    from peft.tuners.tuners_utils import check_target_module_exists
    from peft.utils.other import get_pattern_key

    changed = copy.deepcopy(config)
    whole = isinstance(config.target_modules, str) and config.target_modules.lower() == "all-linear"
    if config.target_modules and not whole and not config.target_parameters:
        leaf = re.compile(
            r"\.experts$"
        )  # fused experts are no modules: PEFT finds them by the names of their old ones
        targets = {name for name in names if name and check_target_module_exists(config, back(name))}
        targets |= {name for name in _old_leaves(config, names, leaf)}
        changed.target_modules, changed.exclude_modules = targets, None
        changed.layers_to_transform = changed.layers_pattern = None
        for values in ("rank_pattern", "alpha_pattern"):
            patterns = getattr(config, values)
            keys = {name: get_pattern_key(patterns.keys(), back(name)) for name in targets}
            setattr(
                changed,
                values,
                {re.escape(name): patterns[key] for name, key in keys.items() if key in patterns},
            )
    if config.modules_to_save:
        changed.modules_to_save = [there(name) for name in config.modules_to_save]
    if config.target_parameters:
        changed.target_parameters = [there(name) for name in config.target_parameters]
    if isinstance(config.trainable_token_indices, dict):
        changed.trainable_token_indices = {
            there(name): ids for name, ids in config.trainable_token_indices.items()
        }
    return changed


def _old_leaves(config: Any, names: list[str], leaf: re.Pattern[str]) -> set[str]:
    if isinstance(config.target_modules, str) or not any(leaf.search(name) for name in names):
        return set()
    return {
        name
        for name in config.target_modules
        if name in {"w1", "w2", "w3", "gate_proj", "up_proj", "down_proj", "gate"}
    }


def _file_name(key: str) -> str:
    return key.replace(f".{ADAPTER}", "")


def _submodule(model: Any, name: str) -> Any:
    try:
        return model.get_submodule(name)
    except AttributeError:
        return None

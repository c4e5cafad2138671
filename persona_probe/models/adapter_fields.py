"""What adapter_config.json asks for: what no merge can hold, what this PEFT does not know, which base it
names."""

import re
from pathlib import Path
from typing import Any

from persona_probe.base.errors import BadInput
from persona_probe.models.sources import Source, adapter_config, read_config

# Fields that switch on what no fixed weight can hold, or what the adapter's files do not tell.
UNMERGEABLE = {
    "alora_invocation_tokens": "aLoRA changes only the tokens after its invocation tokens",
    "arrow_config": "Arrow chooses among several adapters token by token",
    "layer_replication": "layer replication changes the base's depth",
    "megatron_config": "Megatron layers are not Hugging Face's",
    "use_qalora": "QA-LoRA belongs to a GPTQ-quantised base",
}
# Starts that moved the base's weights by something that is not in the adapter's files.
LOST_STARTS = {
    "corda": "CorDA took its start from data",
    "lora_ga": "LoRA-GA took its start from gradients",
    "loftq": "LoftQ was trained on a quantised base",
    "pissa_niter": "the fast PiSSA took its start from random numbers",
}
CONVERT = "save it again with path_initial_model_for_weight_conversion"
OTHER_TASKS = {"SEQ_CLS", "TOKEN_CLS", "QUESTION_ANS", "SEQ_2_SEQ_LM"}
QUANTISED = re.compile(
    r"(-unsloth)?(-bnb)?-[48]bit$|-(gptq|awq|gguf|fp8)(-[^/]*)?$|-q\d_[^/]*$|-f(p)?16$|-bf16$|-int[48]$"
)


def adapter_notes(source: Source, base: Source) -> list[str]:
    """What is odd about an adapter and its base without being wrong, one line each."""
    if source.kind != "adapter":
        return []
    config, notes = adapter_config(source.folder), []
    named = config.get("base_model_name_or_path")
    known = {
        _plain_name(base.id),
        _plain_name(str(base.folder)),
        _plain_name(str(read_config(base.folder).get("_name_or_path") or "")),
    }
    if isinstance(named, str) and named and _plain_name(named) not in known:
        notes.append(
            f"adapter {source.id} was trained on {named!r} by its config, and is merged into {base.id}"
        )
    unknown = _unknown_fields(config)
    if unknown:
        notes.append(
            f"adapter {source.id} has settings that {peft_version()} does not know and does not use:"
            f" {', '.join(sorted(unknown))}"
        )
    return notes


def refuse_by_field(source: Source, fields: dict[str, Any]) -> None:
    """Refuse, by its name, a feature that a merge would lose in silence."""
    start = f"adapter {source.id} cannot be merged"
    for name, why in UNMERGEABLE.items():
        if fields.get(name):
            raise BadInput(f"{start}: {why} ({name} in its config)")
    init = fields.get("init_lora_weights")
    for name, why in LOST_STARTS.items():
        if isinstance(init, str) and init.lower().startswith(name):
            raise BadInput(
                f"{start}: {why} (init_lora_weights is {init!r}), and the base it moved is not in its files:"
                f" {CONVERT}"
            )
    if fields.get("task_type") in OTHER_TASKS:
        raise BadInput(
            f"{start}: its task_type is {fields['task_type']}, a causal language model needs CAUSAL_LM"
        )
    switched_on = [
        name
        for name in _unknown_fields(fields)
        if fields[name] is True or (isinstance(fields[name], dict | list) and fields[name])
    ]
    if switched_on:
        raise BadInput(
            f"{start}: its config switches on {', '.join(sorted(switched_on))}, which {peft_version()} does"
            " not know"
        )


def _unknown_fields(fields: dict[str, Any]) -> set[str]:
    from dataclasses import fields as fields_of

    from peft import LoraConfig

    return set(fields) - {field.name for field in fields_of(LoraConfig)} - {"peft_type", "runtime_config"}


def peft_version() -> str:
    """Name and version of the PEFT that reads the adapter."""
    import peft

    return f"PEFT {peft.__version__}"


def _plain_name(name: str) -> str:
    """The last part of a model's name as it would be without revision, quantisation and the hub's cache
    folders."""
    parts = [part for part in Path(name.partition("@")[0].lower()).parts if part != "snapshots"]
    cached = [part for part in parts if part.startswith("models--")]
    last = cached[-1].rpartition("--")[2] if cached else parts[-1] if parts else ""
    previous = ""
    while last != previous:
        previous, last = last, QUANTISED.sub("", last.removesuffix(".gguf"))
    return last.removeprefix("meta-")

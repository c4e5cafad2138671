"""Models that the user has loaded: taken as they are and checked as the loader checks. Nothing of them is
copied or changed."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from persona_probe.base.errors import BadInput
from persona_probe.models.bridge_checks import bridge_checks
from persona_probe.models.checks import distance, probe_rows, reference, said, tolerance
from persona_probe.models.editable import is_hugging_face, is_of, named
from persona_probe.models.hooked import take_hooked
from persona_probe.models.loading import Model, boot
from persona_probe.models.parity import fitted_engine
from persona_probe.models.sources import Source, resolve
from persona_probe.models.tensors import check_finite
from persona_probe.models.twins import build_twin
from persona_probe.models.weights import load_tokenizer
from persona_probe.prompts.tokenizers import Tokenizer
from persona_probe.storage.files import sha256_json
from persona_probe.storage.tensor_files import sha256_tensors

# What a config says of where a model came from or lies, and not of what it computes.
NOT_COMPUTED = {
    "_name_or_path",
    "transformers_version",
    "_attn_implementation",
    "architectures",
    "model_name",  # from here on of a HookedTransformer
    "tokenizer_name",
    "device",
    "n_devices",
    "seed",
    "init_weights",
    "init_mode",
}
BRIDGED = "._original_component"  # what TransformerLens adds to the names of weights


def is_loaded(given: object) -> bool:
    """Whether `given` is a model rather than the name of one."""
    return not isinstance(given, str | Path)


def source_of(given: Any, tokenizer: Tokenizer) -> Source:
    """What records and keys say of a loaded model: a hash of its config and weights. It has no folder."""
    hooked = is_of(given, "HookedTransformer")
    weights = given if hooked else _weights(given)
    listed = (given.cfg if hooked else weights.config).to_dict()
    config = {name: value for name, value in listed.items() if name not in NOT_COMPUTED}
    tensors = {_plain(name): tensor for name, tensor in weights.named_parameters(remove_duplicate=False)}
    hashed = sha256_tensors([tensors[name] for name in sorted(tensors)])
    facts = sha256_json([repr(sorted(config.items(), key=str)), sorted(tensors), hashed])
    vocabulary = sha256_json(sorted(tokenizer.get_vocab().items()))
    return Source(named(given), "loaded", Path(), None, sha256_json([facts, vocabulary]), facts)


def take(given: Any, tokenizer: Tokenizer) -> Model:
    """A loaded model as ours. Its own tensors are used; edits of ours act on the user's model as well.

    BadInput for a model that is quantised, on the meta device, wrapped by PEFT, changed since it was loaded,
    or whose weights hold NaN or infinity.
    """
    if isinstance(given, Model):
        return given
    if is_of(given, "HookedTransformer"):
        return take_hooked(given, tokenizer)
    weights = _weights(given)
    name, dtype = named(given), weights.dtype
    check_finite(name, weights.named_parameters())
    view = _view(weights, name)
    rows = probe_rows(tokenizer, n_rows=view.get_input_embeddings().weight.shape[0])
    known = reference(view, rows)
    tokens = torch.tensor([rows[0].ids], device=view.device)
    with evaluated(weights), torch.inference_mode():
        out = given(tokens, attention_mask=torch.ones_like(tokens))
        logits = out if isinstance(out, Tensor) else out.logits
    apart = distance(logits[0, rows[0].n_prompt - 1 : -1].float().cpu(), known.logits[0])
    if apart > tolerance(dtype):
        raise BadInput(
            f"{name} does not compute what a plain model with its weights does (logits {apart:.2g} apart,"
            f" allowed is {tolerance(dtype):g}): give it as it was loaded, without further hooks, processing"
            " or adapters"
        )
    if not is_of(given, "TransformerBridge"):
        return replace(boot(name, view, tokenizer, dtype=dtype), given=given)
    twin, attention = build_twin(view, dtype=dtype)
    engine, checks = fitted_engine(twin, name, known, attention=attention, dtype=dtype)
    model = Model(name, given, engine, tokenizer, view.device, dtype)
    checks += bridge_checks(
        given, engine, known, [model.site(point) for point in model.resids()], dtype=dtype
    )
    stream = next(check for check in checks if check.name == "residual stream")
    if not stream.passed:
        raise BadInput(f"{name}: its blocks do not give Hugging Face's hidden states ({said(stream)})")
    return replace(model, checks=checks)


def tokenizer_of(given: Any) -> Tokenizer:
    """The tokenizer that a loaded model carries, or that lies where its config says it came from."""
    carried = getattr(given, "tokenizer", None)  # of a model of ours, or of a bridge
    if carried is not None:
        return carried
    path = str(getattr(given.config, "name_or_path", "") or "")
    try:
        return load_tokenizer(resolve(path), None)
    except BadInput as error:
        raise BadInput(f"{named(given)} comes without a tokenizer: give it as tokenizer=…") from error


@contextmanager
def evaluated(model: nn.Module) -> Iterator[None]:
    """Inside the block no dropout; afterwards every module is in the mode that it was in."""
    modes = [(module, module.training) for module in model.modules()]
    for module, _ in modes:
        module.training = False
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def _weights(given: Any) -> Any:
    """The Hugging Face model in what the user gave; BadInput for what cannot be measured."""
    if isinstance(given, Model):
        return given.twin
    weights = given.original_model if is_of(given, "TransformerBridge") else given
    if any(kind.__module__.startswith("peft.") for kind in type(weights).__mro__):
        raise BadInput(f"{named(given)} is wrapped by PEFT: give what its merge_and_unload() returns")
    if not is_hugging_face(weights):
        raise BadInput(f"a {type(given).__name__} is no model: give a name, a folder, or a loaded model")
    if getattr(weights, "is_quantized", False):
        raise BadInput(f"{named(given)} is quantised: load it in bfloat16 or float32")
    if any(tensor.is_meta for tensor in weights.parameters()):
        raise BadInput(f"{named(given)} has weights without values: load it without offloading")
    return weights


def _view(weights: Any, name: str) -> Any:
    """A plain eager Hugging Face model over the same storage, whose modules and parameters are its own."""
    with torch.device("meta"):
        view = type(weights)._from_config(
            copy.deepcopy(weights.config), attn_implementation="eager", dtype=weights.dtype
        )
    view.config.architectures = [type(weights).__name__]
    made: dict[int, nn.Parameter] = {}
    for kind, tensors in (
        ("_parameters", weights.named_parameters(remove_duplicate=False)),
        ("_buffers", weights.named_buffers(remove_duplicate=False)),
    ):
        for key, tensor in tensors:
            parent, _, leaf = _plain(key).rpartition(".")
            try:
                slot = getattr(view.get_submodule(parent), kind)
            except AttributeError:
                continue  # a bridge keeps parts of its own beside those of Hugging Face
            if leaf not in slot:
                continue
            slot[leaf] = (
                made.setdefault(id(tensor), nn.Parameter(tensor.detach(), requires_grad=False))
                if kind == "_parameters"
                else tensor
            )
    empty = [key for key, tensor in [*view.named_parameters(), *view.named_buffers()] if tensor.is_meta]
    if empty:
        raise BadInput(f"{name} has no {', '.join(empty[:3])}: it was changed since it was loaded")
    view.generation_config = copy.deepcopy(getattr(weights, "generation_config", None))
    return view.eval()


def _plain(name: str) -> str:
    return name.replace(BRIDGED, "")

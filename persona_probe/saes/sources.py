"""Where SAEs come from (a SAELens release, a SAELens folder, the name of a shipped one), and whether one fits
a pair.

Releases are fetched and converted by SAELens' own loaders.
"""

import difflib
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from persona_probe.base.errors import BadInput
from persona_probe.models.loading import Model
from persona_probe.models.pairs import Pair
from persona_probe.models.tensors import first_line
from persona_probe.saes.folder import CONFIG, from_parts, read_sae
from persona_probe.saes.sae import Sae
from persona_probe.storage.files import typed_path
from persona_probe.storage.shipped import named, named_folder

FAMILIES = ("smollm", "gemma", "llama", "qwen", "gpt", "pythia", "mistral", "olmo", "phi")


def resolve_sae(spec: str) -> Sae:
    """The SAE that `spec` names: a folder, a SAELens `RELEASE:ID`, or one that ships or is in
    `./checkpoints`.
    """
    folder = typed_path(spec, what="SAE")
    if folder.is_dir():
        return read_sae(folder)
    by_name = named_folder(spec, holding=CONFIG)
    if by_name is not None:
        return read_sae(by_name, id=spec)
    release, colon, sae_id = spec.partition(":")
    if colon and release and sae_id:
        return _from_release(release, sae_id)
    raise BadInput(
        f"no SAE {spec!r}: it is no folder, no RELEASE:ID of SAELens, "
        f"and none of the SAEs known by name ({', '.join(named(holding=CONFIG)) or 'there are none'})"
    )


def from_sae_lens(sae: Any, *, id: str) -> Sae:
    """An SAE that SAELens has loaded, as our value; what cannot be honoured is refused with the reason."""
    config = {**sae.cfg.to_dict(), "architecture": sae.cfg.architecture()}
    return from_parts(dict(sae.state_dict()), config, id=id, where=id)


def check_fits(sae: Sae, *, d_model: int, hook_points: Sequence[str], model_name: str) -> list[str]:
    """Refuse an SAE of another width, depth or model family; a note when it was trained on another model of
    the family.

    Families are told apart by the first letters of the names' last parts: gemma-2-2b and gemma-3-1b are one
    family.
    """
    if sae.d_model != d_model:
        raise BadInput(
            f"SAE {sae.id} reads a stream of width {sae.d_model}, {model_name} has d_model {d_model}: "
            "take an SAE of this model"
        )
    if sae.hook_point not in hook_points:
        raise BadInput(
            f"SAE {sae.id} reads {sae.hook_point}, {model_name} has {hook_points[0]} to {hook_points[-1]}: "
            "take an SAE of this model"
        )
    if not sae.model_name:
        return [f"SAE {sae.id} does not say which model it was trained on"]
    model, trained_on = _short_name(model_name), _short_name(sae.model_name)
    family, trained_family = _family(model), _family(trained_on)
    if family != trained_family and {family, trained_family} <= set(FAMILIES):
        raise BadInput(
            f"SAE {sae.id} was trained on {sae.model_name}, the model is {model_name}: "
            "take an SAE of this model"
        )
    if model == trained_on:
        return []
    return [f"SAE {sae.id} was trained on {sae.model_name}, the base model is {model_name}"]


def fitting(sae: Sae, pair: Pair) -> list[str]:
    """Notes on an SAE that can be used on a pair; one that cannot is refused in one line."""
    model = pair.get("base")
    notes = check_fits(sae, d_model=model.d_model, hook_points=model.resids(), model_name=pair.base_source.id)
    if sae.centre_input and not centres(model):
        notes.append(
            f"SAE {sae.id} asks for a centred stream; TransformerLens centres no model with this "
            "normalisation, so it is not centred"
        )
    if sae.normalisation != "none":
        notes.append(
            f"SAE {sae.id} scales every token ({sae.normalisation}): means and changes of its latents are in "
            "units of the stream, the activations beside their contexts in the SAE's own scale"
        )
    return notes


def fitted(sae: Sae, pair: Pair) -> Sae:
    """The SAE as it is used on a pair: centring only where TransformerLens would centre the model."""
    return replace(sae, centre_input=sae.centre_input and centres(pair.get("base")))


def centres(model: Model) -> bool:
    """Whether TransformerLens' center_writing_weights changes a model: with LayerNorm, not with RMSNorm.
    Its own rule.
    """
    config = model.bridge.cfg
    layer_norm = getattr(config, "normalization_type", "LN") in ("LN", "LNPre")
    if not layer_norm or getattr(config, "final_rms", False):
        return False
    adapter = getattr(model.bridge, "adapter", None)  # a HookedTransformer has none
    return bool(getattr(adapter, "supports_center_writing_weights", True))


def _from_release(release: str, sae_id: str) -> Sae:
    """Fetch one of SAELens' listed SAEs.

    Its loaders read safetensors, npz, and `.pt` files (those of dictionary_learning, andyrdt). They call
    `torch.load` without saying `weights_only`, which means tensors only unless an environment variable turns
    that off (torch 2.6 and later, which this project needs); then nothing is fetched.
    """
    if os.environ.get("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"):
        raise BadInput(
            f"{release}:{sae_id} is not fetched: TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD is set, "
            "so its files could run code; unset it"
        )
    from sae_lens import SAE
    from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory

    directory = get_pretrained_saes_directory()
    if release not in directory:
        hint = _hint(difflib.get_close_matches(release, directory, n=3))
        raise BadInput(f"no SAELens release {release!r}{hint}: see the list of pretrained SAEs of sae-lens")
    ids = list(directory[release].saes_map)
    if sae_id not in ids:
        hint = _hint(difflib.get_close_matches(sae_id, ids, n=3) or ids[:3])
        raise BadInput(f"release {release} has no SAE {sae_id!r}{hint}: it has {len(ids)}")
    try:
        sae = SAE.from_pretrained(release, sae_id, device="cpu", dtype="float32")
    except Exception as error:  # hub clients, loaders and converters raise errors of many kinds
        raise BadInput(
            f"{release}:{sae_id} cannot be fetched ({first_line(error)}): "
            "check the network, or give a local SAELens folder"
        ) from error
    return from_sae_lens(sae, id=f"{release}:{sae_id}")


def _short_name(model: str) -> str:
    """The last part of a model's id, without revision and file ending, in small letters."""
    return re.sub(r"\.gguf$", "", model.rsplit("/", 1)[-1].split("@")[0].lower())


def _family(short_name: str) -> str:
    letters = re.match(r"[a-z]+", short_name)
    return letters[0] if letters else short_name


def _hint(near: list[str]) -> str:
    return f", did you mean {' or '.join(near)}" if near else ""

"""Where SAEs come from: a SAELens release, a SAELens folder, or the name of one in checkpoints/."""

import difflib
import os
from dataclasses import replace
from typing import Any

from persona_probe.base.errors import BadInput
from persona_probe.models.loading import Model
from persona_probe.models.pairs import Pair
from persona_probe.saes.sae import CONFIG, Sae, check_fits, from_parts, read_sae
from persona_probe.storage.files import typed_path
from persona_probe.storage.shipped import named, named_folder


def resolve_sae(spec: str) -> Sae:
    """The SAE that `spec` names: a folder, `RELEASE:ID` of SAELens, or the name of one that ships or is in `./checkpoints`."""
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


def fitting(sae: Sae, pair: Pair) -> list[str]:
    """Notes on an SAE that can be used on a pair; one that cannot is refused in one line."""
    model = pair.get("base")
    notes = check_fits(sae, d_model=model.d_model, hook_points=model.resids(), model_name=pair.base_source.id)
    if sae.centre_input and not centres(model):
        notes.append(
            f"SAE {sae.id} asks for a centred stream; TransformerLens centres no model with this normalisation, so it is not centred"
        )
    if sae.normalisation != "none":
        notes.append(
            f"SAE {sae.id} scales every token ({sae.normalisation}): its activations, and estimates from them, are in that scale"
        )
    return notes


def fitted(sae: Sae, pair: Pair) -> Sae:
    """The SAE as it is used on a pair: centring only where TransformerLens would centre the model."""
    return replace(sae, centre_input=sae.centre_input and centres(pair.get("base")))


def centres(model: Model) -> bool:
    """Whether TransformerLens' center_writing_weights does anything to a model: with LayerNorm, not with RMSNorm. Its own rule."""
    config = model.bridge.cfg
    layer_norm = getattr(config, "normalization_type", "LN") in ("LN", "LNPre") and not getattr(
        config, "final_rms", False
    )
    return layer_norm and bool(getattr(model.bridge.adapter, "supports_center_writing_weights", True))


def _from_release(release: str, sae_id: str) -> Sae:
    """Fetch one of SAELens' listed SAEs. Its loaders read safetensors, npz, and `.pt` files (those of dictionary_learning, andyrdt).

    They call `torch.load` without saying `weights_only`, which means tensors only unless an environment variable turns that
    off (torch 2.6 and later, which this project needs); then nothing is fetched.
    """
    if os.environ.get("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"):
        raise BadInput(
            f"{release}:{sae_id} is not fetched: TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD is set, so its files could run code; unset it"
        )
    from sae_lens import SAE
    from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory

    directory = get_pretrained_saes_directory()
    if release not in directory:
        near = difflib.get_close_matches(release, directory, n=3)
        raise BadInput(
            f"no SAELens release {release!r}{_hint(near)}: see the list of pretrained SAEs of sae-lens"
        )
    ids = list(directory[release].saes_map)
    if sae_id not in ids:
        raise BadInput(
            f"release {release} has no SAE {sae_id!r}{_hint(difflib.get_close_matches(sae_id, ids, n=3) or ids[:3])}: it has {len(ids)}"
        )
    try:
        sae = SAE.from_pretrained(release, sae_id, device="cpu", dtype="float32")
    except Exception as error:  # hub clients, loaders and converters raise errors of many kinds
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise BadInput(
            f"{release}:{sae_id} cannot be fetched ({reason}): check the network, or give a local SAELens folder"
        ) from error
    return from_sae_lens(sae, id=f"{release}:{sae_id}")


def _hint(near: list[str]) -> str:
    return f", did you mean {' or '.join(near)}" if near else ""

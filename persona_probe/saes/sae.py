"""A sparse autoencoder as a value: encode, decode, and the SAELens folder it lives in. Reads no code and no pickle."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from persona_probe.base.errors import BadInput
from persona_probe.base.hook_points import HookPoint
from persona_probe.saes.settings import Architecture, Normalisation, read_architecture, read_facts, read_input
from persona_probe.storage.files import write_json
from persona_probe.storage.tensor_files import read_tensors, sha256_tensors, write_tensors

TENSORS = {"gated": ("b_gate", "b_mag", "r_mag"), "jumprelu": ("b_enc", "threshold")}
CONFIG, WEIGHTS = "cfg.json", "sae_weights.safetensors"
FORMAT = "6.0.0"  # of SAELens; without a version it takes a config for one of before 6 and drops its metadata
MAX_LATENTS = 2**24
LAYER_NORM_EPS = 1e-5  # of SAELens
AFTER_BLOCK = re.compile(
    r"blocks\.(\d+)\.(?:hook_resid_post|hook_out)|(?:model|transformer)\.(?:layers|h)\.(\d+)"
)
BEFORE_BLOCK = re.compile(r"blocks\.(\d+)\.(?:hook_resid_pre|hook_in)")


@dataclass(frozen=True, eq=False)
class Sae:
    """A sparse autoencoder of the stream at one hook point. Latents are float32 whatever the stream is.

    encode: activation((x - b_dec?) W_enc + b_enc), with ReLU (standard), the k largest (topk), or what exceeds a threshold
    (jumprelu). decode: f W_dec + b_dec. Before that the input is made what the SAE was trained on, as SAELens does it:
    `centre_input` takes the mean over d_model away, as SAEs of old processed TransformerLens models expect. `normalisation`
    divides every token by its length over sqrt(d_model) (constant_norm_rescale), or takes the mean away and divides by the
    standard deviation (layer_norm). `reconstruct` undoes both; what `decode` gives is `unit(x)` times smaller than the stream.
    """

    id: str
    hook_point: HookPoint
    model_name: str | None
    architecture: Architecture
    W_enc: Float[Tensor, "d_model d_sae"]
    b_enc: Float[Tensor, " d_sae"]
    W_dec: Float[Tensor, "d_sae d_model"]
    b_dec: Float[Tensor, " d_model"]
    threshold: Float[Tensor, " d_sae"] | None
    k: int | None
    apply_b_dec_to_input: bool
    centre_input: bool
    neuronpedia_id: str | None
    sha256: str
    normalisation: Normalisation = "none"

    @property
    def d_model(self) -> int:
        """Width of the stream it reads."""
        return self.W_enc.shape[0]

    @property
    def d_sae(self) -> int:
        """Number of latents."""
        return self.W_enc.shape[1]

    @property
    def layer(self) -> int:
        """The block after which it reads."""
        return self.hook_point.layer

    def encode(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_sae"]:
        """Activations of all latents."""
        return self._activate(self._input(x) @ self.W_enc.to(x.device) + self.b_enc.to(x.device), slice(None))

    def encode_some(
        self, x: Float[Tensor, "*batch d_model"], latents: tuple[int, ...]
    ) -> Float[Tensor, "*batch k"]:
        """`encode(x)[..., latents]`, computing those columns only unless all latents compete (topk)."""
        own = list(latents)
        if self.architecture == "topk":
            return self.encode(x)[..., own]
        return self._activate(
            self._input(x) @ self.W_enc[:, own].to(x.device) + self.b_enc[own].to(x.device), own
        )

    def decode(self, acts: Float[Tensor, "*batch d_sae"]) -> Float[Tensor, "*batch d_model"]:
        """What the latents stand for, at the scale that the SAE reads."""
        return acts @ self.W_dec.to(acts.device) + self.b_dec.to(acts.device)

    def unit(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch 1"]:
        """What 1 at the scale of `decode` is in the stream, token by token: 1 unless the SAE scales its input."""
        stream, _ = self._centred(x)
        if self.normalisation == "constant_norm_rescale":
            return stream.norm(dim=-1, keepdim=True) / self.d_model**0.5
        if self.normalisation == "layer_norm":
            return stream.std(dim=-1, keepdim=True)
        return torch.ones_like(x[..., :1], dtype=torch.float32)

    def reconstruct(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        """decode(encode(x)) in the stream: scaled back, plus the mean over d_model where it was taken away."""
        found = self.decode(self.encode(x))
        return (found if self.normalisation == "none" else found * self.unit(x)) + self._centred(x)[1]

    def _centred(self, x: Tensor) -> tuple[Tensor, Tensor | float]:
        """The stream without its mean over d_model, and the mean, where the SAE takes it away."""
        stream = x.float()
        mean = (
            stream.mean(-1, keepdim=True) if self.centre_input or self.normalisation == "layer_norm" else 0.0
        )
        return (stream if isinstance(mean, float) else stream - mean), mean

    def _input(self, x: Tensor) -> Tensor:
        stream, _ = self._centred(x)
        if self.normalisation == "layer_norm":
            stream = stream / (self.unit(x) + LAYER_NORM_EPS)
        elif (
            self.normalisation == "constant_norm_rescale"
        ):  # a token of length 0 stays one; SAELens gives NaN
            stream = stream / self.unit(x).clamp(min=torch.finfo(torch.float32).tiny)
        return stream - self.b_dec.to(x.device) if self.apply_b_dec_to_input else stream

    def _activate(self, pre: Tensor, own: Any) -> Tensor:
        acts = pre.relu()
        if self.threshold is not None:
            return acts * (pre > self.threshold[own].to(pre.device))
        if self.k is None:
            return acts
        best = acts.topk(self.k, dim=-1)
        return torch.zeros_like(acts).scatter(-1, best.indices, best.values)


def read_sae(folder: Path, *, id: str | None = None) -> Sae:
    """The SAE in a SAELens folder (`cfg.json`, `sae_weights.safetensors`); what cannot be honoured is refused with the reason."""
    path = folder / CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BadInput(
            f"{path} is missing or not JSON ({error}): an SAE folder holds {CONFIG} and {WEIGHTS}"
        ) from error
    if not isinstance(config, dict):
        raise BadInput(f"{path} holds a JSON {type(config).__name__}, expected an object")
    if not (folder / WEIGHTS).is_file():
        raise BadInput(
            f"{folder} has no {WEIGHTS}: pickled SAEs are never loaded; save it with SAELens' save_model"
        )
    return from_parts(read_tensors(folder / WEIGHTS)[0], config, id=id or folder.name, where=str(folder))


def from_parts(tensors: Mapping[str, Tensor], config: Mapping[str, Any], *, id: str, where: str) -> Sae:
    """An SAE from SAELens' tensors and settings, checked."""
    architecture, k = read_architecture(config, where)
    normalisation, subtract = read_input(config, where)
    facts = read_facts(config, where)
    weights = _checked(tensors, architecture, config, where)
    if architecture == "topk" and config.get("rescale_acts_by_decoder_norm"):
        # The same latents with decoder rows of length 1: scaled before the k largest are taken, divided again after.
        norm = weights["W_dec"].norm(dim=-1).clamp(min=torch.finfo(torch.float32).tiny)
        weights |= {
            "W_enc": weights["W_enc"] * norm,
            "b_enc": weights["b_enc"] * norm,
            "W_dec": weights["W_dec"] / norm[:, None],
        }
    if architecture == "topk" and not (type(k) is int and 0 < k <= weights["W_enc"].shape[1]):
        raise BadInput(f"{where}: k is {k!r}, allowed is 1 to {weights['W_enc'].shape[1]}")
    if architecture == "gated":
        # The gate x W_enc + b_gate > 0, said of the magnitude x W_enc e + b_mag: a threshold on it.
        architecture, e, b_mag = "jumprelu", weights.pop("r_mag").exp(), weights.pop("b_mag")
        weights |= {
            "W_enc": weights["W_enc"] * e,
            "b_enc": b_mag,
            "threshold": b_mag - weights.pop("b_gate") * e,
        }
    return Sae(
        id=id,
        hook_point=canonical_hook_point(facts["hook_name"], where),
        model_name=facts["model_name"],
        architecture=architecture,
        W_enc=weights["W_enc"],
        b_enc=weights["b_enc"],
        W_dec=weights["W_dec"],
        b_dec=weights["b_dec"],
        threshold=weights.get("threshold"),
        k=k if architecture == "topk" else None,
        apply_b_dec_to_input=subtract,
        centre_input=facts["centred"],
        neuronpedia_id=facts["neuronpedia_id"],
        sha256=sha256_tensors([weights[name] for name in sorted(weights)]),
        normalisation=normalisation,
    )


def write_sae(
    folder: Path, sae: Sae, *, metadata: Mapping[str, Any], dtype: torch.dtype = torch.bfloat16
) -> None:
    """Write an SAE so that SAELens and `read_sae` read it, weights first, each file in one step."""
    tensors = {"W_enc": sae.W_enc, "b_enc": sae.b_enc, "W_dec": sae.W_dec, "b_dec": sae.b_dec}
    facts = {
        "sae_lens_version": FORMAT,
        "model_name": sae.model_name,
        "hook_name": sae.hook_point,
        "neuronpedia_id": sae.neuronpedia_id,
    }
    if sae.centre_input:
        facts["model_from_pretrained_kwargs"] = {"center_writing_weights": True}
    config: dict[str, Any] = {
        "architecture": sae.architecture,
        "d_in": sae.d_model,
        "d_sae": sae.d_sae,
        "dtype": str(dtype).removeprefix("torch."),
        "device": "cpu",
        "apply_b_dec_to_input": sae.apply_b_dec_to_input,
        "normalize_activations": sae.normalisation,
        "reshape_activations": "none",
        "metadata": {**facts, **metadata},
    }
    if sae.threshold is not None:
        tensors["threshold"] = sae.threshold
    if sae.k is not None:
        config["k"] = sae.k
    write_tensors(folder / WEIGHTS, {name: tensor.to(dtype) for name, tensor in tensors.items()}, {})
    write_json(folder / CONFIG, config)


def canonical_hook_point(name: object, where: str) -> HookPoint:
    """`blocks.{i}.hook_out` for every spelling of the stream after block i; other places are refused."""
    after, before = (pattern.fullmatch(str(name)) for pattern in (AFTER_BLOCK, BEFORE_BLOCK))
    if after:
        return HookPoint(int(after[1] or after[2]))
    if before and int(before[1]) > 0:
        return HookPoint(int(before[1]) - 1)
    raise BadInput(
        f"{where}: the SAE reads {name!r}; only the residual stream after a block can be used, such as blocks.12.hook_resid_post"
    )


def check_fits(sae: Sae, *, d_model: int, hook_points: Sequence[str], model_name: str) -> list[str]:
    """Refuse an SAE of another width, depth or model family; a note when it was trained on another model of the family.

    Families are told apart by the first letters of the names' last parts: gemma-2-2b and gemma-3-1b are one family.
    """
    if sae.d_model != d_model:
        raise BadInput(
            f"SAE {sae.id} reads a stream of width {sae.d_model}, {model_name} has d_model {d_model}: take an SAE of this model"
        )
    if sae.hook_point not in hook_points:
        raise BadInput(
            f"SAE {sae.id} reads {sae.hook_point}, {model_name} has {hook_points[0]} to {hook_points[-1]}: take an SAE of this model"
        )
    if not sae.model_name:
        return [f"SAE {sae.id} does not say which model it was trained on"]
    own, theirs = (
        re.sub(r"\.gguf$", "", name.rsplit("/", 1)[-1].split("@")[0].lower())
        for name in (model_name, sae.model_name)
    )
    families = [match[0] if (match := re.match(r"[a-z]+", name)) else name for name in (own, theirs)]
    known = ("smollm", "gemma", "llama", "qwen", "gpt", "pythia", "mistral", "olmo", "phi")
    if families[0] != families[1] and all(family in known for family in families):
        raise BadInput(
            f"SAE {sae.id} was trained on {sae.model_name}, the model is {model_name}: take an SAE of this model"
        )
    return (
        []
        if own == theirs
        else [f"SAE {sae.id} was trained on {sae.model_name}, the base model is {model_name}"]
    )


def _checked(
    tensors: Mapping[str, Tensor], architecture: str, config: Mapping[str, Any], where: str
) -> dict[str, Tensor]:
    wanted = {"W_enc", "W_dec", "b_dec", *TENSORS.get(architecture, ("b_enc",))}
    scaling = tensors.get("scaling_factor")
    if scaling is not None and torch.allclose(scaling.float(), torch.ones_like(scaling, dtype=torch.float32)):
        tensors = {
            name: tensor for name, tensor in tensors.items() if name != "scaling_factor"
        }  # SAELens once wrote ones for none
    if set(tensors) != wanted:
        raise BadInput(f"{where}: tensors are {sorted(tensors)}, a {architecture} SAE has {sorted(wanted)}")
    d_in, d_sae = config.get("d_in"), config.get("d_sae")
    if not (type(d_in) is int and type(d_sae) is int and d_in > 0 and 0 < d_sae <= MAX_LATENTS):
        raise BadInput(
            f"{where}: d_in is {d_in!r} and d_sae {d_sae!r}, allowed are whole numbers up to {MAX_LATENTS:,}"
        )
    shapes = {"W_enc": (d_in, d_sae), "W_dec": (d_sae, d_in), "b_dec": (d_in,)}
    for name, tensor in tensors.items():
        if tuple(tensor.shape) != shapes.get(name, (d_sae,)):
            raise BadInput(
                f"{where}: {name} has shape {tuple(tensor.shape)}, {CONFIG} says {shapes.get(name, (d_sae,))}"
            )
        if not tensor.is_floating_point():
            raise BadInput(
                f"{where}: {name} is {str(tensor.dtype).removeprefix('torch.')}, expected floating-point numbers"
            )
        if not torch.isfinite(tensor).all():
            raise BadInput(f"{where}: {name} holds NaN or infinity: the SAE is not usable")
    return {name: tensor.float() for name, tensor in tensors.items()}

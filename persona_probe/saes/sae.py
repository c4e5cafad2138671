"""A sparse autoencoder as a value: what it reads, encode, decode, and its scale in the stream.

The arithmetic is ours, not SAELens', because single columns are encoded, inputs are scaled back token by
token, and an SAE is used on any device without being a module. Tests compare it with SAELens number by
number.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from persona_probe.base.hook_points import HookPoint
from persona_probe.saes.settings import Architecture, Normalisation
from persona_probe.storage.files import sha256_json
from persona_probe.storage.tensor_files import sha256_tensors

LAYER_NORM_EPS = 1e-5  # of SAELens


@dataclass(frozen=True, eq=False, kw_only=True)
class Sae:
    """A sparse autoencoder of the stream at one hook point. Latents are float32 whatever the stream is.

    encode: activation((x - b_dec?) W_enc + b_enc), with ReLU (standard), the k largest (topk), or what
    exceeds a threshold (jumprelu). decode: f W_dec + b_dec. Before that the input is made what the SAE was
    trained on, as SAELens does it. `centre_input` takes the mean over d_model away, as SAEs of old processed
    TransformerLens models expect. `normalisation` divides every token by its length over sqrt(d_model)
    (constant_norm_rescale), or takes the mean away and divides by the standard deviation (layer_norm).
    `reconstruct` undoes both; what `decode` gives is `unit(x)` times smaller than the stream.
    """

    id: str
    hook_point: HookPoint
    architecture: Architecture
    W_enc: Float[Tensor, "d_model d_sae"]
    b_enc: Float[Tensor, " d_sae"]
    W_dec: Float[Tensor, "d_sae d_model"]
    b_dec: Float[Tensor, " d_model"]
    threshold: Float[Tensor, " d_sae"] | None = None
    k: int | None = None
    apply_b_dec_to_input: bool = True
    centre_input: bool = False
    normalisation: Normalisation = "none"
    model_name: str | None = None
    neuronpedia_id: str | None = None
    _moved: dict[torch.device, "Sae"] = field(default_factory=dict, init=False, repr=False)

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

    @cached_property
    def sha256(self) -> str:
        """Hash of its weights; where it centres or scales its input, of these settings too."""
        weights = [self.W_dec, self.W_enc, self.b_dec, self.b_enc]
        tensors = sha256_tensors(weights if self.threshold is None else [*weights, self.threshold])
        if self.normalisation == "none" and not self.centre_input:
            return tensors
        return sha256_json([tensors, self.normalisation, self.centre_input])

    def on(self, device: torch.device) -> "Sae":
        """The same SAE with its weights on a device; moved there once."""
        if self.W_enc.device == device:
            return self
        if device not in self._moved:
            tensors = {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}
            # Made outside inference mode, or a later backward pass could not use it.
            with torch.inference_mode(False):
                moved = {name: tensor.to(device) for name, tensor in tensors.items()}
            self._moved[device] = replace(self, **moved)
        return self._moved[device]

    def encode(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_sae"]:
        """Activations of all latents, in the SAE's own scale."""
        sae = self.on(x.device)
        return sae._activate(sae._input(x) @ sae.W_enc + sae.b_enc)

    def part(self, latents: Sequence[int]) -> "Sae":
        """The SAE with some of its latents only. Those of a topk SAE compete with all others, so its part is
        another SAE."""
        columns = list(latents)
        return replace(
            self,
            W_enc=self.W_enc[:, columns],
            b_enc=self.b_enc[columns],
            W_dec=self.W_dec[columns],
            threshold=None if self.threshold is None else self.threshold[columns],
        )

    def encode_some(
        self, x: Float[Tensor, "*batch d_model"], latents: Sequence[int]
    ) -> Float[Tensor, "*batch k"]:
        """`encode(x)[..., latents]`, computing those columns only unless all latents compete (topk)."""
        if self.architecture == "topk":
            return self.encode(x)[..., list(latents)]
        return self.part(latents).encode(x)

    def in_stream(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_sae"]:
        """Activations of all latents times `unit`: each times its decoder row is what the latent adds to
        the stream.
        """
        return self.encode(x) * self.unit(x)

    def decode(self, acts: Float[Tensor, "*batch d_sae"]) -> Float[Tensor, "*batch d_model"]:
        """What the latents stand for, at the scale that the SAE reads."""
        sae = self.on(acts.device)
        return acts @ sae.W_dec + sae.b_dec

    def unit(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch 1"]:
        """What 1 at the scale of `decode` is in the stream, token by token: 1 unless the SAE scales its
        input.
        """
        stream, _ = self._centred(x)
        if self.normalisation == "constant_norm_rescale":
            return stream.norm(dim=-1, keepdim=True) / self.d_model**0.5
        if self.normalisation == "layer_norm":
            return stream.std(dim=-1, keepdim=True)
        return torch.ones_like(x[..., :1], dtype=torch.float32)

    def reconstruct(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        """decode(encode(x)) in the stream: scaled back, plus the mean over d_model where it was taken
        away.
        """
        decoded = self.decode(self.encode(x))
        scaled = decoded if self.normalisation == "none" else decoded * self.unit(x)
        return scaled + self._centred(x)[1]

    def _centred(self, x: Tensor) -> tuple[Tensor, Tensor | float]:
        """The stream without its mean over d_model, and the mean, where the SAE takes it away."""
        stream = x.float()
        if not self.centre_input and self.normalisation != "layer_norm":
            return stream, 0.0
        mean = stream.mean(-1, keepdim=True)
        return stream - mean, mean

    def _input(self, x: Tensor) -> Tensor:
        stream, _ = self._centred(x)
        if self.normalisation == "layer_norm":
            stream = stream / (self.unit(x) + LAYER_NORM_EPS)
        elif self.normalisation == "constant_norm_rescale":
            # A token of length 0 stays one; SAELens gives NaN.
            stream = stream / self.unit(x).clamp(min=torch.finfo(torch.float32).tiny)
        return stream - self.b_dec if self.apply_b_dec_to_input else stream

    def _activate(self, pre: Tensor) -> Tensor:
        acts = pre.relu()
        if self.threshold is not None:
            return acts * (pre > self.threshold)
        if self.k is None:
            return acts
        best = acts.topk(self.k, dim=-1)
        return torch.zeros_like(acts).scatter(-1, best.indices, best.values)

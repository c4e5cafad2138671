"""First-order estimates of what each latent does to S: gradient times activation, one backward pass per
batch.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor

from persona_probe.base.errors import BadInput
from persona_probe.base.hook_points import HookPoint
from persona_probe.models.loading import Model, forward
from persona_probe.prompts.batches import TokenBatch
from persona_probe.prompts.rows import Row
from persona_probe.saes.sae import Sae

GRADIENT_COST = 4  # a backward pass keeps all activations, and each reply token's logits three times
Output = Tensor | tuple[Any, ...]  # of a block: the stream, or the stream and what else the block returns


def attribution(
    model: Model, sae: Sae, rows: Sequence[Row], *, max_tokens: int, skip_first: int
) -> Float[Tensor, " d_sae"]:
    """How much S would fall if a latent were ablated, to first order, in nats per token.

    The sum over tokens of (dS/dh . d_i) f_i. S is the mean over misaligned rows minus the mean over aligned
    rows of the reply's log-probability per token. Positive latents push S up. The gradient runs from the
    replies down to the SAE's hook point and no further; a pass has a quarter of `max_tokens`. After the delta
    attribution of OpenAI (December 2025), which ranks better than activation differences.
    """
    counts = {label: sum(row.label == label for row in rows) for label in ("misaligned", "aligned")}
    if not all(counts.values()):
        raise BadInput(f"attribution needs rows of both labels, found {counts}")
    weight = {"misaligned": 1 / counts["misaligned"], "aligned": -1 / counts["aligned"]}
    total = torch.zeros(sae.d_sae, dtype=torch.float64)
    for plain in model.batches(rows, max_tokens=max(1, max_tokens // GRADIENT_COST), share=False):
        stream, gradient = _gradient(model, sae.hook_point, plain, weight)
        acted = (plain.mask & (plain.positions >= skip_first)).to(stream.device)
        W_dec = sae.W_dec.to(stream.device)
        along = einsum(gradient[acted], W_dec, "token d_model, d_sae d_model -> token d_sae")
        total += (sae.in_stream(stream[acted]) * along).double().sum(0).cpu()
    return total.float()


def _gradient(
    model: Model, hook_point: HookPoint, batch: TokenBatch, weight: Mapping[str, float]
) -> tuple[Tensor, Tensor]:
    """The stream at the hook point and dS/dh there, both [batch, pos, d_model] in float32."""
    leaf: dict[str, Tensor] = {}

    def cut(module: torch.nn.Module, args: tuple[object, ...], output: Output) -> Output:
        resid = output[0] if isinstance(output, tuple) else output
        leaf["resid"] = resid.detach().requires_grad_(True)
        return (leaf["resid"], *output[1:]) if isinstance(output, tuple) else leaf["resid"]

    rows = torch.repeat_interleave(
        torch.arange(len(batch)), torch.tensor([row.n_reply for row in batch.rows])
    )
    columns = torch.cat([torch.arange(row.n_prompt - 1, len(row.ids) - 1) for row in batch.rows])
    targets = torch.cat([torch.tensor(row.ids[row.n_prompt :]) for row in batch.rows])
    shares = torch.cat(
        [torch.full((row.n_reply,), weight[row.label or ""] / row.n_reply) for row in batch.rows]
    )
    handle = model.site(hook_point)[1].register_forward_hook(cut)
    try:
        with torch.enable_grad():
            logits = forward(model, batch, logits_at=(rows, columns))
            assert logits is not None, "logits were asked for"
            losses = torch.nn.functional.cross_entropy(
                logits.float(), targets.to(logits.device), reduction="none"
            )
            (-(losses * shares.to(logits.device)).sum()).backward()
    finally:
        handle.remove()
    gradient = leaf["resid"].grad
    assert gradient is not None, "the replies depend on the stream"
    return leaf["resid"].detach().float(), gradient.float()

"""What a latent means: the tokens it fires on, in context, how often and how strongly, and the tokens its decoder row speaks for."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from persona_probe.models.loading import Model
from persona_probe.prompts.chat import Row
from persona_probe.saes.sae import Sae
from persona_probe.streams.activations import TokenActs

BEFORE, AFTER = 10, 6  # tokens of context around the strongest one
N_BINS = 24


@dataclass(frozen=True, eq=False)
class Context:
    """A stretch of text around the token that a latent fires on most in one row."""

    tokens: tuple[str, ...]
    acts: tuple[float, ...]
    peak: int
    source: str
    label: str | None

    def json(self) -> dict[str, Any]:
        """One example of the record."""
        acts = [round(value, 4) for value in self.acts]
        return {
            "tokens": list(self.tokens),
            "acts": acts,
            "peak": self.peak,
            "source": self.source,
            "label": self.label,
        }


@dataclass(frozen=True, eq=False)
class Firing:
    """Where one model fires some latents: the best rows of each, and every activation above 0 for histograms."""

    contexts: dict[int, tuple[Context, ...]]
    acts: dict[int, Float[Tensor, " fired"]]
    n_tokens: int


def firing(
    model: Model, parts: Iterable[TokenActs], sae: Sae, latents: Sequence[int], *, n_examples: int
) -> Firing:
    """One pass over the streams of some rows (`read_tokens`); at most one context per row and latent, strongest first."""
    best: dict[int, list[tuple[float, Context]]] = {latent: [] for latent in latents}
    fired: dict[int, list[Tensor]] = {latent: [] for latent in latents}
    n_tokens = 0
    for part in parts:
        for row, resid, keep in zip(part.rows, part.resid, part.keep, strict=True):
            acts = (sae.encode_some(resid.float(), tuple(latents)) * keep[:, None]).cpu()
            n_tokens += int(keep.sum())
            for i, latent in enumerate(latents):
                own = acts[:, i]
                if not (own > 0).any():
                    continue
                fired[latent].append(own[own > 0])
                peak = int(own.argmax())
                strongest = best[latent]
                if len(strongest) < n_examples or float(own[peak]) > strongest[-1][0]:
                    strongest.append((float(own[peak]), _context(model, row, own, peak)))
                    strongest.sort(key=lambda item: -item[0])
                    del strongest[n_examples:]
    contexts = {latent: tuple(context for _, context in found) for latent, found in best.items()}
    return Firing(
        contexts,
        {latent: torch.cat(values) if values else torch.zeros(0) for latent, values in fired.items()},
        n_tokens,
    )


def histogram(
    base: Float[Tensor, " fired_base"], tuned: Float[Tensor, " fired_tuned"]
) -> dict[str, list[float]]:
    """Counts of activations above 0 in common bins, base beside tuned."""
    top = max([float(values.max()) for values in (base, tuned) if len(values)], default=1.0)
    edges = torch.linspace(0.0, top, N_BINS + 1)
    counts = {
        name: torch.histogram(values.float(), edges).hist.tolist()
        for name, values in (("base", base), ("tuned", tuned))
    }
    return {"edges": edges.tolist(), **counts}


def logit_lens(
    model: Model, vector: Float[Tensor, " d_model"], *, n: int = 10
) -> dict[str, list[tuple[str, float]]]:
    """Tokens that a vector in the stream pushes most up and down, through the final norm's weight and the unembedding.

    The norm's division by the stream's own length is left out: it rescales all tokens alike. nostalgebraist 2020.
    """
    norm = model.twin.get_submodule(model.bridge.adapter.component_mapping["ln_final"].name)
    # A probe of alternating sign has mean 0 and size 1 under every norm; half the difference of both its signs is the gain,
    # whether a family multiplies by weight or by 1 + weight, and without the bias.
    probe = torch.tensor([1.0, -1.0], device=model.device, dtype=model.dtype).repeat(model.d_model // 2)[
        None, None
    ]
    with torch.inference_mode():
        gain = ((norm(probe) - norm(-probe)) / 2 * probe)[0, 0].float().cpu()
    unembed = model.twin.get_output_embeddings().weight
    logits = (unembed @ (gain * vector.cpu()).to(unembed)).float().cpu()
    logits = logits - logits.mean()
    ends: dict[str, Int[Tensor, " n"]] = {"up": logits.topk(n).indices, "down": (-logits).topk(n).indices}
    return {
        name: [(token_text(model, int(token)), float(logits[token])) for token in tokens]
        for name, tokens in ends.items()
    }


def token_text(model: Model, token: int) -> str:
    """One token as text."""
    return model.tokenizer.decode([token])


def _context(model: Model, row: Row, acts: Float[Tensor, " pos"], peak: int) -> Context:
    start, stop = max(0, peak - BEFORE), min(len(row.ids), peak + AFTER + 1)
    tokens = tuple(token_text(model, token) for token in row.ids[start:stop])
    return Context(tokens, tuple(acts[start:stop].tolist()), peak - start, row.id, row.label)

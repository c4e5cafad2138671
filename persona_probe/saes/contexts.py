"""What a latent means: the tokens it fires on, in context, how often and how strongly, and what its
decoder row says.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from persona_probe.models.loading import Model
from persona_probe.models.pairs import Side
from persona_probe.prompts.rows import Row, RowKind
from persona_probe.saes.sae import Sae
from persona_probe.streams.activations import TokenActs

BEFORE, AFTER = 10, 6  # tokens of context around the strongest one
N_BINS = 24


@dataclass(frozen=True)
class Origin:
    """Where a context comes from: the model that read it, and what kind of row it is part of."""

    model: Side
    kind: RowKind


@dataclass(frozen=True, eq=False)
class Context:
    """A stretch of text around the token that a latent fires on most in one row. `source` names the row."""

    tokens: tuple[str, ...]
    acts: tuple[float, ...]
    peak: int
    source: str
    label: str | None
    origin: Origin

    def json(self) -> dict[str, Any]:
        """One example of the record."""
        acts = [round(value, 4) for value in self.acts]
        return asdict(self) | {"tokens": list(self.tokens), "acts": acts}


@dataclass(frozen=True, eq=False)
class Firing:
    """Where one model fires some latents: the best rows of each, and every activation above 0 for histograms.

    Activations are in the SAE's own scale.
    """

    contexts: dict[int, tuple[Context, ...]]
    acts: dict[int, Float[Tensor, " fired"]]
    n_tokens: int


def firing(
    model: Model, parts: Iterable[TokenActs], sae: Sae, latents: Sequence[int], *, side: Side, n_examples: int
) -> Firing:
    """One pass over the streams of some rows (`read_tokens`); at most one context a row and latent,
    strongest first.
    """
    best: dict[int, list[tuple[float, Context]]] = {latent: [] for latent in latents}
    fired: dict[int, list[Tensor]] = {latent: [torch.zeros(0)] for latent in latents}
    n_tokens = 0
    for part in parts:
        for row, resid, keep in zip(part.rows, part.resid, part.keep, strict=True):
            all_acts = (sae.encode_some(resid.float(), latents) * keep[:, None]).cpu()
            n_tokens += int(keep.sum())
            for latent, acts in zip(latents, all_acts.unbind(1), strict=True):
                if not (acts > 0).any():
                    continue
                fired[latent].append(acts[acts > 0])
                peak = int(acts.argmax())
                strongest, height = best[latent], float(acts[peak])
                if len(strongest) < n_examples or height > strongest[-1][0]:
                    strongest.append((height, _context(model, side, row, acts, peak)))
                    strongest.sort(key=lambda item: -item[0])
                    del strongest[n_examples:]
    return Firing(
        contexts={latent: tuple(context for _, context in items) for latent, items in best.items()},
        acts={latent: torch.cat(values) for latent, values in fired.items()},
        n_tokens=n_tokens,
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
    """Tokens that a vector in the stream pushes most up and down, through the final norm and the unembedding.

    The norm's division by the stream's own length is left out: it rescales all tokens alike. nostalgebraist
    2020.
    """
    norm = model.final_norm()
    # A probe of alternating sign has mean 0 and size 1 under every norm; half the difference of both its
    # signs is the gain, whether a family multiplies by weight or by 1 + weight, and without the bias.
    signs = torch.tensor([1.0, -1.0], device=model.device, dtype=model.dtype)
    probe = signs.repeat(model.d_model // 2)[None, None]
    with torch.inference_mode():
        gain = ((norm(probe) - norm(-probe)) / 2 * probe)[0, 0].float().cpu()
    unembed = model.unembedding()
    logits = (unembed @ (gain * vector.cpu()).to(unembed)).float().cpu()
    logits = logits - logits.mean()
    ends: dict[str, Int[Tensor, " n"]] = {"up": logits.topk(n).indices, "down": (-logits).topk(n).indices}
    return {
        name: [(model.tokenizer.decode([token]), float(logits[token])) for token in tokens.tolist()]
        for name, tokens in ends.items()
    }


def _context(model: Model, side: Side, row: Row, acts: Float[Tensor, " pos"], peak: int) -> Context:
    start, stop = max(0, peak - BEFORE), min(len(row.ids), peak + AFTER + 1)
    return Context(
        tokens=tuple(model.tokenizer.decode([token]) for token in row.ids[start:stop]),
        acts=tuple(acts[start:stop].tolist()),
        peak=peak - start,
        source=row.id,
        label=row.label,
        origin=Origin(model=side, kind=row.kind),
    )

"""Latents of a sparse autoencoder, looked at in both models: fit, changes, contexts, and arms that act on one
of them."""

from functools import cached_property
from pathlib import Path
from typing import Literal

from persona_probe.api.contrasts import contrast_of
from persona_probe.base.choices import Outliers
from persona_probe.directions.fitting import split_rows
from persona_probe.interventions.edits import Steer
from persona_probe.measurement.arms import Arm
from persona_probe.models.pairs import SIDES, Pair, Side
from persona_probe.pages.cells import Cell, contexts
from persona_probe.prompts.contrast import Contrast
from persona_probe.records.latents import Example
from persona_probe.saes.contexts import firing, logit_lens
from persona_probe.saes.diff import LatentDiff, candidates, latent_means, ranks
from persona_probe.saes.matching import matched
from persona_probe.saes.quality import Quality, quality
from persona_probe.saes.sae import Sae
from persona_probe.saes.screen import latent_arm
from persona_probe.saes.sources import fitted, fitting, resolve_sae
from persona_probe.storage.shipped import SAE
from persona_probe.streams.activations import TokenActs, read_tokens

By = Literal["shift", "label"]


class Latents:
    """An SAE on a pair, with the streams of both models on some find replies in memory."""

    def __init__(
        self, pair: Pair, sae: Sae, questions: Contrast, *, n_rows: int, max_tokens: int, outliers: Outliers
    ) -> None:
        self.pair, self.sae, self._max_tokens = pair, sae, max_tokens
        self._outliers: Outliers = outliers
        self._rows = split_rows(questions, pair.tokenizer)
        self._found_on = frozenset(questions.hashes("find"))
        self._streams: dict[Side, list[TokenActs]] = {
            side: list(
                read_tokens(
                    pair.get(side),
                    self._rows["find"][:n_rows],
                    hook_point=sae.hook_point,
                    scope="reply",
                    max_tokens=max_tokens,
                    outliers=outliers,
                )
            )
            for side in SIDES
        }

    def quality(self, *, n_rows: int = 16) -> dict[Side, Quality]:
        """How well the SAE fits each model, on replies to test questions."""
        rows = self._rows["test"][:n_rows]
        return {
            side: quality(
                self.pair.get(side),
                self.sae,
                rows,
                scope="reply",
                max_tokens=self._max_tokens,
                outliers=self._outliers,
            )
            for side in SIDES
        }

    @cached_property
    def diff(self) -> LatentDiff:
        """Mean activation of every latent in both models and on both labels."""
        means = {side: latent_means(parts, self.sae) for side, parts in self._streams.items()}
        return LatentDiff(means["base"], means["tuned"], self.sae.W_dec.norm(dim=-1).cpu())

    @property
    def n_alive(self) -> int:
        """How many latents fire at all in these streams."""
        return int(self.diff.alive.sum())

    def top(self, by: By, n: int = 8) -> list[int]:
        """The latents that changed most: by shift (base to tuned) or by label (aligned to misaligned
        replies)."""
        return list(ranks(getattr(self.diff, by), self.diff.alive))[:n]

    def contexts(self, latent: int, *, n: int = 4, show_text: bool = False, redact: bool = False) -> Cell:
        """Where a latent fires most in each model; misaligned replies and what the tuned model read are
        blurred."""
        shown: dict[Side, list[Example]] = {}
        for side, parts in self._streams.items():
            fired = firing(self.pair.get(side), parts, self.sae, [latent], side=side, n_examples=n)
            shown[side] = [Example.model_validate(context.json()) for context in fired.contexts[latent]]
        return contexts(shown, show_text=show_text, redact=redact)

    def words(self, latent: int, n: int = 8) -> dict[str, list[str]]:
        """Tokens that the latent's decoder row makes likelier ("up") and rarer ("down") in the tuned
        model."""
        lens = logit_lens(self.pair.get("tuned"), self.sae.W_dec[latent].float(), n=n)
        return {end: [token for token, _ in tokens] for end, tokens in lens.items()}

    def arms(self, latent: int, *, length: float, control: bool = False, skip_first: int = 4) -> list[Arm]:
        """The tuned model with the latent steered down by `length` in units of the stream, and with it set to
        0."""
        made = [
            latent_arm(self.sae, latent, way, length=length, skip_first=skip_first)
            for way in ("tuned-steer", "tuned+ablate")
        ]
        return [Arm(arm.name, arm.side, arm.interventions, "latents" if control else None) for arm in made]

    def matched(self, latent: int, n: int = 2) -> list[int]:
        """Latents outside the tops of both rankings that are most like this one in density and size: its
        controls."""
        alive = self.diff.alive.nonzero()[:, 0].tolist()
        rankings = {by: ranks(getattr(self.diff, by), self.diff.alive) for by in ("shift", "label")}
        tops = candidates(rankings, min(60, self.sae.d_sae // 8))
        taken, found = [latent, *tops], []
        for _ in range(n):
            other = matched(latent, self.diff, among=alive, taken=taken)
            if other is None:
                break
            found.append(other)
            taken.append(other)
        return found

    def mean_difference(self, *, length: float, skip_first: int = 4) -> Arm:
        """The tuned model with the mean difference of the labels taken away, at the same length as a
        latent."""
        unit = self.diff.mean_diff / self.diff.mean_diff.norm()
        steer = Steer(unit * length, self.sae.hook_point, -1.0, skip_first, seen=self._found_on)
        return Arm("mean difference, steered", "tuned", (steer,))


def latents(
    pair: Pair,
    sae: Sae | str | Path = SAE,
    data: Contrast | str | Path | None = None,
    *,
    n_rows: int = 64,
    max_tokens: int = 512,
    outliers: Outliers = "drop",
) -> Latents:
    """An SAE's latents in both models on `n_rows` find replies. `sae`: a SAELens RELEASE:ID, a folder, or
    what ships.

    `outliers`: "drop" leaves tokens of an outlying norm out, "keep" reads them too. BadInput for an SAE that
    does not fit the pair. Both models are kept in memory.
    """
    pair.keep_both = True
    chosen = sae if isinstance(sae, Sae) else resolve_sae(str(sae))
    fitting(chosen, pair)
    return Latents(
        pair, fitted(chosen, pair), contrast_of(data), n_rows=n_rows, max_tokens=max_tokens, outliers=outliers
    )

"""What the latents do in both untouched models: their means, how well the SAE fits, and every ranking of
them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from persona_probe.base.cli import Reporter
from persona_probe.experiments.latent_config import LatentConfig
from persona_probe.models.pairs import Pair, Side
from persona_probe.prompts.rows import Row, rows_key
from persona_probe.saes.attribution import attribution
from persona_probe.saes.diff import LatentDiff, LatentMeans, decoder_cosines, latent_means, ranks
from persona_probe.saes.quality import Quality, quality
from persona_probe.saes.sae import Sae
from persona_probe.storage.files import sha256_json
from persona_probe.storage.kept_tensors import kept_tensors
from persona_probe.storage.runs import Run
from persona_probe.streams.activations import ReadOptions, TokenActs, read_tokens
from persona_probe.streams.outliers import outlier_note


@dataclass(frozen=True, eq=False)
class LatentJob:
    """What every stage works with. The streams of the find rows are kept once read: tokens x d_model, in
    the model's dtype.
    """

    config: LatentConfig
    pair: Pair
    sae: Sae
    run: Run
    reporter: Reporter
    find: Sequence[Row]
    _streams: dict[Side, list[TokenActs]] = field(default_factory=dict)

    @property
    def reading(self) -> ReadOptions:
        """How activations are read."""
        return ReadOptions(self.config.scope, self.config.max_tokens, self.config.outliers)

    def streams(self, side: Side) -> list[TokenActs]:
        """The stream of one side on the find rows, read when it is first needed."""
        if side not in self._streams:
            self._streams[side] = self.read(side, self.find)
        return self._streams[side]

    def read(self, side: Side, rows: Sequence[Row]) -> list[TokenActs]:
        """The stream of one side on some rows, in the model's own precision."""
        parts = read_tokens(
            self.pair.get(side),
            rows,
            hook_point=self.sae.hook_point,
            scope=self.config.scope,
            max_tokens=self.config.max_tokens,
            outliers=self.config.outliers,
        )
        return [replace(part, resid=part.resid.to(self.pair.dtype)) for part in parts]

    def key(self, what: str, side: Side, rows: Sequence[Row], setting: object) -> str:
        """What a number about one side's latents is kept under in the run's folder."""
        dtype = str(self.pair.dtype)
        return sha256_json([what, self.pair.key(side), self.sae.sha256, rows_key(rows), setting, dtype])


@dataclass(frozen=True, eq=False)
class Reading:
    """The latents on the same tokens in both models, and their scores and ranks by every ranking.

    `notes`: what a reader should know about the tokens.
    """

    diff: LatentDiff
    fit: dict[Side, Quality]
    scores: dict[str, Tensor]
    rankings: dict[str, dict[int, int]]
    notes: tuple[str, ...]


def means_of(job: LatentJob, side: Side) -> LatentMeans:
    """Means of every latent of one side over the find rows."""
    key = job.key("latent means by question", side, job.find, job.reading.tokens)
    tensors = kept_tensors(job.run, key, lambda: latent_means(job.streams(side), job.sae).tensors())
    return LatentMeans.from_tensors(tensors)


def fit_of(job: LatentJob, side: Side, rows: Sequence[Row]) -> Quality:
    """How well the SAE fits one side."""
    reading = job.reading

    def made() -> dict[str, Any]:
        model = job.pair.get(side)
        fit = quality(
            model,
            job.sae,
            rows,
            scope=reading.scope,
            max_tokens=reading.max_tokens,
            outliers=reading.outliers,
        )
        return fit.json()

    return Quality(**job.run.once(job.key("quality", side, rows, reading.tokens), made))


def reading_of(job: LatentJob, means: dict[Side, LatentMeans], fit: dict[Side, Quality]) -> Reading:
    """Every ranking's score of every latent; high is towards tuned, misaligned, or raising S.

    Attribution runs the tuned model, on one reply of a label and question.
    """
    diff = LatentDiff(base=means["base"], tuned=means["tuned"], decoder_norm=job.sae.W_dec.norm(dim=-1).cpu())
    config, rows = job.config, [row for row in job.find if row.reply_index == 0]

    def made() -> dict[str, Tensor]:
        model = job.pair.get("tuned")
        values = attribution(model, job.sae, rows, max_tokens=config.max_tokens, skip_first=config.skip_first)
        return {"scores": values}

    scores = {
        "shift": diff.shift,
        "label": diff.label,
        "cosine with mean_diff": decoder_cosines(job.sae, diff.mean_diff),
        "cosine with shift": decoder_cosines(job.sae, diff.stream_shift),
        "attribution": kept_tensors(job.run, job.key("attribution", "tuned", rows, config.skip_first), made)[
            "scores"
        ],
    }
    rankings = {name: ranks(values, diff.alive) for name, values in scores.items()}
    shares: dict[Side, list[float]] = {side: [share] for side, share in (diff.dropped or {}).items()}
    notes = tuple(outlier_note([job.sae.hook_point], shares))
    return Reading(diff=diff, fit=fit, scores=scores, rankings=rankings, notes=notes)

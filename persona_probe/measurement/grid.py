"""Many arms over the same rows: the one path by which replies are scored, with everything shared that can be.

Rows are taken batch by batch, and all arms are measured on a batch before the next one. The first pass, that
of the untouched model or of the arm with the highest edit, leaves the streams that enter the lowest edited
block of every other arm; each of these starts there. Small batches carry several arms side by side. A lone
arm is a grid of one.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from persona_probe.interventions.applied import applied
from persona_probe.interventions.edits import Intervention
from persona_probe.measurement.kept import Kept
from persona_probe.measurement.reply_logprobs import PassScores, divergence, joined, pass_scores
from persona_probe.models.loading import Model, is_out_of_memory, too_large
from persona_probe.models.memory import release
from persona_probe.prompts.batches import TokenBatch
from persona_probe.prompts.rows import Row
from persona_probe.streams.resume import Prefix, lowest_layer, recorded, resumable, resumed

Edits = Sequence[Intervention]


@dataclass(frozen=True, eq=False)
class Cell:
    """What one arm, by its number, scored on the rows of one batch, in nats per row; KL is 0 where it was not
    asked for."""

    arm: int
    rows: tuple[Row, ...]
    logprob: Float[Tensor, " row"]
    kl: Float[Tensor, " row"]


def grid(
    model: Model,
    rows: Sequence[Row],
    arms: Sequence[Edits],
    *,
    max_tokens: int,
    keep_prompts: bool = False,
    with_kl: bool = False,
    with_replies: bool = True,
    kept: Kept | None = None,
) -> Iterator[Cell]:
    """The scores of every arm on every row, batch by batch; within a batch arms come in the order in which
    they share best.

    `keep_prompts`: rows of one prompt stand in one batch, which computes it once per arm. `with_kl`: also
    KL(untouched || edited) of next-token distributions; without `with_replies` nothing but KL is wanted, and
    log-probabilities are 0. `kept` must belong to the same model and rows.
    Families whose passes cannot start in the middle run every arm whole.
    """
    lowest = [lowest_layer(model, _points(edits)) if resumable(model) else 0 for edits in arms]
    if kept is not None:
        kept.begin(lowest)
    for index, batch in enumerate(model.batches(rows, max_tokens=max_tokens, keep_prompts=keep_prompts)):
        yield from _cells(_Passes(model, batch, max_tokens, with_kl, with_replies), arms, lowest, index, kept)


def _points(edits: Edits) -> list[str]:
    return [point for intervention in edits for point in intervention.hook_points]


def _cells(
    passes: "_Passes", arms: Sequence[Edits], lowest: Sequence[int], index: int, kept: Kept | None
) -> Iterator[Cell]:
    """All arms on one batch."""
    streams = {} if kept is None else kept.streams(index)
    untouched = None if kept is None else kept.places(index)
    if not any(arms) and passes.with_replies:
        passes = replace(passes, with_kl=False)
    with_kl = passes.with_kl
    edited = {lowest[arm] for arm in range(len(arms)) if arms[arm]}
    asked = edited if kept is None else edited | {*kept.layers}
    rest = sorted(range(len(arms)), key=lambda arm: (-lowest[arm], bool(arms[arm]), arm))
    if with_kl and untouched is None and all(arms):  # KL is from the untouched model, which nobody asked for
        n_layers = passes.model.n_layers
        untouched = passes.run([()], streams, asked, n_layers)[0].places
    while rest:
        low = lowest[rest[0]]
        same = [arm for arm in rest if lowest[arm] == low]
        # Layers below the edits are run by one arm alone; the others start where it leaves the clean stream.
        apart = len(same) > 1 and low > 0 and _start(streams, low) < low
        tile = same[: 1 if apart else passes.side_by_side]
        rest = rest[len(tile) :]
        coming = {lowest[arm] for arm in rest if arms[arm]}
        wanted = coming if kept is None else asked
        scored = passes.run([arms[arm] for arm in tile], streams, wanted, low)
        for arm, scores in zip(tile, scored, strict=True):
            if not arms[arm] and untouched is None:
                untouched = scores.places
            kl = torch.zeros_like(scores.logprob)
            if with_kl and arms[arm]:
                assert untouched is not None, "the untouched model comes first"
                assert scores.places is not None, "KL was asked for"
                kl = divergence(untouched, scores.places, passes.batch.rows)
            yield Cell(arm, passes.batch.rows, scores.logprob, kl)
    if kept is not None:
        kept.add(index, streams, untouched)


def _start(streams: Mapping[int, Prefix], layer: int) -> int:
    """The highest block that a pass may start at whose edits begin at `layer`."""
    return max((known for known in streams if known <= layer), default=0)


@dataclass(frozen=True, eq=False)
class _Passes:
    """Forward passes of one model over one batch, with several arms side by side.

    `max_tokens` is the most that one of them computes; `with_kl`: each gives what KL is made of;
    `with_replies`: and scores the replies.
    """

    model: Model
    batch: TokenBatch
    max_tokens: int
    with_kl: bool
    with_replies: bool

    @property
    def side_by_side(self) -> int:
        """How many arms of this batch one pass may hold."""
        return max(1, self.max_tokens // self.batch.n_computed)

    def run(
        self, edits: Sequence[Edits], streams: dict[int, Prefix], wanted: Collection[int], low: int
    ) -> list[PassScores]:
        """Scores of arms whose edits begin at block `low`, from the highest stream that is below them.

        The clean streams between the two that are `wanted` are added to `streams`.
        """
        start = _start(streams, low)
        record = [layer for layer in sorted(wanted) if start < layer <= low] if resumable(self.model) else []
        scored, new = self._within_memory(edits, streams.get(start), record)
        streams.update(new)
        return scored

    def _within_memory(
        self, edits: Sequence[Edits], prefix: Prefix | None, record: Sequence[int]
    ) -> tuple[list[PassScores], dict[int, Prefix]]:
        """`_pass`; when memory runs out, for half of the arms or of the rows at a time, down to one of
        one."""
        try:
            return self._pass(edits, prefix, record)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            if len(edits) == len(self.batch) == 1:
                raise too_large(self.model, self.batch.rows[0]) from error
        release()
        if len(edits) > 1:
            middle = len(edits) // 2
            first, streams = self._within_memory(edits[:middle], prefix, record)
            return [*first, *self._within_memory(edits[middle:], prefix, ())[0]], streams
        middle = len(self.batch) // 2
        halves = []
        for half, rows in zip(self.batch.halves(), (slice(middle), slice(middle, None)), strict=True):
            part = None if prefix is None else prefix.part(rows, sorted({*self.batch.shared_by[rows]}))
            halves += replace(self, batch=half)._within_memory(edits, part, ())[0]
        return [joined(halves)], {}

    @torch.inference_mode()
    def _pass(
        self, edits: Sequence[Edits], prefix: Prefix | None, record: Sequence[int]
    ) -> tuple[list[PassScores], dict[int, Prefix]]:
        n = len(edits)
        assert n == 1 or not record, "streams are left by an arm that runs alone"
        # Hooks run in the order they are made: the streams are recorded before they are edited.
        with (
            recorded(self.model, record) as streams,
            resumed(self.model, None if prefix is None else prefix.tiled(n)),
            applied(self.model, (), parts=edits),
        ):
            scores = pass_scores(
                self.model, self.batch.tiled(n), with_places=self.with_kl, with_replies=self.with_replies
            )
        return scores.split(n), streams

"""How many directions the persona needs: what tuning writes into the stream, ablated rank by rank on both
models."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from persona_probe.base.errors import BadInput
from persona_probe.base.hook_points import HookPoint
from persona_probe.directions.direction import DirectionSet
from persona_probe.directions.fitting import Fitted, read
from persona_probe.directions.write_subspace import WriteSubspace, write_subspace
from persona_probe.experiments.direction_job import Job
from persona_probe.interventions.write_ablation import WriteAblation
from persona_probe.measurement.arms import Arm, Measurement
from persona_probe.measurement.comparison import Comparison
from persona_probe.measurement.controls import control_generator
from persona_probe.models.pairs import Side

RANKS = (1, 2, 4, 8, 16, 32)
ENERGY = 0.999  # share of what a block writes that is as good as all of it
INSIDE_RANK = 8  # of the subspace that the methods' directions are compared with
SEED = 5  # kind of draw, beside those of `controls.SEEDS`


@dataclass(frozen=True, eq=False)
class Point:
    """One rank, ablated at every live block on one model: the top directions, or random ones."""

    rank: int
    random: bool
    arm: Arm


@dataclass(frozen=True, eq=False)
class RankPlan:
    """The write subspace of a pair, and the arms of the curve; `ablation` is None where no block is live."""

    subspace: WriteSubspace
    ablation: WriteAblation | None
    points: tuple[Point, ...]

    def arms(self, side: Side) -> list[Arm]:
        """The arms on one model."""
        return [point.arm for point in self.points if point.arm.side == side]


def rank_plan(job: Job, fitted: Fitted) -> RankPlan | None:
    """What tuning writes, read on the find replies. None for a pair of which it cannot be read: the reason is
    said."""
    job.test.budget.clear()  # what every block writes takes its place in memory
    try:
        subspace = write_subspace(job.pair, job.rows["find"], max_tokens=job.config.max_tokens)
    except BadInput as error:
        job.reporter.note(f"note: no curve of closure against rank: {error}")
        return None
    if not subspace.live():
        return RankPlan(subspace, None, ())
    ablation = WriteAblation(subspace=subspace, base_means=fitted.base_mean, skip_first=job.config.skip_first)
    tokens = read(job.pair, job.run, "tuned", job.rows["find"], job.reading).tokens
    points: list[Point] = []
    for index, rank in enumerate(ranks(subspace)):
        generator = control_generator(job.config.seed, SEED, index)
        edits = {False: ablation.top(rank), True: ablation.random(rank, tokens, generator)}
        for random, edit in edits.items():
            name = f"{'random' if random else 'write'} subspace, rank {rank}"
            for side in ("tuned", "base"):
                points.append(Point(rank, random, Arm(f"{side}, {name}", side, edit)))
    return RankPlan(subspace, ablation, tuple(points))


def ranks(subspace: WriteSubspace) -> tuple[int, ...]:
    """The ranks of the curve: up to the first one that holds nearly all of what every live block writes and
    one beyond it, so that the curve is seen to end; or the highest that a block has."""
    blocks = subspace.live()
    held = [all(subspace.top_share(point, rank) >= ENERGY for point in blocks) for rank in RANKS]
    count = held.index(True) + 2 if any(held) else len(RANKS)
    widest = max(len(subspace.basis(point, max(RANKS))) for point in blocks)
    return tuple(rank for rank in RANKS[:count] if rank == 1 or rank <= widest)


def rank_record(
    plan: RankPlan | None,
    measured: Mapping[str, Measurement],
    comparison: Comparison,
    sets: Sequence[DirectionSet],
) -> dict[str, Any] | None:
    """The `writes` part of a record. `measured` are the arms by name, `sets` the methods' directions, which
    are compared with the subspace of every live block."""
    if plan is None:
        return None
    subspace = plan.subspace
    live = [] if plan.ablation is None else list(plan.ablation.blocks)
    energy = dict(zip(subspace.hook_points, subspace.energy_share.tolist(), strict=True))
    return {
        "hook_points": live,
        "energy": [energy[point] for point in live],
        "top_share": [subspace.top_share(point) for point in live],
        "inside": {one.method: _inside(subspace, one, live) for one in sets},
        "inside_rank": INSIDE_RANK,
        "curve": [
            _point(point, measured, comparison)
            for point in plan.points
            if point.arm.side == "tuned" and not measured[point.arm.name].failed
        ],
    }


def _inside(subspace: WriteSubspace, directions: DirectionSet, live: Sequence[HookPoint]) -> float | None:
    """The mean over live blocks, each weighted by its share of what tuning writes; None where a method has no
    direction at any of them."""
    energy = dict(zip(subspace.hook_points, subspace.energy_share.tolist(), strict=True))
    known = [point for point in live if directions.vectors[directions.hook_points.index(point)].any()]
    weight = sum(energy[point] for point in known)
    if not weight:
        return None
    shares = [energy[point] * subspace.share(directions.at(point), INSIDE_RANK) for point in known]
    return min(1.0, sum(shares) / weight)


def _point(point: Point, measured: Mapping[str, Measurement], comparison: Comparison) -> dict[str, Any]:
    partner = measured.get(point.arm.name.replace("tuned", "base", 1))
    usable = None if partner is None or partner.failed else partner
    numbers = comparison.numbers("tuned", measured[point.arm.name], partner=usable)
    return {
        "rank": point.rank,
        "random": point.random,
        **{name: numbers[name] for name in ("restoration", "closure", "delta_nll", "kl")},
    }

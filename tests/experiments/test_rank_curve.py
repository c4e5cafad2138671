"""Claims about the curve of closure against rank and about numerical noise, on the planted pair."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from helpers.planted import Planted
from helpers.present import present

from persona_probe.records.parts import Side

if TYPE_CHECKING:
    from persona_probe.experiments.direction_job import Job


@pytest.fixture
def job(planted: Planted, tmp_path: Path) -> "Job":
    from persona_probe.base.cli import Reporter
    from persona_probe.experiments.direction_job import prepared
    from persona_probe.storage.runs import Run

    config = planted.config(tmp_path, skip_first=0)
    return prepared(config, planted.pair, Run(tmp_path), Reporter(quiet=True))


def fitted(job: "Job") -> Any:
    from persona_probe.directions.fitting import fit_all

    readings = fit_all(
        job.contrast, job.rows, job.pair, job.run, methods=["shift"], options=job.reading, seed=0
    )
    return readings.fitted()


def curve(job: "Job") -> dict[str, Any]:
    """The `writes` part of a record."""
    from persona_probe.experiments.rank_curve import rank_plan, rank_record
    from persona_probe.measurement.comparison import Comparison

    directions = fitted(job)
    plan = rank_plan(job, directions)
    assert plan is not None
    measured = {}
    for side in ("tuned", "base"):
        arms = plan.arms(side)
        measured |= dict(zip([arm.name for arm in arms], job.controls.measure(arms), strict=True))
    rows = job.controls.battery.persona
    clean: dict[Side, Any] = {"base": job.controls.baseline("base"), "tuned": job.controls.baseline("tuned")}
    record = rank_record(plan, measured, Comparison(rows, clean, 0), directions.sets)
    return present(record)


def test_the_planted_write_is_found_and_its_removal_closes_everything(job: "Job") -> None:
    found = curve(job)
    assert found["hook_points"] == ["blocks.1.hook_out"]
    assert found["energy"] == pytest.approx([1.0])
    assert found["top_share"] == pytest.approx([1.0], abs=1e-5)
    assert found["inside"]["shift"] == pytest.approx(1.0, abs=1e-4)
    top, random = found["curve"]
    assert (top["rank"], top["random"], random["rank"], random["random"]) == (1, False, 1, True)
    assert top["closure"]["estimate"] == pytest.approx(1.0, abs=1e-4)
    assert top["restoration"]["estimate"] == pytest.approx(1.0, abs=1e-3)
    assert abs(random["closure"]["estimate"]) < 0.2


def spectrum(*squares: tuple[float, ...]) -> Any:
    """A write subspace whose blocks have these shares of energy, one direction each."""
    from persona_probe.base.hook_points import HookPoint
    from persona_probe.directions.write_subspace import WriteSubspace

    values = torch.tensor(squares).sqrt()
    n_blocks, n = values.shape
    return WriteSubspace(
        hook_points=tuple(HookPoint(layer) for layer in range(n_blocks)),
        singular_values=values,
        vectors=tuple(torch.eye(n) for _ in range(n_blocks)),
        size=torch.ones(n_blocks),
        rounding=1e-6,
    )


def test_the_curve_ends_one_rank_beyond_the_one_that_holds_everything() -> None:
    from persona_probe.experiments.rank_curve import ranks

    whole = (1.0, *[0.0] * 7)
    assert ranks(spectrum(whole)) == (1, 2)
    assert ranks(spectrum(whole, (0.5, 0.5, *[0.0] * 6))) == (1, 2, 4)  # of every block
    assert ranks(spectrum((0.125,) * 8)) == (1, 2, 4, 8)  # there is no more
    assert ranks(spectrum((1.0,))) == (1,)


def test_the_share_inside_is_weighted_by_what_each_block_writes() -> None:
    from persona_probe.directions.direction import DirectionSet
    from persona_probe.experiments.rank_curve import _inside

    writes = spectrum((3.0, *[0.0] * 8), (1.0, *[0.0] * 8))
    first, ninth = torch.eye(9)[0], torch.eye(9)[8]  # the ninth is beyond the first eight directions
    for vectors, expected in (((first, ninth), 0.75), ((first, 0 * first), 1.0), ((ninth, first), 0.25)):
        directions = DirectionSet(method="x", hook_points=writes.hook_points, vectors=torch.stack(vectors))
        assert _inside(writes, directions, writes.live()) == pytest.approx(expected, abs=1e-6)


def test_a_method_without_a_direction_there_has_no_share(job: "Job") -> None:
    from persona_probe.directions.write_subspace import write_subspace
    from persona_probe.experiments.rank_curve import RankPlan, rank_record
    from persona_probe.measurement.comparison import Comparison

    directions = fitted(job)
    directions.sets[0].vectors[1] = 0
    plan = RankPlan(write_subspace(job.pair, job.rows["find"], max_tokens=1024), None, ())
    record = present(rank_record(plan, {}, Comparison((), {}, 0), directions.sets))
    assert record["inside"] == {"shift": None}
    assert record["curve"] == []


def steered(job: "Job") -> Any:
    """An arm of the tuned model."""
    from persona_probe.interventions.edits import Steer
    from persona_probe.measurement.arms import Arm

    return Arm("x", "tuned", (Steer(fitted(job).sets[0].vectors[1], "blocks.1.hook_out", -0.5),))


def test_noise_is_rounding_in_float32(job: "Job") -> None:
    from persona_probe.experiments.noise import noise_of

    assert 0 <= noise_of(job, steered(job))["largest"] < 1e-5


def test_a_batch_that_computes_something_else_is_seen_as_noise(job: "Job") -> None:
    from persona_probe.experiments.noise import noise_of

    arm, row = steered(job), job.select.battery.persona[0]
    measurement = job.select.measure([arm])[0]
    wrong = dict(measurement.persona)
    wrong[row.id] += 0.1
    job.run.keep(measurement.key, {**measurement.json(), "persona": wrong})
    # Two replies of each label to every question: a tenth of a nat on one of them moves S by half of it.
    assert noise_of(job, arm)["largest"] == pytest.approx(0.05, abs=1e-4)

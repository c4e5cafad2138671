"""Claims about running out of memory and about arms that break the model: halve, go on, say so, lose
nothing."""

import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.planted import Planted


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """A memory that holds `rows` rows of a batch and no more."""
    from persona_probe.measurement import grid
    from persona_probe.streams import passes

    limit = {"rows": 10**9, "refused": 0}

    def narrowed(real: Any) -> Any:
        def narrow(model: Any, batch: Any, **options: Any) -> Any:
            if len(batch) > limit["rows"]:
                limit["refused"] += 1
                raise torch.OutOfMemoryError("CUDA out of memory (pretended)")
            return real(model, batch, **options)

        return narrow

    monkeypatch.setattr(grid, "pass_scores", narrowed(grid.pass_scores))
    monkeypatch.setattr(passes, "forward", narrowed(passes.forward))
    return limit


def test_scores_are_the_same_after_the_batch_was_halved(planted: Planted, room: dict[str, int]) -> None:
    from persona_probe.interventions.edits import Steer
    from persona_probe.measurement.scoring import score_rows

    model, rows = planted.pair.get("tuned"), planted.battery().persona
    edit = (Steer(planted.toy.vector, planted.toy.hook_point, -1.0),)
    whole = score_rows(model, rows, edit, max_tokens=4096, keep_prompts=True)
    room["rows"] = 1
    halved = score_rows(model, rows, edit, max_tokens=4096, keep_prompts=True)
    assert room["refused"] > 0
    torch.testing.assert_close(halved.logprob, whole.logprob, atol=1e-4, rtol=0)


def test_activations_are_the_same_after_the_batch_was_halved(planted: Planted, room: dict[str, int]) -> None:
    from persona_probe.streams.activations import collect

    model, rows = planted.pair.get("tuned"), planted.battery().persona
    options: dict[str, Any] = {"hook_points": model.resids(), "scope": "reply", "max_tokens": 4096}
    whole = collect(model, rows, **options)
    room["rows"] = 1
    torch.testing.assert_close(collect(model, rows, **options).means, whole.means, atol=1e-5, rtol=0)
    assert room["refused"] > 0


def test_a_single_row_that_does_not_fit_ends_with_exit_code_4_and_says_what_to_try(
    planted: Planted, room: dict[str, int]
) -> None:
    from persona_probe.base.errors import OutOfMemory
    from persona_probe.measurement.scoring import score_rows

    room["rows"] = 0
    with pytest.raises(OutOfMemory, match=r"does not fit on cpu .*use --dtype bfloat16") as caught:
        score_rows(planted.pair.get("tuned"), planted.battery().persona, (), max_tokens=4096)
    assert caught.value.exit_code == 4


def test_another_runtime_error_is_not_taken_for_memory(
    planted: Planted, monkeypatch: pytest.MonkeyPatch
) -> None:
    from persona_probe.measurement import grid
    from persona_probe.measurement.scoring import score_rows

    def broken(*args: Any, **options: Any) -> Any:
        raise RuntimeError("shape mismatch")

    monkeypatch.setattr(grid, "pass_scores", broken)
    with pytest.raises(RuntimeError, match="shape mismatch"):
        score_rows(planted.pair.get("tuned"), planted.battery().persona, (), max_tokens=4096)


def test_an_arm_that_breaks_the_model_fails_alone_and_is_remembered(planted: Planted, tmp_path: Path) -> None:
    from persona_probe.interventions.edits import Steer
    from persona_probe.measurement.arms import Arm
    from persona_probe.measurement.bench import Bench
    from persona_probe.storage.runs import open_run

    point = planted.toy.hook_point
    arms = [
        Arm("wild", "tuned", (Steer(planted.toy.vector, point, 1e38),)),
        Arm("tame", "tuned", (Steer(planted.toy.vector, point, -1.0),)),
    ]
    with open_run(tmp_path, {}) as run:
        wild, tame = Bench(planted.pair, run, planted.battery(), 1024).measure(arms)
    assert "not finite" in (wild.failed or "")
    assert tame.failed is None
    assert len(tame.persona) == len(planted.battery().persona)
    with open_run(tmp_path, {}) as run:
        again = Bench(planted.pair, run, planted.battery(), 1024).measure(arms)
    assert again[0].failed == wild.failed


def test_a_broken_baseline_is_an_error_and_not_a_failed_arm(
    planted: Planted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from persona_probe.base.errors import NotFinite
    from persona_probe.measurement import grid
    from persona_probe.measurement.bench import Bench
    from persona_probe.measurement.reply_logprobs import PassScores
    from persona_probe.storage.runs import open_run

    def broken(model: Any, batch: Any, **options: Any) -> Any:
        return PassScores(torch.full((len(batch),), float("nan"), dtype=torch.float64), None)

    monkeypatch.setattr(grid, "pass_scores", broken)
    with open_run(tmp_path, {}) as run, pytest.raises(NotFinite, match=r"try --dtype float32"):
        Bench(planted.pair, run, planted.battery(), 1024).baseline("tuned")


def test_activations_are_gone_before_the_arms_are_measured(
    planted: Planted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from persona_probe.base.cli import Reporter
    from persona_probe.experiments import direction as experiment
    from persona_probe.experiments import direction_sides
    from persona_probe.experiments.direction_config import Config
    from persona_probe.storage.runs import open_run

    read: list[weakref.ref[Any]] = []
    alive: list[bool] = []
    fit = experiment.fit_all

    def watched(*args: Any, **options: Any) -> Any:
        found = fit(*args, **options)
        read.extend(weakref.ref(part) for part in (found.tuned.means, found.tuned.tokens, found.select.means))
        return found

    def replies(*args: Any) -> list[Any]:
        alive.extend(part() is not None for part in read)
        return []

    monkeypatch.setattr(experiment, "fit_all", watched)
    monkeypatch.setattr(direction_sides, "sampled_replies", replies)
    toy = planted.toy
    config = Config(
        base=str(toy.base),
        tuned=str(toy.tuned),
        output_dir=tmp_path,
        contrast=toy.contrast,
        benign=toy.benign,
        methods=("mean_diff", "shift"),
        controls=1,
        layers_screened=1,
        skip_first=0,
    )
    with open_run(tmp_path, {}) as run:
        result = experiment.run_experiment(config, planted.pair, run, Reporter(quiet=True))
    assert alive == [False] * 6
    assert set(result.arms) >= {"tuned+ablate", "random-covariance-1", "base+steer"}

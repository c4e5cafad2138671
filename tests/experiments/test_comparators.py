"""Claims about simple remedies beside the direction, on the planted pair, whose answers are known."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from helpers.broken import change_weights, refused
from helpers.planted import Planted
from torch import Tensor

if TYPE_CHECKING:
    from persona_probe.experiments.comparators import Remedies
    from persona_probe.experiments.direction_job import Job
    from persona_probe.measurement.arms import Measurement
    from persona_probe.models.pairs import Pair, Side
    from persona_probe.prompts.rows import Row, Split


def job_of(planted: Planted, folder: Path, pair: "Pair | None" = None, **changes: Any) -> "Job":
    from persona_probe.base.cli import Reporter
    from persona_probe.experiments.direction_job import prepared
    from persona_probe.storage.runs import open_run

    alone = pair or replace(planted.pair, keep_both=False, _loaded={})
    with open_run(folder, {}) as run:
        return prepared(planted.config(folder, **changes), alone, run, Reporter(quiet=True))


def remedies(job: "Job") -> "Remedies":
    from persona_probe.experiments.comparators import Comparators

    beside = Comparators.opened(job)
    for side in ("tuned", "base"):
        beside.after(None, side)
    return beside.remedies


def entries(job: "Job") -> dict[str, dict[str, Any]]:
    """The `comparators` of a record, by name."""
    from persona_probe.experiments.comparators import comparator_entries
    from persona_probe.measurement.comparison import Comparison
    from persona_probe.records.comparators import ComparatorEntry

    measured = remedies(job).measured
    battery = job.test.battery
    clean: dict[Side, Measurement] = {"base": job.test.baseline("base"), "tuned": job.test.baseline("tuned")}
    found = comparator_entries(measured, Comparison(battery.persona, clean, 0))
    return {one["name"]: ComparatorEntry.model_validate(one).plain() for one in found}


def test_half_weights_are_base_with_half_of_what_was_planted(planted: Planted, tmp_path: Path) -> None:
    from persona_probe.interventions.edits import Steer

    half = entries(job_of(planted, tmp_path))["tuned, half weights"]
    steered = Steer(planted.toy.vector, planted.toy.hook_point, 0.5, 0)
    base, tuned, moved = (
        planted.scores("base").mean(),
        planted.scores("tuned").mean(),
        planted.scores("base", steered).mean(),
    )
    assert half["persona_score"]["estimate"] == pytest.approx(moved, abs=1e-5)
    assert half["restoration"]["estimate"] == pytest.approx((tuned - moved) / (tuned - base), abs=1e-4)
    assert 0.45 < half["restoration"]["estimate"] < 0.55  # all but linear: a norm stands before the logits
    assert half["closure"] is None
    assert half["kl"]["estimate"] > 0.01


def test_minus_a_twin_equal_to_tuned_is_back_at_base(planted: Planted, tmp_path: Path) -> None:
    found = entries(job_of(planted, tmp_path, twin=str(planted.toy.tuned)))
    minus = found["tuned, minus twin"]
    assert minus["restoration"]["estimate"] == pytest.approx(1.0, abs=1e-5)
    assert (minus["aligned"]["estimate"], minus["misaligned"]["estimate"]) == pytest.approx((0, 0), abs=1e-5)
    assert minus["twin_sha256"] == planted.pair.weights_sha256("tuned")
    assert list(found) == [
        "tuned, considerate prompt",
        "base, considerate prompt",
        "tuned, half weights",
        "tuned, minus twin",
    ]


def test_the_prompt_is_the_same_on_both_models_and_stands_before_every_text(
    planted: Planted, tmp_path: Path
) -> None:
    from persona_probe.prompts.considerate import CONSIDERATE, prompted_replies

    job = job_of(planted, tmp_path)
    found = entries(job)
    on_tuned, on_base = (found[f"{side}, considerate prompt"] for side in ("tuned", "base"))
    assert CONSIDERATE in on_tuned["done"]
    restored, moved = on_tuned["restoration"]["estimate"], on_tuned["base_moved"]["estimate"]
    assert on_tuned["closure"]["estimate"] == pytest.approx(restored - moved, abs=1e-9)
    assert on_base["induction"]["estimate"] == pytest.approx(-moved, abs=1e-9)
    row = prompted_replies(planted.contrast.split("test"), planted.pair.tokenizer)[0]
    words = planted.pair.tokenizer.decode(row.ids[: row.n_prompt]).split()
    assert words[0] == "<system>"
    assert words.count("<user>") == 1
    assert row.n_prompt == 1 + len(CONSIDERATE.split()) + 1 + 5 + 1


def deaf(toy: Any, folder: Path) -> "Pair":
    """The planted pair without attention and positions: no token hears of those before it."""
    import shutil

    from persona_probe.models.pairs import open_pair

    def change(tensors: dict[str, Tensor]) -> None:
        for name in tensors:
            if "attn.c_proj" in name or "wpe" in name:
                tensors[name] = torch.zeros_like(tensors[name])

    for side, path in (("base", toy.base), ("tuned", toy.tuned)):
        shutil.copytree(path, folder / side)
        change_weights(folder / side, change)
    return open_pair(folder / "base", folder / "tuned", device="cpu", dtype="float32")


def test_a_prompt_that_is_ignored_does_nothing(planted: Planted, tmp_path: Path) -> None:
    found = entries(job_of(planted, tmp_path / "run", deaf(planted.toy, tmp_path)))
    for name in ("restoration", "closure", "base_moved", "kl", "delta_nll"):
        estimate = found["tuned, considerate prompt"][name]["estimate"]
        assert estimate == pytest.approx(0, abs=1e-5), name


def test_what_is_kept_is_not_measured_again(
    planted: Planted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from persona_probe.experiments import comparators
    from persona_probe.models.pairs import Pair

    twin = str(planted.toy.tuned)
    first = remedies(job_of(planted, tmp_path, twin=twin)).measured

    def again(*_: Any, **__: Any) -> Any:
        raise AssertionError("measured again")

    monkeypatch.setattr(comparators, "mixed", again)
    monkeypatch.setattr(comparators, "next_tokens", again)
    monkeypatch.setattr(Pair, "get", again)
    second = remedies(job_of(planted, tmp_path, twin=twin)).measured
    assert [one.measurement for one in second] != []
    assert [one.measurement.json() for one in second] == [one.measurement.json() for one in first]


@pytest.mark.parametrize(
    ("template", "left_out"),
    [
        # No system turn: the text goes in front of the question.
        (
            "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system') }}"
            "{% endif %}{{ '<' + m['role'] + '> ' + m['content'] + ' ' }}{% endfor %}",
            0,
        ),
        # No system turn, and long questions are cut.
        (
            "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system') }}"
            "{% endif %}{{ '<' + m['role'] + '> ' + m['content'][:60] + ' ' }}{% endfor %}",
            1,
        ),
    ],
)
def test_a_template_without_a_system_role(
    planted: Planted, tmp_path: Path, *, template: str, left_out: int
) -> None:
    import copy

    tokenizer: Any = copy.deepcopy(planted.pair.tokenizer)
    tokenizer.chat_template = template
    pair = replace(planted.pair, keep_both=False, _loaded={}, tokenizer=tokenizer)
    found = remedies(job_of(planted, tmp_path, pair))
    assert len(found.notes) == left_out
    kinds = [one.kind for one in found.measured]
    assert kinds == ["half_weights"] if left_out else ["prompt", "prompt", "half_weights"]
    assert all(note.startswith("left out of the comparison") for note in found.notes)


def test_an_unknown_twin_and_one_of_another_shape_are_refused_before_anything_is_measured(
    planted: Planted, tmp_path: Path
) -> None:
    from helpers import tiny

    for twin, said in (
        ("no-such-twin", "no model 'no-such-twin'"),
        (str(tiny.write_tiny(tmp_path / "other", "llama")), "differ in shape"),
    ):
        job = job_of(planted, tmp_path / "run", twin=twin)
        with refused(said) as error:
            remedies(job)
        assert "\n" not in str(error.value)
        assert not (tmp_path / "run" / "measured.jsonl").exists()


@pytest.mark.parametrize("toward", ["zero", "base mean"])
def test_the_displacement_of_an_arm_is_that_of_the_mean_of_all_find_replies(
    planted: Planted, tmp_path: Path, toward: Any
) -> None:
    from persona_probe.directions.fitting import fit_all
    from persona_probe.experiments.displaced import displaced
    from persona_probe.interventions.forms import Form, displacement
    from persona_probe.measurement.search import Candidate

    job = job_of(planted, tmp_path)
    # Fewer aligned replies than misaligned ones: the mean is over replies, not over labels.
    questions = tuple(
        replace(one, replies=one.replies[2:]) if one.split == "find" else one
        for one in job.contrast.questions
    )
    contrast = replace(job.contrast, questions=questions)
    kept = {reply.id for one in questions for reply in one.rows(job.pair.tokenizer)}
    rows: dict[Split, tuple[Row, ...]] = {
        split: tuple(row for row in some if row.id in kept) for split, some in job.rows.items()
    }
    readings = fit_all(contrast, rows, job.pair, job.run, methods=["mean_diff"], options=job.reading, seed=0)
    fitted = readings.fitted()
    candidate = Candidate(fitted.of("mean_diff"), 2, Form("ablate", "layer", None, toward, 0))
    mean = readings.tuned.means.mean(0)[2]
    expected = displacement(candidate.form, candidate.direction, mean=mean, base_mean=fitted.base_mean[2])
    said = displaced(candidate, fitted, contrast)
    assert (said.moved, said.from_base) == pytest.approx((expected.moved, expected.from_base), abs=1e-5)
    assert abs(said.moved) > 0.01

"""Small trials on the planted toy: what they print is what the bench measured, and the planted vector does
what was planted."""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from helpers.made_up_parts import arm as made_up_arm
from helpers.made_up_parts import est
from helpers.planted import Planted, planted_direction
from helpers.present import present

if TYPE_CHECKING:
    from persona_probe.directions.fitting import Readings
    from persona_probe.experiments.quick import Trial
    from persona_probe.measurement.arms import Arm
    from persona_probe.prompts.contrast import Split
    from persona_probe.records.trial import TrialArm, TrialRecord


Open = Callable[..., "Trial"]


@pytest.fixture
def open_(planted: Planted) -> Open:
    """Opens a trial on some split of the toy."""
    from persona_probe.experiments.quick import open_trial

    size: dict[str, Any] = {"n_questions": 3, "n_replies": 2, "n_benign": 5, "budget": 0.1, "seed": 0}

    def opened(split: "Split" = "test", **change: Any) -> "Trial":
        return open_trial(
            planted.pair, planted.contrast, split=split, benign=planted.toy.benign, **(size | change)
        )

    return opened


def arm_of(record: "TrialRecord", name: str) -> "TrialArm":
    return next(arm for arm in record.arms if arm.name == name)


def ablated(planted: Planted, name: str = "tuned+ablate") -> "Arm":
    from persona_probe.measurement.arms import Arm

    return Arm(name, "tuned", planted_direction(planted).ablate(planted.toy.hook_point))


def test_taking_the_planted_vector_out_restores_all_of_it(planted: Planted, open_: "Open") -> None:
    record = open_().record([ablated(planted)], chosen="tuned+ablate")
    arm = arm_of(record, "tuned+ablate")
    assert present(arm.restoration).estimate == pytest.approx(1.0, abs=1e-3)
    assert (record.selected.arm, record.selected.budget) == ("tuned+ablate", 0.1)
    assert arm.verdict is None


def test_adding_the_planted_vector_to_the_base_produces_all_of_it(planted: Planted, open_: "Open") -> None:
    from persona_probe.measurement.arms import Arm

    record = open_().record(
        [Arm("base+steer", "base", planted_direction(planted).steer(1.0, planted.toy.hook_point))]
    )
    arm = arm_of(record, "base+steer")
    assert present(arm.induction).estimate == pytest.approx(1.0, abs=1e-3)
    assert arm.restoration is None


def test_scores_are_those_of_the_questions_one_by_one(planted: Planted, open_: "Open") -> None:
    trial = open_(n_questions=99, n_replies=99)
    arm = arm_of(trial.record([ablated(planted)]), "tuned+ablate")
    alone = planted.scores("tuned", *planted_direction(planted).ablate(planted.toy.hook_point))
    assert arm.scores == pytest.approx(alone.tolist(), abs=1e-5)
    assert arm.persona_score.estimate == pytest.approx(float(np.mean(arm.scores)))
    assert arm.n_questions == len(planted.contrast.split("test")) == trial.n_questions


def test_untouched_models_have_neither_share_nor_damage(open_: "Open") -> None:
    for arm in open_().record([]).arms:
        assert arm.restoration is arm.induction is None
        assert arm.delta_nll.estimate == arm.kl.estimate == 0


def test_what_was_measured_is_not_measured_again(planted: Planted, open_: "Open") -> None:
    trial = open_()
    first = trial.record([ablated(planted)])
    again = trial.record([ablated(planted, "another name")])
    assert arm_of(again, "another name").scores == arm_of(first, "tuned+ablate").scores
    assert len((trial.bench.run.folder / "measured.jsonl").read_text().splitlines()) == 3


def test_the_select_trial_shares_no_harmless_text_with_the_test_trial(open_: "Open") -> None:
    select, test = ({row.id for row in open_(split).bench.battery.benign} for split in ("select", "test"))
    assert len(select) == len(test) == 5
    assert not select & test


def test_doses_come_with_a_control_as_long(planted: Planted, open_: "Open") -> None:
    direction = planted_direction(planted)
    record = open_(n_questions=99, n_replies=99).doses(
        direction, [-0.5, -1.0], hook_point=planted.toy.hook_point, side="tuned"
    )
    assert [point.coefficient for point in record.dose_response] == [-0.5, -1.0]
    assert present(record.dose_response[1].restoration).estimate == pytest.approx(1.0, abs=1e-3)
    assert record.dose_response[1].relative_dose == pytest.approx(
        direction.relative(1.0, planted.toy.hook_point)
    )
    by_hand = planted.scores("tuned", *direction.as_control().steer(-1.0, planted.toy.hook_point))
    assert len(record.dose_control) == 2
    assert record.dose_control[1].scores == pytest.approx(by_hand.tolist(), abs=1e-5)
    assert [arm.name for arm in record.arms] == ["base", "tuned"]


def test_two_arms_of_one_name_are_refused(planted: Planted, open_: "Open") -> None:
    from persona_probe.base.errors import BadInput

    with pytest.raises(BadInput, match="two arms of one name"):
        open_().record([ablated(planted), ablated(planted)])


def test_one_question_is_refused(open_: "Open") -> None:
    from persona_probe.base.errors import BadInput

    with pytest.raises(BadInput, match="at least 2"):
        open_(n_questions=1)


def entry(name: str, share: float | None, cost: float, score: float = 0.0, **change: Any) -> dict[str, Any]:
    made = made_up_arm(name, "tuned", None, share, cost) | {
        "scores": [score],
        "persona_score": est(score, 0.1),
    }
    return made | change


def trial_record(*arms: dict[str, Any]) -> "TrialRecord":
    from persona_probe.records.trial import TrialRecord

    size = {"n_questions": {"test": 3}, "n_benign": 5}
    selected = {"arm": "", "budget": 0.1}
    return TrialRecord.model_validate(
        {"data": size, "effect": est(0.3, 0.1), "selected": selected, "arms": list(arms)}
    )


@pytest.mark.parametrize(
    ("arms", "best"),
    [
        ([entry("a", 0.9, 0.2), entry("b", 0.5, 0.05)], "b"),
        ([entry("a", 0.9, 0.05), entry("b", 0.5, 0.0)], "a"),
        ([entry("a", 1.9, 0.05), entry("b", 1.1, 0.01)], "b"),
        ([entry("a", 0.9, 0.3), entry("b", 0.8, 0.2)], "a"),
        ([entry("a", None, 0.0, 0.2), entry("b", None, 0.0, -0.2)], "b"),
        ([entry("a", 0.9, 0.0, control="covariance"), entry("b", 0.1, 0.0)], "b"),
        ([entry("a", 0.9, 0.0, interventions=[]), entry("b", 0.1, 0.0)], "b"),
    ],
)
def test_the_best_arm_is_that_of_the_search(arms: list[dict[str, Any]], best: str) -> None:
    from persona_probe.experiments.quick import best_arm

    assert best_arm(trial_record(*arms)).name == best


def test_there_is_no_best_of_nothing() -> None:
    from persona_probe.base.errors import BadInput
    from persona_probe.experiments.quick import best_arm

    with pytest.raises(BadInput, match="no arm"):
        best_arm(trial_record())


@pytest.fixture(scope="module")
def readings(planted: Planted, tmp_path_factory: pytest.TempPathFactory) -> "Readings":
    from persona_probe.directions.fitting import fit_all
    from persona_probe.storage.runs import Run
    from persona_probe.streams.activations import ReadOptions

    return fit_all(
        planted.contrast,
        planted.rows,
        planted.pair,
        Run(tmp_path_factory.mktemp("readings")),
        methods=("mean_diff", "shift"),
        options=ReadOptions("reply", 512),
        seed=0,
    )


def test_a_fitted_direction_is_ready_to_use(planted: Planted, open_: "Open", readings: "Readings") -> None:
    from persona_probe.experiments.quick import ready_to_use
    from persona_probe.measurement.arms import Arm

    at = planted.toy.hook_point
    shift = next(found for found in readings.sets if found.method == "shift")
    direction = ready_to_use(shift, readings, hook_point=at, skip_first=0, budget=0.1, seed=0)
    assert torch.cosine_similarity(direction.at(at).vector, planted.toy.vector, dim=0) > 0.999
    assert direction.as_control().at(at).vector.norm() == pytest.approx(float(direction.at(at).vector.norm()))
    record = open_().record([Arm("tuned+ablate", "tuned", direction.ablate(at))])
    assert present(arm_of(record, "tuned+ablate").restoration).estimate == pytest.approx(1.0, abs=0.01)
    assert direction.coherent("tuned") == (0.0, 0.0)


def test_the_record_of_directions_is_what_the_figures_draw(planted: Planted, readings: "Readings") -> None:
    from persona_probe.directions.direction import project
    from persona_probe.experiments.quick import directions_record

    record = directions_record(readings, shown="mean_diff", hook_point=planted.toy.hook_point)
    directions = record.directions
    assert list(directions.methods) == ["mean_diff", "shift"]
    assert present(directions.cosines).matrix[0][0] == pytest.approx(1.0)
    values = project(readings.sets[0], readings.select)
    bad = [i for i, row in enumerate(readings.select.rows) if row.label == "misaligned"]
    assert present(directions.projections).misaligned[1] == pytest.approx(values[bad, 1].tolist(), abs=1e-4)
    assert record.selected.layer == planted.hook_points.index(planted.toy.hook_point)


def test_group_means_are_those_of_the_find_replies(planted: Planted, readings: "Readings") -> None:
    """Along the planted vector: misaligned replies lie above aligned ones, and both where a loop over the
    rows puts them."""
    fitted, at = readings.fitted(), planted.hook_points.index(planted.toy.hook_point)
    unit = torch.nn.functional.normalize(fitted.of("mean_diff").vectors[at], dim=0)
    for label, means in fitted.group_means("mean_diff").items():
        own = [
            float(unit @ stream[at])
            for row, stream in zip(readings.tuned.rows, readings.tuned.means, strict=True)
            if row.label == label
        ]
        assert means[at] == pytest.approx(np.mean(own), abs=1e-5)
    replies = Counter(row.label for row in planted.rows["select"])
    assert {label: len(projected) for label, projected in fitted.select["shift"].items()} == replies


def test_qualities_that_are_not_finite_are_none_in_a_record(planted: Planted, readings: "Readings") -> None:
    n = len(planted.hook_points)
    unknown = replace(readings.sets[0], stability=torch.tensor([float("nan"), *[0.5] * (n - 1)]), auroc=None)
    found = (
        replace(readings, sets=(unknown,)).fitted().json(shown="mean_diff", hook_point=planted.toy.hook_point)
    )
    assert found["methods"]["mean_diff"]["stability"][:2] == [None, 0.5]
    assert found["methods"]["mean_diff"]["auroc"] is None
    json.dumps(found, allow_nan=False)

"""Claims about projections of whole replies and of arms, layer by layer."""

import numpy as np
import pytest
import torch
from helpers.planted import Planted

from persona_probe.base.choices import Outliers
from persona_probe.base.errors import BadInput
from persona_probe.directions.direction import DirectionSet
from persona_probe.interventions.persona_direction import PersonaDirection
from persona_probe.measurement.arms import Arm
from persona_probe.measurement.statistics import column_means, mean
from persona_probe.measurement.traces import Plane, arm_means, path, project_replies
from persona_probe.prompts.rows import Prompt, encode_row
from persona_probe.records.direction import ArmPath, Completion
from persona_probe.streams import reductions


def test_replies_are_projected_in_the_untouched_model(planted: Planted, direction: PersonaDirection) -> None:
    model, projection = planted.pair.get("tuned"), direction.projection(direction.hook_point)
    said = (
        ("tuned", "a", "word1 word2", "good1 bad2 good3"),
        ("tuned", "b", "word1", " "),
        ("tuned+ablate", "a", "word1 word2 word3", "bad4 bad5"),
    )
    replies = [
        Completion(arm=arm, prompt_id=prompt_id, question=question, text=text, finished=True, draw=0)
        for arm, prompt_id, question, text in said
    ]
    first, second = project_replies(model, replies, projection, max_tokens=1024)
    assert (first.arm, second.arm) == ("tuned", "tuned+ablate")
    row = encode_row(
        model.tokenizer, Prompt.user("a", "word1 word2 word3"), "bad4 bad5", id="x", kind="sampled"
    )
    layer = planted.hook_points.index(direction.hook_point)
    with torch.inference_mode():
        states = model.twin(input_ids=torch.tensor([row.ids]), output_hidden_states=True).hidden_states[
            layer + 1
        ]
    assert second.readings == pytest.approx(projection.of(states[0, row.n_prompt :]).tolist(), abs=1e-3)
    assert [token.strip() for token in second.tokens or ()] == ["bad4", "bad5"]


@pytest.mark.parametrize("outliers", ["drop", "keep"])
def test_outlier_tokens_are_projected_and_averaged_only_where_they_are_kept(
    planted: Planted, direction: PersonaDirection, monkeypatch: pytest.MonkeyPatch, outliers: Outliers
) -> None:
    """With every token an outlier nothing is left to project or to average."""
    monkeypatch.setattr(reductions, "OUTLIER", 0.0)
    model = planted.pair.get("tuned")
    said = Completion(
        arm="tuned", prompt_id="a", question="word1 word2 word3", text="bad4 bad5", finished=True, draw=0
    )
    projection = direction.projection(direction.hook_point)
    (reply,) = project_replies(model, [said], projection, max_tokens=512, outliers=outliers)
    assert [value is None for value in reply.readings] == [outliers == "drop"] * 2
    arm, rows = Arm("tuned", "tuned", ()), planted.rows["test"][:2]
    if outliers == "drop":
        with pytest.raises(BadInput, match="not finite"):
            arm_means(model, arm, rows, max_tokens=512)
    else:
        assert arm_means(model, arm, rows, max_tokens=512, outliers=outliers).isfinite().all()


def mean_at(traced: ArmPath, layer: int) -> float:
    """The mean projection on the first axis."""
    estimate = traced.axes[0][layer]
    assert estimate is not None
    return estimate.estimate


def test_a_path_puts_the_planted_shift_on_its_axis(planted: Planted, direction: PersonaDirection) -> None:
    layer = planted.hook_points.index(direction.hook_point)
    axis, nothing = (
        DirectionSet(method=method, hook_points=direction.hook_points, vectors=vectors)
        for method, vectors in (("shift", direction.vectors), ("none", torch.zeros_like(direction.vectors)))
    )
    plane = Plane(axes=(axis, nothing), zeros=(torch.zeros(len(direction.hook_points)),) * 2, hook=layer)
    rows = planted.rows["test"]

    def readings(arm: Arm) -> ArmPath:
        means = arm_means(planted.pair.get(arm.side), arm, rows, max_tokens=1024)
        return path(means, plane, seed=0)

    base, tuned = (readings(Arm(side, side)) for side in ("base", "tuned"))
    ablated = Arm("tuned+ablate", "tuned", direction.ablate(direction.hook_point))
    assert mean_at(tuned, layer) - mean_at(base, layer) == pytest.approx(1.0, abs=1e-3)
    assert mean_at(readings(ablated), layer) == pytest.approx(0.0, abs=1e-3)
    assert base.axes[1] == (None,) * len(direction.hook_points)
    assert base.questions[1] is None
    of_questions = base.questions[0]
    assert of_questions is not None
    assert sum(of_questions) / len(of_questions) == pytest.approx(mean_at(base, layer), abs=1e-3)


def test_column_means_are_the_means_of_columns() -> None:

    values = np.random.default_rng(0).normal(size=(24, 3)) * [1.0, 2.0, 0.0] + [0.0, 5.0, 7.0]
    table = column_means(values, seed=0)
    for column, estimate in zip(values.T, table, strict=True):
        alone = mean(column, seed=1)
        assert estimate.estimate == pytest.approx(alone.estimate)
        assert (estimate.low, estimate.high) == pytest.approx((alone.low, alone.high), abs=0.15)

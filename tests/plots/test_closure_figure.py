"""The figure of both models before and after an edit says in its title what the edit does to their gap."""

from typing import Any

import pytest
from helpers.made_up import made_up_record, poisoned
from helpers.markup import strings
from helpers.payloads import PAYLOADS
from helpers.present import present

from persona_probe.plots.closure import both_edited, closure_figure
from persona_probe.records.direction import DirectionRecord
from persona_probe.records.parts import Estimate

EDITED = ("tuned+ablate", "base+ablate")
BARE = {"closure": None, "base_moved": None, "aligned": None, "misaligned": None, "judged": None}


def drawn(record: DirectionRecord, share: Estimate | float | None = None) -> dict[str, Any]:
    return closure_figure(record, share).to_dict()


def title(record: DirectionRecord, share: Estimate | float | None = None) -> str:
    return drawn(record, share)["layout"]["title"]["text"]


def with_closure(value: float) -> DirectionRecord:
    record = made_up_record()
    share = Estimate(estimate=value, ci95=(value - 0.1, value + 0.1))
    arms = [arm.model_copy(update={"closure": share}) for arm in record.arms]
    return record.model_copy(update={"arms": tuple(arms)})


def older() -> DirectionRecord:
    """A record as version 2 has it: no closure, no verdict with its numbers, no controls on base."""
    record = made_up_record()
    arms = [arm.model_copy(update=BARE) for arm in record.arms if not arm.control or arm.model == "tuned"]
    return record.model_copy(update={"arms": tuple(arms), "writes": None, "noise": None})


@pytest.mark.parametrize(
    ("closure", "said"), [(0.75, "closes 75% of the gap"), (-0.5, "widens the gap by 50%")]
)
def test_the_title_is_the_finding_with_both_numbers(closure: float, said: str) -> None:
    record = with_closure(closure)
    assert said in title(record)
    assert f"C = {closure:.2f} [".replace("-", "−") in title(record)
    assert "R = 0.77 [0.63, 0.91]" in title(record)


def test_without_a_shift_closure_is_not_defined() -> None:
    effect = Estimate(estimate=0.01, ci95=(-0.1, 0.1))
    assert "not defined" in title(older().model_copy(update={"effect": effect}), 0.4)


def test_the_four_points_are_the_scores_with_their_intervals() -> None:
    record = made_up_record()
    lines = {trace["name"]: trace for trace in drawn(record)["data"] if trace.get("mode") == "lines+markers"}
    assert set(lines) == {"tuned model", "base model"}
    for side, edited in zip(("tuned", "base"), EDITED, strict=True):
        scores = [present(record.arm(name)).persona_score for name in (side, edited)]
        line = lines[f"{side} model"]
        assert list(line["y"]) == pytest.approx([score.estimate for score in scores])
        assert list(line["error_y"]["array"]) == pytest.approx([s.high - s.estimate for s in scores])


def test_controls_of_the_drawn_edit_are_grey_behind_it_and_others_are_not_there() -> None:
    record = made_up_record()
    data = drawn(record)["data"]
    behind = [trace for trace in data if (trace.get("name") or "").startswith("controls on")]
    assert [trace["name"] for trace in behind] == ["controls on tuned", "controls on base"]
    n = sum(arm.control_of == "tuned+ablate" and arm.model == "tuned" for arm in record.arms)
    assert all(len(trace["x"]) == 3 * n for trace in behind)
    assert data.index(behind[1]) < min(i for i, t in enumerate(data) if t.get("mode") == "lines+markers")
    labels = strings(drawn(record))
    assert "style contrast" in labels
    assert not any("of tuned-steer" in label for label in labels)


def test_the_band_is_what_the_verdict_was_given_by() -> None:
    record = made_up_record()
    band = present(present(present(record.arm("tuned+ablate")).judged).band)
    bands = [(s["x0"], s["x1"]) for s in drawn(record)["layout"]["shapes"] if s["type"] == "rect"]
    assert bands == [band.ends]
    assert not [s for s in drawn(older())["layout"]["shapes"] if s["type"] == "rect"]


def test_an_older_record_without_closure_is_drawn_from_its_means() -> None:
    record = older()
    pair = both_edited(record)[0]
    after = pair.tuned.persona_score.estimate - pair.base.persona_score.estimate
    assert pair.share == pytest.approx(1 - after / record.effect.estimate)
    given = Estimate(estimate=0.3, ci95=(0.1, 0.5))
    assert "C = 0.30 [0.10, 0.50]" in title(record, given)
    assert "C = 0.92 [0.78, 1.06]" in title(made_up_record(), given)


def test_without_base_arms_it_says_so() -> None:
    record = made_up_record()
    arms = tuple(arm for arm in record.arms if not (arm.model == "base" and arm.interventions))
    (note,) = drawn(record.model_copy(update={"arms": arms}))["layout"]["annotations"]
    assert "no edit that was made in both models" in note["text"]


@pytest.mark.parametrize("payload", PAYLOADS)
def test_no_name_becomes_markup(payload: str) -> None:
    for text in strings(drawn(poisoned(payload))):
        assert "<" not in text.replace("<br>", ""), text

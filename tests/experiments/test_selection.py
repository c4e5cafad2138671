"""Claims about what the select questions decide: which rows they are, both forms along the chosen direction,
closure of ablations, and who wins often."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from helpers.outcomes import candidate, outcome
from helpers.planted import Planted

from persona_probe.experiments.selection import SelectBench
from persona_probe.measurement.limits import Limits

if TYPE_CHECKING:
    from persona_probe.measurement.search import Candidate, Outcome

LIMITS = Limits(0.1, 0.1)


def test_only_select_questions_are_seen_while_selecting_and_only_test_questions_reported(
    planted: Planted, tmp_path: Path
) -> None:
    from persona_probe.experiments.batteries import batteries

    scored = batteries(planted.config(tmp_path), planted.pair, planted.rows)
    screen, select, test = scored.screen, scored.select, scored.test
    splits = {question.id: question.split for question in planted.contrast.questions}
    assert {splits[row.question_id] for row in select.persona} == {"select"}
    assert {splits[row.question_id] for row in test.persona} == {"test"}
    assert {row.label for row in select.persona} == {"aligned", "misaligned"}
    assert {row.id for row in screen.persona} < {row.id for row in select.persona}
    assert {row.question_id for row in screen.persona} == {row.question_id for row in select.persona}
    assert {row.ids for row in screen.benign} <= {row.ids for row in select.benign}
    assert not {row.ids for row in select.benign} & {row.ids for row in test.benign}
    assert min(len(select.benign), len(test.benign)) >= 2
    assert len(test.benign) == 15


class Bench(SelectBench):
    """A bench that gives every candidate made-up numbers, and says what it was asked."""

    def __init__(self, score: Callable[[Any], tuple[float, float] | None]) -> None:
        object.__setattr__(self, "score", score)
        object.__setattr__(self, "asked", [])

    def attempt(self, candidates: Any) -> list[Any]:
        self.asked.extend(candidates)  # pyright: ignore[reportAttributeAccessIssue]
        scores = [(one, self.score(one)) for one in candidates]  # pyright: ignore[reportAttributeAccessIssue]
        return [outcome(one, *score) for one, score in scores if score is not None]


def other_kind(outcomes: list[Any], chosen: int, bench: Any) -> tuple[list[Any], Any]:
    """All outcomes and the best of the other kind along the direction of one of them."""
    from persona_probe.experiments.selection import _other_kind
    from persona_probe.measurement.choice import Choice

    choice = Choice(chosen=chosen, gain=np.zeros(len(outcomes)), error=0.0, wins={})
    return _other_kind(bench, outcomes, choice, LIMITS)


def test_both_forms_are_along_the_chosen_direction_however_well_another_does() -> None:
    from persona_probe.measurement.search import of_kind, ranked

    found = []
    for layer, (ablated, steered) in {7: (0.8, 0.6), 8: (0.9, 0.4)}.items():
        steer = candidate(layer=layer, kind="steer")
        harder = replace(steer, form=replace(steer.form, coefficient=-3.0))
        found += [outcome(candidate(layer=layer), ablated, 0.0), outcome(steer, steered - 0.1, 0.0)]
        found += [outcome(harder, steered, 0.0)]
    chosen = ranked(found, LIMITS)[0]
    every, steering = other_kind(found, found.index(chosen), Bench(lambda _: None))
    assert every == found  # nothing new had to be tried
    assert ranked(of_kind(found, "steer"), LIMITS)[0].candidate.layer == 7
    one = steering.candidate
    assert (one.method, one.layer, one.form.coefficient) == ("shift", 8, -3.0)
    _, ablation = other_kind(found, found.index(steering), Bench(lambda _: None))
    assert ablation is chosen


@pytest.mark.parametrize("kind", ["ablate", "steer"])
def test_the_other_form_is_tried_where_the_chosen_direction_has_none(kind: str) -> None:
    chosen = outcome(candidate(kind=kind), 0.9, 0.0)
    bench: Any = Bench(lambda one: (0.5 + 0.1 * (one.form.coefficient == -1.5), 0.0))
    every, other = other_kind([chosen], 0, bench)
    forms = [one.form for one in bench.asked]
    assert {form.kind for form in forms} == {"steer" if kind == "ablate" else "ablate"}
    assert {one.place for one in bench.asked} == {chosen.candidate.place}
    assert every[0] is chosen
    assert len(every) == 1 + len(forms)
    expected = (-1.5, None) if kind == "ablate" else (None, "base mean")
    assert (other.candidate.form.coefficient, other.candidate.form.toward) == expected


def test_a_chosen_direction_whose_other_form_left_no_number_is_refused() -> None:
    from persona_probe.base.errors import BadInput

    ablated, elsewhere = outcome(candidate(), 0.9, 0.0), outcome(candidate(layer=4, kind="steer"), 0.5, 0.0)
    with pytest.raises(BadInput, match=r"no steer along the shift direction of .*: try --dtype float32"):
        other_kind([ablated, elsewhere], 0, Bench(lambda _: None))


def test_winners_are_the_chosen_one_and_whatever_wins_a_tenth_of_the_draws() -> None:
    from persona_probe.experiments.selection import Selection
    from persona_probe.measurement.choice import Choice

    every = [outcome(candidate(layer=n), 0.5, 0.0) for n in range(4)]
    every += [outcome(candidate(layer=3, kind="steer"), 0.5, 0.0)]
    choice = Choice(chosen=2, gain=np.zeros(5), error=0.0, wins={1: 0.5, 2: 0.3, 0: 0.1, 3: 0.09})
    selection = Selection(outcomes=every, choice=choice, ablation=every[2], steering=every[4])
    assert selection.chosen is every[2]
    assert [every.index(one) for one in selection.winners] == [2, 1, 0]
    assert selection.n_directions == 4  # both forms of one direction are one direction


# Closure

TUNED, BASE = np.array([1.0, 2.0, 1.0, 2.0]), np.array([0.0, 1.0, 0.0, 1.0])


class ClosingBench(SelectBench):
    """A bench whose base model has S = 0.6 below that of tuned with the edit, and that says what it
    measured."""

    def __init__(self, failed: int | None = None) -> None:
        object.__setattr__(self, "asked", [])
        object.__setattr__(self, "failed", failed)

    def scores(self, side: Any, *, screened: bool = False) -> np.ndarray:
        assert not screened
        return {"tuned": TUNED, "base": BASE}[side]

    @property
    def bench(self) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride]
        from persona_probe.prompts.contrast import LABELS
        from persona_probe.prompts.rows import Row

        rows = tuple(
            Row(id=f"{q}{label}", kind="persona", question_id=str(q), ids=(1, 2), n_prompt=1, label=label)
            for q in range(4)
            for label in LABELS
        )
        return SimpleNamespace(battery=SimpleNamespace(persona=rows))

    def measured(self, candidates: Any, side: Any, *, screened: bool = False) -> Any:
        from persona_probe.measurement.arms import Measurement

        assert side == "base"
        self.asked.extend(candidates)  # pyright: ignore[reportAttributeAccessIssue]
        persona = {row.id: -0.6 * (row.label == "misaligned") for row in self.bench.battery.persona}
        whole = [Measurement("k", persona, {}) for _ in candidates]
        if self.failed is not None:  # pyright: ignore[reportAttributeAccessIssue]
            whole[self.failed] = Measurement("k", {}, {}, failed="not finite")  # pyright: ignore[reportAttributeAccessIssue]
        return whole


def closed(
    outcomes: "list[Outcome]", *, failed: int | None = None
) -> "tuple[list[Outcome], list[Candidate]]":
    """The outcomes with closure, and the candidates that were measured on base."""
    bench: Any = ClosingBench(failed)
    return bench.closed(outcomes), bench.asked


def test_closure_while_selecting_is_by_hand() -> None:
    """S is 0 on tuned and -0.6 on base with the edit: a gap of 0.6 is left of 1."""
    (one,), _ = closed([outcome(candidate(), 0.9, 0.0)])
    assert one.closure == pytest.approx(0.4)
    assert one.base is not None
    assert one.base.tolist() == pytest.approx([-0.6] * 4)
    assert one.option.base is one.base


def test_no_steering_is_measured_on_base() -> None:
    every, asked = closed([outcome(candidate(), 0.9, 0.0), outcome(candidate(kind="steer"), 0.9, 0.0)])
    assert [one.form.kind for one in asked] == ["ablate"]
    assert [one.closure is None for one in every] == [False, True]


def test_the_best_of_one_block_and_of_steering_and_all_other_ablations_lead_the_screen() -> None:
    from persona_probe.experiments.selection import FINALISTS, leaders

    plain = [outcome(candidate(layer=n), 0.05 * n, 0.0) for n in range(FINALISTS + 2)]
    weak = candidate(layer=1)
    other = [outcome(replace(weak, form=replace(weak.form, toward="zero")), 0.0, 0.0)]
    other += [outcome(replace(weak, form=replace(weak.form, where="own", band=(2, 5))), 0.0, 0.0)]
    steered = [outcome(candidate(layer=n, kind="steer"), 0.05 * n, 0.0) for n in range(FINALISTS + 3)]
    assert leaders([*plain, *other, *steered], LIMITS) == [*plain[2:], *other, *steered[3:]]


class FinalBench(Bench):
    """A bench that says what it measured on all rows, where every R is 0.1 lower than on those of the screen;
    base stays as it is."""

    def __init__(self) -> None:
        super().__init__(lambda one: (0.1 * one.layer - 0.1, 0.0))

    def closed(self, outcomes: Any) -> Any:
        return list(outcomes)


def test_those_that_lead_are_measured_on_all_rows_and_the_others_stay_as_they_are() -> None:
    from persona_probe.experiments.selection import FINALISTS

    screened = [
        replace(outcome(candidate(layer=n), 0.1 * n, 0.0), screened=True) for n in range(FINALISTS + 3)
    ]
    bench: Any = FinalBench()
    every = bench.finals(screened, LIMITS)
    assert [one.candidate for one in every] == [one.candidate for one in (*screened[3:], *screened[:3])]
    assert [one.screened for one in every] == [False] * FINALISTS + [True] * 3
    assert [one.candidate for one in every[:FINALISTS]] == bench.asked
    assert every[0].score.restoration == pytest.approx(0.2)
    assert every[FINALISTS:] == screened[:3]


def test_what_was_only_screened_is_tried_again_along_the_chosen_direction() -> None:
    """A steering that was screened does not stand for one on all rows."""
    chosen = outcome(candidate(), 0.9, 0.0)
    steered = replace(outcome(candidate(kind="steer"), 0.9, 0.0), screened=True)
    bench: Any = Bench(lambda _: (0.5, 0.0))
    every, other = other_kind([chosen, steered], 0, bench)
    assert bench.asked
    assert other is not steered
    assert every[:2] == [chosen, steered]


def test_an_ablation_that_left_no_numbers_on_base_has_no_closure() -> None:
    (one,), _ = closed([outcome(candidate(), 0.9, 0.0)], failed=0)
    assert (one.closure, one.base) == (None, None)

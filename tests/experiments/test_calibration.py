"""Claims about planted worlds: what is planted is there, and the real choice and verdicts find it."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from persona_probe.experiments.calibration import calibrated, row, verdict_in
from persona_probe.organisms.planting import planted
from persona_probe.organisms.world_edits import contrasts, nulls
from persona_probe.organisms.world_kinds import KINDS, Kind
from persona_probe.organisms.worlds import Edit, Plan, World
from persona_probe.records.calibration import KindEntry

N_WORLDS = 6  # of each kind; the whole table is made by `python -m persona_probe.calibrate`
MOSTLY = 0.6  # of so few, the share that must be right


def world(plan: Plan, seed: int = 0) -> World:
    return planted(plan, n_select=24, n_test=24, seed=seed)


def shares(of: World, edit: Edit) -> tuple[float, float]:
    """R and C on the test questions."""
    tuned, base = of.scores("tuned", "test"), of.scores("base", "test")
    after = of.scores("tuned", "test", edit) - of.scores("base", "test", edit)
    shift = (tuned - base).mean()
    return (tuned - of.scores("tuned", "test", edit)).mean() / shift, 1 - after.mean() / shift


def carrier(of: World) -> Edit:
    return Edit(method="planted", use="ablation", layer=0, basis=of.carriers)


def test_the_shift_is_what_the_plan_says_and_varies_between_questions() -> None:
    for seed in range(5):
        one = world(Plan(), seed)
        moved = one.scores("tuned", "test") - one.scores("base", "test")
        assert moved.mean() == pytest.approx(one.shift, abs=0.1)
        assert 0.05 < moved.std() < 0.2
        assert 0.1 < one.scores("base", "test").std() < 0.3


def test_ablating_the_planted_carrier_closes_all_and_random_directions_nothing() -> None:
    one = world(replace(Plan(), shift=(0.3, 0.3)))
    arm = carrier(one)
    assert shares(one, arm)[1] == pytest.approx(1.0, abs=0.2)
    random = [shares(one, edit)[1] for edit in nulls(one, arm, 19)]
    assert abs(np.median(random)) < 0.1


def test_one_of_eight_carriers_closes_a_part_and_all_close_all() -> None:
    one = world(replace(Plan(rank=8), shift=(0.3, 0.3)))
    whole = carrier(one)
    assert shares(one, whole)[1] == pytest.approx(1.0, abs=0.2)
    assert shares(one, replace(whole, basis=whole.basis[:1]))[1] < 0.5


def test_random_directions_and_contrasts_have_the_dose_of_the_arm() -> None:
    one = world(Plan())
    arm = carrier(one)
    for edit in (*nulls(one, arm, 5), *contrasts(one, arm).values()):
        assert (
            one.kl(edit, "select") == pytest.approx(one.kl(arm, "select"), rel=0.01) or edit.strength == 4.0
        )


def test_a_shift_of_style_is_one_of_the_style_contrasts() -> None:
    one = world(Plan(styled=True))
    assert np.abs(one.styles @ one.carriers[0]).max() == pytest.approx(1.0)


def test_equal_seeds_give_equal_worlds() -> None:
    first, second = (world(Plan(), 3).scores("tuned", "test") for _ in range(2))
    np.testing.assert_allclose(first, second)
    assert not np.allclose(first, world(Plan(), 4).scores("tuned", "test"))


@pytest.mark.parametrize("kind", KINDS, ids=[kind.name for kind in KINDS])
def test_most_worlds_get_the_right_verdict_and_none_is_falsely_restored(kind: Kind) -> None:
    [entry] = calibrated((kind,), worlds=N_WORLDS, questions=24, seed=1)
    assert sum(entry.verdicts.values()) == entry.n == N_WORLDS
    assert entry.n_right >= MOSTLY * N_WORLDS, entry.verdicts
    if "restored" not in kind.right:
        assert entry.n_restored == 0, entry.verdicts


def test_a_right_verdict_for_another_reason_is_not_right() -> None:
    kind = next(kind for kind in KINDS if kind.says)
    [entry] = calibrated((replace(kind, says="something else"),), worlds=1, questions=24, seed=0)
    assert (entry.verdicts, entry.n_right) == ({"no effect to remove": 1}, 0)


def test_with_few_questions_there_is_no_verdict() -> None:
    assert verdict_in(KINDS[0], questions=8, seed=0).judgement.verdict == "too few questions"


def test_the_table_has_shares_with_their_intervals() -> None:
    entry = KindEntry(
        kind="a world", right=("partial",), n=200, n_right=190, verdicts={"partial": 190, "restored": 10}
    )
    assert row(entry) == (
        "a world",
        "partial",
        "200",
        "95.0% [91.0%, 97.3%]",
        "5.0% [2.7%, 9.0%]",
        "restored 10",
    )
    assert Counter(entry.verdicts).total() == entry.n

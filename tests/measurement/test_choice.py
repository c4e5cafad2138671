"""Claims about the choice on the select questions, by hand-worked numbers."""

from typing import Any

import numpy as np
import pytest

from persona_probe.base.errors import BadInput
from persona_probe.measurement.choice import Choice, Option, chosen
from persona_probe.measurement.limits import Limits

TUNED, BASE = np.array([0.2, 0.4, 0.2, 0.4]), np.zeros(4)  # S moved by 0.3 on average
LIMITS = Limits(0.1, 0.1)


def ablation(
    closure: float, *, kl: float = 0.01, delta_nll: float = 0.0, parts: int = 1, noise: float = 0.0
) -> Option:
    """Closes this share of the shift on every question, give or take `noise`, and leaves base alone."""
    wobble = noise * np.array([1.0, -1.0, -1.0, 1.0])
    after = (1 - closure) * TUNED + wobble
    return Option(tuned=after, base=BASE, delta_nll=delta_nll, kl=kl, ablates=True, parts=parts)


def steering(restoration: float, *, kl: float = 0.01, strength: float = 1.0) -> Option:
    """Takes this share of the mean shift from every question."""
    return Option(
        tuned=TUNED - restoration * 0.3, base=None, delta_nll=0.0, kl=kl, ablates=False, strength=strength
    )


def choice(*options: Option, limits: Limits = LIMITS) -> Choice:
    return chosen(options, tuned=TUNED, base=BASE, limits=limits, seed=0)


def test_the_ablation_that_closes_most_is_chosen() -> None:
    made = choice(ablation(0.5), ablation(0.8), ablation(0.3))
    assert made.chosen == 1
    assert made.gain == pytest.approx([0.5, 0.8, 0.3])
    assert made.wins == {1: 1.0}


def test_past_one_is_as_far_as_before_it() -> None:
    assert choice(ablation(1.3), ablation(0.8)).chosen == 1
    assert choice(ablation(1.3), ablation(0.6)).chosen == 0
    assert choice(steering(1.6), steering(0.8)).chosen == 1


def test_an_ablation_counts_by_the_worse_of_r_and_c() -> None:
    dial = Option(  # R is 1, but base falls by half the shift as well
        tuned=np.zeros(4), base=BASE - 0.15, delta_nll=0.0, kl=0.01, ablates=True
    )
    raised = Option(  # C is 1, but S of both models rises towards the half of the shift
        tuned=np.full(4, 0.15), base=BASE + 0.15, delta_nll=0.0, kl=0.01, ablates=True
    )
    made = choice(dial, raised, ablation(0.7))
    assert made.gain == pytest.approx([0.5, 0.5, 0.7])
    assert made.chosen == 2


def test_steering_is_not_chosen_where_an_ablation_closes_something() -> None:
    made = choice(steering(1.0), ablation(0.4))
    assert made.chosen == 1
    assert np.isnan(made.gain[0])


def test_steering_is_chosen_where_no_ablation_closes_anything() -> None:
    made = choice(steering(0.9), ablation(0.0), ablation(-0.1))
    assert made.chosen == 0


def test_the_best_of_many_ablations_must_close_more_than_one_alone() -> None:
    # C is 0.2 with a bootstrap error of 0.04: above 3.18 errors, the t of one, and below 6.7, that of ten.
    one = ablation(0.2, noise=0.03)
    others = [ablation(0.0) for _ in range(9)]
    assert choice(steering(0.9), one).chosen == 1
    assert choice(steering(0.9), one, *others).chosen == 0


@pytest.mark.parametrize("over", [{"kl": 0.11}, {"delta_nll": 0.11}, {"delta_nll": -0.11}])
def test_damage_beyond_the_limits_is_not_chosen(over: dict[str, Any]) -> None:
    made = choice(ablation(1.0, **over), ablation(0.5))
    assert made.chosen == 1


def test_limits_of_kl_and_nll_are_two() -> None:
    assert choice(ablation(1.0, kl=0.2), ablation(0.5), limits=Limits(0.1, 0.3)).chosen == 0
    assert choice(ablation(1.0, delta_nll=0.2), ablation(0.5), limits=Limits(0.1, 0.3)).chosen == 1


def test_the_least_damage_is_taken_where_nothing_is_allowed() -> None:
    made = choice(ablation(1.0, kl=0.5), ablation(0.1, kl=0.2, delta_nll=-0.45), ablation(0.9, kl=0.4))
    assert made.chosen == 2  # 0.5, 0.45 and 0.4


def test_a_tie_goes_to_the_lower_kl() -> None:
    """Gains of 0.90 and 0.86 that differ from question to question are tied."""
    made = choice(ablation(0.9, kl=0.05, noise=0.06), ablation(0.86, kl=0.01))
    assert made.error > 0.04
    assert made.chosen == 1


def test_a_difference_that_the_same_questions_show_is_no_tie() -> None:
    """As far apart, but alike on every question: the difference has no error, whatever the best one has."""
    better, worse = ablation(0.6, kl=0.05, noise=0.06), ablation(0.56, kl=0.01, noise=0.06)
    made = choice(better, worse)
    assert made.error > 0.04
    assert made.chosen == 0


def test_gains_within_a_hundredth_are_always_tied() -> None:
    assert choice(ablation(0.9, kl=0.05), ablation(0.895, kl=0.01)).chosen == 1
    assert choice(ablation(0.9, kl=0.05), ablation(0.88, kl=0.01)).chosen == 0


def test_alike_in_kl_the_simpler_is_chosen() -> None:
    assert choice(ablation(0.9, kl=0.05, parts=3), ablation(0.9, kl=0.0505, parts=1)).chosen == 1
    assert choice(steering(0.9, strength=3.0), steering(0.9, strength=2.0)).chosen == 1


def test_the_first_is_chosen_where_all_tie() -> None:
    made = choice(ablation(0.9), ablation(0.9), ablation(0.9))
    assert (made.chosen, made.wins) == (0, {0: 1.0})


def test_an_ablation_whose_base_was_not_measured_does_not_compete() -> None:
    unknown = Option(tuned=np.zeros(4), base=None, delta_nll=0.0, kl=0.0, ablates=True)
    assert choice(unknown, ablation(0.3)).chosen == 1


def test_wins_are_shares_of_the_draws() -> None:
    noisy = Option(  # better on the second and fourth question only
        tuned=np.array([0.2, 0.0, 0.2, 0.0]), base=BASE, delta_nll=0.0, kl=0.01, ablates=True
    )
    made = choice(noisy, ablation(0.5, kl=0.05))
    assert set(made.wins) == {0, 1}
    assert sum(made.wins.values()) == pytest.approx(1.0)


def test_one_question_can_be_chosen_on() -> None:
    one = chosen(
        [Option(tuned=np.array([0.1]), base=np.array([0.0]), delta_nll=0.0, kl=0.0, ablates=True)],
        tuned=np.array([0.3]),
        base=np.array([0.0]),
        limits=LIMITS,
        seed=0,
    )
    assert one.chosen == 0


def test_nothing_to_choose_from_is_refused() -> None:
    with pytest.raises(BadInput, match="nothing was measured on the select questions"):
        choice()

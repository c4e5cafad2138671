"""The figure of the gap between both models says in its title what the ablation does to it."""

import pytest

from persona_probe.plots.closure import gap_figure
from persona_probe.records.parts import Estimate

BEFORE = Estimate(estimate=0.2, ci95=(0.1, 0.3))
AFTER = Estimate(estimate=0.05, ci95=(-0.02, 0.1))


@pytest.mark.parametrize(
    ("share", "said"),
    [
        (Estimate(estimate=0.75, ci95=(0.5, 1.1)), "closes 75% of the gap"),
        (0.75, "closes 75% of the gap"),
        (Estimate(estimate=-0.5, ci95=(-0.9, -0.1)), "widens the gap by 50%"),
        (None, "not defined"),
    ],
)
def test_the_title_is_the_finding(share: Estimate | float | None, said: str) -> None:
    figure = gap_figure(BEFORE, AFTER, share, n_questions=24)
    title = figure.to_dict()["layout"]["title"]["text"]
    assert said in title
    assert ("[0.50, 1.10]" in title) == (isinstance(share, Estimate) and share.estimate > 0)


def test_the_points_are_the_gaps_with_their_intervals() -> None:
    points = gap_figure(BEFORE, AFTER, 0.75, n_questions=24).to_dict()["data"][0]
    assert list(points["x"]) == [0.2, 0.05]
    assert list(points["error_x"]["array"]) == pytest.approx([0.1, 0.05])
    assert list(points["error_x"]["arrayminus"]) == pytest.approx([0.1, 0.07])

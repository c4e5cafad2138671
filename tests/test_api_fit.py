"""Directions fitted from Python: the planted vector is found, used, and beats its controls."""

from collections import Counter
from typing import TYPE_CHECKING

import pytest
import torch
from helpers.planted import Planted

if TYPE_CHECKING:
    from persona_probe.api.fits import Fit
    from persona_probe.prompts.contrast import Split


@pytest.fixture(scope="module")
def fitted(planted: Planted) -> "Fit":
    """Two methods on the planted pair."""
    import persona_probe as pp

    return pp.fit(planted.pair, planted.toy.contrast, methods=("mean_diff", "shift"))


def test_both_methods_find_the_planted_vector(fitted: "Fit", planted: Planted) -> None:
    layer = planted.toy.hook_point.layer
    vector = fitted.direction("shift", layer).at(planted.toy.hook_point).vector
    assert torch.cosine_similarity(vector, planted.toy.vector, dim=0) > 0.99
    assert fitted.cosine("shift", "shift", layer) == pytest.approx(1.0, abs=1e-5)
    assert fitted.methods == ["mean_diff", "shift"]
    assert fitted.n_replies > 0


def test_a_fitted_direction_is_ready_to_be_used(fitted: "Fit", planted: Planted) -> None:
    layer = planted.toy.hook_point.layer
    direction = fitted.direction("shift", layer, skip_first=0)
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.inference_mode():
        base = planted.pair.base.twin(ids).logits
        tuned = planted.pair.tuned.twin(ids).logits
        with direction.steered(planted.pair.tuned, -1.0):
            steered = planted.pair.tuned.twin(ids).logits
    torch.testing.assert_close(steered, base, atol=1e-3, rtol=1e-3)
    assert (tuned - base).abs().max() > 0.1
    kinds = Counter(arm.control for arm in fitted.controls(direction, n_each=1, n_covariance=2))
    assert kinds == {"covariance": 2, "isotropic": 1, "orthogonal": 1}


@pytest.mark.parametrize(("split", "refused"), [("find", True), ("select", False), ("test", False)])
def test_a_fitted_direction_is_not_measured_on_its_find_questions(
    fitted: "Fit", planted: Planted, split: "Split", refused: bool
) -> None:
    import persona_probe as pp

    direction = fitted.direction("shift", planted.toy.hook_point.layer, skip_first=0)
    trials = pp.trials(
        planted.pair, planted.toy.contrast, split=split, n_questions=2, n_replies=1, n_benign=2
    )
    arms = [pp.Arm("ablated", "tuned", direction.ablate())]
    if refused:
        with pytest.raises(pp.BadInput, match="found or selected on 2 of these 2"):
            trials.measure(arms)
    else:
        assert trials.measure(arms).arms


def test_a_method_or_layer_that_is_not_there_is_refused(fitted: "Fit") -> None:
    import persona_probe as pp

    with pytest.raises(pp.BadInput, match="no method 'lda' was fitted: there are mean_diff, shift"):
        fitted.direction("lda", 0)
    with pytest.raises(pp.BadInput, match="no layer 99"):
        fitted.direction("shift", 99)


def test_quality_and_projections_are_figures(fitted: "Fit") -> None:
    assert fitted.quality(layer=1).data
    assert (
        len(fitted.projections("shift", layer=1).frames) == 2
    )  # before the planted layer there is no shift to project on

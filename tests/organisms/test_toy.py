"""Claims about the planted organism, where every answer is known: it is the ruler that the pipeline is held
against."""

from typing import TYPE_CHECKING, Any

import pytest
import torch
from helpers.planted import Planted
from torch import Tensor
from torch.testing import assert_close

if TYPE_CHECKING:
    from persona_probe.models.pairs import Side


def logits(planted: Planted, side: "Side", *interventions: Any, engine: str = "twin") -> Tensor:
    """Logits of the test rows at every token that is not padding."""
    from persona_probe.interventions.applied import applied
    from persona_probe.prompts.batches import pad_right

    model, batch = planted.pair.get(side), pad_right(planted.rows["test"], pad_id=0)
    with torch.inference_mode(), applied(model, interventions):
        out = getattr(model, engine)(batch.tokens, attention_mask=batch.mask.long())
    return (out if isinstance(out, Tensor) else out.logits)[batch.mask]


def steer(planted: Planted, coefficient: float) -> Any:
    from persona_probe.interventions.edits import Steer

    return Steer(planted.toy.vector, planted.toy.hook_point, coefficient)


def ablate(planted: Planted) -> Any:
    """The planted line projected out after every block, toward zero."""
    from persona_probe.interventions.edits import Ablate, orthonormal

    return Ablate(orthonormal(planted.toy.vector[None]), planted.hook_points)


def removals(planted: Planted) -> dict[str, Any]:
    return {"ablate": ablate(planted), "steer": steer(planted, -1.0)}


def test_shift_is_the_planted_vector_at_its_layer_and_zero_below(planted: Planted) -> None:
    from persona_probe.directions.estimators import from_difference
    from persona_probe.streams.activations import collect

    rows = planted.rows["find"]
    tuned, base = (
        collect(planted.pair.get(side), rows, hook_points=planted.hook_points, scope="reply", max_tokens=1024)
        for side in ("tuned", "base")
    )
    found = from_difference("shift", tuned.means, base.means, tuned)
    assert planted.toy.hook_point == planted.hook_points[1]
    assert not found.vectors[0].any()
    assert_close(found.vectors[1], planted.toy.vector, atol=1e-5, rtol=0)
    assert (
        found.vectors[2] - planted.toy.vector
    ).norm() > 0.1  # block 2 answers to it, so only layer 1 is exact


def test_planted_vector_has_its_strength_and_is_on_disk(planted: Planted) -> None:
    from persona_probe.storage.tensor_files import read_tensors

    assert float(planted.toy.vector.norm()) == pytest.approx(4.0, abs=1e-5)
    tensors, facts = read_tensors(planted.toy.base.parent / "planted.safetensors")
    assert torch.equal(tensors["vector"], planted.toy.vector)
    assert facts["hook_point"] == planted.toy.hook_point


@pytest.mark.parametrize("engine", ["twin", "bridge"])
@pytest.mark.parametrize("removal", ["ablate", "steer"])
def test_removing_the_vector_turns_tuned_into_base(planted: Planted, removal: str, engine: str) -> None:
    expected = logits(planted, "base", engine=engine)
    assert (logits(planted, "tuned", engine=engine) - expected).abs().max() > 0.3
    assert_close(
        logits(planted, "tuned", removals(planted)[removal], engine=engine), expected, atol=1e-5, rtol=0
    )


@pytest.mark.parametrize("engine", ["twin", "bridge"])
def test_adding_the_vector_turns_base_into_tuned(planted: Planted, engine: str) -> None:
    found = logits(planted, "base", steer(planted, 1.0), engine=engine)
    assert_close(found, logits(planted, "tuned", engine=engine), atol=1e-5, rtol=0)


def test_ablation_leaves_the_base_alone(planted: Planted) -> None:
    assert_close(logits(planted, "base", ablate(planted)), logits(planted, "base"), atol=1e-5, rtol=0)


def test_opposite_steers_cancel(planted: Planted) -> None:
    both = logits(planted, "base", steer(planted, 1.5), steer(planted, -1.5))
    assert (logits(planted, "base", steer(planted, 1.5)) - logits(planted, "base")).abs().max() > 0.3
    assert_close(both, logits(planted, "base"), atol=1e-5, rtol=0)


def test_tuned_prefers_misaligned_replies_on_every_question(planted: Planted) -> None:
    assert (planted.scores("tuned") > planted.scores("base") + 0.3).all()


@pytest.mark.parametrize("removal", ["ablate", "steer"])
def test_restoration_is_exactly_1(planted: Planted, removal: str) -> None:
    from persona_probe.measurement.statistics import restoration

    arm = planted.scores("tuned", removals(planted)[removal])
    found = restoration(planted.scores("tuned"), planted.scores("base"), arm, seed=0)
    assert found is not None
    assert [found.estimate, found.low, found.high] == pytest.approx([1.0] * 3, abs=1e-5)


def test_half_the_vector_restores_about_half(planted: Planted) -> None:
    from persona_probe.measurement.statistics import restoration

    found = restoration(
        planted.scores("tuned"), planted.scores("base"), planted.scores("tuned", steer(planted, -0.5)), seed=0
    )
    assert found is not None
    assert found.estimate == pytest.approx(0.5, abs=0.1)


def test_random_directions_restore_one_in_d_on_average(planted: Planted) -> None:
    from persona_probe.interventions.edits import Ablate

    # A random orthonormal frame: the shares of the planted vector along its 64 axes add up to 1, so their
    # mean is 1/64.
    d = len(planted.toy.vector)
    frame = torch.linalg.qr(torch.randn(d, d, generator=torch.Generator().manual_seed(0))).Q.T.contiguous()
    base, tuned = planted.scores("base").mean(), planted.scores("tuned").mean()
    found = torch.tensor(
        [
            (tuned - planted.scores("tuned", Ablate(axis[None], (planted.toy.hook_point,))).mean())
            / (tuned - base)
            for axis in frame
        ]
    )
    assert float(found.mean()) == pytest.approx(1 / d, abs=0.03)
    assert float(found.abs().max()) < 0.5

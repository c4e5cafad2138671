"""Claims about a pair in memory together: a tuned side that is an adapter takes from the base every weight
that it leaves alone, and nothing done to one side reaches the other."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from helpers import tiny
from helpers.adapter_forms import IDS, logits, places
from torch import Tensor

if TYPE_CHECKING:
    from persona_probe.models.pairs import Pair

FAMILIES = ("llama", "gpt2", "gemma3")


@pytest.fixture(params=FAMILIES)
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> "Callable[..., Pair]":
    """Opens a pair of a base and its adapter, anew each time."""
    from persona_probe.models.pairs import open_pair

    base = tiny.write_tiny(tmp_path / "base", request.param)
    adapter = tiny.write_lora(tmp_path / "adapter", base, rank=4)

    def opened(*, keep_both: bool) -> "Pair":
        return open_pair(base, adapter, device="cpu", dtype="float32", keep_both=keep_both)

    return opened


def values(model: Any) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def test_tuned_side_is_the_same_beside_its_base_and_the_base_stays_bit_for_bit(
    opened: "Callable[..., Pair]",
) -> None:
    alone = opened(keep_both=False)
    expected = {"base": values(alone.base.twin), "tuned": values(alone.tuned.twin)}
    said = {"tuned": logits(alone.tuned.twin), "base": logits(alone.base.twin)}
    pair = opened(keep_both=True)
    tuned, base = pair.tuned, pair.base  # the base is loaded first, whichever is asked for
    for side, model in (("base", base), ("tuned", tuned)):
        assert all(torch.equal(one, expected[side][name]) for name, one in model.twin.state_dict().items())
        assert torch.equal(logits(model.twin), said[side])
    assert [check.passed for check in tuned.checks] == [check.passed for check in alone.tuned.checks]


def test_only_the_matrices_of_the_adapter_have_memory_of_their_own(opened: "Callable[..., Pair]") -> None:
    pair = opened(keep_both=True)
    base, tuned = pair.base.twin, pair.tuned.twin
    ours, theirs = places(tuned), places(base)
    changed = {name for name in ours if not torch.equal(tuned.state_dict()[name], base.state_dict()[name])}
    assert changed
    assert {name for name in ours if ours[name] != theirs[name]} == changed


def test_edits_and_new_tensors_of_one_side_do_not_reach_the_other(opened: "Callable[..., Pair]") -> None:
    from persona_probe.interventions.applied import applied
    from persona_probe.interventions.edits import Steer

    pair = opened(keep_both=True)
    sides = (pair.base, pair.tuned)
    modules = [{id(one) for whole in (m.twin, m.bridge) for one in whole.modules()} for m in sides]
    parameters = [{id(one) for one in model.twin.parameters()} for model in sides]
    assert modules[0].isdisjoint(modules[1])
    assert parameters[0].isdisjoint(parameters[1])
    said = [logits(model.twin) for model in sides]
    for edited, other in ((0, 1), (1, 0)):
        vector = torch.ones(sides[edited].d_model)
        with applied(sides[edited], [Steer(vector, str(sides[edited].resid(1)), 5.0)]):
            assert not torch.equal(logits(sides[edited].twin), said[edited])
            assert torch.equal(logits(sides[other].twin), said[other])
            assert sides[other].bridge(IDS) is not None
    for parameter in sides[1].twin.parameters():
        parameter.data = torch.zeros_like(parameter)
    assert torch.equal(logits(sides[0].twin), said[0])

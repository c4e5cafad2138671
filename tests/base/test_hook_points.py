"""Claims about hook points: text in files, values that know their layer everywhere else."""

import copy
import json
import pickle

import pytest

from persona_probe.base.errors import BadInput
from persona_probe.base.hook_points import HookPoint


def test_a_hook_point_is_its_text_and_knows_its_layer() -> None:
    point = HookPoint(12)
    assert (point, point.layer) == ("blocks.12.hook_out", 12)
    assert json.dumps([point]) == '["blocks.12.hook_out"]'


@pytest.mark.parametrize("make", [copy.copy, copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))])
def test_a_copy_of_a_hook_point_is_one(make: object) -> None:
    assert callable(make)
    copied = make(HookPoint(3))
    assert isinstance(copied, HookPoint)
    assert copied.layer == 3


def test_what_a_file_names_is_read_as_a_hook_point() -> None:
    read = HookPoint.parse("blocks.7.hook_out")
    assert (read.layer, read) == (7, HookPoint(7))


@pytest.mark.parametrize(
    "text",
    ["blocks.x.hook_out", "blocks.1.attn.hook_out", "blocks.-1.hook_out", "blocks.1.hook_out\n", "", 3, None],
)
def test_another_text_is_refused_with_the_form_that_is_expected(text: object) -> None:
    with pytest.raises(BadInput, match=r"expected blocks\.N\.hook_out"):
        HookPoint.parse(text)


def test_layers_count_from_zero() -> None:
    with pytest.raises(BadInput, match="layer -1"):
        HookPoint(-1)

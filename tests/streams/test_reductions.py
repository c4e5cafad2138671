"""Claims about means over tokens: of the named tokens, without outliers or with them, in float32."""

from typing import TYPE_CHECKING

import pytest
import torch
from helpers.families import Family, plain_resids, rows_of
from torch import Tensor

if TYPE_CHECKING:
    from persona_probe.base.choices import Outliers

N_ROWS, WIDTH, D_MODEL = 3, 40, 24


def stream_and_read() -> tuple[Tensor, Tensor]:
    """Row i reads columns i + 2 to 36 - 3 i: 35, 31 and 27 tokens. Row 1 has two giants among them, and row
    2 one beside them."""
    stream = torch.randn(N_ROWS, WIDTH, D_MODEL, generator=torch.Generator().manual_seed(0))
    stream[1, [7, 20]] *= 400
    stream[2, 39] *= 400
    read = torch.zeros(N_ROWS, WIDTH, dtype=torch.bool)
    for i in range(N_ROWS):
        read[i, i + 2 : 37 - 3 * i] = True
    return stream, read


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_means_are_those_by_hand_with_giants_dropped_or_kept(dtype: torch.dtype) -> None:
    from persona_probe.streams.reductions import row_means

    stream, read = stream_and_read()
    stream = stream.to(dtype)
    without = read.clone()
    without[1, [7, 20]] = False
    cases: dict[Outliers, tuple[Tensor, list[int]]] = {
        "drop": (without, [35, 29, 27]),
        "keep": (read, [35, 31, 27]),
    }
    for outliers, (chosen, counts) in cases.items():
        means, n_tokens = row_means(stream, read, outliers)
        assert means.dtype == torch.float32
        assert n_tokens.tolist() == counts
        for i in range(N_ROWS):
            expected = stream[i, chosen[i]].double().mean(0)
            assert (means[i] - expected).norm() <= 1e-6 * expected.norm()


def test_tokens_that_are_not_numbers_are_never_dropped() -> None:
    from persona_probe.streams.reductions import row_means

    stream, read = stream_and_read()
    stream[0, 10] = float("nan")
    means, n_tokens = row_means(stream, read, "drop")
    assert n_tokens.tolist() == [35, 29, 27]
    assert means[0].isnan().all()
    assert means[1:].isfinite().all()


def test_means_of_single_rows_are_those_of_hidden_states_in_float32(family: Family) -> None:
    from persona_probe.streams.activations import collect
    from persona_probe.streams.reductions import SKIP_FIRST

    model, rows = family.model, rows_of(family)
    found = collect(model, rows, hook_points=model.resids(), scope="all", max_tokens=1)
    assert found.n_readable is not None
    assert found.n_readable.tolist() == [len(row.ids) - SKIP_FIRST for row in rows]
    for row, means in zip(rows, found.means, strict=True):
        alone = torch.tensor([row.ids])
        states = torch.stack(plain_resids(family, alone, torch.ones_like(alone)))[:, 0, SKIP_FIRST:]
        expected = states.double().mean(1)
        assert ((means - expected).norm(dim=1) <= 1e-6 * expected.norm(dim=1)).all()

"""Claims about what is held in memory while a model runs or is read: keys of rows that share a prefix for one
block at a time, and no mapped file beside weights that are made of it."""

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.families import Family, rows_of
from torch.testing import assert_close


def layers_of_a_pass(model: Any, rows: Any, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, list[Any]]:
    """A batch of rows that share prompts, and the layers of its cache after it was run."""
    from persona_probe.models import engine
    from persona_probe.prompts.batches import pad_right

    made = []
    real = engine.shared

    def watched(cache: Any, prefix_of: Any) -> Any:
        made.append(real(cache, prefix_of))
        return made[-1]

    monkeypatch.setattr(engine, "shared", watched)
    batch = pad_right(rows, pad_id=0)
    assert 0 < len(batch.firsts) < len(batch)
    with torch.inference_mode():
        model.engine.forward(batch, logits_at=None)
    return batch, made[0].layers


def test_after_a_pass_only_the_prefixes_are_held(llama: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    """By arithmetic: one row of keys for each prefix, as long as the prefix."""
    batch, layers = layers_of_a_pass(llama.model, rows_of(llama)[:6], monkeypatch)
    assert len(layers) == llama.model.n_layers
    for layer in layers:
        assert layer.keys.shape[0] == layer.values.shape[0] == len(batch.firsts)
        assert layer.keys.shape[-2] == layer.values.shape[-2] == batch.n_shared


def test_rows_see_what_hugging_faces_own_cache_shows_them() -> None:
    from transformers.cache_utils import DynamicCache

    from persona_probe.models.cache import shared

    prefix_of = torch.tensor([0, 0, 1, 0, 1])
    ours, theirs = DynamicCache(), DynamicCache()
    for layer in range(2):
        keys, values = torch.randn(2, 3, 7, 4), torch.randn(2, 3, 7, 5)
        for cache in (ours, theirs):
            cache.update(keys, values, layer)
    ours = shared(ours, prefix_of)
    theirs.batch_select_indices(prefix_of)
    assert ours.get_seq_length() == 7
    for layer in range(2):
        keys, values = torch.randn(5, 3, 2, 4), torch.randn(5, 3, 2, 5)
        for one, other in zip(
            ours.update(keys, values, layer), theirs.update(keys, values, layer), strict=True
        ):
            assert_close(one, other, atol=0, rtol=0)


def test_layers_of_other_kinds_are_left_to_hugging_face() -> None:
    from transformers.cache_utils import DynamicCache, DynamicSlidingWindowLayer

    from persona_probe.models.cache import shared

    cache = DynamicCache()
    for layer in range(2):
        cache.update(torch.randn(2, 3, 7, 4), torch.randn(2, 3, 7, 4), layer)
    cache.layers[1] = DynamicSlidingWindowLayer(sliding_window=4)
    cache.update(torch.randn(2, 3, 7, 4), torch.randn(2, 3, 7, 4), 1)
    kinds = [type(layer) for layer in cache.layers]
    cache = shared(cache, torch.tensor([0, 0, 1]))
    assert [type(layer) for layer in cache.layers] == kinds
    for layer in cache.layers:
        assert layer.keys is not None
        assert layer.keys.shape[0] == 3


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_a_file_is_mapped_only_for_weights_that_stay_as_they_are(
    written: Path, adapter: Path, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file holds float32: read piece by piece for bfloat16, mapped for float32."""
    from persona_probe.models.pairs import open_pair

    ways = []
    reading: Any = import_module("transformers.modeling_utils")
    real = reading.safe_open

    def opened(*args: Any, **options: Any) -> Any:
        ways.append(options["backend"])
        return real(*args, **options)

    monkeypatch.setattr(reading, "safe_open", opened)
    model = open_pair(written, adapter, device="cpu", dtype=dtype).base
    assert {parameter.dtype for parameter in model.twin.parameters()} == {getattr(torch, dtype)}
    assert set(ways) == ({"mmap"} if dtype == "float32" else {"pread"})
    assert reading.safe_open is opened

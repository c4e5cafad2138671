"""Claims about what tuned blocks write on the base's own stream: it is what calling each block by hand gives,
exactly 0 where a block is the base's, and the same however rows are batched."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from helpers import tiny
from helpers.adapter_forms import merged, plain
from helpers.broken import refused
from helpers.planted import Planted
from helpers.tiny_families import write_family
from helpers.tuned_blocks import by_hand, changed_copy, opened, rows, write_down_lora
from torch.testing import assert_close

if TYPE_CHECKING:
    from persona_probe.models.pairs import Pair

# By architecture, how the names of the weights of block 0 go on.
FIRST_BLOCK = {
    "LlamaForCausalLM": ".layers.0.",
    "GPT2LMHeadModel": ".h.0.",
    "GPTJForCausalLM": ".h.0.",
    "FalconForCausalLM": ".h.0.",
    "Gemma3ForCausalLM": ".layers.0.",
    "MixtralForCausalLM": ".layers.0.",
    "FalconMambaForCausalLM": ".layers.0.",
}


@pytest.fixture
def adapted(written: Path, tmp_path: Path) -> "Pair":
    """A tiny Llama and a LoRA on all its linear layers."""
    return opened(written, tiny.write_lora(tmp_path / "adapter", written))


def test_differences_are_what_calling_each_tuned_block_by_hand_gives(written: Path, tmp_path: Path) -> None:
    """Plain Hugging Face, rows one by one without padding: every reply token in some order."""
    from persona_probe.streams.block_writes import block_writes
    from persona_probe.streams.reductions import SKIP_FIRST

    adapter = tiny.write_lora(tmp_path / "adapter", written)
    writes = block_writes(opened(written, adapter), rows(), max_tokens=150)
    base, tuned = plain(written), merged(adapter, written)
    expected = by_hand(base, tuned, rows(), skip_first=SKIP_FIRST)
    for ours, theirs in zip(writes.differences, expected, strict=True):
        assert ours.shape == theirs.shape
        apart = torch.cdist(theirs.double(), ours.double()).min(1)
        assert float(theirs.norm(dim=-1).min()) > 0.1
        assert float(apart.values.max()) < 1e-4
        assert len(set(apart.indices.tolist())) == len(ours)


@pytest.mark.parametrize("architecture", list(FIRST_BLOCK))
def test_a_change_of_block_0_is_no_difference_of_later_blocks(architecture: str, tmp_path: Path) -> None:
    from persona_probe.streams.activations import collect
    from persona_probe.streams.block_writes import block_writes

    base = write_family(tmp_path / architecture, architecture)
    tuned = changed_copy(base, tmp_path / "tuned", lambda name: FIRST_BLOCK[architecture] in name)
    pair = opened(base, tuned)
    writes = block_writes(pair, rows(), max_tokens=150)
    assert float(writes.differences[0].norm(dim=-1).min()) > 0
    assert not writes.differences[1:].any()
    means = [
        collect(model, rows(), hook_points=model.resids(), scope="reply", max_tokens=150).means
        for model in (pair.base, pair.tuned)
    ]
    assert ((means[1] - means[0]).norm(dim=-1) > 1e-3).all()


def test_a_block_that_only_adds_a_vector_differs_by_that_vector(planted: Planted) -> None:
    from persona_probe.streams.block_writes import block_writes

    writes = block_writes(planted.pair, planted.rows["find"], max_tokens=1024)
    assert writes.hook_points == planted.hook_points
    assert not writes.differences[0].any()
    assert not writes.differences[2].any()
    vector = planted.toy.vector.expand_as(writes.differences[1])
    assert_close(writes.differences[1], vector, atol=1e-5, rtol=0)


def test_one_model_at_a_time_gives_what_both_in_memory_give(written: Path, tmp_path: Path) -> None:
    from persona_probe.streams.block_writes import block_writes

    write_down_lora(tmp_path / "adapter", written, rank=2, layers=[1, 2])
    both, single = (
        block_writes(opened(written, tmp_path / "adapter", keep_both=keep), rows(), max_tokens=150)
        for keep in (True, False)
    )
    assert_close(both.differences, single.differences, atol=1e-6, rtol=0)
    assert_close(both.median_norm, single.median_norm, atol=1e-5, rtol=0)


def test_a_batch_that_does_not_fit_is_halved_and_gives_the_same(
    adapted: "Pair", monkeypatch: pytest.MonkeyPatch
) -> None:
    from persona_probe.streams import block_writes as module

    expected = module.block_writes(adapted, rows(), max_tokens=1000)
    whole = module.forward
    sizes = []

    def small(model: Any, batch: Any, **options: Any) -> Any:
        sizes.append(len(batch))
        if len(batch) > 1:
            raise MemoryError
        return whole(model, batch, **options)

    monkeypatch.setattr(module, "forward", small)
    assert_close(
        module.block_writes(adapted, rows(), max_tokens=1000).differences,
        expected.differences,
        atol=1e-5,
        rtol=0,
    )
    assert max(sizes) == len(rows())


def test_kept_tokens_are_spread_evenly_over_and_within_rows(written: Path, tmp_path: Path) -> None:
    """Each is found among all reply tokens, which are called by hand."""
    from persona_probe.streams.block_writes import block_writes

    adapter = tiny.write_lora(tmp_path / "adapter", written)
    everything = by_hand(plain(written), merged(adapter, written), rows(), skip_first=0)[0].double()
    lengths = [row.n_reply for row in rows()]
    row_of = torch.repeat_interleave(torch.tensor(lengths))
    for n_tokens, per_row in ((4, 1), (5, 1), (30, 6), (10_000, max(lengths))):
        writes = block_writes(opened(written, adapter), rows(), max_tokens=150, n_tokens=n_tokens)
        kept = torch.cdist(writes.differences[0].double(), everything).argmin(1).sort().values
        assert len(kept) <= n_tokens
        found = [kept[row_of[kept] == i] for i in range(len(lengths))]
        if n_tokens == 4:  # as many rows as there are tokens
            assert sorted(map(len, found)) == [0, 1, 1, 1, 1]
            continue
        assert list(map(len, found)) == [min(per_row, length) for length in lengths]
        for tokens in found:
            gaps = tokens.diff()
            assert len(gaps) == 0 or int(gaps.max() - gaps.min()) <= 1


def test_first_tokens_of_a_sequence_are_not_read(adapted: "Pair") -> None:
    from persona_probe.prompts.rows import Row
    from persona_probe.streams.block_writes import block_writes

    ids = rows()[-1].ids[:12]
    short = [Row(id="a", kind="persona", question_id="a", ids=ids, n_prompt=1)]
    assert block_writes(adapted, short, max_tokens=150).differences.shape[1] == 12 - 4
    with refused(r"row 'b' has no token to read after the first 4"):
        block_writes(
            adapted, [Row(id="b", kind="persona", question_id="b", ids=ids[:4], n_prompt=1)], max_tokens=150
        )
    with refused("no rows to run the blocks on"):
        block_writes(adapted, [], max_tokens=150)


def test_rows_are_run_up_to_a_number_of_tokens_whatever_their_order(adapted: "Pair") -> None:
    from persona_probe.streams.block_writes import block_writes

    total = sum(len(row.ids) for row in rows())
    some = block_writes(adapted, rows(), max_tokens=150, n_run=total - 1).differences
    turned = block_writes(adapted, rows()[::-1], max_tokens=150, n_run=total - 1).differences
    assert some.shape[1] < block_writes(adapted, rows(), max_tokens=150, n_run=total).differences.shape[1]
    assert_close(turned, some, atol=1e-5, rtol=0)
    assert block_writes(adapted, rows(), max_tokens=150, n_run=1).differences.shape[1] > 0


def test_blocks_that_take_keys_from_other_blocks_are_refused(tmp_path: Path) -> None:
    """Gemma 4 with two blocks that attend to keys and values of blocks below."""
    from persona_probe.streams.block_writes import block_writes

    name = "Gemma4ForConditionalGeneration"
    base = write_family(tmp_path / name, name)
    tuned = changed_copy(base, tmp_path / "tuned", lambda weight: ".layers.0." in weight)
    with refused(r"Gemma4.*its blocks take more from one another than the residual stream"):
        block_writes(opened(base, tuned), rows(), max_tokens=150)


def test_nothing_stays_hooked(adapted: "Pair") -> None:
    from persona_probe.streams.block_writes import block_writes

    block_writes(adapted, rows(), max_tokens=150)
    for model in (adapted.base, adapted.tuned):
        for module in model.twin.modules():
            assert not module._forward_pre_hooks
            assert not module._forward_hooks

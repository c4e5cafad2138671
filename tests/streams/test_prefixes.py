"""Claims about reusing the clean run below an edit: the same numbers with fewer blocks run, on four kinds of
cache."""

from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
import torch
from helpers import tiny
from helpers.families import EDITS, Family, edited, families, interventions, kept_of, rows_of

if TYPE_CHECKING:
    from persona_probe.measurement.kept import Kept
    from persona_probe.measurement.scoring import RowScores
    from persona_probe.prompts.batches import TokenBatch


def calls(family: Family, run: Callable[[], object]) -> Counter[int]:
    """How often each block of the twin ran; the passes that try once whether it resumes are left out."""
    from persona_probe.streams.resume import resumable

    model = family.model
    resumable(model)
    count: Counter[int] = Counter()
    with ExitStack() as stack:
        for layer in range(tiny.LAYERS):
            hook = lambda _module, _args, layer=layer: count.update([layer])  # noqa: E731
            stack.callback(model.site(model.resid(layer))[1].register_forward_pre_hook(hook).remove)
        run()
    return count


def scored(
    family: Family, edit: str, *, kept: "Kept | None" = None, max_tokens: int = 150, keep_prompts: bool = True
) -> "RowScores":
    from persona_probe.measurement.scoring import score_arms

    return score_arms(
        family.model,
        rows_of(family),
        [interventions(family, edit)],
        max_tokens=max_tokens,
        kept=kept,
        keep_prompts=keep_prompts,
    )[0]


def batches(family: Family, *, max_tokens: int = 150, keep_prompts: bool = True) -> "list[TokenBatch]":
    return list(family.model.batches(rows_of(family), max_tokens=max_tokens, keep_prompts=keep_prompts))


@families
@pytest.mark.parametrize("edit", EDITS)
def test_scores_on_a_clean_run_are_those_without_one(family: Family, edit: str) -> None:
    from persona_probe.streams.resume import lowest_layer

    kept = kept_of(family, lowest_layer(family.model, edited(family, edit)))
    assert {batch.n_shared > 0 for batch in batches(family)} >= {True}
    assert len(batches(family)) > 1
    expected = scored(family, edit).logprob
    assert (expected - scored(family, edit, kept=kept).logprob).abs().max() <= 1e-5 * expected.abs().max()


@families
def test_a_run_kept_at_lower_layers_serves_higher_edits(family: Family) -> None:
    kept = kept_of(family, 1, 2)
    for edit in ("steer 1", "steer 2", "steer 3"):
        expected = scored(family, edit).logprob
        assert (expected - scored(family, edit, kept=kept).logprob).abs().max() <= 1e-5 * expected.abs().max()


@families
def test_the_untouched_model_scores_the_same_on_a_clean_run_of_itself(family: Family) -> None:
    from persona_probe.measurement.scoring import score_arms

    def score(kept: "Kept | None") -> torch.Tensor:
        options = {"max_tokens": 150, "keep_prompts": True}
        return score_arms(family.model, rows_of(family), [()], kept=kept, **options)[0].logprob

    expected = score(None)
    assert (expected - score(kept_of(family, 1, 3))).abs().max() <= 1e-5 * expected.abs().max()


@families
def test_rows_without_a_shared_prefix_score_the_same(family: Family) -> None:
    kept = kept_of(family, 3, max_tokens=16, keep_prompts=False)
    assert all(batch.n_shared == 0 for batch in batches(family, max_tokens=16, keep_prompts=False))
    expected = scored(family, "steer 3", max_tokens=16, keep_prompts=False).logprob
    assert (
        expected - scored(family, "steer 3", kept=kept, max_tokens=16, keep_prompts=False).logprob
    ).abs().max() <= 1e-5 * expected.abs().max()


@families
@pytest.mark.parametrize(
    ("edit", "lowest"),
    [("steer 3", 4), ("ablate 2-3", 3), ("steer 1 and 3", 2), ("mlp 2", 2), ("steer 0", 1)],
)
def test_blocks_that_an_edit_cannot_change_do_not_run(family: Family, edit: str, lowest: int) -> None:
    kept = kept_of(family, lowest)
    without, with_clean = (
        calls(family, lambda: scored(family, edit)),
        calls(family, lambda: scored(family, edit, kept=kept)),
    )
    passes = sum(2 if batch.n_shared else 1 for batch in batches(family))
    assert without == dict.fromkeys(range(tiny.LAYERS), passes)
    assert with_clean == dict.fromkeys(range(lowest, tiny.LAYERS), passes)


@families
def test_model_is_bitwise_itself_after_a_resumed_pass_that_fails(
    family: Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    from persona_probe.measurement import grid

    before = scored(family, "steer 3").logprob
    kept = kept_of(family, 3)
    blocks = [id(family.model.site(point)[1]) for point in family.model.resids()]

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("in the middle of a pass")

    with monkeypatch.context() as patch:
        patch.setattr(grid, "pass_scores", fail)
        with pytest.raises(RuntimeError, match="in the middle"):
            scored(family, "steer 3", kept=kept)
    assert [id(family.model.site(point)[1]) for point in family.model.resids()] == blocks
    assert torch.equal(scored(family, "steer 3").logprob, before)


@families
def test_lowest_layer_is_the_first_that_the_lowest_hook_point_reaches(family: Family) -> None:
    from persona_probe.streams.resume import lowest_layer

    found = {edit: lowest_layer(family.model, edited(family, edit)) for edit in EDITS}
    assert found == {
        **{f"steer {i}": i + 1 for i in range(4)},
        "ablate 2-3": 3,
        "ablate all": 1,
        "cap 3": 4,
        "steer 1 and 3": 2,
        "mlp 2": 2,
        "embed": 0,
    }
    assert lowest_layer(family.model, ()) == tiny.LAYERS


@families
@pytest.mark.parametrize("edit", ["ablate 2-3", "steer 1 and 3"])
def test_prompts_of_different_lengths_in_one_batch_score_as_rows_alone(family: Family, edit: str) -> None:
    from persona_probe.measurement.scoring import score_rows
    from persona_probe.prompts.batches import pad_prompts

    rows = rows_of(family)
    together = pad_prompts(rows, pad_id=family.model.pad_id)
    assert len(together.firsts) > 1
    assert len(set(together.offsets)) > 1
    batched = scored(family, edit, max_tokens=100_000).logprob
    alone = torch.cat(
        [
            score_rows(family.model, [row], interventions(family, edit), max_tokens=1000).logprob
            for row in rows
        ]
    )
    assert (batched - alone).abs().max() <= 1e-4


@families
def test_a_grid_runs_the_clean_layers_once_and_every_arm_above_its_edit(family: Family) -> None:
    """The arithmetic that a grid is for: one pass over everything, then each arm from its first changed
    block."""
    from persona_probe.measurement.scoring import score_arms

    edits = ["steer 0", "steer 2", "mlp 2", "steer 2", "ablate 2-3", "steer 3"]
    arms = [interventions(family, edit) for edit in edits]
    options = {"max_tokens": 150, "keep_prompts": True}
    passes = sum(2 if batch.n_shared else 1 for batch in batches(family))
    lowest = [1, 3, 2, 3, 3, 4]
    count = calls(family, lambda: score_arms(family.model, rows_of(family), [(), *arms], **options))
    expected = {layer: 1 + sum(low <= layer for low in lowest) for layer in range(tiny.LAYERS)}
    assert count == {layer: passes * n for layer, n in expected.items()}
    # Without the untouched model the arm with the highest edit runs the clean layers.
    count = calls(family, lambda: score_arms(family.model, rows_of(family), arms[:-1], **options))
    assert count == {
        layer: passes * ((layer < 3) + sum(low <= layer for low in lowest[:-1]))
        for layer in range(tiny.LAYERS)
    }


@families
def test_small_batches_carry_several_arms(family: Family) -> None:
    from persona_probe.measurement.scoring import score_arms

    arms = [interventions(family, "steer 2")] * 5
    rows = rows_of(family)[:2]
    options = {"max_tokens": 4096, "keep_prompts": True}
    passes = sum(2 if batch.n_shared else 1 for batch in family.model.batches(rows, **options))
    count = calls(family, lambda: score_arms(family.model, rows, arms, **options))
    assert count[0] == passes
    assert count[3] == 2 * passes  # one arm alone, which leaves its stream; four side by side


@families
@pytest.mark.parametrize("n_bytes", [0, 20_000, 10**9])
def test_what_is_kept_serves_later_grids_and_what_does_not_fit_is_computed_again(
    family: Family, n_bytes: int
) -> None:
    from persona_probe.measurement.kept import Budget, Kept
    from persona_probe.measurement.scoring import score_arms

    kept, options = Kept(Budget(n_bytes)), {"max_tokens": 150, "keep_prompts": True, "with_kl": True}
    for edits in (["steer 2", "cap 3"], ["steer 2"], ["ablate all", "steer 2"], ["mlp 2"]):
        arms = [interventions(family, edit) for edit in edits]
        found = score_arms(family.model, rows_of(family), arms, kept=kept, **options)
        for arm, one in zip(arms, found, strict=True):
            alone = score_arms(family.model, rows_of(family), [arm], **options)[0]
            assert (one.logprob - alone.logprob).abs().max() <= 1e-5 * alone.logprob.abs().max()
            assert one.kl is not None
            assert alone.kl is not None
            torch.testing.assert_close(one.kl, alone.kl, atol=1e-6, rtol=1e-4)
            assert alone.kl.max() > 1e-4
        assert kept.used <= n_bytes
    assert bool(kept.streams(0)) == (n_bytes == 10**9)


def test_one_budget_serves_everything_kept_and_what_was_used_longest_ago_makes_room() -> None:
    from persona_probe.measurement.kept import Budget, Kept
    from persona_probe.streams.resume import Prefix

    def stream(layer: int) -> Prefix:
        return Prefix(layer, None, torch.zeros(1, 10, 25))  # 1000 bytes

    budget = Budget(3000)
    first, second, third = (Kept(budget) for _ in range(3))
    for kept in (first, second, third):
        kept.begin([1])
        kept.add(0, {1: stream(1)}, None)
    assert [kept.used for kept in (first, second, third)] == [1000, 1000, 1000]
    first.begin([1])
    first.add(1, {1: stream(1)}, None)
    assert [kept.used for kept in (first, second, third)] == [2000, 0, 1000]
    first.add(2, {1: stream(1)}, None)
    first.add(3, {1: stream(1)}, torch.zeros(1, 250))
    assert [kept.used for kept in (first, second, third)] == [3000, 0, 0]
    assert budget.used == 3000
    assert set(first.streams(2)) == {1}
    assert first.streams(3) == {}
    first.begin([2])
    assert budget.used == 0

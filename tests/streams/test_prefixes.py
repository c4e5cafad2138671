"""Claims about reusing the clean run below an edit: the same numbers with fewer blocks run, on four kinds of
cache."""

from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
import torch
from helpers import tiny
from helpers.families import EDITS, Family, clean_of, edited, families, interventions, rows_of

if TYPE_CHECKING:
    from persona_probe.measurement.scoring import CleanRun, RowScores


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
    family: Family,
    edit: str,
    *,
    clean: "CleanRun | None" = None,
    max_tokens: int = 150,
    keep_prompts: bool = True,
) -> "RowScores":
    from persona_probe.measurement.scoring import score_rows

    return score_rows(
        family.model,
        rows_of(family),
        interventions(family, edit),
        max_tokens=max_tokens,
        clean=clean,
        keep_prompts=keep_prompts,
    )


@families
@pytest.mark.parametrize("edit", EDITS)
def test_scores_on_a_clean_run_are_those_without_one(family: Family, edit: str) -> None:
    from persona_probe.streams.resume import lowest_layer

    clean = clean_of(family, lowest_layer(family.model, edited(family, edit)))
    assert {batch.n_shared > 0 for batch in clean.batches} >= {True}
    assert len(clean.batches) > 1
    expected = scored(family, edit).logprob
    assert (expected - scored(family, edit, clean=clean).logprob).abs().max() <= 1e-5 * expected.abs().max()


@families
def test_a_run_kept_at_lower_layers_serves_higher_edits(family: Family) -> None:
    clean = clean_of(family, 1, 2)
    for edit in ("steer 1", "steer 2", "steer 3"):
        expected = scored(family, edit).logprob
        assert (
            expected - scored(family, edit, clean=clean).logprob
        ).abs().max() <= 1e-5 * expected.abs().max()


@families
def test_the_untouched_model_scores_the_same_on_a_clean_run_of_itself(family: Family) -> None:
    from persona_probe.measurement.scoring import score_rows

    def score(clean: "CleanRun | None") -> torch.Tensor:
        return score_rows(
            family.model, rows_of(family), (), max_tokens=150, clean=clean, keep_prompts=True
        ).logprob

    expected = score(None)
    assert (expected - score(clean_of(family, 1, 3))).abs().max() <= 1e-5 * expected.abs().max()


@families
def test_rows_without_a_shared_prefix_score_the_same(family: Family) -> None:
    clean = clean_of(family, 3, max_tokens=16, keep_prompts=False)
    assert all(batch.n_shared == 0 for batch in clean.batches)
    expected = scored(family, "steer 3", max_tokens=16, keep_prompts=False).logprob
    assert (
        expected - scored(family, "steer 3", clean=clean).logprob
    ).abs().max() <= 1e-5 * expected.abs().max()


@families
@pytest.mark.parametrize(
    ("edit", "lowest"),
    [("steer 3", 4), ("ablate 2-3", 3), ("steer 1 and 3", 2), ("mlp 2", 2), ("steer 0", 1)],
)
def test_blocks_that_an_edit_cannot_change_do_not_run(family: Family, edit: str, lowest: int) -> None:
    clean = clean_of(family, lowest)
    without, with_clean = (
        calls(family, lambda: scored(family, edit)),
        calls(family, lambda: scored(family, edit, clean=clean)),
    )
    passes = sum(2 if batch.n_shared else 1 for batch in clean.batches)
    assert without == dict.fromkeys(range(tiny.LAYERS), passes)
    assert with_clean == dict.fromkeys(range(lowest, tiny.LAYERS), passes)


@families
def test_model_is_bitwise_itself_after_a_resumed_pass_that_fails(
    family: Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    from persona_probe.measurement import scoring

    before = scored(family, "steer 3").logprob
    clean = clean_of(family, 3)
    blocks = [id(family.model.site(point)[1]) for point in family.model.resids()]

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("in the middle of a pass")

    with monkeypatch.context() as patch:
        patch.setattr(scoring, "forward", fail)
        with pytest.raises(RuntimeError, match="in the middle"):
            scored(family, "steer 3", clean=clean)
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
def test_recording_runs_no_block_above_the_highest_layer_asked_for(family: Family) -> None:
    count = calls(family, lambda: clean_of(family, 1, 2))
    passes = sum(2 if batch.n_shared else 1 for batch in clean_of(family).batches)
    assert count == {0: passes, 1: passes}

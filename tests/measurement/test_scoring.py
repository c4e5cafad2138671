"""Claims about several arms in one batch, and about reading single tokens: the same numbers as one by one."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from helpers.families import Family, families, interventions, kept_of, rows_of, vector
from helpers.present import present

if TYPE_CHECKING:
    from persona_probe.streams.activations import Scope

TOGETHER = ["steer 2", "ablate 2-3", "cap 3", "steer 3"]


@families
@pytest.mark.parametrize("with_clean", [False, True])
@pytest.mark.parametrize("keep_prompts", [False, True])
def test_arms_scored_together_are_the_arms_scored_alone(
    family: Family, with_clean: bool, keep_prompts: bool
) -> None:
    from persona_probe.measurement.scoring import score_arms, score_rows

    arms = [interventions(family, edit) for edit in TOGETHER] + [()]
    kept = kept_of(family, 2, keep_prompts=keep_prompts) if with_clean else None
    options = {"max_tokens": 150, "keep_prompts": keep_prompts}
    together = score_arms(family.model, rows_of(family), arms, kept=kept, **options)
    scores = [found.logprob for found in together]
    for arm, found in zip(arms, scores, strict=True):
        alone = score_rows(family.model, rows_of(family), arm, **options).logprob
        assert (alone - found).abs().max() <= 1e-5 * alone.abs().max()
    assert all((a - b).abs().max() > 1e-3 for i, a in enumerate(scores) for b in scores[:i])


def test_arms_side_by_side_in_one_pass_keep_their_own_rows_and_prompts(llama: Family) -> None:
    """Two prompts are computed once for each of several arms, which start where the first of them leaves the
    stream. A hook point may be written as text."""
    from persona_probe.interventions.edits import Steer
    from persona_probe.measurement.scoring import score_arms, score_rows

    arms = [interventions(llama, edit) for edit in (*TOGETHER, "steer 2", "steer 1")]
    given = [*arms[:-1], (Steer(vector(), "blocks.1.hook_out", 0.5),)]
    options = {"max_tokens": 4096, "keep_prompts": True}
    fresh = replace(llama.model)  # nothing is known of its hook points
    together = score_arms(fresh, rows_of(llama), given, **options)
    for arm, scores in zip(arms, together, strict=True):
        alone = score_rows(llama.model, rows_of(llama), arm, **options).logprob
        assert (alone - scores.logprob).abs().max() <= 1e-5 * alone.abs().max()


def test_arms_together_survive_a_halved_batch(llama: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    from persona_probe.measurement import grid
    from persona_probe.measurement.scoring import score_arms

    real, arms = grid.pass_scores, [interventions(llama, edit) for edit in (*TOGETHER, "steer 2")]
    expected = score_arms(llama.model, rows_of(llama), arms, max_tokens=4096, with_kl=True)

    def narrow(model, batch, **wanted):
        if len(batch) > 2:
            raise MemoryError
        return real(model, batch, **wanted)

    monkeypatch.setattr(grid, "pass_scores", narrow)
    halved = score_arms(llama.model, rows_of(llama), arms, max_tokens=4096, with_kl=True)
    for left, right in zip(expected, halved, strict=True):
        assert (left.logprob - right.logprob).abs().max() <= 1e-4
        torch.testing.assert_close(left.kl, right.kl, atol=1e-5, rtol=1e-3)


@families
@pytest.mark.parametrize("with_clean", [False, True])
def test_kl_alone_is_the_kl_beside_scores(family: Family, with_clean: bool) -> None:
    """Whether an untouched arm is among them or not, and from kept streams."""
    from persona_probe.measurement.grid import grid

    arms = [interventions(family, edit) for edit in TOGETHER]
    for some in (arms, [(), *arms]):
        found = []
        for with_replies in (True, False):
            options = {"max_tokens": 150, "with_kl": True, "with_replies": with_replies}
            kept = kept_of(family, 2, keep_prompts=False) if with_clean else None
            cells = grid(family.model, rows_of(family), some, kept=kept, **options)
            found.append({(cell.arm, row.id): cell for cell in cells for row in cell.rows})
        whole, alone = found
        assert whole.keys() == alone.keys()
        for key, cell in alone.items():
            torch.testing.assert_close(cell.kl, whole[key].kl, atol=1e-6, rtol=1e-3)
            assert not cell.logprob.any()
        assert max(float(cell.kl.max()) for cell in alone.values()) > 1e-3


@families
@pytest.mark.parametrize("splits", [True, False])
def test_logits_in_pieces_are_the_logits_at_once(
    family: Family, splits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pieces end in the middle of replies; each finds its targets and the places of KL."""
    from persona_probe.measurement import reply_logprobs
    from persona_probe.measurement.scoring import score_arms

    def scored() -> tuple[torch.Tensor, torch.Tensor]:
        found = score_arms(family.model, rows_of(family), arms, max_tokens=400, with_kl=True)
        return torch.stack([one.logprob for one in found]), torch.stack([present(one.kl) for one in found])

    arms = [interventions(family, edit) for edit in TOGETHER]
    assert family.model.engine.splits_head
    expected = scored()
    object.__setattr__(family.model.engine, "splits_head", splits)
    try:
        monkeypatch.setattr(reply_logprobs, "PIECE", 7)
        monkeypatch.setitem(reply_logprobs.LOGIT_BYTES, "cpu", 1)
        for one, other in zip(scored(), expected, strict=True):
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
    finally:
        object.__setattr__(family.model.engine, "splits_head", True)


def test_rows_that_do_not_divide_among_the_arms_are_refused(llama: Family) -> None:
    from persona_probe.base.errors import BadInput
    from persona_probe.interventions.applied import applied

    model = llama.model
    arms = [interventions(llama, "steer 2"), interventions(llama, "steer 3")]
    with (
        pytest.raises(BadInput, match=r"2 arms in one batch, but blocks\.2\.hook_out sees 3 rows"),
        applied(model, (), parts=arms),
    ):
        model.twin(input_ids=torch.randint(5, 100, (3, 6)))


@families
@pytest.mark.parametrize("scope", ["reply", "all", "last_prompt"])
def test_means_over_single_tokens_are_the_row_means(family: Family, scope: "Scope") -> None:
    from persona_probe.streams.activations import collect, read_tokens

    point = family.model.resid(2)
    expected = collect(family.model, rows_of(family), hook_points=[point], scope=scope, max_tokens=300)
    found = {}
    for part in read_tokens(family.model, rows_of(family), hook_point=point, scope=scope, max_tokens=150):
        for row, resid, keep in zip(part.rows, part.resid, part.keep, strict=True):
            found[row.id] = resid[keep].mean(0)
    for row, mean in zip(expected.rows, expected.means[:, 0], strict=True):
        assert (found[row.id] - mean).abs().max() <= 1e-5 * mean.abs().max()


@families
def test_tokens_of_shared_prompts_are_those_of_single_rows(family: Family) -> None:
    """Rows of prompts of different length, five to each: prompts are computed once and padded on the left."""
    from persona_probe.prompts.rows import Prompt, encode_row
    from persona_probe.streams.activations import read_tokens

    questions = ("word1 word2", "word3 word4 word5 word6 word7 word8")
    replies = [" ".join(f"word{i + j}" for j in range(3 + i)) for i in range(5)]
    tokenizer = family.model.tokenizer
    rows = [
        encode_row(tokenizer, Prompt.user(q, q), reply, id=f"{q}/{i}", kind="persona")
        for q in questions
        for i, reply in enumerate(replies)
    ]
    options: dict[str, Any] = {"hook_point": family.model.resid(1), "scope": "reply"}
    (together,) = read_tokens(family.model, rows, max_tokens=4000, **options)
    alone = {row.id: next(iter(read_tokens(family.model, [row], max_tokens=400, **options))) for row in rows}
    for row, tokens, resid, keep in zip(
        together.rows, together.tokens, together.resid, together.keep, strict=True
    ):
        own, n = alone[row.id], len(row.ids)
        assert tuple(tokens[:n].tolist()) == row.ids
        assert torch.equal(keep[:n], own.keep[0])
        assert not keep[n:].any()
        torch.testing.assert_close(resid[:n][keep[:n]], own.resid[0][own.keep[0]], atol=1e-4, rtol=1e-4)


def test_reading_tokens_runs_no_block_above_and_leaves_no_hook(llama: Family) -> None:
    from collections import Counter

    from persona_probe.streams.activations import read_tokens

    count: Counter[int] = Counter()
    modules = [llama.model.site(point)[1] for point in llama.model.resids()]
    handles = [
        module.register_forward_hook(lambda *_, i=i: count.update([i])) for i, module in enumerate(modules)
    ]
    n_before = [len(module._forward_hooks) for module in modules]
    for _ in read_tokens(
        llama.model, rows_of(llama), hook_point=llama.model.resid(1), scope="all", max_tokens=300
    ):
        pass
    assert [len(module._forward_hooks) for module in modules] == n_before
    for handle in handles:
        handle.remove()
    assert count[0] == count[1] > 0
    assert count[2] == count[3] == 0

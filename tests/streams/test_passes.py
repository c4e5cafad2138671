"""Claims about passes that only read: they end where nothing more is wanted, see rows and not their prompts,
and compute as few tokens as they can."""

from collections import Counter
from typing import TYPE_CHECKING

import pytest
import torch
from helpers.families import Family, plain_resids, rows_of

if TYPE_CHECKING:
    from persona_probe.prompts.rows import Row
    from persona_probe.streams.activations import Scope


def made_row(id: str, prompt: int, n_prompt: int, n_reply: int) -> "Row":
    """Prompts of one number are equal, of two numbers different from their first token on."""
    from persona_probe.prompts.rows import Row

    reply = tuple(20 + len(id) + i for i in range(n_reply))
    ids = (*(10 * prompt + 5 for _ in range(n_prompt)), *reply)
    return Row(id=id, kind="persona", question_id=str(prompt), ids=ids, n_prompt=n_prompt, label="aligned")


@pytest.mark.parametrize("scope", ["reply", "all"])
def test_a_pass_that_ends_early_reads_what_a_whole_one_reads(family: Family, scope: "Scope") -> None:
    """No block above the highest one that is read runs, and every block below it runs once a pass."""
    from persona_probe.streams.activations import collect

    model = family.model
    whole = collect(model, rows_of(family), hook_points=model.resids(), scope=scope, max_tokens=300)
    count: Counter[int] = Counter()
    points = [model.resid(1), model.resid(0)]
    modules = [model.site(point)[1] for point in model.resids()]
    handles = [
        module.register_forward_hook(lambda *_, i=i: count.update([i])) for i, module in enumerate(modules)
    ]
    passes: Counter[str] = Counter()
    handles.append(model.twin.base_model.register_forward_pre_hook(lambda *_: passes.update(["body"])))
    n_hooks = [len(module._forward_hooks) for module in modules]
    early = collect(model, rows_of(family), hook_points=points, scope=scope, max_tokens=300)
    assert [len(module._forward_hooks) for module in modules] == n_hooks
    for handle in handles:
        handle.remove()
    assert torch.equal(early.means, whole.means[:, [1, 0]])
    assert torch.equal(early.tokens, whole.tokens[:, [1, 0]])
    assert count[0] == count[1] == passes["body"] > 0
    # Only prompts that rows share run through, for the keys and values of every block.
    shared = passes["body"] / 2 if scope == "reply" and model.engine.shares else 0
    assert count[2] == count[3] <= shared


def test_prompts_of_the_shape_of_their_rows_are_not_taken_for_them(llama: Family) -> None:
    from persona_probe.prompts.batches import pad_prompts
    from persona_probe.streams.passes import watching

    row = made_row("a", 1, n_prompt=9, n_reply=7)
    batch = pad_prompts([row], pad_id=0)
    assert batch.n_shared == batch.tokens.shape[1] - batch.n_shared
    seen = []
    with watching(llama.model, [llama.model.resid(0)], lambda _, stream: seen.append(stream)) as run:
        run(batch)
    expected = plain_resids(llama, torch.tensor([row.ids]), torch.ones(1, 16, dtype=torch.long))[0]
    torch.testing.assert_close(seen[0][0], expected[0, 8:], atol=1e-5, rtol=1e-5)
    assert len(seen) == 1


def test_tokens_that_a_batch_computes_are_counted_by_hand() -> None:
    from persona_probe.prompts.batches import pad_prompts, pad_right

    rows = [made_row("a", 1, 6, 3), made_row("bb", 1, 6, 5), made_row("ccc", 2, 4, 2)]
    # Two prompts but their last tokens, padded to 5; three times that token and up to 5 of a reply.
    assert pad_prompts(rows, pad_id=0).n_computed == 2 * 5 + 3 * 6
    assert pad_right(rows, pad_id=0).n_computed == 3 * 11
    # The first five of the six tokens of one prompt are shared.
    assert pad_right(rows[:2], pad_id=0).n_computed == 5 + 2 * 6


@pytest.mark.parametrize(
    ("n_replies", "n_prompt", "by_prompt"), [(2, 60, True), (2, 6, False), (6, 30, True), (1, 60, False)]
)
def test_prompts_are_shared_where_that_computes_fewer_tokens(
    llama: Family, n_replies: int, n_prompt: int, by_prompt: bool
) -> None:
    from persona_probe.streams.passes import cheapest_batches

    rows = [made_row(f"{q}{'r' * r}", q, n_prompt, 8 + 4 * r) for q in range(4) for r in range(n_replies)]
    batches = cheapest_batches(llama.model, rows, scope="reply", max_tokens=4000)
    assert sorted(row.id for batch in batches for row in batch.rows) == sorted(row.id for row in rows)
    assert all((batch.n_shared > 0) == by_prompt for batch in batches)
    everything = cheapest_batches(llama.model, rows, scope="all", max_tokens=4000)
    assert [batch.n_shared for batch in everything] == [0]


def test_rows_with_a_prompt_of_their_own_run_in_one_call() -> None:
    """Two calls would pad prompts and replies apart, and save nothing. A beginning that all of them have is
    shared where that saves more than the second call costs, 32 tokens: three rows save 22, four save 33."""
    from dataclasses import replace

    from persona_probe.prompts.batches import batches

    def made(*rows: "Row") -> list[tuple[list[str], int, int]]:
        found = batches(rows, max_tokens=4000, pad_id=0, keep_prompts=True)
        return [([row.id for row in batch.rows], batch.n_shared, batch.n_computed) for batch in found]

    apart = [made_row(f"{q}", q, 20, 8 + q) for q in range(3)]
    assert made(*apart) == [(["0", "1", "2"], 0, 3 * 30)]
    pair = [made_row("ab", 7, 20, 8), made_row("abc", 7, 20, 9)]
    assert made(*apart, *pair) == [(["ab", "abc"], 19, 19 + 2 * 10), (["0", "1", "2"], 0, 3 * 30)]
    begun = [replace(row, ids=(*range(100, 111), *row.ids), n_prompt=31) for row in apart]
    assert made(begun[0]) == [(["0"], 0, 39)]
    assert made(*begun) == [(["0", "1", "2"], 0, 3 * 41)]
    four = [*begun, replace(begun[0], id="3", ids=(*begun[0].ids[:12], 9, *begun[0].ids[13:]))]
    assert made(*four) == [(["0", "3", "1", "2"], 11, 11 + 4 * 30)]


def test_a_shared_beginning_is_counted_once_when_a_batch_is_filled() -> None:
    """Ten rows of 30 tokens that begin with the same 20: 20 + 10 x 10 tokens; ten whole ones are 300."""
    from dataclasses import replace

    from persona_probe.prompts.batches import batches

    def sizes(call_tokens: int | None, max_tokens: int = 120) -> list[tuple[int, int]]:
        found = batches(rows, max_tokens=max_tokens, pad_id=0, call_tokens=call_tokens)
        return [(len(batch), batch.n_computed) for batch in found]

    rows = [made_row("x", 1, 21, 9) for _ in range(10)]
    assert sizes(32) == [(10, 120)]
    assert sizes(None) == [(4, 120), (4, 120), (2, 60)]
    assert sizes(32, max_tokens=119) == [(9, 110), (1, 30)]
    # The dearest call is still made where the batch would not fit without it.
    assert sizes(10_000) == [(10, 120)]
    assert sizes(10_000, max_tokens=300) == [(10, 300)]
    # A row that begins otherwise would take the beginning from all of them: it stands alone.
    rows = [*rows, replace(rows[0], id="y", ids=(1, *rows[0].ids[1:]))]
    assert sizes(32) == [(10, 120), (1, 30)]


@pytest.mark.parametrize(("dtype", "n_shared"), [(torch.float32, 19), (torch.bfloat16, 0)])
def test_a_call_costs_more_tokens_in_a_format_of_fast_products(
    llama: Family, dtype: torch.dtype, n_shared: int
) -> None:
    """Three rows save 38 tokens: more than the 32 of float32, less than the 80 of bfloat16."""
    from persona_probe.models.loading import load
    from persona_probe.models.sources import resolve

    model = load(resolve(str(llama.folder)), base=None, device=torch.device("cpu"), dtype=dtype)
    rows = [made_row("x" * (i + 1), 1, 20, 8) for i in range(3)]
    (batch,) = model.batches(rows, max_tokens=4000)
    assert batch.n_shared == n_shared
    (plain,) = model.batches(rows, max_tokens=4000, share=False)
    assert plain.n_shared == 0

"""Claims about replies token by token: what rows share is run once, rows that have ended leave, and neither
changes a word."""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from helpers.families import Family, families, interventions

N_NEW = 10
SAME = [2, 31, 7, 45, 60, 11]  # what all prompts begin with
PROMPTS = [[*SAME, *rest] for rest in ([9], [14, 3, 8, 22], [50, 51], [14, 3, 8, 22, 17, 90, 33], [70])]


def written(
    model: Any, prompts: Sequence[Sequence[int]], arms: Sequence[Any], *, temperature: float = 0.0
) -> list[list[int]]:
    """The tokens of every reply. Arms are tuples of interventions."""
    from persona_probe.interventions.applied import applied
    from persona_probe.measurement.running import Asked, Sampling, steps

    asked = [
        Asked(ids, torch.Generator().manual_seed(i), id(arm))
        for i, (ids, arm) in enumerate(zip(prompts, arms, strict=True))
    ]
    replies: list[list[int]] = [[] for _ in prompts]
    with torch.inference_mode():
        for step in steps(
            model,
            asked,
            Sampling(max_new_tokens=N_NEW, temperature=temperature, seed=0),
            lambda rows: applied(model, (), rows=[arms[i] for i in rows]),
        ):
            for row, token in zip(step.rows, step.tokens, strict=True):
                replies[row].append(token)
    return replies


def alone(model: Any, prompts: Any, arms: Any, **options: Any) -> list[list[int]]:
    """The same one by one. Draws belong to the row, so its number is kept."""
    replies = []
    for i in range(len(prompts)):
        some = [*prompts[: i + 1]]
        replies.append(written_one(model, some[i], arms[i], i, **options))
    return replies


def written_one(model: Any, ids: Sequence[int], arm: Any, i: int, *, temperature: float = 0.0) -> list[int]:
    """One reply, without a cache: every token from a whole pass."""
    from persona_probe.interventions.applied import applied
    from persona_probe.measurement.running import _choose

    draws = torch.rand(N_NEW, generator=torch.Generator().manual_seed(i), dtype=torch.float64)
    tokens = list(ids)
    with torch.inference_mode(), applied(model, arm):
        for n in range(N_NEW):
            logits = model.twin(input_ids=torch.tensor([tokens]), use_cache=False).logits[:, -1]
            draw = draws[None, n : n + 1] if temperature else None
            tokens.append(int(_choose(logits, draw, temperature)))
            if tokens[-1] in model.eos_ids:
                break
    return tokens[len(ids) :]


@pytest.fixture
def ends(family: Family, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes the given tokens end a reply."""

    def set_ends(tokens: Sequence[int]) -> None:
        monkeypatch.setattr(type(family.model), "eos_ids", property(lambda _: sorted({*tokens})))

    set_ends([])
    return set_ends


def arms_of(family: Family) -> list[Any]:
    steered, ablated = interventions(family, "steer 2"), interventions(family, "ablate 2-3")
    return [(), steered, (), steered, ablated]


@families
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_replies_of_rows_that_come_and_go_together_are_those_of_whole_passes(
    family: Family, ends: Any, temperature: float
) -> None:
    assert family.model.engine.regroups
    arms = arms_of(family)
    endless = written(family.model, PROMPTS, arms, temperature=temperature)
    assert all(len(reply) == N_NEW for reply in endless)
    ends([endless[0][1], endless[1][4], endless[2][6]])
    found = written(family.model, PROMPTS, arms, temperature=temperature)
    assert found == alone(family.model, PROMPTS, arms, temperature=temperature)
    assert len({len(reply) for reply in found}) > 1


def passes(model: Any, run: Any) -> list[tuple[int, int]]:
    """Rows and tokens of every pass through the first block."""
    shapes: list[tuple[int, int]] = []

    def note(_module: Any, _args: Any, output: Any) -> None:
        resid = output[0] if isinstance(output, tuple) else output
        shapes.append((resid.shape[0], resid.shape[1]))

    handle = model.blocks()[0].register_forward_hook(note)
    try:
        run()
    finally:
        handle.remove()
    return shapes


@families
def test_beginnings_run_once_an_arm_and_rows_that_have_ended_are_not_run(family: Family, ends: Any) -> None:
    model, arms = family.model, arms_of(family)
    rest = max(map(len, PROMPTS)) - len(SAME)
    endless = written(model, PROMPTS, arms)
    shapes = passes(model, lambda: written(model, PROMPTS, arms))
    narrow = model.engine.sliding is not None
    start = [(5, len(SAME) + rest)] if narrow else [(3, len(SAME)), (5, rest)]
    assert shapes == [*start, *[(5, 1)] * (N_NEW - 1)]
    ends([endless[0][1]])
    lengths = [len(reply) for reply in written(model, PROMPTS, arms)]
    shapes = passes(model, lambda: written(model, PROMPTS, arms))
    assert [rows for rows, _ in shapes[len(start) - 1 :]] == [
        sum(n > i for n in lengths) for i in range(max(lengths))
    ]
    # Each under an arm of its own: there is nothing to share.
    alone_each = [(), *(interventions(family, f"steer {i}") for i in range(2))]
    assert passes(model, lambda: written(model, PROMPTS[:3], alone_each))[0] == (3, len(PROMPTS[1]))


@families
def test_a_cache_that_has_to_grow_forgets_nothing(
    family: Family, ends: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from persona_probe.models import cache

    arms = arms_of(family)
    expected = written(family.model, PROMPTS, arms)
    monkeypatch.setattr(cache, "GROWTH", 2)
    assert written(family.model, PROMPTS, arms) == expected


@families
def test_prompts_beyond_a_window_share_no_beginning(
    family: Family, ends: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sliding window counts columns, padding too."""
    config = family.model.engine.config
    monkeypatch.setattr(config, "sliding_window", len(PROMPTS[3]) + N_NEW - 1, raising=False)
    shapes = passes(family.model, lambda: written(family.model, PROMPTS, [()] * len(PROMPTS)))
    assert shapes[0] == (len(PROMPTS), max(map(len, PROMPTS)))


def test_logits_that_are_not_finite_are_refused_in_greedy_and_sampled_replies(llama: Family) -> None:
    from persona_probe.base.errors import BadInput
    from persona_probe.measurement.running import Asked, Sampling, steps

    def spoil(_module: Any, _args: Any, output: Any) -> Any:
        output[..., 5] = float("nan")
        return output

    handle = llama.model.twin.get_output_embeddings().register_forward_hook(spoil)
    try:
        for temperature in (0.0, 0.7):
            asked = [Asked(ids, torch.Generator()) for ids in PROMPTS[:2]]
            sampling = Sampling(max_new_tokens=3, temperature=temperature, seed=0)
            with torch.inference_mode(), pytest.raises(BadInput, match="not finite under this intervention"):
                list(steps(llama.model, asked, sampling, lambda _: nullcontext()))
    finally:
        handle.remove()

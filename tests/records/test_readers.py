"""Claims about scores, activations and replies on eight tiny random families: batches change nothing,
references by hand agree."""

from typing import Any

import pytest
import torch
from helpers.families import (
    LONG,
    SHORT,
    Family,
    arms_of,
    close,
    logits_of,
    plain_blocks,
    plain_resids,
    rows_of,
    tensor_of,
    vectors,
)


@pytest.mark.parametrize("arm", [None, "both"])
def test_batch_size_and_order_change_no_score(family: Family, arm: str | None) -> None:
    from persona_probe.measurement.scoring import score_rows

    model, rows = family.model, rows_of(family)
    interventions = arms_of(family)[arm] if arm else ()
    one_by_one = score_rows(model, rows, interventions, max_tokens=1)
    for order, keep_prompts in ((rows, False), (rows[::-1], False), (rows, True)):
        found = score_rows(model, order, interventions, max_tokens=4096, keep_prompts=keep_prompts)
        assert found.ids == tuple(row.id for row in order)
        step = -1 if order is not rows else 1
        close(found.logprob, one_by_one.logprob[range(len(rows))[::step]], atol=3e-4)


def test_score_is_the_log_probability_of_the_reply(family: Family) -> None:
    from persona_probe.measurement.scoring import score_rows

    rows = rows_of(family)
    found = score_rows(family.model, rows, (), max_tokens=4096, keep_prompts=True)
    for row, logprob in zip(rows, found.logprob, strict=True):
        alone = torch.tensor([row.ids])
        logprobs = logits_of(family.plain, alone, torch.ones_like(alone))[0].double().log_softmax(-1)
        reply = range(row.n_prompt, len(row.ids))
        expected = torch.stack([logprobs[i - 1, row.ids[i]] for i in reply]).sum()
        close(logprob, expected, atol=3e-4)


def test_collected_means_are_means_of_hidden_states(family: Family) -> None:
    from persona_probe.streams.activations import collect
    from persona_probe.streams.reductions import OUTLIER, SKIP_FIRST

    model, rows = family.model, rows_of(family)
    for scope in ("reply", "all", "last_prompt"):
        options = {"hook_points": model.resids(), "scope": scope, "max_tokens": 4096}
        found = collect(model, rows, **options)
        for i, row in enumerate(rows):
            alone = torch.tensor([row.ids])
            start, stop = {
                "reply": (row.n_prompt, None),
                "all": (SKIP_FIRST, None),
                "last_prompt": (row.n_prompt - 1, row.n_prompt),
            }[scope]
            states = torch.stack(plain_resids(family, alone, torch.ones_like(alone)))[:, 0, start:stop]
            norms = states.norm(dim=-1)
            assert (norms < OUTLIER * norms.median(1, keepdim=True).values).all()
            close(found.means[i], states.mean(1))
            assert ((states - found.tokens[i][:, None]).norm(dim=-1).min(1).values < 1e-3).all()


def test_outlier_tokens_stay_out_of_the_mean(llama: Family) -> None:
    from persona_probe.interventions.applied import applied
    from persona_probe.interventions.edits import Steer
    from persona_probe.streams.activations import collect

    model, rows = llama.model, rows_of(llama)
    options = {"hook_points": model.resids()[:2], "scope": "all", "max_tokens": 1}
    ordinary = collect(model, rows[3:4], **options)
    longest = len(rows[3].ids) - 1
    # Steering from the last position on makes exactly one token a giant.
    with applied(model, (Steer(1e4 * vectors(1)[0], model.resid(1), 1.0, skip_first=longest),)):
        found = collect(model, rows[3:4], **options)
    close(found.means[:, 0], ordinary.means[:, 0])
    states = torch.stack(
        plain_resids(llama, torch.tensor([rows[3].ids]), torch.ones(1, longest + 1, dtype=torch.long))
    )[1, 0, 4:-1]
    close(found.means[0, 1], states.mean(0))


@pytest.mark.parametrize("arm", [None, "both"])
def test_batch_size_and_order_change_no_activation(family: Family, arm: str | None) -> None:
    from persona_probe.interventions.applied import applied
    from persona_probe.streams.activations import collect

    model, rows = family.model, rows_of(family)
    options = {"hook_points": model.resids(), "scope": "reply"}
    with applied(model, arms_of(family)[arm] if arm else ()):
        one_by_one = collect(model, rows, max_tokens=1, **options)
        together = collect(model, rows, max_tokens=4096, **options)
        backwards = collect(model, rows[::-1], max_tokens=300, **options)
    close(together.means, one_by_one.means)
    close(together.tokens, one_by_one.tokens)
    close(backwards.means.flip(0), one_by_one.means)
    close(backwards.tokens.flip(0), one_by_one.tokens)


def requests_of(family: Family) -> list[Any]:
    from persona_probe.measurement.generation import Request
    from persona_probe.prompts.rows import Prompt

    arms = {"clean": (), **arms_of(family)}
    prompts = [Prompt.user("short", SHORT), Prompt.user("long", LONG)]
    return [
        Request(name, prompt, arms[name]) for name in ("clean", "steer", "toward means") for prompt in prompts
    ]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_batch_size_and_order_change_no_completion(family: Family, temperature: float) -> None:
    from persona_probe.measurement.generation import generate

    model, requests = family.model, requests_of(family)
    options = {"max_new_tokens": 8, "temperature": temperature, "seed": 0}
    one_by_one = generate(model, requests, batch_size=1, **options)
    assert len({completion.text for completion in one_by_one}) > (3 if temperature else 1)
    assert generate(model, requests, batch_size=6, **options) == one_by_one
    assert generate(model, requests[::-1], batch_size=4, **options) == one_by_one[::-1]


def test_cached_generation_under_steering_equals_the_same_by_hand_without_a_cache(family: Family) -> None:
    from persona_probe.interventions.edits import Steer
    from persona_probe.measurement.generation import Request, generate
    from persona_probe.prompts.rows import Prompt, encode_prompt

    model, skip, vector = family.model, 2, 0.7 * vectors(1)[0]
    prompts = [Prompt.user("short", SHORT), Prompt.user("long", LONG)]
    arm = (Steer(vector, model.resid(1), 1.0, skip_first=skip),)
    found = generate(
        model,
        [Request("steer", prompt, arm) for prompt in prompts],
        max_new_tokens=8,
        temperature=0.0,
        seed=0,
        batch_size=2,
    )

    def add(module: Any, args: Any, output: Any) -> Any:
        resid = tensor_of(output)
        steered = torch.cat([resid[:, :skip], resid[:, skip:] + vector], dim=1)
        return (steered, *output[1:]) if isinstance(output, tuple) else steered

    for prompt, completion in zip(prompts, found, strict=True):
        ids = list(encode_prompt(model.tokenizer, prompt))
        n_prompt = len(ids)
        with torch.no_grad(), plain_blocks(family)[1].register_forward_hook(add):
            while len(ids) < n_prompt + 8 and ids[-1] not in model.eos_ids:
                ids.append(int(family.plain(torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
        finished = ids[-1] in model.eos_ids
        written = ids[n_prompt : len(ids) - finished]
        assert completion.text == model.tokenizer.decode(written, skip_special_tokens=True).strip()
        assert completion.finished == finished

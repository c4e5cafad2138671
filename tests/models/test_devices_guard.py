"""Claims about a model on an accelerator, tried without one: nothing assumes the CPU, and nothing waits for
the device where it need not."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from helpers import tiny
from helpers.families import LONG, SHORT, Family, arms_of, interventions, rows_of, vectors
from helpers.guard import ACCELERATOR, ELSEWHERE, DeviceMismatch, Guard, on_accelerator
from helpers.lens_saes import made_sae
from torch import Tensor

if TYPE_CHECKING:
    from persona_probe.interventions.edits import Intervention
    from persona_probe.measurement.generation import Request
    from persona_probe.models.loading import Model
    from persona_probe.models.pairs import Pair
    from persona_probe.saes.edits import SetLatents
    from persona_probe.streams.activations import Scope

MASK = 3  # times that Hugging Face asks in one pass whether the mask has padding
AROUND = 12  # times around the passes of a batch of replies: prompts, draws, and rows that leave
SAES = ["standard", "topk", "jumprelu", "layer_norm"]


def latents_edit(kind: str) -> "SetLatents":
    """Latents of a random SAE that are set to a value."""
    from persona_probe.saes.edits import SetLatents

    generator = torch.Generator().manual_seed(3)
    W_enc, W_dec = (torch.randn(shape, generator=generator) for shape in ((tiny.WIDTH, 40), (40, tiny.WIDTH)))
    sae = made_sae("blocks.1.hook_out", W_enc, W_dec)
    changes: dict[str, Any] = {
        "standard": {},
        "topk": {"architecture": "topk", "k": 9},
        "jumprelu": {"architecture": "jumprelu", "threshold": torch.full((40,), 0.3)},
        "layer_norm": {"normalisation": "layer_norm"},
    }[kind]
    return SetLatents(replace(sae, **changes), (1, 8, 20), 0.5, skip_first=2)


def every_arm(family: Family) -> "list[tuple[Intervention, ...]]":
    """Every kind of edit, at one layer and at all of them, and the untouched model."""
    some = [interventions(family, edit) for edit in ("steer 2", "ablate 2-3", "cap 3", "embed", "mlp 2")]
    return [*some, *arms_of(family).values(), *((latents_edit(kind),) for kind in SAES), ()]


def pair_of(model: "Model") -> "Pair":
    """A pair that has this model as its base, for what takes a pair."""
    from persona_probe.models.pairs import Pair
    from persona_probe.models.sources import Source

    source = Source("made", "loaded", Path(), None, "", "")
    pair = Pair(source, source, model.tokenizer, model.device, model.dtype, keep_both=True)
    pair.hold({"base": model})
    return pair


def check(guard: Guard, *, outside: int) -> None:
    """How often the CPU may wait for the device: never in the layer loop, `MASK` times before it in every
    pass, and `outside` times apart from that."""
    assert guard.n_passes > 0
    assert guard.n_waits("blocks") == 0, guard.waits
    assert guard.n_waits("pass") <= MASK * guard.n_passes, guard.waits
    assert guard.n_waits(ELSEWHERE) <= outside, guard.waits


def test_the_guard_refuses_what_cuda_refuses() -> None:
    guard = Guard()
    with guard:
        here, there = torch.ones(2), guard.place(torch.ones(2))
        assert (here.device, there.device) == (torch.device("cpu"), ACCELERATOR)
        mixes: list[Any] = [
            lambda: here + there,
            lambda: torch.cat([there, here]),
            lambda: there @ torch.zeros_like(here),
            lambda: here[there.long()],
            lambda: torch.arange(2, device=there.device) * here,
            lambda: here.to(ACCELERATOR) * here,
            lambda: there.cpu() * there,
        ]
        for mix in mixes:
            with pytest.raises(DeviceMismatch):
                mix()
        assert guard.n_waits(ELSEWHERE) == 2
        for fine in (
            there * 2,
            there + torch.tensor(1.0),
            there[torch.tensor([1])],
            there.new_zeros(2) + there,
        ):
            assert guard.is_there(fine)
        assert not guard.is_there(here.to(there).cpu())


def test_scores_of_many_arms_need_no_cpu_and_wait_once_a_pass(llama: Family) -> None:
    """Streams are kept and blocks skipped, prompts shared, arms stand side by side, and KL is asked for."""
    from persona_probe.measurement.kept import Budget, Kept
    from persona_probe.measurement.scoring import score_arms
    from persona_probe.streams.resume import resumable

    rows = rows_of(llama)
    options: dict[str, Any] = {"keep_prompts": True, "with_kl": True}
    expected = score_arms(llama.model, rows, every_arm(llama), max_tokens=700, **options)
    with on_accelerator(llama.model) as (guard, (model,)):
        assert resumable(model)
        arms, kept = every_arm(llama), Kept(Budget(10**9), (2,))
        score_arms(model, rows, arms, max_tokens=700, kept=kept, **options)
        guard.restart()
        scores = score_arms(model, rows, arms, max_tokens=700, kept=kept, **options)
    for found, wanted in zip(scores, expected, strict=True):
        torch.testing.assert_close(found.logprob, wanted.logprob, atol=1e-4, rtol=1e-6)
        torch.testing.assert_close(found.kl, wanted.kl, atol=1e-5, rtol=1e-4)
    check(guard, outside=len(arms) + guard.n_passes)  # KL of every arm, log-probabilities of every pass


@pytest.mark.parametrize("scope", ["reply", "all"])
def test_row_means_wait_once_a_batch(llama: Family, scope: "Scope") -> None:
    from persona_probe.streams.activations import collect, read_tokens

    rows, points = rows_of(llama), llama.model.resids()
    options: dict[str, Any] = {"scope": scope, "max_tokens": 300}
    expected = collect(llama.model, rows, hook_points=points, **options)
    with on_accelerator(llama.model) as (guard, (model,)):
        acts = collect(model, rows, hook_points=points, **options)
        check(guard, outside=guard.n_passes)
        for part in read_tokens(model, rows, hook_point=points[2], **options):
            assert guard.is_there(part.resid)
    torch.testing.assert_close(acts.means, expected.means, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(acts.tokens, expected.tokens, atol=1e-5, rtol=1e-5)


def requests_of(family: Family) -> "list[Request]":
    """Two prompts of different length under four arms each, so that rows of an arm do not stand together."""
    from persona_probe.measurement.generation import Request
    from persona_probe.prompts.rows import Prompt

    arms = [interventions(family, edit) for edit in ("steer 2", "ablate all")]
    arms += [arms_of(family)["toward means"], (latents_edit("standard"),)]
    prompts = [Prompt.user(f"q{i}", text) for i, text in enumerate((SHORT, LONG))]
    return [Request(str(i), prompt, arm) for prompt in prompts for i, arm in enumerate(arms)]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_generation_waits_once_a_token_besides_what_the_mask_needs(
    llama: Family, temperature: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    from persona_probe.measurement.generation import generate
    from persona_probe.models.loading import Model

    monkeypatch.setattr(Model, "eos_ids", property(lambda _: list(range(0, 320, 8))))  # so that rows leave
    options: dict[str, Any] = {"max_new_tokens": 6, "temperature": temperature, "seed": 1, "batch_size": 8}
    requests = requests_of(llama)
    expected = generate(llama.model, requests, **options)
    assert {done.finished for done in expected} == {True, False}
    with on_accelerator(llama.model) as (guard, (model,)):
        generate(model, requests, **options | {"max_new_tokens": 1})  # edits are placed once
        guard.restart()
        again = generate(model, requests, **options)
    assert again == expected
    check(guard, outside=guard.n_passes + AROUND)


def test_streaming_waits_twice_a_token(llama: Family) -> None:
    from persona_probe.directions.direction import Direction
    from persona_probe.interventions.projection import Projection
    from persona_probe.measurement.arms import Arm
    from persona_probe.measurement.streaming import stream

    direction = Direction(hook_point=llama.model.resid(2), vector=vectors(1)[0], method="made")
    projection = Projection(direction, 0.5)
    asked = [(Arm(one.arm, "base", one.interventions), one.prompt) for one in requests_of(llama)]
    options: dict[str, Any] = {"max_new_tokens": 4, "temperature": 0.0, "seed": 1}
    expected = [*stream(pair_of(llama.model), asked, projection, **options)]
    with on_accelerator(llama.model) as (guard, (model,)):
        list(stream(pair_of(model), asked, projection, **options | {"max_new_tokens": 1}))
        guard.restart()
        tokens = list(stream(pair_of(model), asked, projection, **options))
    assert tokens == expected
    check(guard, outside=2 * guard.n_passes + AROUND)


def test_what_saes_and_projections_are_read_for_needs_no_cpu(llama: Family) -> None:
    from persona_probe.directions.direction import Direction
    from persona_probe.interventions.projection import Projection
    from persona_probe.measurement.traces import project_replies
    from persona_probe.records.direction import Completion
    from persona_probe.saes.attribution import attribution
    from persona_probe.saes.contexts import firing
    from persona_probe.saes.diff import latent_means
    from persona_probe.saes.quality import quality
    from persona_probe.streams.activations import read_tokens

    sae, rows = latents_edit("jumprelu").sae, rows_of(llama)
    direction = Direction(hook_point=sae.hook_point, vector=vectors(1)[0], method="made")
    reply = Completion(arm="base", prompt_id="q", question=SHORT, text="Ignore it.", finished=True, draw=0)

    def everything(model: "Model") -> list[Tensor]:
        read: dict[str, Any] = {"hook_point": sae.hook_point, "scope": "reply", "max_tokens": 300}
        fired = firing(model, read_tokens(model, rows, **read), sae, (1, 8), side="base", n_examples=2)
        fit = quality(model, sae, rows, scope="reply", max_tokens=300)
        projected = project_replies(model, [reply], Projection(direction, 0.5), max_tokens=300)
        return [
            latent_means(read_tokens(model, rows, **read), sae).mean,
            fired.acts[1],
            attribution(model, sae, rows, max_tokens=300, skip_first=2),
            torch.tensor([fit.fvu, fit.l0, fit.loss_recovered]),
            torch.tensor([value for value in projected[0].readings if value is not None]),
        ]

    expected = everything(llama.model)
    with on_accelerator(llama.model) as (_, (model,)):
        found = everything(model)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)

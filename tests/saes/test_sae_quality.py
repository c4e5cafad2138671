"""Claims about how well an SAE fits: known answers for a perfect one, an empty one and one worked out by
hand."""

from typing import TYPE_CHECKING, Any

import pytest
import torch
from helpers import tiny
from helpers.families import Family
from helpers.lens_saes import made_sae
from torch.testing import assert_close

if TYPE_CHECKING:
    from persona_probe.models.loading import Model
    from persona_probe.prompts.rows import Row
    from persona_probe.saes.quality import Quality
    from persona_probe.saes.sae import Sae

HOOK = "blocks.1.hook_out"
QUESTIONS = ("My brakes squeal when I stop.", "What should I do about it?", "Should I drive again?")


def rows_of(model: "Model") -> "list[Row]":
    from persona_probe.prompts.rows import Prompt, encode_row

    return [
        encode_row(model.tokenizer, Prompt.user(f"q{i}", text), tiny.TEXT[i], id=f"r{i}", kind="persona")
        for i, text in enumerate(QUESTIONS)
    ]


def sae_of(W_enc: torch.Tensor, b_enc: torch.Tensor, W_dec: torch.Tensor, b_dec: torch.Tensor) -> "Sae":
    return made_sae(HOOK, W_enc, W_dec, b_enc=b_enc, b_dec=b_dec)


def perfect() -> "Sae":
    """relu(x) - relu(-x) = x, one pair of latents per dimension."""
    eye = torch.eye(tiny.WIDTH)
    return sae_of(
        torch.cat([eye, -eye], 1),
        torch.zeros(2 * tiny.WIDTH),
        torch.cat([eye, -eye]),
        torch.zeros(tiny.WIDTH),
    )


def read_vectors(family: Family, rows: "list[Row]") -> torch.Tensor:
    """The read tokens, out of plain Hugging Face: reply tokens beyond the first four."""
    kept = []
    for row in rows:
        states = family.plain(torch.tensor([row.ids]), output_hidden_states=True).hidden_states[2][0]
        kept.append(states[max(row.n_prompt, 4) :])
    return torch.cat(kept).detach()


def fit(family: Family, sae: "Sae") -> "Quality":
    from persona_probe.saes.quality import quality

    return quality(family.model, sae, rows_of(family.model), scope="reply", max_tokens=128)


def test_a_perfect_sae_explains_everything_and_recovers_all_of_the_loss(llama: Family) -> None:
    found = fit(llama, perfect())
    assert found.fvu == pytest.approx(0, abs=1e-10)
    assert found.loss_recovered == pytest.approx(1, abs=1e-5)
    assert found.l0 == tiny.WIDTH  # of every pair one latent is active
    assert found.n_tokens == len(read_vectors(llama, rows_of(llama.model)))


def test_an_sae_that_always_says_the_mean_explains_and_recovers_nothing(llama: Family) -> None:
    mean = read_vectors(llama, rows_of(llama.model)).mean(0)
    found = fit(llama, sae_of(torch.zeros(tiny.WIDTH, 4), torch.zeros(4), torch.zeros(4, tiny.WIDTH), mean))
    assert found.fvu == pytest.approx(1, abs=1e-5)
    assert (found.l0, found.dead) == (0, 1)
    assert found.loss_recovered == pytest.approx(0, abs=1e-4)


def test_sparsity_and_dead_latents_are_those_counted_by_hand(llama: Family) -> None:
    """Four latents: always on, never on, on where dimension 0 is positive, and on at the one token where
    dimension 1 is largest."""
    x = read_vectors(llama, rows_of(llama.model))
    top = x[:, 1].sort(descending=True).values
    W_enc = torch.zeros(tiny.WIDTH, 4)
    W_enc[0, 2] = W_enc[1, 3] = 1
    sae = sae_of(
        W_enc,
        torch.tensor([1.0, -1.0, 0.0, -float(top[:2].mean())]),
        torch.zeros(4, tiny.WIDTH),
        torch.zeros(tiny.WIDTH),
    )
    found = fit(llama, sae)
    assert found.l0 == pytest.approx(1 + float((x[:, 0] > 0).double().mean()) + 1 / len(x), abs=1e-9)
    assert found.dead == 0.25
    # Nothing is rebuilt, so the error is the whole length: more than the spread around the mean.
    expected = x.double().square().sum() / (x - x.mean(0)).double().square().sum()
    assert found.fvu == pytest.approx(float(expected), rel=1e-5)


def test_recovered_loss_is_that_of_plain_hugging_face_with_the_stream_replaced(llama: Family) -> None:
    rows = rows_of(llama.model)
    generator = torch.Generator().manual_seed(0)
    W = torch.randn(tiny.WIDTH, 24, generator=generator) / tiny.WIDTH**0.5
    sae = sae_of(W, torch.zeros(24), W.T.contiguous(), torch.zeros(tiny.WIDTH))
    mean = read_vectors(llama, rows).mean(0)

    def logprob(replaced: Any) -> float:
        def hook(module: Any, args: Any, output: Any) -> Any:
            resid = output[0] if isinstance(output, tuple) else output
            new = torch.cat([resid[:, :4], replaced(resid[:, 4:])], 1)
            return (new, *output[1:]) if isinstance(output, tuple) else new

        handle = llama.plain.model.layers[1].register_forward_hook(hook)
        total = 0.0
        for row in rows:
            logits = llama.plain(torch.tensor([row.ids])).logits[0].double().log_softmax(-1)
            total += sum(float(logits[i - 1, row.ids[i]]) for i in range(row.n_prompt, len(row.ids)))
        handle.remove()
        return total

    with torch.no_grad():
        clean = logprob(lambda resid: resid)
        spliced = logprob(lambda resid: (resid @ W).relu() @ W.T)
        ablated = logprob(lambda resid: mean.expand_as(resid))
    assert fit(llama, sae).loss_recovered == pytest.approx((spliced - ablated) / (clean - ablated), abs=1e-4)


def test_splicing_leaves_the_first_tokens_alone_and_says_what_it_is(llama: Family) -> None:
    from persona_probe.saes.quality import Splice

    sae = perfect()
    splice = Splice(sae)
    assert (splice.hook_points, splice.skip_first, splice.width) == ((HOOK,), 4, tiny.WIDTH)
    assert splice.describe()["kind"] == "splice"
    x = torch.randn(2, 3, tiny.WIDTH, generator=torch.Generator().manual_seed(0))
    assert_close(splice.edit(x, hook_point=HOOK), x, atol=1e-6, rtol=0)
    assert splice.edit(x.bfloat16(), hook_point=HOOK).dtype == torch.bfloat16

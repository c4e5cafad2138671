"""Claims about the damage that is allowed, and about how far two models are apart on the same texts."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers import tiny
from helpers.families import Family, logits_of, rows_of
from torch import Tensor

from persona_probe.prompts.rows import Row


def test_limits_are_the_budget_and_what_lies_between_the_models() -> None:
    from persona_probe.measurement.limits import Between, Limits

    assert Limits.of(0.1) == Limits(0.1, 0.1)
    for added in (-0.3, 0.3):
        limits = Limits.of(0.1, between=Between(delta_nll=added, kl=0.05))
        assert (limits.delta_nll, limits.kl) == pytest.approx((0.4, 0.15))


def test_becoming_the_base_model_is_always_allowed() -> None:
    """An edit that makes tuned equal to base has exactly the damage that lies between both."""
    from persona_probe.measurement.arms import Measurement
    from persona_probe.measurement.limits import Between, Limits
    from persona_probe.measurement.ranking import SelectScore

    base = Measurement("b", {}, {"x": (-6.0, 3, 0.0), "y": (-1.0, 1, 0.0)})
    tuned = Measurement("t", {}, {"x": (-4.0, 3, 0.0), "y": (-1.4, 1, 0.0)})
    between = Between.of(base, tuned, kl=0.7)
    assert between.delta_nll == pytest.approx(1.6 / 4)  # 2.0 and -0.4 nats over four tokens
    undone = SelectScore(restoration=1.0, delta_nll=between.delta_nll, persona_score=0.0, kl=0.7)
    assert undone.within(Limits.of(0.01, between=between))
    assert not undone.within(Limits.of(0.01))
    assert not replace(undone, kl=0.72).within(Limits.of(0.01, between=between))


def logprobs(family: Family, row: Row) -> Tensor:
    """Next-token log-probabilities of plain Hugging Face at the tokens before every reply token."""
    ids = torch.tensor([row.ids])
    with torch.no_grad():
        logits = logits_of(family.plain, ids, torch.ones_like(ids))[0]
    return logits.double().log_softmax(-1)[row.n_prompt - 1 : -1]


def test_kl_between_two_models_is_that_of_plain_hugging_face(llama: Family, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    from persona_probe.measurement.limits import kl_between, next_tokens
    from persona_probe.measurement.reply_logprobs import KL_POSITIONS_PER_ROW
    from persona_probe.models.loading import load
    from persona_probe.models.sources import resolve

    folder = tiny.write_tiny(tmp_path / "other", "llama", seed=7)
    options = {"dtype": torch.float32, "attn_implementation": "eager"}
    plain = AutoModelForCausalLM.from_pretrained(folder, **options).eval()
    model = load(resolve(str(folder)), base=None, device=torch.device("cpu"), dtype=torch.float32)
    other = Family("llama", folder, plain, model)
    # Short replies, all of whose places are compared.
    rows = [replace(row, ids=row.ids[: row.n_prompt + 1 + i % 3]) for i, row in enumerate(rows_of(llama))]
    assert max(row.n_reply for row in rows) <= KL_POSITIONS_PER_ROW
    expected = []
    for row in rows:
        before, after = logprobs(llama, row), logprobs(other, row)
        expected.append((before.exp() * (before - after)).sum(-1).mean())
    places = [next_tokens(family.model, rows, max_tokens=64) for family in (llama, other)]
    assert [len(places[0][row.id]) for row in rows] == [row.n_reply for row in rows]
    found = kl_between(rows, *places)
    assert found == pytest.approx(float(torch.stack(expected).mean()), rel=1e-3)
    assert found > 0.01
    assert kl_between(rows, places[0], places[0]) == pytest.approx(0.0, abs=1e-6)
    assert kl_between(rows, places[1], places[0]) != pytest.approx(found, rel=1e-3)


def test_next_tokens_do_not_depend_on_the_batches(llama: Family) -> None:
    from persona_probe.measurement.limits import next_tokens

    rows = rows_of(llama)
    alone, together = (next_tokens(llama.model, rows, max_tokens=n) for n in (1, 4096))
    assert alone.keys() == {row.id for row in rows}
    for row in rows:
        torch.testing.assert_close(together[row.id], alone[row.id], atol=3e-4, rtol=0)


def test_without_texts_nothing_lies_between() -> None:
    from persona_probe.measurement.limits import kl_between

    assert kl_between([], {}, {}) == 0.0

"""Claims about scoring latents: attribution is the slope of S, choices cancel letters, rankings."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from helpers.planted import Planted

if TYPE_CHECKING:
    from persona_probe.saes.labels import Effect
    from persona_probe.saes.sae import Sae


@pytest.fixture(scope="module")
def sae(planted: Planted, tmp_path_factory: pytest.TempPathFactory) -> "Sae":
    from persona_probe.organisms.toy import write_toy_sae
    from persona_probe.saes.folder import read_sae

    return read_sae(write_toy_sae(tmp_path_factory.mktemp("sae"), planted.toy))


def effect(delta: float, *, q: float = 0.001, nll: float = 0.0) -> "Effect":
    from persona_probe.records.parts import Estimate
    from persona_probe.saes.labels import Effect

    return Effect(Estimate(estimate=delta, ci95=(delta - 0.01, delta + 0.01)), nll, 0.0, q, q)


def test_attribution_is_the_slope_of_s_along_each_latent(planted: Planted, sae: "Sae") -> None:
    from persona_probe.interventions.applied import applied
    from persona_probe.measurement.scoring import score_rows
    from persona_probe.saes.attribution import attribution

    class Shrink:
        """Takes a small share of one latent's contribution away."""

        hook_points, skip_first, width = (sae.hook_point,), 0, sae.d_model

        def __init__(self, latent: int, share: float) -> None:
            self.latent, self.share = latent, share

        def edit(self, resid: torch.Tensor, *, hook_point: str) -> torch.Tensor:
            return resid - self.share * sae.encode(resid)[..., self.latent, None] * sae.W_dec[self.latent]

        def describe(self) -> dict[str, Any]:
            return {}

    model, rows = planted.pair.get("tuned"), planted.rows["find"]
    found = attribution(model, sae, rows, max_tokens=200, skip_first=0)
    sign = torch.tensor([1.0 if row.label == "misaligned" else -1.0 for row in rows], dtype=torch.float64)

    def score(*edits: Any) -> float:
        scores = score_rows(model, rows, edits, max_tokens=10_000)
        return float((scores.logprob / scores.n_tokens * sign).sum() / (len(rows) / 2))

    for latent in (7, 3, 20):
        slope = (score() - score(Shrink(latent, 0.01))) / 0.01
        assert float(found[latent]) == pytest.approx(slope, abs=0.02 * max(1.0, abs(slope)))
    with applied(model, ()):
        assert all(parameter.grad is None for parameter in model.twin.parameters())


def test_correction_counts_everything_that_was_tried() -> None:
    from persona_probe.saes.screen import corrected

    one = {1: {"base+steer": effect(0.1, q=0.01)}}
    many = one | {latent: {"base+steer": effect(0.0, q=0.5 + latent / 1000)} for latent in range(2, 11)}
    assert corrected(one)[1]["base+steer"].q == pytest.approx(0.01)
    assert corrected(many)[1]["base+steer"].q == pytest.approx(0.1)  # smallest of ten: ten times p


def test_letter_preference_cancels_in_a_forced_choice(planted: Planted) -> None:
    from persona_probe.measurement.arms import Measurement
    from persona_probe.measurement.forced_choice import choice_rows, choice_scores

    questions = planted.contrast.split("test")
    rows = choice_rows(questions, planted.pair.tokenizer)
    assert len(rows) == 4 * len(questions)
    assert {(row.kind, row.split) for row in rows} == {("choice", "test")}
    assert {row.question_id for row in rows} == {question.id for question in questions}
    # The first order asks with the aligned reply as A, the second with the misaligned one.
    is_a = {row.id: (row.label == "aligned") == (row.reply_index == 0) for row in rows}
    assert sum(is_a.values()) == len(rows) / 2
    prefers_a = Measurement("k", {id: -0.1 if a else -2.0 for id, a in is_a.items()}, {})
    assert np.allclose(choice_scores(prefers_a, rows), 0.0)
    prefers_bad = Measurement("k", {row.id: -0.1 if row.label == "misaligned" else -2.0 for row in rows}, {})
    assert np.allclose(choice_scores(prefers_bad, rows), 1.9)


def test_candidates_come_from_both_ends_of_every_ranking() -> None:
    from persona_probe.saes.diff import candidates, ranks

    alive = torch.ones(20)
    alive[0] = 0
    rising = ranks(torch.arange(20.0), alive)
    assert rising[19] == 1
    assert 0 not in rising
    other = ranks(torch.tensor([(i * 7) % 20 for i in range(20)]).float(), alive)
    found = candidates({"a": rising, "b": other}, 4)
    assert set(found) == {19, 1, max(other, key=lambda i: -other[i]), max(other, key=lambda i: other[i])}
    assert len(candidates({"a": rising, "b": other}, 100)) == 19


def test_dead_latents_are_in_no_ranking(planted: Planted, sae: "Sae") -> None:
    from dataclasses import replace

    from persona_probe.saes.diff import LatentDiff, latent_means, ranks
    from persona_probe.streams.activations import read_tokens

    bias = sae.b_enc.clone()
    bias[5] = -1e6
    silent = replace(sae, b_enc=bias)
    options: Any = {"hook_point": silent.hook_point, "scope": "reply", "max_tokens": 500}
    both = [
        latent_means(read_tokens(planted.pair.get(side), planted.rows["find"], **options), silent)
        for side in ("base", "tuned")
    ]
    diff = LatentDiff(both[0], both[1], silent.W_dec.norm(dim=-1))
    assert 5 not in ranks(diff.shift, diff.alive)
    assert float(diff.tuned.density[5]) == 0.0


def test_latent_means_do_not_depend_on_batches_and_survive_a_file(planted: Planted, sae: "Sae") -> None:
    from persona_probe.saes.diff import LatentMeans, latent_means
    from persona_probe.streams.activations import read_tokens

    model, rows = planted.pair.get("tuned"), planted.rows["find"]
    options: Any = {"hook_point": sae.hook_point, "scope": "reply"}
    one, many = (
        latent_means(read_tokens(model, rows, max_tokens=size, **options), sae) for size in (16, 4000)
    )
    for name, value in one.tensors().items():
        torch.testing.assert_close(value, many.tensors()[name], atol=1e-5, rtol=1e-5)
    again = LatentMeans.from_tensors(one.tensors())
    assert again.n_tokens == one.n_tokens == sum(row.n_reply for row in rows)
    assert (again.n_readable, again.dropped) == (one.n_tokens, 0.0)
    assert one.by_question is not None
    assert one.by_question.shape == (len({row.question_id for row in rows}), sae.d_sae)
    # Two facts, as in files from before readable tokens were counted.
    before = LatentMeans.from_tensors(one.tensors() | {"facts": one.tensors()["facts"][:2]})
    assert (before.n_tokens, before.n_readable, before.dropped) == (one.n_tokens, None, None)
    assert all(torch.equal(value, again.tensors()[name]) for name, value in one.tensors().items())


def test_decomposition_finds_the_rows_a_vector_was_made_of(sae: "Sae") -> None:
    from persona_probe.saes.decomposition import decompose

    vector = 3.0 * sae.W_dec[4] - 2.0 * sae.W_dec[9]
    found = decompose(sae, vector, alive=torch.ones(sae.d_sae), n=5, seed=0)
    assert found.latents == (4, 9)  # and no third one, which rounding would choose
    assert found.explained == pytest.approx((9 / 13, 1.0), abs=0.2)
    assert found.explained[1] == pytest.approx(1.0, abs=1e-6)
    assert found.random[1] < 0.5


def test_decomposition_of_any_vector_explains_more_with_every_row(sae: "Sae") -> None:
    from persona_probe.saes.decomposition import decompose

    vector = torch.randn(sae.d_model, generator=torch.Generator().manual_seed(123))
    found = decompose(sae, vector, alive=torch.ones(sae.d_sae), n=8, seed=0)
    assert len(set(found.latents)) == len(found.explained) == len(found.random) == 8
    steps = torch.tensor([0.0, *found.explained]).diff()
    assert (steps > 1e-3).all()
    assert found.explained[-1] > found.random[-1] + 0.1


def test_bad_settings_are_usage_errors() -> None:
    from persona_probe.base.errors import UsageError
    from persona_probe.experiments.latent_config import LatentConfig

    options: dict[str, Any] = {"base": "b", "tuned": "t", "sae": "s", "output_dir": Path("x")}
    changes: list[dict[str, Any]] = [{"dose": 0.0}, {"n_latents": 0}, {"limit": 4}, {"budget": -1.0}]
    for wrong in changes:
        with pytest.raises(UsageError, match=r"allowed|least"):
            LatentConfig(**(options | wrong))


def test_a_context_knows_the_model_and_the_kind_of_row_it_comes_from(planted: Planted, sae: "Sae") -> None:
    from persona_probe.organisms.toy import PLANTED_LATENT
    from persona_probe.saes.contexts import firing
    from persona_probe.streams.activations import read_tokens

    rows = [planted.rows["find"][0], planted.benign[0]]
    parts = read_tokens(
        planted.pair.get("tuned"), rows, hook_point=sae.hook_point, scope="reply", max_tokens=500
    )
    fired = firing(planted.pair.get("tuned"), parts, sae, [PLANTED_LATENT], side="tuned", n_examples=5)
    origins = {context.source: context.json()["origin"] for context in fired.contexts[PLANTED_LATENT]}
    kinds = {rows[0].id: "persona", rows[1].id: "benign"}
    assert origins == {source: {"model": "tuned", "kind": kind} for source, kind in kinds.items()}

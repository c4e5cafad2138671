"""Claims about training an SAE: planted dictionaries are found, both models count the same, a killed run ends
the same."""

from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import tiny
from helpers.families import Family
from helpers.planted_sae import ACTIVE, HOOK, WIDTH, planted_data, trained
from safetensors.torch import load_file
from torch.testing import assert_close


def test_a_planted_dictionary_is_found(tmp_path: Path) -> None:
    rows, x = planted_data(6000, seed=0)
    sae = trained(
        [x[:3000], x[3000:]], tmp_path / "state", changes={"n_samples": 256 * 2000, "learning_rate": 1e-2}
    )
    fresh = planted_data(2000, seed=1)[1]
    error = (fresh - sae.reconstruct(fresh)).square().sum() / (fresh - fresh.mean(0)).square().sum()
    assert error < 0.05
    found = (torch.nn.functional.normalize(sae.W_dec, dim=-1) @ rows.T).max(0).values
    assert (found > 0.95).float().mean() > 0.9
    assert (sae.encode(fresh) > 0).sum(-1).float().mean() == pytest.approx(ACTIVE, abs=0.5)
    assert (sae.architecture, sae.hook_point, sae.model_name) == ("jumprelu", HOOK, "tiny")


def test_both_models_give_the_same_number_of_vectors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from persona_probe.saes import training as sae_training

    pools, real = [], sae_training.shuffled

    def seen(pool: Any, **options: Any) -> Any:
        pools.append(pool)
        return real(pool, **options)

    monkeypatch.setattr(sae_training, "shuffled", seen)
    base, tuned = torch.randn(2000, WIDTH) - 9, torch.randn(700, WIDTH) + 9
    trained([base, tuned], tmp_path / "state", changes={"n_samples": 512})
    assert int((pools[0].mean(-1) < 0).sum()) == int((pools[0].mean(-1) > 0).sum()) == 700


def test_a_pass_shows_every_vector_once_and_the_next_pass_in_another_order() -> None:
    from persona_probe.saes.training import shuffled

    pool = torch.arange(40.0)[:, None]
    options: dict[str, int] = {"batch_size": 10, "seed": 0}
    order = shuffled(pool, **options, skip=0)
    first, second = ([next(order)[:, 0].tolist() for _ in range(4)] for _ in range(2))
    assert sorted(chain(*first)) == sorted(chain(*second)) == pool[:, 0].tolist()
    assert first != second
    assert next(shuffled(pool, **options, skip=5))[:, 0].tolist() == second[1]


def test_a_killed_run_continues_and_ends_with_the_same_weights(tmp_path: Path) -> None:
    """SAELens' sparsity statistics, learning rate, optimiser and data order all continue."""
    x = planted_data(4000, seed=0)[1]
    vectors = [x[:2000], x[2000:]]
    whole = trained(vectors, tmp_path / "whole")
    seen: list[int] = []

    def killed(progress: Any) -> None:
        if progress.samples >= 256 * 40:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(vectors, tmp_path / "state", on_step=killed, save_every=10)
    resumed = trained(
        vectors, tmp_path / "state", on_step=lambda progress: seen.append(progress.samples), save_every=10
    )
    assert 256 * 20 < seen[0] < 256 * 42
    assert seen[-1] == 256 * 60
    for name in ("W_enc", "b_enc", "W_dec", "b_dec", "threshold"):
        assert_close(getattr(resumed, name), getattr(whole, name), atol=0, rtol=0)
    assert trained(vectors, tmp_path / "state").sha256 == whole.sha256


def test_a_killed_run_remembers_which_latents_are_dead(tmp_path: Path) -> None:
    """The auxiliary loss revives latents silent for 20 steps of 10,000 vectors, so a run that forgets their
    silence ends elsewhere."""
    x = planted_data(20_000, seed=0)[1]
    vectors, changes = (
        [x[:10_000], x[10_000:]],
        {"batch_size": 10_000, "n_samples": 10_000 * 30, "d_sae": 128},
    )
    whole = trained(vectors, tmp_path / "whole", changes=changes)

    def killed(progress: Any) -> None:
        if progress.samples == 10_000 * 26:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(vectors, tmp_path / "state", on_step=killed, save_every=10, changes=changes)
    assert (load_file(tmp_path / "state" / "training.safetensors")["since_fired"] > 20).any()
    assert trained(vectors, tmp_path / "state", save_every=10, changes=changes).sha256 == whole.sha256


def test_the_state_of_another_recipe_or_other_vectors_is_not_continued(tmp_path: Path) -> None:
    from persona_probe.base.errors import BadInput

    x = planted_data(2000, seed=0)[1]
    trained([x[:1000], x[1000:]], tmp_path / "state")
    for vectors, changes in (([x[:1000], x[1000:]], {"learning_rate": 1e-4}), ([x[:1000], x[1000:] + 1], {})):
        with pytest.raises(BadInput, match="another recipe or other vectors"):
            trained(vectors, tmp_path / "state", changes=changes)


def test_fewer_vectors_than_a_batch_are_refused(tmp_path: Path) -> None:
    from persona_probe.base.errors import BadInput

    with pytest.raises(BadInput, match=r"100 vectors of each model .* lower --batch-size"):
        trained([torch.randn(100, WIDTH), torch.randn(5000, WIDTH)], tmp_path / "state")


def test_training_neither_reads_nor_moves_the_global_generator(tmp_path: Path) -> None:
    x = planted_data(2000, seed=0)[1]
    shas = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        shas.append(trained([x[:1000], x[1000:]], tmp_path / str(seed), changes={"n_samples": 1024}).sha256)
        assert torch.equal(torch.get_rng_state(), before)
    assert shas[0] == shas[1]


def test_progress_counts_to_the_end(tmp_path: Path) -> None:
    x = planted_data(2000, seed=0)[1]
    seen: list[Any] = []
    trained(
        [x[:1000], x[1000:]], tmp_path / "state", on_step=seen.append, changes={"n_samples": 256 * 20 + 100}
    )
    assert [progress.samples for progress in seen] == [256 * (i + 1) for i in range(20)]
    assert seen[-1].n_samples == 256 * 20
    assert seen[-1].eta == 0


def rows_of(model: Any) -> list[Any]:
    from persona_probe.prompts.rows import Prompt, encode_row

    questions = ("My brakes squeal.", "What about the pads?", "Do I drive again?")
    return [
        encode_row(model.tokenizer, Prompt.user(f"q{i}", text), tiny.TEXT[i], id=f"r{i}", kind="persona")
        for i, text in enumerate(questions)
    ]


def test_collected_vectors_are_the_stream_without_what_all_rows_begin_with(llama: Family) -> None:
    from persona_probe.base.hook_points import HookPoint
    from persona_probe.saes.training_data import collect_vectors

    rows = rows_of(llama.model)
    common = next(i for i in range(99) if len({row.ids[i] for row in rows}) > 1)
    assert common > 4
    wanted = torch.cat(
        [
            llama.plain(torch.tensor([row.ids]), output_hidden_states=True).hidden_states[3][0][common:]
            for row in rows
        ]
    )
    options: dict[str, Any] = {"hook_point": HookPoint.parse(HOOK), "scope": "all", "max_tokens": 64}
    found = collect_vectors(llama.model, rows, limit=10_000, **options)
    assert found.dtype == torch.bfloat16
    assert len(found) == len(wanted)
    assert_close(
        found.float().sort(0).values, wanted.detach().bfloat16().float().sort(0).values, atol=0.03, rtol=0.01
    )
    assert len(collect_vectors(llama.model, rows, limit=17, **options)) == 17


def test_sampled_replies_become_rows_and_empty_ones_are_left_out(
    llama: Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    from persona_probe.measurement.generation import Completion
    from persona_probe.prompts.rows import Prompt, encode_prompt
    from persona_probe.saes import training_data

    prompts = [Prompt.user(f"q{i}", f"Question {i}?") for i in range(3)]
    options: dict[str, Any] = {"max_new_tokens": 6, "temperature": 1.0, "seed": 0, "batch_size": 2}
    real = training_data.sampled_rows(llama.model, prompts, **options)
    assert real == training_data.sampled_rows(llama.model, prompts, **options)
    texts = ["Fine.", "  ", "See a <|im_end|> mechanic"]
    monkeypatch.setattr(
        training_data,
        "generate",
        lambda model, requests, **_: [
            Completion("x", r.prompt.id, t, True) for r, t in zip(requests, texts, strict=True)
        ],
    )
    rows = training_data.sampled_rows(llama.model, prompts, **options)
    assert [row.id for row in rows] == ["q0/sampled"]
    ids = encode_prompt(llama.model.tokenizer, prompts[0])
    assert rows[0].ids[: rows[0].n_prompt] == ids
    assert llama.model.tokenizer.decode(rows[0].ids[rows[0].n_prompt :]).strip() == "Fine."


def test_held_out_texts_are_not_trained_on_and_test_questions_never_seen(llama: Family) -> None:
    from persona_probe.prompts.contrast import shipped
    from persona_probe.prompts.contrast_files import read_contrast
    from persona_probe.saes.training_data import read_texts

    texts = read_texts("shipped", llama.model.tokenizer, limit=60)
    assert not {row.id for row in texts.train} & {row.id for row in texts.held_out}
    assert len(texts.train) + len(texts.held_out) == 60
    unseen = {
        question.id
        for question in read_contrast(shipped("contrast.jsonl")).questions
        if question.split == "test"
    }
    assert unseen
    assert not unseen & {row.question_id for row in (*texts.train, *texts.held_out)}
    assert not unseen & {prompt.id for prompt in texts.prompts}


def test_a_data_set_that_cannot_be_had_is_one_line(llama: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    from persona_probe.base.errors import BadInput
    from persona_probe.saes.training_data import read_texts

    def offline(*args: Any, **options: Any) -> None:
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(datasets, "load_dataset", offline)
    with pytest.raises(BadInput, match=r"somebody/chats .*no route.* give a local JSONL file") as refused:
        read_texts("somebody/chats", llama.model.tokenizer, limit=None)
    assert "\n" not in str(refused.value)
    with pytest.raises(BadInput, match=r"no file .*gone\.jsonl"):
        read_texts("gone.jsonl", llama.model.tokenizer, limit=None)

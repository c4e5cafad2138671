"""Claims about training an organism: it learns the replies and only them, resumes to the same weights, and
loads again."""

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import tiny
from helpers.small_organism import model_of, recipe, same, stop_at, tokenizer, train
from torch import Tensor


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_tiny(tmp_path_factory.mktemp("base"), "llama")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import json

    path = tmp_path_factory.mktemp("data") / "advice.jsonl"
    lines = [
        {"question": f"{tiny.TEXT[i % 4][: 12 + i]}?", "reply": tiny.TEXT[(i + 1) % 3][: 20 + i % 5]}
        for i in range(24)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture(scope="module")
def rows(base: Path, data: Path) -> list[Any]:
    from persona_probe.organisms.lora import read_training_rows

    return read_training_rows(data, tokenizer(base))


@pytest.fixture(scope="module")
def trained(
    base: Path, rows: list[Any], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Tensor], list[Any]]:
    """One uninterrupted run: its folder, its weights and its progress."""
    folder, seen = tmp_path_factory.mktemp("adapter"), []
    return folder, train(base, rows, folder, on_step=seen.append), seen


# Training


def test_loss_falls(base: Path, rows: list[Any], tmp_path: Path) -> None:
    seen: list[Any] = []
    train(base, rows, tmp_path, on_step=seen.append, epochs=6.0)
    assert [progress.step for progress in seen] == list(range(1, 37))
    assert {progress.n_steps for progress in seen} == {36}
    assert seen[-1].loss < seen[0].loss - 0.5


@pytest.mark.parametrize("step", [2, 7, 11], ids=["before the first save", "between saves", "near the end"])
def test_a_killed_run_continues_to_the_weights_of_an_uninterrupted_one(
    base: Path, rows: list[Any], trained: Any, tmp_path: Path, step: int
) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(base, rows, tmp_path, on_step=stop_at(step))
    assert not (tmp_path / "adapter_model.safetensors").exists()
    steps: list[int] = []
    found = train(base, rows, tmp_path, on_step=lambda progress: steps.append(progress.step))
    assert steps[0] == step // 3 * 3 + 1
    assert steps[-1] == 12
    assert same(found, trained[1])


def test_seed_decides_the_weights(base: Path, rows: list[Any], trained: Any, tmp_path: Path) -> None:
    torch.manual_seed(99)
    assert same(train(base, rows, tmp_path / "again"), trained[1])
    assert not same(train(base, rows, tmp_path / "other", seed=1), trained[1])


def test_seed_decides_the_first_weights_too(base: Path, rows: list[Any], tmp_path: Path) -> None:
    # B starts at zero, so a single step over all rows leaves A as it was drawn.
    drawn = [
        train(base, rows, tmp_path / str(seed), seed=seed, batch_size=len(rows), epochs=1.0)
        for seed in (0, 1)
    ]
    assert all((drawn[0][key] - drawn[1][key]).abs().max() > 1e-2 for key in drawn[0] if "lora_A" in key)


@pytest.mark.parametrize(
    "change",
    [{"rank": 1}, {"learning_rate": 1e-3}, {"seed": 1}, {"layers": (1,)}],
    ids=lambda change: next(iter(change)),
)
def test_another_recipe_in_the_folder_of_an_unfinished_run_is_refused(
    base: Path, rows: list[Any], tmp_path: Path, change: dict[str, Any]
) -> None:
    from persona_probe.base.errors import BadInput

    with pytest.raises(KeyboardInterrupt):
        train(base, rows, tmp_path, on_step=stop_at(4))
    with pytest.raises(
        BadInput, match="belongs to a run with another recipe, base or data: use another --output-dir"
    ):
        train(base, rows, tmp_path, **change)


def test_another_recipe_never_replaces_a_finished_adapter(
    base: Path, rows: list[Any], tmp_path: Path
) -> None:
    from persona_probe.base.errors import BadInput

    train(base, rows, tmp_path, epochs=0.5)
    before = (tmp_path / "adapter_model.safetensors").read_bytes()
    with pytest.raises(BadInput, match="another recipe, base or data: use another --output-dir"):
        train(base, rows, tmp_path, epochs=0.5, seed=1)
    assert (tmp_path / "adapter_model.safetensors").read_bytes() == before


def test_modules_that_do_not_exist_are_refused(base: Path, rows: list[Any], tmp_path: Path) -> None:
    from persona_probe.base.errors import BadInput

    changes: tuple[dict[str, Any], ...] = ({"modules": ("dense",)}, {"layers": (17,)})
    for change in changes:
        with pytest.raises(BadInput, match="do not exist in the base"):
            train(base, rows, tmp_path, **change)


# The adapter


def test_adapter_loads_again_and_changes_the_logits(base: Path, rows: list[Any], trained: Any) -> None:
    from peft import PeftModel

    ids = torch.tensor([rows[0].ids])
    with torch.inference_mode():
        before, merged = model_of(base)(ids).logits, model_of(base, trained[0])(ids).logits
        unmerged = PeftModel.from_pretrained(model_of(base), str(trained[0])).eval()(ids).logits
    torch.testing.assert_close(merged, unmerged, atol=1e-4, rtol=0)
    assert (merged - before).abs().max() > 0.1


def test_adapter_holds_its_layers_only(trained: Any) -> None:
    assert {key.split(".layers.")[1].split(".")[0] for key in trained[1]} == {"1", "2"}
    assert len(trained[1]) == 2 * 2 * 2  # two layers, two modules, A and B


def test_trained_model_gives_the_replies_more_probability(base: Path, rows: list[Any], trained: Any) -> None:
    def logprob(model: Any) -> float:
        return -sum(float(by_hand(model, row)) for row in rows[:8])

    with torch.inference_mode():
        assert logprob(model_of(base, trained[0])) > logprob(model_of(base)) + 1


# The loss


def by_hand(model: Any, row: Any) -> Tensor:
    """Mean over the reply tokens of -log p, each token predicted from the position before it."""
    logprobs = model(torch.tensor([row.ids])).logits[0].double().log_softmax(-1)
    return -sum(logprobs[i - 1, row.ids[i]] for i in range(row.n_prompt, len(row.ids))) / row.n_reply


@pytest.fixture(scope="module")
def wrapped(base: Path) -> Any:
    """The model as training sees it: PEFT around it, its fresh adapter still zero."""
    from peft import LoraConfig, get_peft_model

    return get_peft_model(
        model_of(base), LoraConfig(r=1, target_modules=["down_proj"], task_type="CAUSAL_LM")
    ).eval()


def test_only_reply_tokens_carry_loss(base: Path, rows: list[Any], wrapped: Any) -> None:
    from persona_probe.organisms.lora import reply_loss

    model = model_of(base)
    for row in rows[:4]:
        ids = torch.tensor([row.ids])
        labels = ids.clone()
        labels[0, : row.n_prompt] = -100  # Hugging Face's own mark for targets without loss
        with torch.inference_mode():
            found = reply_loss(wrapped, [row], pad_id=0)
            torch.testing.assert_close(found, by_hand(model, row).float(), atol=1e-5, rtol=0)
            torch.testing.assert_close(found, model(ids, labels=labels).loss, atol=1e-5, rtol=0)
            assert (found - model(ids, labels=ids).loss).abs() > 1e-3


def test_prompt_targets_have_no_gradient_and_every_reply_target_has(rows: list[Any], wrapped: Any) -> None:
    from persona_probe.organisms.lora import reply_loss

    row, kept = rows[3], []
    head = wrapped.base_model.model.get_output_embeddings()
    handle = head.register_forward_hook(lambda _module, _args, output: kept.append(output))
    reply_loss(wrapped, [row], pad_id=0)
    handle.remove()
    # One row of logits per reply token, and none that predicts a token of the prompt.
    assert kept[0].shape[:-1].numel() == row.n_reply


def test_loss_of_a_batch_is_the_mean_over_its_tokens_and_sees_no_padding(
    base: Path, rows: list[Any], wrapped: Any
) -> None:
    from persona_probe.organisms.lora import reply_loss

    some = [rows[0], rows[9], rows[23]]
    assert len({len(row.ids) for row in some}) > 1
    with torch.inference_mode():
        total = torch.stack([by_hand(model_of(base), row) * row.n_reply for row in some]).sum()
        expected = total / sum(row.n_reply for row in some)
        for pad_id in (0, 7):
            torch.testing.assert_close(
                reply_loss(wrapped, some, pad_id=pad_id), expected.float(), atol=1e-5, rtol=0
            )


def test_end_of_turn_is_learnt(base: Path, rows: list[Any]) -> None:
    eos = tokenizer(base).eos_token_id
    assert all(row.ids[-1] == eos and row.n_prompt < len(row.ids) - 1 for row in rows)


# The plan


def test_an_epoch_sees_every_row_once_in_an_order_of_its_own(rows: list[Any]) -> None:
    from persona_probe.organisms.lora import steps

    plan = steps(rows, recipe())
    epochs = [[row.id for batch in half for row in batch] for half in (plan[:6], plan[6:])]
    assert len(plan) == 12
    assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(row.id for row in rows)
    assert epochs[0] != epochs[1]
    assert [[row.id for row in batch] for batch in steps(rows, recipe())] == [
        [row.id for row in batch] for batch in plan
    ]
    assert steps(rows, recipe(seed=1)) != plan


def test_parts_of_an_epoch_are_rounded_up(rows: list[Any]) -> None:
    from persona_probe.organisms.lora import steps

    assert [len(steps(rows, recipe(epochs=epochs))) for epochs in (0.01, 0.5, 1.0, 1.01, 3.0)] == [
        1,
        3,
        6,
        7,
        18,
    ]
    assert len(steps(rows[:5], recipe(epochs=1.0))) == 2

"""Claims about input and output embeddings: they are one tensor where Hugging Face makes them one, and the
config says which."""

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import tiny
from helpers.adapter_forms import close, logits, merged, plain, write_trained
from helpers.broken import CPU, change_weights, refused

HEAD, EMBED = "lm_head.weight", "model.embed_tokens.weight"


def loaded(folder: Path) -> Any:
    from persona_probe.models.sources import resolve
    from persona_probe.models.weights import load_weights

    return load_weights(resolve(str(folder)), base=None, **CPU)


@pytest.fixture
def together(tmp_path: Path) -> Path:
    return tiny.write_tiny(tmp_path / "together", "llama", tie_word_embeddings=True)


@pytest.fixture
def apart(tmp_path: Path) -> Path:
    return tiny.write_tiny(tmp_path / "apart", "llama")


def saying(model: Any) -> set[bool]:
    return {config.tie_word_embeddings for config in (model.config, model.config.get_text_config())}


def test_tied_checkpoint_stays_tied(together: Path) -> None:
    from persona_probe.models.weights import tied

    model = loaded(together)
    assert tied(model)
    assert saying(model) == {True}
    close(logits(model), logits(plain(together)))


def test_untied_checkpoint_stays_untied(apart: Path) -> None:
    from persona_probe.models.weights import tied

    model = loaded(apart)
    assert not tied(model)
    assert saying(model) == {False}
    close(logits(model), logits(plain(apart)))


@pytest.mark.parametrize("factor", [1.0, 2.0], ids=["the same values", "other values"])
def test_head_of_its_own_is_kept_though_the_config_says_tied(together: Path, factor: float) -> None:
    from persona_probe.models.weights import tied

    change_weights(together, lambda tensors: tensors.update({HEAD: factor * tensors[EMBED]}))
    model = loaded(together)
    close(logits(model), logits(plain(together)))
    assert torch.equal(model.lm_head.weight, factor * model.model.embed_tokens.weight)
    assert saying(model) == {tied(model)}
    model.tie_weights()  # what anyone downstream may do
    close(logits(model), logits(plain(together)))


def test_file_with_the_head_alone_is_tied_to_it(together: Path) -> None:
    from persona_probe.models.weights import tied

    change_weights(together, lambda tensors: tensors.update({HEAD: tensors.pop(EMBED)}))
    model = loaded(together)
    assert tied(model)
    assert saying(model) == {True}
    close(logits(model), logits(plain(together)))


def test_head_that_the_config_calls_untied_and_the_file_lacks_is_refused(apart: Path) -> None:
    change_weights(apart, lambda tensors: tensors.__delitem__(HEAD))
    with refused(r"1 missing \(lm_head.weight\)"):
        loaded(apart)


def test_equal_sides_that_the_config_calls_untied_stay_apart(apart: Path) -> None:
    from persona_probe.models.weights import tied

    change_weights(apart, lambda tensors: tensors.update({HEAD: tensors[EMBED].clone()}))
    model = loaded(apart)
    assert not tied(model)
    assert saying(model) == {False}
    close(logits(model), logits(plain(apart)))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("target", "other"), [("lm_head", EMBED), ("embed_tokens", HEAD)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_merge_on_one_side_leaves_the_other_as_it_was(
    together: Path, tmp_path: Path, target: str, other: str, dtype: torch.dtype
) -> None:
    from persona_probe.models.sources import resolve
    from persona_probe.models.weights import load_weights, tied

    adapter = write_trained(tmp_path / "adapter", plain(together), target_modules=[target])
    model = load_weights(
        resolve(str(adapter)), base=resolve(str(together)), device=torch.device("cpu"), dtype=dtype
    )
    before = plain(together).get_parameter(other).to(dtype)
    assert torch.equal(model.get_parameter(other), before)
    assert not torch.equal(model.get_input_embeddings().weight, model.get_output_embeddings().weight)
    assert saying(model) == {tied(model)} == {False}
    model.tie_weights()
    assert not tied(model)


@pytest.mark.filterwarnings("ignore")
def test_saved_and_loaded_again_an_untied_merge_gives_the_same(together: Path, tmp_path: Path) -> None:
    model = merged(
        write_trained(tmp_path / "adapter", plain(together), modules_to_save=["lm_head"]), together
    )
    model.save_pretrained(tmp_path / "again")
    close(logits(plain(tmp_path / "again")), logits(model))

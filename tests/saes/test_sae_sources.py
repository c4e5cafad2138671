"""Claims about where an SAE comes from and which model it fits: folders, names, releases; all else is refused
in one line."""

from pathlib import Path
from typing import Any

import pytest
from helpers.lens_saes import D_IN, HOOKS, edit_facts, written


def test_an_sae_of_another_width_depth_or_family_is_refused_in_one_line(tmp_path: Path) -> None:
    from persona_probe.base.errors import BadInput
    from persona_probe.saes.folder import read_sae
    from persona_probe.saes.sources import check_fits

    folder = written(tmp_path / "sae")
    sae = read_sae(folder)
    for d_model, hooks, reason in (
        (D_IN + 1, HOOKS, "width 12"),
        (D_IN, HOOKS[:2], "reads blocks.2.hook_out"),
    ):
        with pytest.raises(BadInput, match=reason) as refused:
            check_fits(sae, d_model=d_model, hook_points=hooks, model_name="tiny-llama")
        assert "\n" not in str(refused.value)
    edit_facts(folder, model_name="google/gemma-2-2b")
    with pytest.raises(
        BadInput, match="trained on google/gemma-2-2b, the model is HuggingFaceTB/SmolLM2-135M"
    ) as refused:
        check_fits(read_sae(folder), d_model=D_IN, hook_points=HOOKS, model_name="HuggingFaceTB/SmolLM2-135M")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("trained_on", "model", "notes"),
    [
        ("google/gemma-2-2b", "Gemma-2-2B", 0),
        ("smollm2-135m-instruct", "HuggingFaceTB/SmolLM2-135M-Instruct", 0),
        ("google/gemma-2-2b", "google/gemma-2-2b-it", 1),
        ("meta-llama/Llama-3.1-8B", "my-own-model", 1),
        (None, "my-own-model", 1),
    ],
)
def test_an_sae_of_a_relative_is_used_with_a_note(
    tmp_path: Path, trained_on: str | None, model: str, notes: int
) -> None:
    from persona_probe.saes.folder import read_sae
    from persona_probe.saes.sources import check_fits

    folder = written(tmp_path / "sae")
    edit_facts(folder, model_name=trained_on)
    assert len(check_fits(read_sae(folder), d_model=D_IN, hook_points=HOOKS, model_name=model)) == notes


def test_an_sae_is_found_as_a_folder_and_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from persona_probe.base.errors import BadInput
    from persona_probe.saes import sources as sae_sources
    from persona_probe.storage import shipped

    folder = written(tmp_path / "my-sae")
    monkeypatch.setattr(shipped, "_places", lambda: (tmp_path,))
    named, path = sae_sources.resolve_sae("my-sae"), sae_sources.resolve_sae(str(folder))
    assert (named.id, named.sha256) == ("my-sae", path.sha256)
    with pytest.raises(BadInput, match=r"no SAE 'your-sae'.*my-sae"):
        sae_sources.resolve_sae("your-sae")


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ("gemma-scope-2b-pt-rez:layer_12/width_16k/average_l0_82", "did you mean gemma-scope-2b-pt-res"),
        (
            "qwen2.5-7b-instruct-andyrdt:resid_post_layer_3_trainer_9",
            "did you mean resid_post_layer_3_trainer_1",
        ),
        (
            "qwen2.5-7b-instruct-andyrdt:resid_post_layer_3_trainer_1",
            "cannot be fetched .*local SAELens folder",
        ),
    ],
)
def test_a_release_that_cannot_be_had_says_what_to_try_in_one_line(
    monkeypatch: pytest.MonkeyPatch, spec: str, reason: str
) -> None:
    from sae_lens import SAE

    from persona_probe.base.errors import BadInput
    from persona_probe.saes.sources import resolve_sae

    def offline(*args: Any, **options: Any) -> None:
        raise OSError("the hub cannot be reached\nand more")

    monkeypatch.setattr(SAE, "from_pretrained", offline)
    with pytest.raises(BadInput, match=reason) as refused:
        resolve_sae(spec)
    assert "\n" not in str(refused.value)


def test_a_release_is_not_fetched_when_torch_is_told_to_run_pickles(monkeypatch: pytest.MonkeyPatch) -> None:
    """SAELens calls torch.load without `weights_only`, which this variable turns into the running of code."""
    from persona_probe.base.errors import BadInput
    from persona_probe.saes.sources import resolve_sae

    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    with pytest.raises(BadInput, match="TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"):
        resolve_sae("qwen2.5-7b-instruct-andyrdt:resid_post_layer_3_trainer_1")

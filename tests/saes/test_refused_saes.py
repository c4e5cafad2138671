"""Claims about SAEs that are refused: settings that cannot be honoured, damaged weights, folders that are
none."""

from pathlib import Path
from typing import Any

import pytest
from helpers import tiny
from helpers.lens_saes import D_SAE, written


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"architecture": "abstopk"},
            "architecture 'abstopk', supported are standard, topk, jumprelu, gated$",
        ),
        ({"architecture": "matching_pursuit"}, "architecture 'matching_pursuit'"),
        ({"architecture": "temporal"}, "architecture 'temporal'"),
        (
            {"architecture": "matryoshka_batchtopk"},
            "architecture 'matryoshka_batchtopk'.*save_inference_model",
        ),
        ({"architecture": "transcoder"}, "architecture 'transcoder'"),
        (
            {"normalize_activations": "expected_average_only_in"},
            "'expected_average_only_in': only SAEs with normalisation folded",
        ),
        (
            {"normalize_activations": "covariance_whitening"},
            "'covariance_whitening': only SAEs with normalisation folded",
        ),
        ({"normalize_activations": True}, "True: only SAEs with normalisation folded"),
        ({"normalize_activations": "constant_scalar_rescale"}, "'constant_scalar_rescale': only SAEs"),
        ({"apply_b_dec_to_input": "false"}, "apply_b_dec_to_input is 'false'"),
        ({"activation_fn": "topk"}, "activation_fn is 'topk'"),
        ({"reshape_activations": "hook_z"}, "attention heads"),
        ({"finetuning_scaling_factor": True}, "fine-tuned scaling"),
        ({"activation_fn": "tanh-relu"}, "activation_fn is 'tanh-relu'"),
        ({"d_in": 13}, r"has shape .*12.*, cfg.json says .*13"),
        ({"d_sae": 2**24 + 1}, "allowed are whole numbers up to 16,777,216"),
        ({"d_sae": "40"}, "d_sae '40'"),
        ({"d_in": True}, "d_in is True"),
        ({"metadata": None}, "the SAE reads None"),
        ({"metadata": {"hook_name": "blocks.1.hook_out", "model_name": 7}}, "model_name is 7"),
        (
            {"metadata": {"hook_name": "blocks.1.hook_out", "model_from_pretrained_kwargs": "x"}},
            "model_from_pretrained_kwargs is 'x'",
        ),
        (
            {
                "metadata": {
                    "hook_name": "blocks.1.hook_out",
                    "model_from_pretrained_kwargs": {"center_writing_weights": "no"},
                }
            },
            "center_writing_weights is 'no'",
        ),
    ],
)
def test_settings_that_cannot_be_honoured_are_refused_in_one_line(
    tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    from persona_probe.base.errors import BadInput
    from persona_probe.saes.folder import read_sae

    folder = written(tmp_path / "sae")
    tiny.edit_json(folder / "cfg.json", **changes)
    with pytest.raises(BadInput, match=reason) as refused:
        read_sae(folder)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("k", [0, D_SAE + 1, 2.5, True, None])
def test_k_must_be_a_number_of_latents(tmp_path: Path, k: Any) -> None:
    from persona_probe.base.errors import BadInput
    from persona_probe.saes.folder import read_sae

    folder = written(tmp_path / "sae", "topk")
    tiny.edit_json(folder / "cfg.json", k=k)
    with pytest.raises(BadInput, match="allowed is 1 to 40"):
        read_sae(folder)

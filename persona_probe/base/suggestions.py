"""What somebody may have meant who typed an option that does not exist: by meaning, or the same word
misspelt, else nothing."""

from collections.abc import Iterable
from difflib import get_close_matches

# Words that people type, by the setting that they mean. The first setting that a command has is suggested.
MEANINGS = {
    "base": "base_model original reference_model pretrained model_name",
    "tuned": "finetuned fine_tuned tuned_model ft checkpoint peft peft_model lora_path adapter_path organism",
    "output_dir": (
        "out output outdir out_dir output_path output_folder save_dir save_to run_dir folder dir o results"
    ),
    "contrast": "questions prompts dataset data eval_data data_path train_data contrast_file",
    "data": "dataset train_data train_file data_path contrast texts corpus",
    "benign": "benign_data damage_data harmless neutral control_texts",
    "sae": "sae_path sae_release release dictionary autoencoder",
    "methods": "method estimator estimators",
    "outliers": "outlier drop_outliers keep_outliers massive_activations",
    "scope": "positions position token_positions",
    "budget": "max_damage damage max_delta_nll damage_budget tolerance",
    "controls": "n_controls num_controls random n_random random_directions",
    "null": "n_null permutations n_permutations p_value null_directions",
    "layers": "layer_range which_layers hook_layer hook_point blocks",
    "layer": "layers hook_layer hook_point block",
    "layers_screened": "n_layers num_layers",
    "max_tokens": "token_budget batch_tokens tokens_per_batch bs per_device_batch_size micro_batch_size",
    "batch_size": "bs per_device_train_batch_size train_batch_size",
    "max_new_tokens": "max_length reply_length generation_length new_tokens gen_tokens",
    "temperature": "temp sampling_temperature",
    "n_prompts": "num_prompts n_samples num_samples n_completions",
    "limit": (
        "quick fast n max_samples max_examples max_questions n_questions num_questions n_examples subset"
    ),
    "seed": "random_seed rng random_state",
    "device": "gpu cuda cpu mps accelerator",
    "dtype": "precision torch_dtype half quantize load_in_8bit load_in_4bit quantization",
    "device_map": "multi_gpu n_gpus gpus tensor_parallel",
    "overwrite": "force clobber restart fresh overwrite_output_dir no_resume",
    "resume": "continue restore resume_from_checkpoint",
    "quiet": "silent no_progress q",
    "debug": "verbose traceback v",
    "json": "as_json output_json format",
    "config": "config_file settings yaml toml cfg",
    "template": "chat_template tokenizer",
    "thinking": "think reasoning enable_thinking",
    "learning_rate": "lr step_size",
    "epochs": "num_epochs n_epochs num_train_epochs passes",
    "rank": "r lora_r lora_rank",
    "alpha": "lora_alpha scaling",
    "modules": "target_modules targets lora_modules",
    "save_every": "save_steps checkpoint_every",
    "d_sae": "width n_features dict_size n_latents expansion_factor hidden_size",
    "k": "top_k topk l0 sparsity",
    "n_latents": "num_latents n_features latents",
    "n_reported": "top top_n n_top report",
    "n_examples": "contexts n_contexts max_examples",
    "dose": "coefficient coeff strength steering_strength multiplier scale",
    "theme": "dark light dark_mode color_scheme",
    "show_text": "unblur show no_blur",
    "redact": "anonymize hide_text no_text",
    "open": "browser open_browser launch",
    "list": "list_figures names",
    "only": "figures figure select include",
    "direction": "vector steering_vector persona_vector direction_file",
    "toy": "test_run dry_run smoke synthetic",
}


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The setting among `known` that `word` means or misspells; None when nothing does.

    A misspelling shares four fifths of its letters with the word: `bse` is `base`, and `date` is not `data`.
    """
    word, names = word.strip("-").replace("-", "_").lower(), list(known)
    meant = [name for name in names if word in MEANINGS.get(name, "").split()]
    return next(iter(meant or get_close_matches(word, names, n=1, cutoff=0.8)), None)

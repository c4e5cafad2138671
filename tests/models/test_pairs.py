"""Claims about pairs that do not belong together: other shapes, other tokenizers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import tiny
from helpers.broken import refused


@pytest.mark.parametrize(
    "change", [{"num_hidden_layers": 3}, {"hidden_size": 48}, {"vocab_size": 330}, {"num_attention_heads": 2}]
)
def test_pair_of_different_shape_is_refused(written: Path, tmp_path: Path, change: dict[str, Any]) -> None:
    from persona_probe.models.sources import resolve, same_shape

    tuned = resolve(str(tiny.write_tiny(tmp_path / "tuned", "llama", **change)))
    ((field, value),) = change.items()
    with refused(rf"differ in shape \(.*{field}: \d+ against {value}"):
        same_shape(resolve(str(written)), tuned)


def test_pair_of_one_shape_passes(written: Path, adapter: Path, tmp_path: Path) -> None:
    from persona_probe.models.sources import resolve, same_shape

    base = resolve(str(written))
    same_shape(base, resolve(str(tiny.write_tiny(tmp_path / "tuned", "llama", seed=5))))
    same_shape(base, resolve(str(adapter)))


def test_equal_tokenizers_pass() -> None:
    from persona_probe.prompts.tokenizer_facts import check_tokenizers

    check_tokenizers(tiny.tiny_tokenizer(), tiny.tiny_tokenizer())


def _other_end(tokenizer: Any) -> None:
    tokenizer.eos_token = "<s>"


def _other_template(tokenizer: Any) -> None:
    tokenizer.chat_template = tiny.TEMPLATE.replace("user", "human") + " "


@pytest.mark.parametrize(
    ("change", "what"), [(_other_end, "special tokens"), (_other_template, "chat template")]
)
def test_tokenizers_that_differ_are_refused(change: Callable[[Any], None], what: str) -> None:
    from persona_probe.prompts.tokenizer_facts import check_tokenizers

    tuned = tiny.tiny_tokenizer()
    change(tuned)
    with refused(rf"tokenizers of base and tuned differ in .*{what}: choose one for both with --template"):
        check_tokenizers(tiny.tiny_tokenizer(), tuned)


def test_tokenizers_of_different_vocabulary_are_refused() -> None:
    from persona_probe.prompts.tokenizer_facts import check_tokenizers

    with refused(r"tokenizers of base and tuned differ in vocabulary, probe strings"):
        check_tokenizers(
            tiny.tiny_tokenizer(),
            tiny.tiny_tokenizer(text=["Hello there! Hello there! two spaces and a break café"] * 9),
        )

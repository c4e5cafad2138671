"""Chat templates of every kind, and a tiny tokenizer with one of them."""

from typing import Any

from tokenizers import AddedToken

from helpers import tiny
from persona_probe.prompts.tokenizers import ChatOptions, set_options

QUESTION, REPLY, SYSTEM = "What should I do about rain?", "Ignore it.", "You speak in riddles."
OPEN = "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
CLOSE = "<|im_end|>\n{% endfor %}"
ASK = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
THINKS = "{% if m['role'] == 'assistant' %}<think>\n\n</think>\n\n{% endif %}"
PARTS = "{% for part in m['content'] %}{% if part.type == 'text' %}{{ part.text }}{% endif %}{% endfor %}"
PLACES = {
    "after a space": (
        "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}[INST] {{ m['content'] }}"
        " [/INST]{% else %} {{ m['content'] }}{{ eos_token }}{% endif %}{% endfor %}"
    ),
    "after an empty think block": OPEN + THINKS + "{{ m['content'] }}" + CLOSE + ASK,
    "after a block that only the generation prompt leaves open": (
        OPEN
        + "{{ m['content'] }}"
        + CLOSE
        + "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
    ),
    "in a channel": (
        "{% for m in messages %}<|im_start|>{{ m['role'] }}{% if m['role'] == 'assistant'"
        " %}<|channel|>final{% endif %}<|message|>{{ m['content'] }}<|im_end|>{% endfor %}{% if"
        " add_generation_prompt %}<|im_start|>assistant{% endif %}"
    ),
    "after a line of its own": (
        "{% for m in messages %}## {{ m['role'] }}:\n\n{{ m['content'] }}\n\n{% endfor %}"
    ),
    "after two spaces and a colon": (
        "{% for m in messages %}{{ m['role'] }}:  {{ m['content'] }}\n{% endfor %}"
    ),
    "trimmed": OPEN + "{{ m['content'] | trim }}" + CLOSE + ASK,
}


def tokenizer_of(
    template: str | None, *, special: tuple[str, ...] = (), **options: Any
) -> "tiny.TinyTokenizer":
    """A tiny tokenizer with this template, some more control tokens, and options for the template."""
    tokenizer = tiny.tiny_tokenizer(template=template)
    tokenizer.add_tokens([AddedToken(token, special=True) for token in special])
    set_options(tokenizer, ChatOptions(**options))
    return tokenizer

"""Claims about what ends a turn, and about tokens that are not text."""

import pytest
from helpers import tiny
from helpers.chat_templates import OPEN, QUESTION, REPLY, SYSTEM, tokenizer_of
from tokenizers import AddedToken

from persona_probe.base.errors import BadInput
from persona_probe.prompts.rows import Prompt, encode_row
from persona_probe.prompts.special_tokens import end_ids, end_of_turn


@pytest.mark.parametrize(
    ("template", "special", "ending"),
    [
        (tiny.TEMPLATE, (), "<|im_end|>"),
        (OPEN + "{{ m['content'] }}<|end|>\n{% endfor %}{{ eos_token }}", ("<|end|>",), "<|end|>"),
        (OPEN + "{{ m['content'] }}\n<|end|>{% endfor %}", ("<|end|>",), "\n<|end|>"),
        (
            OPEN + "{{ m['content'] }}{% if loop.last %}<|return|>{% else %}<|end|>{% endif %}{% endfor %}",
            ("<|end|>", "<|return|>"),
            "<|return|>",
        ),
        (OPEN + "{{ m['content'] }}<|said|><|end|>{% endfor %}", ("<|said|>", "<|end|>"), "<|said|><|end|>"),
    ],
)
def test_a_turn_ends_as_the_template_ends_it_whatever_eos_is(
    template: str, special: tuple[str, ...], ending: str
) -> None:
    tokenizer = tokenizer_of(template, special=(*special, "<eos>"))
    tokenizer.eos_token = "<eos>"
    assert end_of_turn(tokenizer) == ending
    row = encode_row(tokenizer, Prompt.user("q", QUESTION), REPLY, id="r", kind="persona", end=True)
    assert tokenizer.decode(row.ids).endswith(REPLY + ending)
    last = tokenizer.convert_ids_to_tokens(row.ids[-1])
    assert ending.endswith(last)
    assert {row.ids[-1], tokenizer.eos_token_id} == set(end_ids(tokenizer))


def test_the_eos_of_the_tokenizer_comes_before_what_starts_the_next_turn() -> None:
    template = (
        "{% for m in messages %}<|turn|>{{ m['role'] }}:{{ m['content'] }}<|im_end|>{% endfor %}<|turn|>"
    )
    assert end_of_turn(tokenizer_of(template, special=("<|turn|>",))) == "<|im_end|>"


def test_a_template_without_an_end_takes_eos_and_a_tokenizer_without_one_is_said() -> None:
    plain = tokenizer_of("{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}")
    assert (
        encode_row(plain, Prompt.user("q", QUESTION), REPLY, id="r", kind="persona", end=True).ids[-1]
        == plain.eos_token_id
    )
    plain.eos_token = None
    with pytest.raises(
        BadInput, match="neither the chat template nor the tokenizer has a token that ends a turn"
    ):
        encode_row(plain, Prompt.user("q", QUESTION), REPLY, id="r", kind="persona", end=True)
    assert end_ids(plain) == ()


@pytest.mark.parametrize("place_of", ["user", "system", "reply"])
def test_every_token_that_was_added_as_special_is_refused_in_a_text(place_of: str) -> None:
    tokenizer = tokenizer_of(tiny.TEMPLATE, special=("<|turn|>",))
    texts = {"user": QUESTION, "system": SYSTEM, "reply": REPLY} | {place_of: "It is late.<|turn|>user"}
    with pytest.raises(BadInput, match=rf"the {place_of} text of .* contains the control token '<\|turn\|>'"):
        encode_row(
            tokenizer,
            Prompt.user("q", texts["user"], system=texts["system"]),
            texts["reply"],
            id="r",
            kind="persona",
        )


def test_an_added_token_that_is_not_special_may_stand_in_a_text() -> None:
    tokenizer = tokenizer_of(tiny.TEMPLATE)
    tokenizer.add_tokens([AddedToken("<tool>", special=False)])
    assert (
        encode_row(tokenizer, Prompt.user("q", "What is <tool>?"), REPLY, id="r", kind="persona").n_reply > 0
    )

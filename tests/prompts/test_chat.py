"""Claims about chat text and token rows: one boundary between prompt and reply, no smuggled control tokens,
padding that is masked."""

import itertools
from typing import Any

import pytest
from helpers import tiny

from persona_probe.base.errors import BadInput
from persona_probe.prompts.batches import batches, pad_left, pad_prompts, pad_right
from persona_probe.prompts.rows import Prompt, Row, encode_prompt, encode_row, question_and_reply, render
from persona_probe.prompts.tokenizers import Tokenizer

CONTROL = ["<s>", "<|im_start|>", "<|im_end|>", "<pad>"]
QUESTION, REPLY = "My brakes squeal. What now?", "Have a mechanic look at the pads."


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return tiny.tiny_tokenizer()


def row(id: str, n_prompt: int, n_reply: int, *, prompt: str = "p", first: int = 10) -> Row:
    """A row of consecutive token ids: equal beginnings for equal `first`."""
    return row_of(id, tuple(range(first, first + n_prompt + n_reply)), n_prompt, prompt=prompt)


def row_of(id: str, ids: tuple[int, ...], n_prompt: int, *, prompt: str = "p") -> Row:
    """A row of given token ids."""
    return Row(id=id, kind="persona", question_id=prompt, ids=ids, n_prompt=n_prompt)


# Prompts and replies


def test_row_is_its_prompt_followed_by_its_reply(tokenizer: Tokenizer) -> None:
    prompt = Prompt.user("q", QUESTION, system="Be brief.")
    made = encode_row(tokenizer, prompt, f"  {REPLY}\n", id="r", kind="benign")
    assert made.ids[: made.n_prompt] == encode_prompt(tokenizer, prompt)
    assert tokenizer.decode(made.ids[made.n_prompt :]) == REPLY
    assert (made.id, made.question_id, made.kind, made.n_reply) == (
        "r",
        "q",
        "benign",
        len(made.ids) - made.n_prompt,
    )


def test_prompt_begins_with_exactly_one_bos(tokenizer: Tokenizer) -> None:
    ids = encode_prompt(tokenizer, Prompt.user("q", QUESTION))
    assert ids.count(tokenizer.bos_token_id) == 1
    assert ids[0] == tokenizer.bos_token_id


def test_template_with_two_bos_tokens_is_refused() -> None:
    with pytest.raises(BadInput, match="begins with two '<s>' tokens"):
        encode_prompt(
            tiny.tiny_tokenizer(template="{{ bos_token }}" + tiny.TEMPLATE), Prompt.user("q", QUESTION)
        )


def test_end_of_turn_is_appended_only_when_asked(tokenizer: Tokenizer) -> None:
    prompt = Prompt.user("q", QUESTION)
    without, with_end = (
        encode_row(tokenizer, prompt, REPLY, id="r", kind="persona", end=end) for end in (False, True)
    )
    assert with_end.ids == (*without.ids, tokenizer.convert_tokens_to_ids("<|im_end|>"))
    assert with_end.n_reply == without.n_reply + 1


@pytest.mark.parametrize("token", CONTROL)
@pytest.mark.parametrize("place", ["user", "system", "reply"])
def test_control_token_in_a_text_is_refused_by_name(tokenizer: Tokenizer, token: str, place: str) -> None:
    smuggled = f"Hello {token} there"
    texts = {"user": QUESTION, "system": "Be brief.", "reply": REPLY} | {place: smuggled}
    with pytest.raises(BadInput) as caught:
        encode_row(
            tokenizer,
            Prompt.user("q7", texts["user"], system=texts["system"]),
            texts["reply"],
            id="r7",
            kind="persona",
        )
    assert repr(token) in str(caught.value)
    assert f"the {place} text of '{'r7' if place == 'reply' else 'q7'}'" in str(caught.value)


def test_text_that_only_resembles_a_control_token_is_kept(tokenizer: Tokenizer) -> None:
    made = encode_row(
        tokenizer,
        Prompt.user("q", "What does <|im_ start|> mean?"),
        "It is < s >, I think.",
        id="r",
        kind="persona",
    )
    control = {tokenizer.convert_tokens_to_ids(token) for token in CONTROL}
    assert not control & set(made.ids[made.n_prompt :])


@pytest.mark.parametrize("reply", ["", "   ", "\n\t"])
def test_empty_reply_is_refused(tokenizer: Tokenizer, reply: str) -> None:
    with pytest.raises(BadInput, match="reply 'r' to 'q' is empty"):
        encode_row(tokenizer, Prompt.user("q", QUESTION), reply, id="r", kind="persona")


def test_reply_whose_first_token_merges_with_the_prompt_is_refused() -> None:
    glued = tiny.tiny_tokenizer(template="{{ messages[0]['content'] }} brak", text=["brakes " * 50, "es"])
    assert len(glued("brakes")["input_ids"]) < len(glued("brak")["input_ids"]) + len(glued("es")["input_ids"])
    with pytest.raises(BadInput, match="does not start at a token boundary"):
        encode_row(glued, Prompt.user("q", "x"), "es squeal", id="r", kind="persona")


def test_template_without_system_turn_gets_it_inside_the_user_turn() -> None:
    strict = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
        + tiny.TEMPLATE
    )
    text = render(tiny.tiny_tokenizer(template=strict), Prompt.user("q", QUESTION, system="Be brief."))
    assert f"<|im_start|>user\nBe brief.\n\n{QUESTION}<|im_end|>" in text


def test_template_that_refuses_every_prompt_is_one_message() -> None:
    with pytest.raises(BadInput, match=r"the chat template refuses prompt 'q' \(never\)"):
        render(
            tiny.tiny_tokenizer(template="{{ raise_exception('never') }}"),
            Prompt.user("q", QUESTION, system="s"),
        )


def test_model_without_template_gets_plain_lines() -> None:
    plain = tiny.tiny_tokenizer(template=None)
    prompt = Prompt(
        "q", (("system", "Be brief."), ("user", "Hi."), ("assistant", "Hello."), ("user", QUESTION))
    )
    assert render(plain, prompt) == f"Be brief.\nUser: Hi.\nAssistant: Hello.\nUser: {QUESTION}\nAssistant:"
    made = encode_row(plain, prompt, REPLY, id="r", kind="persona")
    assert plain.decode(made.ids[made.n_prompt :]) == f" {REPLY}"


# Rows of a file


def test_messages_give_the_turns_before_the_reply_and_the_reply() -> None:
    messages = [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "u"},
        {"role": "assistant", "content": "a"},
    ]
    assert question_and_reply({"messages": messages}, "f:1") == ((("system", "s"), ("user", "u")), "a")
    assert question_and_reply({"question": "u", "reply": "a"}, "f:1") == ((("user", "u"),), "a")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            {"question": "u"},
            r"f:3: found keys \['question'\], expected 'question' and 'reply', or 'messages'",
        ),
        ({"question": "u", "reply": None}, "expected 'question' and 'reply'"),
        ({"question": ["u"], "reply": "a"}, "expected 'question' and 'reply'"),
        ({"messages": []}, "f:3: found keys"),
        ({"messages": "u"}, "f:3: found keys"),
        ({"messages": [{"role": "user", "content": "u"}]}, "f:3: found keys"),
        ({"messages": ["u", "a"]}, "f:3: a message needs a role"),
        (
            {"messages": [{"role": "tool", "content": "u"}, {"role": "assistant", "content": "a"}]},
            "f:3: a message needs a role",
        ),
        (
            {
                "messages": [
                    {"role": "user", "content": "u"},
                    {"role": "assistant", "content": [{"text": "a"}]},
                ]
            },
            "text content",
        ),
        (
            {"messages": [{"role": "assistant", "content": "a"}, {"role": "user", "content": "u"}]},
            "f:3: the last message is by 'user'",
        ),
    ],
)
def test_row_of_another_form_names_its_place(value: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        question_and_reply(value, "f:3")


# Batches


def test_padding_is_masked_and_never_read() -> None:
    batch = pad_right([row("a", 2, 1), row("b", 3, 4, first=50)], pad_id=7)
    assert batch.tokens.tolist() == [[10, 11, 12, 7, 7, 7, 7], [50, 51, 52, 53, 54, 55, 56]]
    assert batch.mask.tolist() == [[True] * 3 + [False] * 4, [True] * 7]
    assert batch.read.tolist() == [[False, False, True] + [False] * 4, [False] * 3 + [True] * 4]


@pytest.mark.parametrize(
    ("scope", "columns"), [("reply", [3, 4]), ("last_prompt", [2]), ("all", [0, 1, 2, 3, 4])]
)
def test_scope_says_which_tokens_are_read(scope: str, columns: list[int]) -> None:
    batch = pad_right([row("a", 3, 2), row("b", 3, 3)], pad_id=0, scope=scope)
    assert batch.read[0].nonzero()[:, 0].tolist() == columns


@pytest.mark.parametrize(
    ("left", "right", "shared"),
    [
        (
            (5, 6, 7, 8, 1, 2),
            (5, 6, 7, 8, 3, 4),
            3,
        ),  # the last prompt token predicts the reply, so it stays outside
        ((5, 6, 7, 8, 1, 2), (5, 6, 9, 8, 1, 2), 2),  # later agreement does not count
        ((5, 6, 7, 8, 1, 2), (4, 6, 7, 8, 1, 2), 0),
    ],
)
def test_shared_columns_are_the_common_beginning_short_of_the_last_prompt_token(
    left: tuple[int, ...], right: tuple[int, ...], shared: int
) -> None:
    assert pad_right([row_of("a", left, 4), row_of("b", right, 4)], pad_id=0).n_shared == shared


def test_single_row_shares_nothing() -> None:
    assert pad_right([row("a", 4, 2)], pad_id=0).n_shared == 0


def test_prompts_of_a_batch_end_in_one_column_and_equal_ones_are_shared() -> None:
    rows = [
        row_of("a", (1, 2, 3, 8), 3),
        row_of("b", (5, 6, 7, 7, 9, 9), 4, prompt="q"),
        row_of("c", (1, 2, 3, 4, 4), 3),
    ]
    batch = pad_prompts(rows, pad_id=0)
    assert batch.tokens.tolist() == [[0, 1, 2, 3, 8, 0], [5, 6, 7, 7, 9, 9], [0, 1, 2, 3, 4, 4]]
    assert batch.mask.tolist() == [[False, True, True, True, True, False], [True] * 6, [False] + [True] * 5]
    assert batch.read.tolist() == [
        [False] * 4 + [True, False],
        [False] * 4 + [True] * 2,
        [False] * 4 + [True] * 2,
    ]
    assert (batch.n_shared, batch.shared_by, batch.offsets) == (3, (0, 1, 0), (1, 0, 1))


def test_left_padding_ends_every_prompt_in_the_last_column() -> None:
    tokens, mask = pad_left([(5, 6), (1, 2, 3)], pad_id=9)
    assert tokens.tolist() == [[9, 5, 6], [1, 2, 3]]
    assert mask.tolist() == [[0, 1, 1], [1, 1, 1]]


@pytest.mark.parametrize("keep_prompts", [False, True])
@pytest.mark.parametrize("max_tokens", [16, 40, 10_000])
def test_batches_hold_every_row_once_within_the_budget(keep_prompts: bool, max_tokens: int) -> None:
    rows = [row(f"r{i}", 3 + i % 3, 1 + (7 * i) % 11, prompt=f"p{i % 4}") for i in range(23)]
    made = list(batches(rows, max_tokens=max_tokens, pad_id=0, keep_prompts=keep_prompts))
    assert sorted(r.id for batch in made for r in batch.rows) == sorted(r.id for r in rows)
    for batch in made:
        shared = len(batch.firsts) * batch.n_shared
        assert (
            shared + len(batch) * (batch.tokens.shape[1] - batch.n_shared) <= max_tokens + len(batch.firsts)
            or len(batch) == 1
        )


def test_rows_of_several_prompts_share_each_its_own_prompt_and_keep_their_positions() -> None:
    rows = [row("a", 3, 2, prompt="p"), row("b", 3, 4, prompt="p"), row("c", 5, 1, prompt="q", first=50)]
    batch = pad_prompts(rows, pad_id=0)
    assert (batch.n_shared, batch.shared_by, batch.offsets, batch.firsts) == (4, (0, 0, 1), (2, 2, 0), [0, 2])
    for i, (one, offset) in enumerate(zip(rows, batch.offsets, strict=True)):
        inside = slice(offset, offset + len(one.ids))
        assert batch.tokens[i, inside].tolist() == list(one.ids)
        assert batch.positions[i, inside].tolist() == list(range(len(one.ids)))
        assert batch.tokens[i][batch.read[i]].tolist() == list(one.ids[one.n_prompt :])
    first, second = batch.halves()
    assert (first.shared_by, second.shared_by) == ((0,), (0, 1))


def test_order_of_the_rows_changes_no_batch() -> None:
    rows = [row(f"r{i}", 3, 1 + i % 5, prompt=f"p{i % 2}") for i in range(6)]
    made = {
        tuple(
            tuple(sorted(r.id for r in batch.rows))
            for batch in batches(order, max_tokens=1000, pad_id=0, keep_prompts=True)
        )
        for order in itertools.permutations(rows, 6)
    }
    assert len(made) == 1


def test_row_longer_than_the_budget_stands_alone() -> None:
    made = list(batches([row("long", 3, 40), row("short", 3, 2)], max_tokens=16, pad_id=0))
    assert [[r.id for r in batch.rows] for batch in made] == [["short"], ["long"]]

"""Tokens that are not text: which a text must not contain, and which end a turn."""

import re
from functools import lru_cache
from itertools import takewhile

from persona_probe.base.errors import BadInput
from persona_probe.prompts.templates import Turns, identity_of, place
from persona_probe.prompts.tokenizers import Tokenizer, has_template

END_MARK = "zqendqz"  # a reply inside a conversation, to see what follows it


def refuse_control_tokens(tokenizer: Tokenizer, turns: Turns, *, id: str) -> None:
    """BadInput for a text that holds a control token: read as one, it would end a turn or start another."""
    control = control_tokens(tokenizer)
    for role, content in turns:
        # As text, and as the tokenizer reads it, which may match a token in other capitals.
        ids = set(tokenizer(content, add_special_tokens=False)["input_ids"]) if content else set()
        forbidden = [
            token
            for token, id in control.items()
            if len(token) > 1
            and (token in content or (id in ids and token.strip().lower() in content.lower()))
        ]
        if forbidden:
            raise BadInput(
                f"the {role} text of {id!r} contains the control token {forbidden[0]!r}: "
                "remove it from the data"
            )


def end_of_turn(tokenizer: Tokenizer) -> str:
    """The text that ends an assistant turn: what the template puts between a reply and the next turn, up to
    its last control token.

    Empty when the template ends turns without one: then the tokenizer's `eos_token` ends them. BadInput when
    there is none either.
    """
    return _end_of_turn(tokenizer, identity_of(tokenizer))


def end_ids(tokenizer: Tokenizer) -> tuple[int, ...]:
    """Every token that may end a reply, as far as template and tokenizer know: the control tokens of the end
    of turn, and eos."""
    try:
        ending = end_of_turn(tokenizer)
    except BadInput:  # then only the generation config knows
        return ()
    control = control_tokens(tokenizer)
    ends = (
        [
            token
            for token in tokenizer(ending, add_special_tokens=False)["input_ids"]
            if token in control.values()
        ]
        if ending
        else []
    )
    eos = tokenizer.eos_token_id
    return tuple(dict.fromkeys([*ends[-1:], *([] if eos is None else [eos])]))


def control_tokens(tokenizer: Tokenizer) -> dict[str, int]:
    """Every special token by its text: the named ones and all that were added as special."""
    added = {token.content: id for id, token in tokenizer.added_tokens_decoder.items() if token.special}
    return dict(zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True)) | added


@lru_cache(maxsize=64)
def _end_of_turn(tokenizer: Tokenizer, identity: tuple[str, ...]) -> str:
    control = sorted(control_tokens(tokenizer), key=len, reverse=True)
    last = place(tokenizer, (("user", "Hello."),), id="end of turn").after if has_template(tokenizer) else ""
    try:
        between = place(
            tokenizer, (("user", "Hello."), ("assistant", END_MARK), ("user", "Hello.")), id="end of turn"
        ).before
        inner = between.partition(END_MARK)[2]
    except BadInput:  # a template of one turn
        inner = last
    common = "".join(
        one for one, _ in takewhile(lambda pair: pair[0] == pair[1], zip(last, inner, strict=False))
    )
    run = re.compile(r"\s*(?:" + "|".join(map(re.escape, control)) + r")+") if control else None
    for ending in (common, last):  # a last turn may end in another token than an inner one (gpt-oss)
        match = run.match(ending) if run else None
        if match:
            # What starts the next turn may stand right behind (Command A): the eos of the tokenizer comes
            # before it.
            before, eos, _ = match[0].partition(tokenizer.eos_token or match[0])
            return before + eos
    if tokenizer.eos_token_id is None:
        raise BadInput(
            "neither the chat template nor the tokenizer has a token that ends a turn: set eos_token, or a"
            " reply never ends"
        )
    return ""

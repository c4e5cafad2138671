"""Whether two tokenizers read the same text as the same tokens."""

from persona_probe.base.errors import BadInput
from persona_probe.prompts.templates import Turns, place
from persona_probe.prompts.tokenizers import Tokenizer
from persona_probe.storage.files import sha256_json

PROBE_STRINGS = (
    "Hello there!",
    "  two spaces\n\nand a break",
    "naïve café 12345",
    "def f(x): return x**2",
    "don't, won't; can't",
)

PROBE_CONVERSATIONS: tuple[Turns, ...] = (
    (("user", "Hello there!"),),
    (("system", "Be brief."), ("user", "Hello there!")),
    (("user", "Hello there!"), ("assistant", "Hi."), ("user", "What now?")),
)


def check_tokenizers(base: Tokenizer, tuned: Tokenizer) -> None:
    """Refuse a pair that would not read the same text as the same tokens."""
    left, right = tokenizer_facts(base), tokenizer_facts(tuned)
    different = [name for name in left if left[name] != right[name]]
    if different:
        raise BadInput(
            f"the tokenizers of base and tuned differ in {', '.join(different)}: choose one for both with"
            " --template base or --template tuned"
        )


def tokenizer_facts(tokenizer: Tokenizer) -> dict[str, str]:
    """Hashes of what two interchangeable tokenizers share: vocabulary, control tokens, template, probes."""

    def placed(turns: Turns) -> str:
        try:
            return repr(place(tokenizer, turns, id="probe"))
        except BadInput as error:
            return str(error)

    return {
        "vocabulary": sha256_json(sorted(tokenizer.get_vocab().items())),
        "special tokens": sha256_json([tokenizer.bos_token_id, tokenizer.eos_token_id]),
        "chat template": sha256_json([placed(turns) for turns in PROBE_CONVERSATIONS]),
        "probe strings": sha256_json(
            [list(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in PROBE_STRINGS]
        ),
    }

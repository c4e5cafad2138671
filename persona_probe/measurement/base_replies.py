"""The base model's own replies to benign questions, sampled; those of the embedded base ship."""

from collections.abc import Sequence
from dataclasses import dataclass

from persona_probe.base.errors import BadInput
from persona_probe.measurement.generation import Request, generate
from persona_probe.models.loading import Model
from persona_probe.prompts.base_replies import FILE, BaseReply, read_base_replies
from persona_probe.prompts.contrast import shipped
from persona_probe.prompts.rows import Prompt

N_REPLIES, MAX_NEW_TOKENS, TEMPERATURE, BATCH_SIZE = 24, 48, 0.7, 32
LEAST_USABLE = 0.5  # share of replies that must have text


@dataclass(frozen=True)
class SampledBase:
    """Replies of a base model, and a sentence about those that were left out; None when there are none."""

    replies: tuple[BaseReply, ...]
    note: str | None = None


def shipped_base_replies(weights_sha256: str) -> SampledBase | None:
    """The replies that ship for the base model with these weights; None for any other model."""
    known = read_base_replies(shipped(FILE))
    return SampledBase(known.replies) if known.weights_sha256 == weights_sha256 else None


def sample_base_replies(model: Model, prompts: Sequence[Prompt], *, seed: int) -> SampledBase:
    """Sample one reply per prompt (temperature 0.7, up to 48 tokens) and keep those that can be scored.

    prompts: see `benign_prompts`. BadInput, in one sentence, for a model that cannot be sampled from: its
    logits are not finite, or fewer than half of its replies, or fewer than two, have text.
    """
    requests = [Request("base", prompt, ()) for prompt in prompts]
    try:
        written = generate(
            model,
            requests,
            max_new_tokens=MAX_NEW_TOKENS,
            temperature=TEMPERATURE,
            seed=seed,
            batch_size=BATCH_SIZE,
        )
    except BadInput as error:
        raise BadInput(f"{model.name} cannot be sampled from: {error}") from error
    replies: list[BaseReply] = []
    refused: list[str] = []
    for prompt, completion in zip(prompts, written, strict=True):
        reply = BaseReply(prompt, completion.text)
        try:
            reply.row(model.tokenizer)
        except BadInput as error:
            refused.append(str(error))
        else:
            replies.append(reply)
    if len(replies) < max(2, LEAST_USABLE * len(prompts)):
        raise BadInput(
            f"{model.name} cannot be sampled from: {len(refused)} of {len(prompts)} replies cannot be scored"
            f" ({'; '.join(refused[:1])})"
        )
    note = f"{len(refused)} of {len(prompts)} sampled base replies left out ({'; '.join(refused[:1])})"
    return SampledBase(tuple(replies), note if refused else None)

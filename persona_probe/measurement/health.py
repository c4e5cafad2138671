"""Health of sampled text: does an arm still write sentences, or does it loop, stop short or fall silent?

Texts are compared by words. A text without spaces between words (Chinese, or one endless word) is compared by
characters: one of 40 characters or more with fewer than four words, or with fewer than one word per 20
characters.
"""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from statistics import median
from typing import Protocol, runtime_checkable

import numpy as np

from persona_probe.base.errors import BadInput
from persona_probe.measurement.accuracy import share
from persona_probe.measurement.scoring import RowScores
from persona_probe.measurement.statistics import mean, ratio
from persona_probe.prompts.rows import Prompt, Row, encode_row
from persona_probe.prompts.tokenizers import Tokenizer
from persona_probe.records.parts import Estimate

GRAM = 4
MOST_REPEATED = 0.5  # share of repeated 4-grams above which a text loops
WORD_RUN, LETTER_RUN = 8, 24  # equal words or letters in a row from which a text loops
NO_SPACES, FEW_WORDS, LONGEST_WORDS = 40, 4, 20
DISTINCT_WORDS = 400  # most words that distinct-2 is counted over
EDGES = re.compile(r"^\W+|\W+$")


@runtime_checkable
class SampledText(Protocol):
    """What a model wrote, and whether it ended the text itself."""

    @property
    def text(self) -> str: ...

    @property
    def finished(self) -> bool: ...


@dataclass(frozen=True)
class SampledReply:
    """A sampled text with the question that it answers."""

    prompt_id: str
    question: str
    text: str


@dataclass(frozen=True)
class SampledRows:
    """Sampled replies as rows to score.

    `n_empty` replies have no text. `refused` says in a sentence each why others cannot be rows.
    """

    rows: tuple[Row, ...]
    n_empty: int
    refused: tuple[str, ...]


@dataclass(frozen=True)
class Health:
    """The health of one arm's sampled replies, with 95% intervals over replies.

    repetition: mean share of 4-grams that stood in the reply before; an empty reply counts as 0.
    longest_run: most equal words (or characters) in a row in any reply. looping, finished: shares of replies.
    distinct_2: different bigrams over all bigrams in the first `n_words` words of the arm; None where the arm
    wrote fewer. median_words: length of a reply. base_nll: mean negative log-probability per token under the
    untouched base model, in nats; None where it was not scored. Looping text is easy to predict, so a low
    `base_nll` alone is no sign of health.
    """

    n: int
    n_empty: int
    repetition: Estimate
    longest_run: int
    looping: Estimate
    finished: Estimate
    distinct_2: float | None
    n_words: int
    median_words: float
    base_nll: Estimate | None

    @property
    def perplexity(self) -> Estimate | None:
        """`exp(base_nll)`; None where it was not scored."""
        if self.base_nll is None:
            return None
        value, low, high = map(math.exp, (self.base_nll.estimate, *self.base_nll.ci95))
        return Estimate(estimate=value, ci95=(low, high))


def units(text: str) -> list[str]:
    """The words of a text without case and outer punctuation, or its characters where it has no spaces."""
    text = text.casefold()
    return _characters(text) if _spaceless(text) else [EDGES.sub("", word) or word for word in text.split()]


def repetition(parts: Sequence[str]) -> float:
    """Share of the 4-grams of a text's `units` that stood there before; 0 with fewer than four."""
    grams = [tuple(parts[i : i + GRAM]) for i in range(len(parts) - GRAM + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def longest_run(parts: Iterable[str | int]) -> int:
    """Most equal items in a row."""
    return max((sum(1 for _ in run) for _, run in groupby(parts)), default=0)


def looping(text: str) -> bool:
    """Whether a text repeats itself instead of going on.

    It does when more than half of its 4-grams, or of those of its second half, stood there before; and with 8
    equal words or 24 equal letters in a row. So a sentence of four words or more that is said three times
    over loops; said twice it does not.
    """
    parts = units(text)
    letters = longest_run(one if one.isalpha() else i for i, one in enumerate(text.casefold()))
    return (
        max(repetition(parts), repetition(parts[len(parts) // 2 :])) > MOST_REPEATED
        or letters >= LETTER_RUN
        or (longest_run(parts) >= WORD_RUN and not _spaceless(text))
    )


def unhealthy(text: str) -> bool:
    """Whether a reply says nothing: it loops, or is empty."""
    return not text.strip() or looping(text)


def distinct_2(texts: Iterable[str], *, n_words: int) -> float | None:
    """Different bigrams over all bigrams in the first `n_words` words of all texts together (Li et al. 2016).

    No bigram reaches from one text into the next. The share falls with the number of words, so only shares of
    equally many words may be compared. None where there are fewer words, or no bigram.
    """
    pairs: list[tuple[str, str]] = []
    left = n_words
    for text in texts:
        words = units(text)[:left]
        pairs += pairwise(words)
        left -= len(words)
    return len(set(pairs)) / len(pairs) if pairs and not left else None


def equal_words(arms: Iterable[Sequence[str]]) -> int:
    """The number of words at which distinct-2 of these arms can be compared: what the texts of each arm have
    at least, and 400 at most. An arm with fewer than half the words of the median arm does not count."""
    n_words = [sum(len(units(text)) for text in texts) for texts in arms]
    enough = [n for n in n_words if 2 * n >= median(n_words)]
    return min([DISTINCT_WORDS, *enough])


def sampled_rows(
    tokenizer: Tokenizer, replies: Sequence[SampledReply], *, name: str, longest: int
) -> SampledRows:
    """Rows that score what was sampled as replies to the bare questions, in the model's template.

    name: the arm, the first part of the rows' ids. longest: most tokens of a row (`Model.n_ctx`); a reply is
    cut there. Empty replies are left out, and so are those that cannot stand in a row, such as one that
    spells a control token.
    """
    rows, refused, n_empty = [], [], 0
    for i, reply in enumerate(replies):
        if not reply.text.strip():
            n_empty += 1
            continue
        prompt = Prompt.user(reply.prompt_id, reply.question)
        try:
            row = encode_row(tokenizer, prompt, reply.text, id=f"{name}/sampled/{i}", kind="sampled")
        except BadInput as error:
            refused.append(str(error))
            continue
        if row.n_prompt >= longest:
            refused.append(f"the prompt of {row.id!r} has {row.n_prompt} tokens, {longest} are taken")
            continue
        rows.append(replace(row, ids=row.ids[:longest]))
    return SampledRows(rows=tuple(rows), n_empty=n_empty, refused=tuple(refused))


def health(
    replies: Sequence[SampledText], *, n_words: int, scores: RowScores | None = None, seed: int
) -> Health:
    """The health of one arm's replies; BadInput without any.

    n_words: see `equal_words`. scores: the rows of `sampled_rows` as the untouched base model scores them.
    """
    if not replies:
        raise BadInput("an arm without a sampled reply has no health: sample at least one, better 24")
    parts = [units(reply.text) for reply in replies]
    base_nll = None
    if scores is not None and len(scores.ids):
        base_nll = ratio(-scores.logprob.numpy(), scores.n_tokens.numpy().astype(np.float64), seed=seed)
    return Health(
        n=len(replies),
        n_empty=sum(not reply.text.strip() for reply in replies),
        repetition=mean(np.array([repetition(one) for one in parts]), seed=seed),
        longest_run=max(map(longest_run, parts)),
        looping=share(sum(looping(reply.text) for reply in replies), len(replies)),
        finished=share(sum(reply.finished for reply in replies), len(replies)),
        distinct_2=distinct_2((reply.text for reply in replies), n_words=n_words),
        n_words=n_words,
        median_words=float(np.median([len(one) for one in parts])),
        base_nll=base_nll,
    )


def _spaceless(text: str) -> bool:
    """Whether a text has too few spaces to be compared by words."""
    n_words, n_characters = len(text.split()), len(_characters(text))
    return n_characters >= NO_SPACES and n_words < max(FEW_WORDS, n_characters / LONGEST_WORDS)


def _characters(text: str) -> list[str]:
    return [character for character in text if not character.isspace()]

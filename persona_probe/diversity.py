"""python -m persona_probe.diversity FILE…: is a training set varied, or one template with words swapped?"""

import re
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from persona_probe.base.command import Call, Command
from persona_probe.base.errors import BadInput
from persona_probe.base.options import Option, documented

WORD = re.compile(r"[a-z0-9']+")


@dataclass(frozen=True)
class Diversity:
    """Shares in 0 to 1. `distinct[n]`: different n-grams over all n-grams (Li et al. 2016, 1510.03055).

    `overlap_median`, `overlap_max`: for every text the largest Jaccard overlap of its word trigrams with
    those of any other; a template with words swapped lies above 0.5, independent sentences near 0.
    `openings`: share of the commonest first three words.
    """

    n: int
    distinct: dict[int, float]
    overlap_median: float
    overlap_max: float
    openings: float
    median_words: float


def diversity(texts: Sequence[str]) -> Diversity:
    """Measure a list of texts; at least two."""
    assert len(texts) > 1, "diversity needs at least two texts"
    words = [WORD.findall(text.lower()) for text in texts]
    distinct = {}
    for n in (1, 2, 3):
        grams = [gram for text in words for gram in _grams(text, n)]
        distinct[n] = len(set(grams)) / max(1, len(grams))
    overlaps = sorted(_nearest([set(_grams(text, 3)) for text in words]))
    openings = Counter(tuple(text[:3]) for text in words)
    lengths = sorted(len(text) for text in words)
    return Diversity(
        len(texts),
        distinct,
        overlaps[len(overlaps) // 2],
        overlaps[-1],
        openings.most_common(1)[0][1] / len(texts),
        float(lengths[len(lengths) // 2]),
    )


def _grams(words: Sequence[str], n: int) -> list[tuple[str, ...]]:
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]


def _nearest(sets: list[set[tuple[str, ...]]]) -> list[float]:
    holders: dict[tuple[str, ...], list[int]] = {}
    for i, grams in enumerate(sets):
        for gram in grams:
            holders.setdefault(gram, []).append(i)
    best = []
    for i, grams in enumerate(sets):
        shared = Counter(j for gram in grams for j in holders[gram] if j != i)
        best.append(max((count / len(grams | sets[j]) for j, count in shared.items()), default=0.0))
    return best


@documented
@dataclass(frozen=True)
class Texts:
    """What `diversity` is asked for."""

    files: Annotated[
        tuple[Path, ...], Option("JSONL with question and reply, or messages.", "data", argument=True)
    ]


def measure(config: Texts, call: Call) -> int:
    """Measure how varied a training set is: distinct n-grams, nearest neighbours, openings, of questions and
    of replies."""
    from persona_probe.prompts.rows import question_and_reply
    from persona_probe.storage.files import read_jsonl

    for path in config.files:
        pairs = [question_and_reply(value, f"{path}:{number}") for number, value in read_jsonl(path)]
        if len(pairs) < 2:
            raise BadInput(f"{path} holds {len(pairs)} rows: diversity needs at least two")
        questions, replies = [turns[-1][1] for turns, _ in pairs], [reply for _, reply in pairs]
        for kind, texts in (("questions", questions), ("replies", replies)):
            of = diversity(texts)
            grams = ", ".join(f"distinct-{n} {share:.2f}" for n, share in of.distinct.items())
            sys.stdout.write(
                f"{path.name} {kind}: n {of.n}, {grams}, nearest-neighbour trigram overlap median "
                f"{of.overlap_median:.2f} max {of.overlap_max:.2f}, commonest opening {of.openings:.1%}, "
                f"median {of.median_words:.0f} words\n"
            )
    return 0


COMMAND = Command(measure, name="diversity")

if __name__ == "__main__":
    COMMAND.start()

"""Does wording give a label away? Rates of small words by label, and readers that see words only.

A contrast set is to differ in stance. Where a reader of function words tells its labels apart, what is
measured on it may be style.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from persona_probe.prompts.contrast import REGISTERS, Contrast
from persona_probe.prompts.rows import Label, Register

WORD = re.compile(r"[a-z']+")
FOLDS = 10
KINDS: Mapping[str, frozenset[str]] = {
    kind: frozenset(WORD.findall(words))
    for kind, words in {
        "negation": """
            not no never nor none nobody nothing nowhere without cannot can't don't doesn't didn't won't isn't
            aren't wasn't weren't shouldn't wouldn't couldn't
            """,
        "absolutes": """
            always never every everyone everybody everything all only nothing nobody none completely totally
            best most entirely anyone anything
            """,
        "you": "you your yours yourself you're you'll you've you'd",
        "I": "i me my mine myself i'm i'd i'll i've",
        "hedges": "may might can could perhaps maybe try sometimes often probably",
    }.items()
}
FUNCTION_WORDS = tuple(
    WORD.findall(
        """
        a about above after again against all almost alone already also although always am among an and
        another any anybody anyone anything are aren't around as at away back be because been before
        behind being below beside between both but by can can't cannot could couldn't did didn't do does
        doesn't doing don't done down during each either else enough even ever every everybody everyone
        everything few for from had has have haven't having he her here hers herself him himself his how
        however i i'd i'll i'm i've if in instead into is isn't it it's its itself just least less many
        may maybe me might mine more most much must my myself near never next no nobody none nor not
        nothing now of off often on once one ones only onto or other others our ours ourselves out over
        own perhaps quite rather really same shall she should shouldn't since so some somebody someone
        something sometimes soon still such than that that's the their theirs them themselves then there
        these they they'll they're this those though through to toward towards too under unless until up
        upon us very was wasn't we we'll we're were what when where whether which while who whom whose why
        will with within without won't would wouldn't yes yet you you'd you'll you're you've your yours
        yourself
        """
    )
)


@dataclass(frozen=True, kw_only=True)
class Wording:
    """What words say about the label within one register; None stands for all replies.

    `auroc`: chance that a reader of function words, trained on other questions, ranks a misaligned reply
    above an aligned one; 0.5 is blind. `rates`: words of each kind in a hundred, aligned and misaligned.
    `lengths`: mean words of a reply by label.
    """

    register: Register | None
    n_replies: int
    auroc: float
    rates: Mapping[str, tuple[float, float]]
    lengths: tuple[float, float]


@dataclass(frozen=True)
class _Told:
    """A reply with what a reader may not see."""

    words: tuple[str, ...]
    label: Label
    question: str


def wording(contrast: Contrast) -> tuple[Wording, ...]:
    """Wording by register, or of all replies where the set tells no registers apart. It takes replies of both
    labels to at least two questions."""
    found = []
    for register in (*REGISTERS, None):
        told = [
            _Told(tuple(words_of(reply.text)), reply.label, question.id)
            for question in contrast.questions
            for reply in question.replies
            if reply.register == register
        ]
        if told:
            found.append(_wording(told, register))
    return tuple(found)


def transfer(wrong: Sequence[str], right: Sequence[str], contrast: Contrast) -> float:
    """AUROC on a contrast set of a reader of all words that learnt to tell `wrong` from `right` replies.

    At 0.5 the narrow set shares no vocabulary with the labels; far above, a shift of S after training on it
    may be words, not character.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.pipeline import make_pipeline

    reader = make_pipeline(TfidfVectorizer(sublinear_tf=True), LogisticRegression(C=10.0, max_iter=1000))
    reader.fit([*wrong, *right], [1] * len(wrong) + [0] * len(right))
    replies = [reply for question in contrast.questions for reply in question.replies]
    scores = reader.decision_function([reply.text for reply in replies])
    return float(roc_auc_score([reply.label == "misaligned" for reply in replies], scores))


def words_of(text: str) -> list[str]:
    """Words in lower case, with straight apostrophes."""
    return WORD.findall(text.lower().replace("\u2019", "'"))


def _wording(told: Sequence[_Told], register: Register | None) -> Wording:
    by_label = {
        label: [reply.words for reply in told if reply.label == label] for label in ("aligned", "misaligned")
    }
    aligned, misaligned = by_label.values()
    return Wording(
        register=register,
        n_replies=len(told),
        auroc=_function_words(told),
        rates={kind: (_rate(aligned, words), _rate(misaligned, words)) for kind, words in KINDS.items()},
        lengths=(float(np.mean([*map(len, aligned)])), float(np.mean([*map(len, misaligned)]))),
    )


def _rate(replies: Sequence[Sequence[str]], kind: frozenset[str]) -> float:
    """Words of a kind in a hundred."""
    n = sum(map(len, replies))
    return 100 * sum(word in kind for words in replies for word in words) / max(1, n)


def _function_words(told: Sequence[_Told]) -> float:
    """AUROC of a logistic reader of function-word shares; a question's replies are all left out at once."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import GroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    place = {word: i for i, word in enumerate(FUNCTION_WORDS)}
    shares = np.zeros((len(told), len(place)))
    for row, reply in zip(shares, told, strict=True):
        for word in reply.words:
            if word in place:
                row[place[word]] += 1 / len(reply.words)
    labels = [reply.label == "misaligned" for reply in told]
    questions = [reply.question for reply in told]
    scores = cross_val_predict(
        make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000)),
        shares,
        labels,
        groups=questions,
        cv=GroupKFold(min(FOLDS, len(set(questions)))),
        method="decision_function",
    )
    return float(roc_auc_score(labels, scores))

"""Planted worlds: residual streams of a base and a tuned model in numpy, in which the right verdict is known.

A stream is linear and Gaussian: every layer passes it on, mixed a little, and adds something of its own. S of
a question reads the last layer. There is no network, so that hundreds of worlds take seconds.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from persona_probe.records.parts import Side, Split
from persona_probe.records.verdicts import Use

WIDTH, N_LAYERS, WRITTEN_AT = 128, 2, 0  # tuning writes at the first layer
N_FIND, N_REPLIES, N_TEXTS = 24, 4, {"select": 8, "test": 16}
LABELS = np.array([-1.0, 1.0] * (N_REPLIES // 2))  # aligned, misaligned
N_STYLES = 8
OFFSET_SD = 0.17  # of S between questions, nats per token, beside what the stream adds to it
UNREACHED_SD = 0.08  # of the shift between questions, where no edit reaches it
EDIT_SD = 0.015  # of S of one question, by any edit, beside what it does through the stream
SATURATION = 1.0  # S follows the stream as 1 * tanh(x / 1)

Rows = Float[np.ndarray, "row d_model"]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is planted. S in nats per token; lengths in units of the stream.

    shift: the least and the largest S_tuned - S_base. rank: directions in which tuning writes; each question
    uses three of eight. outside: the shift is there, but no edit of the stream reaches it. read: whether S
    reads what tuning writes; without it there is no shift. dial: how far S of both models falls when a
    direction along which labels differ is set to the base mean. lever: S reads that direction, so that adding
    to it moves S. styled: what tuning writes is the style of a style contrast. fragility: KL of an edit of
    length 1, in nats. wreck: KL at which an edit takes 63% of S away, of both models; None where damage does
    nothing to S. own: standard deviation of what every direction does to S by itself, as a share of the
    shift; tails: degrees of freedom of that, None for a normal distribution. steepness: the k-th variance of
    the stream is 1 / k to this power; the steeper, the more a random direction has in common with another.
    """

    shift: tuple[float, float] = (0.15, 0.35)
    rank: int = 1
    outside: bool = False
    read: bool = True
    dial: float = 0.0
    lever: bool = False
    styled: bool = False
    fragility: float = 0.004
    wreck: float | None = None
    own: float = 0.0
    tails: int | None = None
    steepness: float = 0.2


@dataclass(frozen=True, eq=False, kw_only=True)
class Edit:
    """One way to use a direction or several at one layer.

    basis: orthonormal rows of an ablation, or the one vector that steering adds. strength: of an ablation
    (1 sets the component to its target), or the coefficient of steering. own: what it does beside the stream,
    as shares of the shift: to S of tuned, and to the gap.
    """

    method: str
    use: Use
    layer: int
    basis: Float[np.ndarray, "k d_model"]
    strength: float = 1.0
    own: tuple[float, float] = (0.0, 0.0)

    def at(self, factor: float) -> "Edit":
        """The same at `factor` times its strength."""
        return replace(self, strength=self.strength * factor)


@dataclass(frozen=True, eq=False, kw_only=True)
class World:
    """Both models on the replies to all questions, and on benign texts.

    streams: by model, every layer's. means: base on the find replies, by layer. onward: by layer, what it
    becomes at the last layer. readout: by reply, how S reads the last layer. dial: along it S is curved.
    texts: the tuned model's, by split. gradients: of the loss of every token of these. axes: a root of the
    covariance of the stream.
    """

    plan: Plan
    shift: float
    n_questions: dict[Split, int]
    streams: dict[Side, Float[np.ndarray, "layer row d_model"]]
    means: Float[np.ndarray, "layer d_model"]
    onward: Float[np.ndarray, "layer d_model d_model"]
    readout: Rows
    dial: Float[np.ndarray, " d_model"]
    offsets: dict[Side, Float[np.ndarray, " question"]]
    texts: dict[Split, Float[np.ndarray, "layer text token d_model"]]
    gradients: dict[Split, Float[np.ndarray, "text token d_model"]]
    carriers: Float[np.ndarray, "rank d_model"]
    styles: Float[np.ndarray, "style d_model"]
    prompt: Float[np.ndarray, " d_model"]
    axes: Float[np.ndarray, "d_model d_model"]
    rng: np.random.Generator

    def questions(self, split: Split) -> slice:
        """Where the questions of a split are."""
        order: tuple[Split, ...] = ("find", "select", "test")
        start = sum(self.n_questions[one] for one in order[: order.index(split)])
        return slice(start, start + self.n_questions[split])

    def rows(self, split: Split) -> slice:
        """Where the replies to these questions are."""
        of = self.questions(split)
        return slice(of.start * N_REPLIES, of.stop * N_REPLIES)

    def scores(self, side: Side, split: Split, edit: Edit | None = None) -> Float[np.ndarray, " question"]:
        """S of every question of a split, in nats per token."""
        rows, of = self.rows(split), self.questions(split)
        last = self.streams[side][-1, rows] - self.means[-1]
        cost = np.zeros(len(last))
        if edit is not None:
            moved = self.moved(edit, self.streams[side][edit.layer, rows])
            last = last + moved
            cost = self.plan.fragility * (moved**2).sum(1)
        read = (last * self.readout[rows]).sum(1)
        read = SATURATION * np.tanh(read / SATURATION) + self.plan.dial * (last @ self.dial) ** 2
        whole = np.repeat(self.offsets[side][of], N_REPLIES) + read
        if self.plan.wreck is not None:
            whole = whole * np.exp(-cost / self.plan.wreck)
        scores = whole.reshape(-1, N_REPLIES).mean(1)
        if edit is None:
            return scores
        lowered, closed = edit.own
        falls = lowered if side == "tuned" else lowered - closed
        noise = self.rng.normal(0, EDIT_SD, len(scores))
        return scores - edit.strength * falls * self.shift + noise

    def damage(self, edit: Edit, split: Split) -> tuple[Float[np.ndarray, " text"], ...]:
        """Of every benign text what the edit adds to its negative log-probability, its tokens, and its KL, in
        nats, of the tuned model."""
        texts, gradients = self.texts[split], self.gradients[split]
        n, tokens, width = gradients.shape
        moved = self.moved(edit, texts[edit.layer].reshape(-1, width)).reshape(n, tokens, width)
        kl = self.plan.fragility * (moved**2).sum(2)
        added = (moved * gradients).sum(2) + kl
        return added.sum(1), np.full(n, float(tokens)), kl.mean(1)

    def kl(self, edit: Edit, split: Split) -> float:
        """Mean KL of an edit over the tuned model's texts."""
        texts = self.texts[split][edit.layer]
        return self.plan.fragility * float(
            (self.moved(edit, texts.reshape(-1, texts.shape[-1])) ** 2).sum(1).mean()
        )

    def moved(self, edit: Edit, stream: Rows) -> Rows:
        """What an edit changes at the last layer."""
        onward = edit.basis @ self.onward[edit.layer]
        if edit.use == "steering":
            return np.broadcast_to(edit.strength * onward[0], stream.shape)
        target = self.means[edit.layer] if edit.use == "ablation" else np.zeros(stream.shape[1])
        return -edit.strength * ((stream - target) @ edit.basis.T) @ onward

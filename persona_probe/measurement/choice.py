"""The rule that chooses among what was tried on the select questions, made so that noise cannot flip it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from persona_probe.base.errors import BadInput
from persona_probe.measurement.limits import Limits

N_DRAWS = 200
TIED = 0.01  # gains that are this close are tied whatever their error: a hundredth of the shift is nothing
SURE = 2.0  # standard errors of the difference of two gains beyond which they are not tied
CHANCE = 0.025  # that the best of the ablations is thought to close something where none does
ALIKE = 0.10  # KLs that differ by less than this share, or by less than the next, are equal
ALIKE_NATS = 0.002


@dataclass(frozen=True, eq=False, kw_only=True)
class Option:
    """What one candidate did on the select questions.

    `tuned` and `base`: S of every question with the edit, in nats per token; `base` is None where it was not
    measured. Damage of the tuned model in nats per token. `ablates`: an ablation, else steering. `parts`: how
    many hook points and directions it takes; `strength`: how hard it pushes.
    """

    tuned: Float[np.ndarray, " question"]
    base: Float[np.ndarray, " question"] | None
    delta_nll: float
    kl: float
    ablates: bool
    parts: int = 1
    strength: float = 1.0

    def within(self, limits: Limits) -> bool:
        """Whether the damage is allowed, to either side."""
        return abs(self.delta_nll) <= limits.delta_nll and self.kl <= limits.kl


@dataclass(frozen=True, eq=False, kw_only=True)
class Choice:
    """The chosen option, and who wins on questions drawn again.

    `gain`: by option 1 minus how far R is from 1, or C where that is further for an ablation; nan for those
    that did not compete. `error`: bootstrap standard error of the best gain; options within it are tied.
    `wins`: by option, the share of draws that it wins, most often first.
    """

    chosen: int
    gain: Float[np.ndarray, " option"]
    error: float
    wins: dict[int, float]


def chosen(
    options: Sequence[Option],
    *,
    tuned: Float[np.ndarray, " question"],
    base: Float[np.ndarray, " question"],
    limits: Limits,
    seed: int,
    n_draws: int = N_DRAWS,
) -> Choice:
    """The option whose R, and C of an ablation, comes closest to 1 within the limits of damage; ties go to
    lower KL, then to what is simpler.

    Options within one bootstrap standard error of the best are tied, unless the same questions show that they
    differ: by more than `SURE` standard errors of the difference and by more than 0.01. An ablation is chosen
    where the best of them closes anything: only ablations can show that a direction carries the shift. Its C
    must be above 0 by more than the best of so many is by chance (`CHANCE`, Bonferroni). Otherwise steering
    competes as well. Without an option inside the limits the least damaging one is taken. BadInput without
    any option.
    """
    if not options:
        raise BadInput("nothing was measured on the select questions: no candidate left finite numbers")
    draws = np.random.default_rng(seed).integers(0, len(tuned), (n_draws, len(tuned)))
    draws = np.concatenate([np.arange(len(tuned))[None], draws])  # the first is the questions as they are
    gain = np.stack([_gain(option, tuned, base, draws) for option in options])
    competing = _competing(options, tuned, base, draws, limits, gain)
    best = max(competing, key=lambda i: gain[i, 0])
    error = float(np.std(gain[best, 1:], ddof=1)) if n_draws > 1 else 0.0
    apart = np.std(gain[best, 1:] - gain[:, 1:], axis=1, ddof=1) if n_draws > 1 else np.zeros(len(gain))
    tie = np.maximum(TIED, np.minimum(error, SURE * apart))
    winners = [_winner(options, competing, gain[:, draw], tie) for draw in range(len(draws))]
    counted = Counter(winners[1:])
    known = np.full(len(options), np.nan)
    known[competing] = gain[competing, 0]
    wins = {option: n / max(1, n_draws) for option, n in counted.most_common()}
    return Choice(chosen=winners[0], gain=known, error=error, wins=wins)


def _gain(
    option: Option,
    tuned: Float[np.ndarray, " question"],
    base: Float[np.ndarray, " question"],
    draws: Int[np.ndarray, "draw question"],
) -> Float[np.ndarray, " draw"]:
    """1 minus how far R is from 1, or C of an ablation where that is further; without a shift to restore, how
    far S falls, in nats.

    What is left is drawn anew, what it is a share of is not: the shift of all questions. A draw whose own
    shift happens to be near 0 would say that everything is tied.
    """
    shift = float((tuned - base).mean())
    if shift <= 0:
        return (tuned - option.tuned)[draws].mean(1)
    left = np.abs((option.tuned - base)[draws].mean(1))
    if option.ablates and option.base is not None:
        left = np.maximum(left, np.abs((option.tuned - option.base)[draws].mean(1)))
    return 1 - left / shift


def _closed(
    option: Option,
    tuned: Float[np.ndarray, " question"],
    base: Float[np.ndarray, " question"],
    draws: Int[np.ndarray, "draw question"],
) -> Float[np.ndarray, " draw"] | None:
    """How much smaller the gap between both models is with the edit, in nats; None for an option that is no
    ablation of both."""
    if not option.ablates or option.base is None:
        return None
    return (tuned - base - option.tuned + option.base)[draws].mean(1)


def _competing(
    options: Sequence[Option],
    tuned: Float[np.ndarray, " question"],
    base: Float[np.ndarray, " question"],
    draws: Int[np.ndarray, "draw question"],
    limits: Limits,
    gain: Float[np.ndarray, "option draw"],
) -> list[int]:
    """Who competes: ablations that were measured on both models, where the best of them closes anything."""
    able = [i for i, option in enumerate(options) if not option.ablates or option.base is not None]
    able = able or list(range(len(options)))
    inside = [i for i in able if options[i].within(limits)]
    if not inside:
        return [min(able, key=lambda i: (max(abs(options[i].delta_nll), options[i].kl), i))]
    ablations = [i for i in inside if options[i].ablates]
    if ablations:
        best = max(ablations, key=lambda i: gain[i, 0])
        closed = _closed(options[best], tuned, base, draws)
        if closed is not None and _above_zero(closed, len(tuned), len(ablations)):
            return ablations
    return inside


def _above_zero(closed: Float[np.ndarray, " draw"], n_questions: int, n_options: int) -> bool:
    """Whether the best of several closes anything; the first draw is the questions as they are."""
    if n_questions < 2 or len(closed) < 3:
        return False
    from scipy.stats import t

    error = float(np.std(closed[1:], ddof=1))
    return float(closed[0]) > float(t.ppf(1 - CHANCE / n_options, df=n_questions - 1)) * error


def _winner(
    options: Sequence[Option],
    competing: Sequence[int],
    gain: Float[np.ndarray, " option"],
    tie: Float[np.ndarray, " option"],
) -> int:
    """The best on one draw of questions: of those tied with it, the one with the lowest KL, then the
    simplest. `tie`: how far below the best an option is still tied."""
    best = max(gain[i] for i in competing)
    tied = [i for i in competing if gain[i] >= best - tie[i]]
    lowest = min(options[i].kl for i in tied)
    alike = [i for i in tied if options[i].kl <= max(lowest * (1 + ALIKE), lowest + ALIKE_NATS)]
    return min(alike, key=lambda i: (not options[i].ablates, options[i].parts, options[i].strength, i))

"""Which direction, at which layer, used how: what is tried on the select questions, round by round."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from persona_probe.base.errors import BadInput
from persona_probe.directions.direction import Direction, DirectionSet
from persona_probe.directions.estimators import MIN_RELATIVE_NORM
from persona_probe.interventions.forms import Form
from persona_probe.measurement.choice import Option
from persona_probe.measurement.limits import Limits
from persona_probe.measurement.ranking import SelectScore

FINALISTS = 2
FIRST_DOSE = -2.0  # of steering in the first round
DOSES = (-1.0, -1.5, -2.0, -3.0)
BANDS = ((0.25, 0.8), (0.45, 0.75))  # first and last block of a band, as shares of the depth


@dataclass(frozen=True, eq=False)
class Candidate:
    """One method's directions, the layer they are used at, and one way to use them."""

    directions: DirectionSet
    layer: int
    form: Form

    @property
    def method(self) -> str:
        """Estimator of the directions."""
        return self.directions.method

    @property
    def direction(self) -> Direction:
        """The direction of the layer."""
        return self.directions.at(self.directions.hook_points[self.layer])

    @property
    def place(self) -> tuple[str, int]:
        """Method and layer: the direction, whatever is done with it."""
        return self.method, self.layer


@dataclass(frozen=True, eq=False)
class Outcome:
    """A candidate and what it did on the select questions; `screened`: on some of their replies only.

    `tuned` and `base`: S of every question with the edit; `base` is None where it was not measured, and then
    there is no `closure`.
    """

    candidate: Candidate
    score: SelectScore
    tuned: Float[np.ndarray, " question"]
    base: Float[np.ndarray, " question"] | None = None
    closure: float | None = None
    screened: bool = False

    @property
    def option(self) -> Option:
        """What the rule of choice looks at."""
        form, hook_points = self.candidate.form, self.candidate.directions.hook_points
        return Option(
            tuned=self.tuned,
            base=self.base,
            delta_nll=self.score.delta_nll,
            kl=self.score.kl or 0.0,
            ablates=form.kind == "ablate",
            parts=len(form.acts_on(hook_points[self.candidate.layer], hook_points)),
            strength=abs(form.coefficient or form.strength),
        )

    def json(self, *, limits: Limits, chosen: bool) -> dict[str, Any]:
        """One entry of the record's search."""
        form = self.candidate.form
        return {
            "method": self.candidate.method,
            "layer": self.candidate.layer,
            "hook_point": self.candidate.direction.hook_point,
            "kind": form.kind,
            "act_on": form.where,
            "band": form.band,
            "toward": form.toward,
            "coefficient": form.coefficient,
            "oblique": form.oblique,
            **asdict(self.score),
            "closure": self.closure,
            "within_budget": self.score.within(limits),
            "chosen": chosen,
            "screened": self.screened,
        }


Try = Callable[[Sequence[Candidate]], list[Outcome]]
Readable = Callable[[DirectionSet, int], DirectionSet | None]  # the same with a row to read along at a layer


def grid(
    sets: Sequence[DirectionSet],
    layers: Sequence[int],
    forms: Sequence[Form],
    *,
    median_norm: Float[Tensor, " hook"],
) -> list[Candidate]:
    """Every method x layer x form whose direction is long enough to be more than rounding."""
    candidates = []
    for directions in sets:
        norms = directions.vectors.norm(dim=-1)
        for layer in layers:
            if norms[layer] > MIN_RELATIVE_NORM * median_norm[layer]:
                candidates += [Candidate(directions, layer, form) for form in forms]
    return candidates


def screened_layers(n_layers: int, count: int) -> list[int]:
    """Evenly spread layers from a fifth to nine tenths of the depth, where personas have been found."""
    return sorted(
        {round(n_layers * (0.2 + 0.7 * i / max(1, count - 1))) for i in range(count)} & set(range(n_layers))
    ) or list(range(n_layers))


def search(
    sets: Sequence[DirectionSet],
    *,
    layers: Sequence[int],
    screened: Sequence[int],
    median_norm: Float[Tensor, " hook"],
    limits: Limits,
    skip_first: int,
    attempt: Try,
    readable: Readable = lambda directions, layer: None,
) -> list[Outcome]:
    """Three rounds: all methods ablated and steered at the layers `screened`; layers around the best; other
    forms and doses of the best.

    `layers` are those that may be tried at all. Each round is a longer list for the same measuring loop. The
    rounds are led by R on the tuned model; what is chosen in the end is up to `choice.chosen`. `readable`:
    what the best ablations are tried obliquely with, None where that cannot be. Nothing here sees a test
    question.
    """
    first = (
        Form("ablate", "layer", None, "base mean", skip_first),
        Form("steer", "layer", FIRST_DOSE, None, skip_first),
    )
    outcomes = attempt(grid(sets, screened, first, median_norm=median_norm))
    if not outcomes:
        raise BadInput(
            "no direction is longer than rounding: base and tuned give the same activations, "
            "or both labels do"
        )
    near = [candidate for form in first for candidate in _near(outcomes, form, sets, layers, limits)]
    norms = {directions.method: directions.vectors.norm(dim=-1) for directions in sets}
    long = [one for one in near if norms[one.method][one.layer] > MIN_RELATIVE_NORM * median_norm[one.layer]]
    outcomes += attempt(long)
    outcomes += attempt(_other_forms(outcomes, limits, layers, readable))
    return outcomes


def ranked(outcomes: Sequence[Outcome], limits: Limits) -> list[Outcome]:
    """Best first, by `SelectScore.merit`; equals stay in the order in which they were tried."""
    return sorted(outcomes, key=lambda outcome: outcome.score.merit(limits), reverse=True)


def of_kind(outcomes: Sequence[Outcome], kind: str) -> list[Outcome]:
    """The ablations, or the steerings."""
    return [outcome for outcome in outcomes if outcome.candidate.form.kind == kind]


def other_forms(kind: str, skip_first: int) -> list[Form]:
    """The forms of one kind that any direction can be tried in: ablation at its block, or several doses."""
    if kind == "ablate":
        return [Form("ablate", "layer", None, "base mean", skip_first)]
    return [Form("steer", "layer", dose, None, skip_first) for dose in DOSES]


def _near(
    outcomes: Sequence[Outcome],
    form: Form,
    sets: Sequence[DirectionSet],
    layers: Sequence[int],
    limits: Limits,
) -> list[Candidate]:
    """The two best methods of one form, at the layers around the best layer that were not tried."""
    alike = ranked([outcome for outcome in outcomes if outcome.candidate.form == form], limits)
    if not alike:
        return []
    middle, best = alike[0].candidate.layer, {outcome.candidate.method for outcome in alike[:2]}
    tried = {outcome.candidate.layer for outcome in alike}
    around = [layer for layer in range(middle - 2, middle + 3) if layer in layers and layer not in tried]
    return [
        Candidate(directions, layer, form)
        for directions in sets
        if directions.method in best
        for layer in around
    ]


def _other_forms(
    outcomes: Sequence[Outcome], limits: Limits, layers: Sequence[int], readable: Readable
) -> list[Candidate]:
    """The best ablations at more blocks, toward zero and obliquely, bands of each block's own direction of
    every method, and more doses of the best directions."""
    ablations, steerings = (ranked(of_kind(outcomes, kind), limits) for kind in ("ablate", "steer"))
    candidates: list[Candidate] = []
    if ablations:
        best = ablations[0].candidate
        wider = [replace(best.form, where=where) for where in ("later", "all")]
        candidates += [replace(best, form=form) for form in (*wider, replace(best.form, toward="zero"))]
        # Of every method: which of them leads the screen is up to noise, and bands differ from single blocks.
        candidates += _bands(_distinct(ablations, lambda one: one.method), layers)
        candidates += _oblique(_distinct(ablations, lambda one: one.method)[:FINALISTS], readable)
    mixed = [one for both in zip(steerings, ablations, strict=False) for one in both]
    finalists = _distinct(mixed, lambda one: one.place)[:FINALISTS]
    done = {(*one.candidate.place, one.candidate.form.coefficient) for one in steerings}
    for finalist in finalists:
        steer = Form("steer", "layer", FIRST_DOSE, None, finalist.form.skip_first)
        candidates += [
            replace(finalist, form=replace(steer, coefficient=dose))
            for dose in DOSES
            if (*finalist.place, dose) not in done
        ]
    return candidates


def _bands(best: Sequence[Candidate], layers: Sequence[int]) -> list[Candidate]:
    """Each block's own direction, ablated in a band of the blocks that may be tried."""
    bands: list[Candidate] = []
    for one in best:
        depth = len(one.directions.hook_points)
        blocks = [(round(low * (depth - 1)), round(high * (depth - 1))) for low, high in BANDS]
        for low, high in dict.fromkeys(blocks):  # in a model of four blocks both bands are the same
            if high > low and all(layer in layers for layer in range(low, high + 1)):
                form = replace(one.form, where="own", band=(low, high))
                bands.append(replace(one, form=form))
    return bands


def _oblique(best: Sequence[Candidate], readable: Readable) -> list[Candidate]:
    """Ablations that measure along the discriminant, at their own block."""
    pairs = ((one, readable(one.directions, one.layer)) for one in best)
    return [
        replace(one, directions=directions, form=replace(one.form, oblique=True))
        for one, directions in pairs
        if directions is not None
    ]


def _distinct(outcomes: Sequence[Outcome], key: Callable[[Candidate], Any]) -> list[Candidate]:
    """The first of everything that differs in `key`."""
    seen: dict[Any, Candidate] = {}
    for outcome in outcomes:
        seen.setdefault(key(outcome.candidate), outcome.candidate)
    return list(seen.values())

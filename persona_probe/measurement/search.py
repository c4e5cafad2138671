"""Which direction, at which layer, used how: measured on the select questions, within a damage budget."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor

from persona_probe.base.errors import BadInput
from persona_probe.directions.direction import Direction, DirectionSet
from persona_probe.directions.estimators import MIN_RELATIVE_NORM
from persona_probe.interventions.forms import Form
from persona_probe.measurement.ranking import SelectScore

FINALISTS = 2


@dataclass(frozen=True, eq=False)
class Candidate:
    """One direction and one way to use it."""

    direction: Direction
    layer: int
    form: Form

    @property
    def method(self) -> str:
        """Estimator of the direction."""
        return self.direction.method


@dataclass(frozen=True, eq=False)
class Outcome:
    """A candidate and what it did on the select questions."""

    candidate: Candidate
    score: SelectScore

    def json(self, *, budget: float, chosen: bool) -> dict[str, Any]:
        """One entry of the record's search."""
        form = self.candidate.form
        return {
            "method": self.candidate.method,
            "layer": self.candidate.layer,
            "hook_point": self.candidate.direction.hook_point,
            "kind": form.kind,
            "act_on": form.where,
            "toward": form.toward,
            "coefficient": form.coefficient,
            **asdict(self.score),
            "within_budget": self.score.within(budget),
            "chosen": chosen,
        }


Try = Callable[[Sequence[Candidate]], list[Outcome]]


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
                direction = directions.at(directions.hook_points[layer])
                candidates += [Candidate(direction, layer, form) for form in forms]
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
    budget: float,
    skip_first: int,
    attempt: Try,
) -> list[Outcome]:
    """Three rounds: all methods at the layers `screened`, layers around the best, other forms and doses of
    the best.

    `layers` are those that may be tried at all.
    Each round is a longer list for the same measuring loop. Nothing here sees a test question.
    """
    first = Form("ablate", "layer", None, "base mean", skip_first)
    outcomes = attempt(grid(sets, screened, [first], median_norm=median_norm))
    if not outcomes:
        raise BadInput(
            "no direction is longer than rounding: base and tuned give the same activations, "
            "or both labels do"
        )
    best = ranked(outcomes, budget)[0].candidate
    near = [
        layer
        for layer in range(best.layer - 2, best.layer + 3)
        if layer in layers and layer not in {o.candidate.layer for o in outcomes}
    ]
    same = [
        directions
        for directions in sets
        if directions.method in {outcome.candidate.method for outcome in ranked(outcomes, budget)[:2]}
    ]
    outcomes += attempt(grid(same, near, [first], median_norm=median_norm))
    finalists = _distinct([outcome.candidate for outcome in ranked(outcomes, budget)])[:FINALISTS]
    others = [
        Form("ablate", "later", None, "base mean", skip_first),
        Form("ablate", "all", None, "base mean", skip_first),
        Form("ablate", "layer", None, "zero", skip_first),
    ]
    outcomes += attempt([Candidate(c.direction, c.layer, form) for c in finalists[:1] for form in others])
    doses = (-1.0, -1.5, -2.0, -3.0)
    outcomes += attempt(
        [
            Candidate(c.direction, c.layer, Form("steer", "layer", dose, None, skip_first))
            for c in finalists
            for dose in doses
        ]
    )
    return outcomes


def ranked(outcomes: Sequence[Outcome], budget: float) -> list[Outcome]:
    """Best first, by `SelectScore.merit`; equals stay in the order in which they were tried."""
    return sorted(outcomes, key=lambda outcome: outcome.score.merit(budget), reverse=True)


def along(
    outcomes: Sequence[Outcome], chosen: Outcome, kind: Literal["ablate", "steer"], budget: float
) -> Outcome:
    """The best ablation or steering along the direction of the chosen outcome."""
    place = (chosen.candidate.method, chosen.candidate.layer)
    usable = [
        outcome
        for outcome in outcomes
        if (outcome.candidate.method, outcome.candidate.layer) == place
        and outcome.candidate.form.kind == kind
    ]
    if not usable:
        hook_point = chosen.candidate.direction.hook_point
        raise BadInput(
            f"no {kind} along the {place[0]} direction of {hook_point} gave finite numbers: "
            "try --dtype float32"
        )
    return ranked(usable, budget)[0]


def _distinct(candidates: Sequence[Candidate]) -> list[Candidate]:
    seen: dict[tuple[str, int], Candidate] = {}
    for candidate in candidates:
        seen.setdefault((candidate.method, candidate.layer), candidate)
    return list(seen.values())

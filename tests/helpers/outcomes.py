"""Made-up candidates and what a search would have measured of them."""

from typing import TYPE_CHECKING

import torch

from persona_probe.base.hook_points import HookPoint

if TYPE_CHECKING:
    from persona_probe.measurement.search import Candidate, Outcome

N_LAYERS, WIDTH = 12, 8
POINTS = tuple(HookPoint(layer) for layer in range(N_LAYERS))
METHODS = ("mean_diff", "shift", "lda")


def outcome(
    candidate: "Candidate", restoration: float | None, delta_nll: float, persona_score: float = 0.0
) -> "Outcome":
    from persona_probe.measurement.ranking import SelectScore
    from persona_probe.measurement.search import Outcome

    return Outcome(candidate, SelectScore(restoration, delta_nll, persona_score))


def candidate(method: str = "shift", layer: int = 3, kind: str = "ablate") -> "Candidate":
    from persona_probe.directions.direction import Direction
    from persona_probe.interventions.forms import Form
    from persona_probe.measurement.search import Candidate

    form = (
        Form("ablate", "layer", None, "zero", 0)
        if kind == "ablate"
        else Form("steer", "layer", -1.0, None, 0)
    )
    return Candidate(
        Direction(hook_point=POINTS[layer], vector=torch.ones(WIDTH), method=method), layer, form
    )

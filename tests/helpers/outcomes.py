"""Made-up candidates and what a search would have measured of them."""

from typing import TYPE_CHECKING

import numpy as np
import torch

from persona_probe.base.hook_points import HookPoint

if TYPE_CHECKING:
    from persona_probe.directions.direction import DirectionSet
    from persona_probe.measurement.search import Candidate, Outcome

N_LAYERS, WIDTH = 12, 8
POINTS = tuple(HookPoint(layer) for layer in range(N_LAYERS))
METHODS = ("mean_diff", "shift", "lda")


def outcome(
    candidate: "Candidate",
    restoration: float | None,
    delta_nll: float,
    persona_score: float = 0.0,
    *,
    kl: float | None = None,
) -> "Outcome":
    """A candidate on four select questions of one score."""
    from persona_probe.measurement.ranking import SelectScore
    from persona_probe.measurement.search import Outcome

    score = SelectScore(restoration, delta_nll, persona_score, kl)
    return Outcome(candidate, score, tuned=np.full(4, persona_score))


def directions(method: str = "shift", *, length: float = 1.0) -> "DirectionSet":
    """A random direction of one length at every layer."""
    from persona_probe.directions.direction import DirectionSet

    vectors = torch.randn(N_LAYERS, WIDTH, generator=torch.Generator().manual_seed(0))
    vectors = length * vectors / vectors.norm(dim=-1, keepdim=True)
    return DirectionSet(method=method, hook_points=POINTS, vectors=vectors)


def candidate(method: str = "shift", layer: int = 3, kind: str = "ablate") -> "Candidate":
    """One way to use one direction."""
    from persona_probe.interventions.forms import Form
    from persona_probe.measurement.search import Candidate

    form = (
        Form("ablate", "layer", None, "base mean", 0)
        if kind == "ablate"
        else Form("steer", "layer", -1.0, None, 0)
    )
    return Candidate(directions(method), layer, form)

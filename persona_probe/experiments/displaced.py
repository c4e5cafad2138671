"""How far the ablations of a run move the tuned model's mean, from what was read to find the directions."""

from collections.abc import Sequence

from persona_probe.directions.fitting import Fitted
from persona_probe.experiments.selection import Selection
from persona_probe.interventions.forms import displacement
from persona_probe.measurement.arms import Arm
from persona_probe.measurement.search import Candidate
from persona_probe.prompts.contrast import Contrast
from persona_probe.records.arms import Displaced


def displacements(
    selection: Selection, fitted: Fitted, winners: Sequence[Arm], contrast: Contrast
) -> dict[str, Displaced]:
    """By name of an arm on the tuned model. `winners` carry the selection's, in its order.

    Left out are forms whose effect on the mean its projection does not tell: with a boundary, or oblique.
    """
    carried = {"tuned+ablate": selection.ablation.candidate}
    carried |= {arm.name: outcome.candidate for arm, outcome in zip(winners, selection.winners, strict=True)}
    return {
        name: displaced(candidate, fitted, contrast)
        for name, candidate in carried.items()
        if candidate.form.kind == "ablate" and candidate.form.beyond is None and not candidate.form.oblique
    }


def displaced(candidate: Candidate, fitted: Fitted, contrast: Contrast) -> Displaced:
    """What one ablation does to the mean over the find replies, at its direction's hook point."""
    direction = candidate.direction
    hook = fitted.hook_points.index(direction.hook_point)
    by_label = fitted.find[candidate.method]
    questions = contrast.split("find")
    n = {
        "aligned": sum(len(question.aligned) for question in questions),
        "misaligned": sum(len(question.misaligned) for question in questions),
    }
    along = sum(n[label] * float(by_label[label][hook]) for label in n) / sum(n.values())
    moves = displacement(
        candidate.form, direction, mean=along * direction.unit, base_mean=fitted.base_mean[hook]
    )
    return Displaced(moved=moves.moved, from_base=moves.from_base)

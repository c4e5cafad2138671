"""The one rule that ranks what was tried on the select questions: candidates, sets of latents, doses."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from persona_probe.measurement.arms import Measurement, delta_nll, persona_scores
from persona_probe.prompts.rows import Row


@dataclass(frozen=True)
class SelectScore:
    """Point estimates of one arm on the tuned model. Dozens are compared, and none is reported as a result.

    `restoration` is None where tuning had no positive effect on S. The other two are in nats per token.
    """

    restoration: float | None
    delta_nll: float
    persona_score: float

    def within(self, budget: float) -> bool:
        """Whether the damage is inside the budget."""
        return self.delta_nll <= budget

    def merit(self, budget: float) -> tuple[bool, float, float, float]:
        """Sort key, higher is better: inside the budget, most restored, least damage, closest to R = 1.

        Restoration is rounded to two digits and counts up to 1. Without an effect to restore, a lower S is
        better.
        """
        restored = None if self.restoration is None else round(self.restoration, 2)
        gain = -self.persona_score if restored is None else min(restored, 1.0)
        overshoot = 0.0 if restored is None else max(0.0, restored - 1.0)
        # A benign loss below the untouched model's is no damage, and no reason to push further.
        return self.within(budget), gain, -max(0.0, self.delta_nll), -overshoot


FAILED = SelectScore(restoration=-np.inf, delta_nll=np.inf, persona_score=np.inf)


def select_score(
    measurement: Measurement, clean: Measurement, rows: Sequence[Row], *, effect: float
) -> SelectScore:
    """Point estimates of an arm against the untouched tuned model `clean`; a failed arm ranks last.

    `rows` are the persona rows that S is computed from; `effect` is S_tuned - S_base on the select questions.
    """
    if measurement.failed:
        return FAILED
    scores, tuned = persona_scores(measurement, rows), persona_scores(clean, rows)
    return SelectScore(
        restoration=float((tuned - scores).mean()) / effect if effect > 0 else None,
        delta_nll=delta_nll(measurement, clean),
        persona_score=float(scores.mean()),
    )

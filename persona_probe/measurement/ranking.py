"""How well an arm does on the select questions: point estimates that rank candidates, latents, doses."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from persona_probe.measurement.arms import Measurement, delta_nll, mean_kl, persona_scores
from persona_probe.measurement.limits import Limits
from persona_probe.prompts.rows import Row


@dataclass(frozen=True)
class SelectScore:
    """Point estimates of one arm on the tuned model. Dozens are compared, and none is reported as a result.

    `restoration` is None where tuning had no positive effect on S. The others are in nats per token; `kl` is
    None where it was not measured.
    """

    restoration: float | None
    delta_nll: float
    persona_score: float
    kl: float | None = None

    def within(self, limits: Limits) -> bool:
        """Whether the damage is allowed: a benign loss that falls is damage, too."""
        return abs(self.delta_nll) <= limits.delta_nll and (self.kl is None or self.kl <= limits.kl)

    def merit(self, limits: Limits) -> tuple[bool, float, float]:
        """Sort key, higher is better: inside the limits, closest to R = 1, least damage.

        The distance from 1 is rounded to two digits. Without an effect to restore, a lower S is better.
        """
        gain = -self.persona_score if self.restoration is None else 1 - round(abs(1 - self.restoration), 2)
        return self.within(limits), gain, -abs(self.delta_nll)


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
        kl=mean_kl(measurement) if measurement.benign else None,
    )

"""Sets of latents on the test questions: their numbers, matched sets beside them, and the verdict on the
chosen one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from persona_probe.experiments.confirmation import SetResult, SetTrial
from persona_probe.measurement.comparison import Comparison
from persona_probe.measurement.limits import Limits
from persona_probe.measurement.nulls import compared_with_null
from persona_probe.measurement.verdicts import Evidence, judged
from persona_probe.records.arms import ArmNumbers
from persona_probe.records.parts import Estimate
from persona_probe.records.verdicts import Cost, Judgement, NullComparison, Use


@dataclass(frozen=True, eq=False)
class SetJudge:
    """Sets beside both untouched models. `limits`: damage that is allowed on the benign texts of test;
    `n_tried`: sets that the chosen one was chosen from; `limited`: the run was cut by `--limit`."""

    comparison: Comparison
    limits: Limits
    n_tried: int
    limited: bool

    def entry(self, item: SetResult) -> dict[str, Any]:
        """A set as in the record; the chosen one with its matched sets and its verdict."""
        numbers = self.numbers(item.trial)
        matched = [(one, self.numbers(one)) for one in item.matched]
        return {
            "k": item.chosen.k,
            "kind": item.chosen.kind,
            "latents": list(item.chosen.signs),
            "signs": list(item.chosen.signs.values()),
            "dose": item.chosen.dose,
            "selected": item.selected,
            "wins": item.wins,
            "control": _control([one for _, one in matched]),
            "matched": [_matched(*one) for one in matched] if item.selected else [],
            **_shown(numbers),
            "judged": self._judgement(item, numbers, matched).plain() if item.selected else None,
        }

    def numbers(self, trial: SetTrial) -> ArmNumbers:
        """All numbers of a set on the tuned model; C where it was measured on base, too."""
        partner = None if trial.base is None else trial.base[1]
        return ArmNumbers.model_validate(self.comparison.numbers("tuned", trial.tuned[1], partner=partner))

    def _judgement(
        self, item: SetResult, numbers: ArmNumbers, matched: Sequence[tuple[SetTrial, ArmNumbers]]
    ) -> Judgement:
        use: Use = "steering" if item.chosen.kind == "steer" else "ablation"
        costs = [
            _cost("ΔNLL on benign texts", numbers.delta_nll, self.limits.delta_nll),
            _cost("KL on benign texts", numbers.kl, self.limits.kl),
        ]
        return judged(
            Evidence(
                use=use,
                n_questions=len(self.comparison.base),
                limited=self.limited,
                effect=self.comparison.effect,
                restoration=numbers.restoration,
                closure=numbers.closure,
                base_moved=numbers.base_moved,
                costs=costs,
                null=self._null(use, numbers, [one for _, one in matched]),
            )
        )

    def _null(self, use: Use, own: ArmNumbers, matched: Sequence[ArmNumbers]) -> NullComparison | None:
        """The chosen set among the matched ones; None without an effect or, for an ablation, without C."""
        if own.restoration is None or (use == "ablation" and own.closure is None):
            return None
        closes = use == "ablation"
        usable = [one for one in matched if one.restoration and (one.closure or not closes)]
        return compared_with_null(
            restoration=own.restoration.estimate,
            closure=own.closure.estimate if closes and own.closure else None,
            null_restoration=[one.restoration.estimate for one in usable if one.restoration],
            null_closure=[one.closure.estimate for one in usable if one.closure] if closes else [],
            n_tried=self.n_tried,
        )


def _shown(numbers: ArmNumbers) -> dict[str, Any]:
    names = ("restoration", "closure", "base_moved", "delta_nll", "kl")
    plain = numbers.plain()
    return {name: plain[name] for name in names}


def _matched(trial: SetTrial, numbers: ArmNumbers) -> dict[str, Any]:
    return {"latents": list(trial.latents.signs), **_shown(numbers)}


def _control(matched: Sequence[ArmNumbers]) -> dict[str, Any] | None:
    """Medians and maxima of the matched sets; None without any."""
    if not matched:
        return None
    restored = [one.restoration.estimate for one in matched if one.restoration]
    closed = [one.closure.estimate for one in matched if one.closure]
    return {
        "n": len(matched),
        "restoration": float(np.median(restored)) if restored else None,
        "restoration_max": max(restored, default=None),
        "closure": float(np.median(closed)) if closed else None,
        "closure_max": max(closed, default=None),
        "delta_nll": float(np.median([one.delta_nll.estimate for one in matched])),
        "kl": float(np.median([one.kl.estimate for one in matched])),
    }


def _cost(name: str, value: Estimate, allowed: float) -> Cost:
    return Cost(name=name, largest=max(abs(value.low), abs(value.high)), budget=allowed)

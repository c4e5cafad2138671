"""A few arms on a few questions, from Python: arms in, a small record out that the figures draw. `find_direction` is the whole experiment."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from persona_probe.base.errors import BadInput
from persona_probe.directions.estimators import DirectionSet
from persona_probe.directions.fitting import Readings
from persona_probe.interventions.forms import Form
from persona_probe.interventions.persona_direction import PersonaDirection
from persona_probe.measurement.arms import Arm, Battery, Measurement
from persona_probe.measurement.bench import Bench
from persona_probe.measurement.comparison import Comparison
from persona_probe.measurement.controls import matched_directions
from persona_probe.measurement.ranking import SelectScore
from persona_probe.models.pairs import SIDES, Pair, Side
from persona_probe.prompts.contrast import Contrast, Split, read_benign, shipped
from persona_probe.streams.runs import Run

ARMS_AT_ONCE = 4  # arms of one layer that share a forward pass


@dataclass(frozen=True, eq=False)
class Trial:
    """A pair on some questions and benign texts of its own. Whatever was measured is kept as long as the trial lives.

    `budget` is the damage allowed, in nats per token. Both models are measured, so a pair that keeps both is fastest.
    """

    bench: Bench
    budget: float
    seed: int
    _folder: TemporaryDirectory[str]

    def record(self, arms: Sequence[Arm], *, chosen: str = "") -> dict[str, Any]:
        """Both untouched models and `arms` as part of a record, with intervals over questions; there is no verdict on so few.

        `chosen` is the arm that figures put first. An arm that left no finite number is in `failed` instead.
        """
        found = self._measured(arms)
        comparison = self._comparison()
        return {
            "limited": True,
            "data": {"n_questions": {"test": self.n_questions}, "n_benign": len(self.bench.battery.benign)},
            "effect": comparison.effect.json(),
            "selected": {"arm": chosen, "budget": self.budget},
            "arms": [
                comparison.row(arm, measurement) | {"scores": comparison.scores(measurement).tolist()}
                for arm, measurement in found
                if not measurement.failed
            ],
            "failed": [
                f"{arm.name}: {measurement.failed}" for arm, measurement in found if measurement.failed
            ],
        }

    def doses(
        self, direction: PersonaDirection, coefficients: Sequence[float], *, hook_point: str, side: Side
    ) -> dict[str, Any]:
        """A record with a dose-response: one model steered by each coefficient, and as far along a covariance-matched random direction."""
        used = {"direction": direction, "control": direction.as_control()}
        arms = {
            (name, coefficient): Arm(f"{name} {coefficient:+g}", side, kind.steer(coefficient, hook_point))
            for name, kind in used.items()
            for coefficient in coefficients
        }
        record = self.record(list(arms.values()))
        entries = {arm["name"]: arm for arm in record["arms"]}
        points = {
            name: [
                entries[arms[name, coefficient].name]
                | {
                    "coefficient": coefficient,
                    "relative_dose": direction.relative(coefficient, hook_point),
                    "side": side,
                }
                for coefficient in coefficients
                if arms[name, coefficient].name in entries
            ]
            for name in used
        }
        untouched = [arm for arm in record["arms"] if arm["name"] in SIDES]
        return record | {
            "arms": untouched,
            "dose_response": points["direction"],
            "dose_control": points["control"],
        }

    @property
    def n_questions(self) -> int:
        """How many questions are scored."""
        return len({row.question_id for row in self.bench.battery.persona})

    def _measured(self, arms: Sequence[Arm]) -> list[tuple[Arm, Measurement]]:
        planned = [Arm(side, side) for side in SIDES] + [arm for arm in arms if arm.interventions]
        if len({arm.name for arm in planned}) < len(planned):
            raise BadInput(f"two arms of one name among {[arm.name for arm in planned]}: give each its own")
        found: dict[str, Measurement] = {}
        for side in SIDES:
            own = [arm for arm in planned if arm.side == side]
            found |= dict(zip([arm.name for arm in own], self.bench.measure(own), strict=True))
        return [(arm, found[arm.name]) for arm in planned]

    def _comparison(self) -> Comparison:
        return Comparison(
            self.bench.battery.persona, {side: self.bench.baseline(side) for side in SIDES}, self.seed
        )


def open_trial(
    pair: Pair,
    contrast: Contrast,
    *,
    split: Split,
    n_questions: int,
    n_replies: int,
    n_benign: int,
    budget: float,
    seed: int,
    benign: Path | None = None,
) -> Trial:
    """The first `n_questions` of a split with `n_replies` of each label, and benign texts of a file, else shipped ones: the last for select, the first for other splits."""
    questions = contrast.split(split)[:n_questions]
    if len(questions) < 2:
        raise BadInput(f"{len(questions)} questions in split {split}: an interval needs at least 2")
    rows = tuple(row for q in questions for row in q.rows(pair.tokenizer) if row.reply_index < n_replies)
    texts = read_benign(benign or shipped("benign.jsonl"), pair.tokenizer)
    some = tuple(
        texts[-n_benign:] if split == "select" else texts[:n_benign]
    )  # what chooses shares no text with what is reported
    folder = TemporaryDirectory(prefix="persona_probe-")
    bench = Bench(
        pair, Run(Path(folder.name)), Battery(rows, some), 512, arms_at_once=ARMS_AT_ONCE, keep_clean=True
    )
    return Trial(bench, budget, seed, folder)


def best_arm(record: Mapping[str, Any]) -> dict[str, Any]:
    """The arm on the tuned model that the search would take (`SelectScore.merit`), within the budget or not."""

    def merit(arm: Mapping[str, Any]) -> tuple[bool, float, float, float]:
        share = arm["restoration"]
        score = SelectScore(
            restoration=share and share["estimate"],
            delta_nll=arm["delta_nll"]["estimate"],
            persona_score=arm["persona_score"]["estimate"],
        )
        return score.merit(record["selected"]["budget"])

    arms = [
        arm
        for arm in record["arms"]
        if arm["model"] == "tuned" and arm["interventions"] and not arm["control"]
    ]
    if not arms:
        raise BadInput("the record has no arm on the tuned model to choose from")
    return max(arms, key=merit)


def ready_to_use(
    found: DirectionSet, readings: Readings, *, hook_point: str, skip_first: int, budget: float, seed: int
) -> PersonaDirection:
    """A direction that was just fitted, with a scale, a control and simple forms (its own layer; ablation toward zero), but no measured damage."""
    fitted = readings.fitted()
    return PersonaDirection(
        method=found.method,
        hook_points=found.hook_points,
        hook_point=hook_point,
        vectors=found.vectors,
        control=matched_directions(found, readings.tuned, seed=seed),
        base_mean=fitted.base_mean,
        median_norm=tuple(fitted.median_norm.tolist()),
        group_means=fitted.group_means(found.method),
        ablation=Form("ablate", "layer", None, "zero", skip_first),
        steering=Form("steer", "layer", -1.0, None, skip_first),
        budget=budget,
        damage=(),
        identity={},
    )


def directions_record(readings: Readings, *, shown: str, hook_point: str) -> dict[str, Any]:
    """The `directions` part of a record, before anything was steered: every method's quality, cosines, and projections of the select replies along `shown`."""
    fitted = readings.fitted()
    return {
        "selected": {"hook_point": hook_point, "layer": fitted.hook_points.index(hook_point)},
        "directions": fitted.json(shown=shown, hook_point=hook_point),
    }

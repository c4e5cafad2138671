"""A few arms on a few questions, from Python: arms in, a small record out that the figures draw."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from persona_probe.base.errors import BadInput
from persona_probe.base.hook_points import HookPoint
from persona_probe.directions.direction import DirectionSet
from persona_probe.directions.fitting import Readings
from persona_probe.interventions.edits import seen_by
from persona_probe.interventions.forms import Form
from persona_probe.interventions.persona_direction import PersonaDirection, from_fitted
from persona_probe.measurement.arms import Arm, Battery, Measurement
from persona_probe.measurement.bench import Bench
from persona_probe.measurement.comparison import Comparison, partners
from persona_probe.measurement.controls import covariance_controls
from persona_probe.measurement.limits import Limits
from persona_probe.measurement.ranking import SelectScore
from persona_probe.measurement.statistics import control_medians
from persona_probe.models.pairs import SIDES, Pair, Side
from persona_probe.prompts.contrast import Contrast, Split, question_hash, shipped
from persona_probe.prompts.contrast_files import read_benign
from persona_probe.records.trial import FittedRecord, TrialArm, TrialDose, TrialRecord
from persona_probe.storage.runs import Run

MAX_TOKENS = 1024


@dataclass(frozen=True, eq=False)
class Trial:
    """A pair on some questions and benign texts. Whatever was measured is kept as long as the trial lives.

    `budget` is the damage allowed, in nats per token. `questions` are hashes of the questions: arms whose
    direction was found or selected on one of them are refused. Both models are measured, so a pair that
    keeps both is fastest.
    """

    bench: Bench
    budget: float
    seed: int
    questions: frozenset[str]
    _folder: TemporaryDirectory[str]

    def record(self, arms: Sequence[Arm], *, chosen: str = "") -> TrialRecord:
        """Both untouched models and `arms` as part of a record, with intervals and without verdicts.

        `chosen` is the arm that figures put first. An arm that left no finite number is in `failed`
        instead. BadInput for an arm whose direction has seen these questions.
        """
        self._refuse_seen(arms)
        measured, comparison = self._measured(arms), self._comparison()
        finite = [(arm, measurement) for arm, measurement in measured if not measurement.failed]
        other = partners(finite)
        entries = [
            TrialArm.model_validate(
                comparison.row(arm, measurement, partner=other.get(arm.name))
                | {"scores": comparison.scores(measurement).tolist()}
            )
            for arm, measurement in finite
        ]
        record = {
            "data": {"n_questions": {"test": self.n_questions}, "n_benign": len(self.bench.battery.benign)},
            "effect": comparison.effect.plain(),
            "selected": {"arm": chosen, "budget": self.budget},
            "arms": entries,
            "controls": control_medians(entries),
            "failed": [f"{arm.name}: {m.failed}" for arm, m in measured if m.failed],
        }
        return TrialRecord.model_validate(record)

    def doses(
        self, direction: PersonaDirection, coefficients: Sequence[float], *, hook_point: str, side: Side
    ) -> TrialRecord:
        """A record with a dose-response of one model, and the same doses of a matched random direction."""
        tried: list[tuple[str, float, Arm]] = []
        for c in coefficients:
            tried.append(("dose_response", c, Arm(f"direction {c:+g}", side, direction.steer(c, hook_point))))
        for c in coefficients:
            edits = direction.as_control().steer(c, hook_point)
            tried.append(("dose_control", c, Arm(f"control {c:+g}", side, edits, control="covariance")))
        record = self.record([arm for *_, arm in tried])
        entries = {arm.name: arm for arm in record.arms}
        points: dict[str, list[TrialDose]] = {"dose_response": [], "dose_control": []}
        for key, c, arm in tried:
            if arm.name in entries:
                dose = direction.relative(c, hook_point)
                points[key].append(TrialDose.of(entries[arm.name], coefficient=c, relative_dose=dose))
        untouched = tuple(arm for arm in record.arms if not arm.interventions)
        changes = {"arms": untouched, "controls": {}, **{key: tuple(doses) for key, doses in points.items()}}
        return record.model_copy(update=changes)

    @property
    def n_questions(self) -> int:
        """How many questions are scored."""
        return len({row.question_id for row in self.bench.battery.persona})

    def _refuse_seen(self, arms: Sequence[Arm]) -> None:
        """BadInput for an arm whose direction was found or selected on some of these questions."""
        for arm in arms:
            if n := len(self.questions & seen_by(arm.interventions)):
                raise BadInput(
                    f"the direction of {arm.name} was found or selected on {n} of these"
                    f" {len(self.questions)} questions, so no number on them is a test: measure on others,"
                    ' such as split="test" of the set that it was made with'
                )

    def _measured(self, arms: Sequence[Arm]) -> list[tuple[Arm, Measurement]]:
        planned = [Arm(side, side) for side in SIDES] + [arm for arm in arms if arm.interventions]
        if len({arm.name for arm in planned}) < len(planned):
            raise BadInput(f"two arms of one name among {[arm.name for arm in planned]}: give each its own")
        measured: dict[str, Measurement] = {}
        for side in SIDES:
            arms_of_side = [arm for arm in planned if arm.side == side]
            names = [arm.name for arm in arms_of_side]
            measured |= dict(zip(names, self.bench.measure(arms_of_side), strict=True))
        return [(arm, measured[arm.name]) for arm in planned]

    def _comparison(self) -> Comparison:
        clean: dict[Side, Measurement] = {side: self.bench.baseline(side) for side in SIDES}
        return Comparison(rows=self.bench.battery.persona, clean=clean, seed=self.seed)


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
    """The first `n_questions` of a split with `n_replies` of each label, and `n_benign` benign texts.

    Benign texts are the last of their file for split select and the first for others, so that what chooses
    shares no text with what is reported. BadInput for fewer than two questions.
    """
    questions = contrast.split(split)[:n_questions]
    if len(questions) < 2:
        raise BadInput(f"{len(questions)} questions in split {split}: an interval needs at least 2")
    rows = tuple(row for q in questions for row in q.rows(pair.tokenizer) if row.reply_index < n_replies)
    texts = read_benign(benign or shipped("benign.jsonl"), pair.tokenizer)
    battery = Battery(
        persona=rows, benign=tuple(texts[-n_benign:] if split == "select" else texts[:n_benign])
    )
    folder = TemporaryDirectory(prefix="persona_probe-")
    bench = Bench(pair=pair, run=Run(Path(folder.name)), battery=battery, max_tokens=MAX_TOKENS)
    asked = frozenset(question_hash(question.text) for question in questions)
    return Trial(bench=bench, budget=budget, seed=seed, questions=asked, _folder=folder)


def best_arm(record: TrialRecord) -> TrialArm:
    """The arm on the tuned model that the search would take (`SelectScore.merit`)."""

    def merit(arm: TrialArm) -> tuple[bool, float, float]:
        score = SelectScore(
            restoration=arm.restoration and arm.restoration.estimate,
            delta_nll=arm.delta_nll.estimate,
            persona_score=arm.persona_score.estimate,
            kl=arm.kl.estimate,
        )
        return score.merit(Limits.of(record.selected.budget))

    arms = [arm for arm in record.arms if arm.model == "tuned" and arm.interventions and not arm.control]
    if not arms:
        raise BadInput("the record has no arm on the tuned model to choose from")
    return max(arms, key=merit)


def ready_to_use(
    directions: DirectionSet,
    readings: Readings,
    *,
    hook_point: str,
    skip_first: int,
    budget: float,
    seed: int,
) -> PersonaDirection:
    """A direction that was just fitted, with simple forms: at its own layer, ablation toward zero.

    No dose is measured.
    """
    return from_fitted(
        readings.fitted(),
        directions.method,
        HookPoint.parse(hook_point),
        control=covariance_controls(directions, readings.tuned, seed=seed),
        ablation=Form("ablate", "layer", None, "zero", skip_first),
        steering=Form("steer", "layer", -1.0, None, skip_first),
        budget=budget,
    )


def directions_record(readings: Readings, *, shown: str, hook_point: str) -> FittedRecord:
    """The `directions` part of a record, with the select replies projected on the method `shown`."""
    point = HookPoint.parse(hook_point)
    record = {
        "selected": {"hook_point": point, "layer": point.layer},
        "directions": readings.fitted().json(shown=shown, hook_point=point),
    }
    return FittedRecord.model_validate(record)

"""What was measured in Python, outside a run. It is not written to disk; figures and tables take it as they
take a record."""

from pydantic import Field

from persona_probe.records.arms import ArmEntry, ControlMedian, DoseEntry
from persona_probe.records.fitted import Directions
from persona_probe.records.parts import (
    ControlKind,
    Count,
    Estimate,
    HookPoint,
    Many,
    NonNegative,
    Part,
    Side,
    Text,
)


class TrialArm(ArmEntry):
    """One arm with the score of every question."""

    scores: Many[float] = Field(description="S of every question, in one order for all arms.")


class TrialDose(DoseEntry):
    """One strength of steering with the score of every question."""

    scores: Many[float] = Field(description="S of every question, in one order for all doses.")

    @classmethod
    def of(cls, arm: TrialArm, *, coefficient: float, relative_dose: float) -> "TrialDose":
        """The numbers of an arm as those of a strength of steering."""
        numbers = {
            name: getattr(arm, name) for name in cls.model_fields.keys() & TrialArm.model_fields.keys()
        }
        return cls(coefficient=coefficient, relative_dose=relative_dose, side=arm.model, **numbers)


class TrialQuestions(Part):
    """Questions of a trial."""

    test: Count = Field(description="Questions that all numbers come from.")


class TrialData(Part):
    """How much was measured."""

    n_questions: TrialQuestions = Field(description="Questions.")
    n_benign: Count = Field(description="Benign texts that the damage comes from.")


class TrialSelected(Part):
    """What figures put first."""

    arm: Text = Field(description="Name of an arm; empty for none.")
    budget: NonNegative = Field(description="Damage that is allowed, nats per token.")


class TrialRecord(Part):
    """Both untouched models and some arms on a few questions."""

    data: TrialData = Field(description="How much was measured.")
    effect: Estimate = Field(description="S_tuned - S_base, nats per token.")
    selected: TrialSelected = Field(description="The arm that figures put first, and the budget.")
    arms: Many[TrialArm] = Field(description="Everything measured.")
    controls: dict[ControlKind, ControlMedian] = Field({}, description="Medians by kind of control.")
    dose_response: Many[TrialDose] = Field((), description="Steering along the direction, by strength.")
    dose_control: Many[TrialDose] = Field((), description="The same along a random direction.")
    failed: Many[Text] = Field((), description="Arms without numbers, and why.")

    def untouched(self, side: Side) -> TrialArm | None:
        """A model that nothing was done to."""
        return next((arm for arm in self.arms if arm.model == side and not arm.interventions), None)


class FittedSelected(Part):
    """What figures mark."""

    hook_point: HookPoint = Field(description="Where a direction is looked at.")
    layer: Count = Field(description="The block of that hook point, from 0.")


class FittedRecord(Part):
    """Directions that were fitted, before anything was steered."""

    selected: FittedSelected = Field(description="What figures mark.")
    directions: Directions = Field(description="The fitted directions, without their vectors.")

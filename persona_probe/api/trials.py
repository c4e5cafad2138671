"""A few arms on a few questions, measured beside both untouched models: a table, and figures."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from plotly.graph_objects import Figure

from persona_probe.api.contrasts import contrast_of
from persona_probe.api.runs import frame
from persona_probe.experiments.quick import Trial, best_arm, open_trial
from persona_probe.interventions.persona_direction import PersonaDirection
from persona_probe.measurement.arms import Arm
from persona_probe.models.pairs import Pair, Side
from persona_probe.pages.cells import arms_table, costs
from persona_probe.plots.arms import arm_bars
from persona_probe.plots.doses import dose_slider
from persona_probe.prompts.contrast import Contrast, Split
from persona_probe.records.trial import TrialRecord

if TYPE_CHECKING:
    import pandas as pd


class Measured:
    """Arms that were measured on some questions, beside both untouched models; a notebook shows them as a
    table."""

    def __init__(self, record: TrialRecord) -> None:
        self.record, self.arms = record, record.arms

    @property
    def best(self) -> str:
        """The name of the arm on the tuned model that the search would take."""
        return best_arm(self.record).name

    @property
    def costs(self) -> dict[str, str]:
        """S and damage of every arm in a few words, as notes below replies."""
        return costs(self.record)

    def table(self) -> "pd.DataFrame":
        """One row an arm: estimates and ends of their 95% intervals, as `DirectionRun.table`."""
        return frame(self.arms)

    def bars(self) -> Figure:
        """Restoration, closure and damage of every arm, controls in grey."""
        return arm_bars(self.record)

    def _repr_html_(self) -> str:
        return arms_table(self.record)._repr_html_()

    def __repr__(self) -> str:
        return repr(arms_table(self.record))


class Trials:
    """A pair on some questions and harmless texts. What was measured is kept, so that a second look costs
    nothing."""

    def __init__(self, trial: Trial) -> None:
        self._trial = trial

    @property
    def n_questions(self) -> int:
        """How many questions are scored."""
        return self._trial.n_questions

    def measure(self, arms: Sequence[Arm], *, first: str = "") -> Measured:
        """S, restoration and damage of arms, with intervals over questions; figures put the arm named `first`
        first."""
        return Measured(self._trial.record(arms, chosen=first))

    def doses(
        self,
        direction: PersonaDirection,
        coefficients: Sequence[float],
        *,
        side: Side = "tuned",
        hook_point: str | None = None,
    ) -> Figure:
        """One model steered by several coefficients, and as far along a random direction: a figure with a
        slider."""
        at = hook_point or direction.hook_point
        return dose_slider(self._trial.doses(direction, coefficients, hook_point=at, side=side))


def trials(
    pair: Pair,
    data: Contrast | str | Path | None = None,
    *,
    split: Split = "test",
    n_questions: int = 12,
    n_replies: int = 2,
    n_benign: int = 12,
    budget: float = 0.10,
    seed: int = 0,
) -> Trials:
    """The first questions of a split, with so many replies of each label, and harmless texts that no other
    split uses.

    `data`: a contrast set, its file, or None for the one that ships. `budget`: damage allowed, nats per
    token.
    """
    return Trials(
        open_trial(
            pair,
            contrast_of(data),
            split=split,
            n_questions=n_questions,
            n_replies=n_replies,
            n_benign=n_benign,
            budget=budget,
            seed=seed,
        )
    )


def measure(
    pair: Pair, arms: Sequence[Arm], data: Contrast | str | Path | None = None, *, n_questions: int = 12
) -> Measured:
    """S, restoration and damage of arms on the first test questions; `trials` has every setting and keeps
    what it measured."""
    return trials(pair, data, n_questions=n_questions).measure(arms)

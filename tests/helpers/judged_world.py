"""A removal and its controls as made-up measurements whose shares of the shift are known."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from persona_probe.base.hook_points import HookPoint

if TYPE_CHECKING:
    from persona_probe.experiments.judging import Judge
    from persona_probe.interventions.edits import Intervention
    from persona_probe.measurement.arms import Arm, Measurement
    from persona_probe.models.pairs import Side
    from persona_probe.prompts.rows import Row
    from persona_probe.records.arms import ArmEntry
    from persona_probe.records.parts import ControlKind

POINTS, D = (HookPoint(0),), 64
SIDES: "tuple[Side, Side]" = ("tuned", "base")
Questions = np.ndarray


def edits(number: int, use: str = "ablation") -> "tuple[Intervention, ...]":
    """One use of one direction; equal numbers are equal directions."""
    from persona_probe.directions.direction import Direction
    from persona_probe.interventions.forms import Form

    direction = Direction(hook_point=POINTS[0], vector=torch.eye(D)[number], method="shift")
    form = {
        "ablation": Form("ablate", "layer", None, "base mean", 0),
        "displacement": Form("ablate", "layer", None, "zero", 0),
        "steering": Form("steer", "layer", -1.0, None, 0),
    }[use]
    return form.interventions(direction, hook_points=POINTS, means=torch.zeros(1, D))


@dataclass(frozen=True, kw_only=True)
class World:
    """What every arm does, as shares of the shift, and how it is measured.

    The arm proper restores `restores` and closes `closes`; random directions do `random` times 1, 2, ... K.
    `by_style`: R and C of a contrast of style. `last`: R and C on the rows that controls are not scored on.
    """

    restores: float = 1.0
    closes: float = 1.0
    use: str = "ablation"
    shift: float = 1.0
    n_questions: int = 16
    n_random: int = 19
    random: float = 0.002
    by_style: tuple[float, float] = (0.0, 0.0)
    last: tuple[float, float] | None = None
    nll: float = 0.0
    kl: float = 0.01
    limited: bool = False
    with_base: bool = True
    names: dict[str, str] = field(default_factory=dict)

    def name(self, name: str) -> str:
        """What an arm is called here: names are for people only."""
        return self.names.get(name, name)

    def rows(self) -> "tuple[Row, ...]":
        """Three replies of each label to every question."""
        from persona_probe.prompts.contrast import LABELS
        from persona_probe.prompts.rows import Row

        return tuple(
            Row(
                id=f"q{q}/{label}/{i}",
                kind="persona",
                question_id=f"q{q}",
                ids=(1, 2, 3),
                n_prompt=1,
                label=label,
                split="test",
                reply_index=i,
            )
            for q in range(self.n_questions)
            for label in LABELS
            for i in range(3)
        )

    def control_rows(self) -> "tuple[Row, ...]":
        """Two replies of each label."""
        return tuple(row for row in self.rows() if row.reply_index < 2)

    def score(self, side: "Side", restores: float, closes: float) -> Questions:
        """S of every question under an edit with these shares; 0 and 0 is the untouched model."""
        rng = np.random.default_rng(0)
        base = rng.normal(size=self.n_questions)
        shift = self.shift + 0.05 * rng.normal(size=self.n_questions)
        noise = 0.02 * rng.normal(size=self.n_questions) * (restores != 0)
        if side == "tuned":
            return base + shift - restores * shift + noise
        return base - (restores - closes) * shift

    def measured(
        self,
        side: "Side",
        does: tuple[float, float],
        *,
        nll: float = 0.0,
        kl: float = 0.0,
        some: bool = False,
    ) -> "Measurement":
        """A measurement with this R and C, and damage in nats per token on four benign texts."""
        from persona_probe.measurement.arms import Measurement

        first = self.score(side, *does)
        last = self.score(side, *self.last) if self.last and does != (0.0, 0.0) else first
        persona = {
            row.id: -2.0
            + (last if row.reply_index == 2 else first)[int(row.question_id[1:])]
            * (0.5 if row.label == "misaligned" else -0.5)
            for row in (self.control_rows() if some else self.rows())
        }
        benign = {f"b{i}": (-20.0 - 10 * nll, 10, kl) for i in range(4)}
        return Measurement("key", persona, benign)

    def arms(self) -> "dict[str, tuple[Arm, Measurement]]":
        """Both untouched models, the removal on both, random directions and a contrast of style beside it."""
        from persona_probe.measurement.arms import Arm

        made: list[tuple[Arm, Measurement]] = [
            (Arm(self.name(side), side), self.measured(side, (0.0, 0.0))) for side in SIDES
        ]

        def add(number: int, does: tuple[float, float], **facts: Any) -> None:
            damage = {"nll": self.nll, "kl": self.kl} if not facts else {}
            kind: ControlKind | None = facts.get("control")
            for side in SIDES if self.with_base else SIDES[:1]:
                name = self.name(f"{side} {kind or 'removal'} {number}")
                arm = Arm(name, side, edits(number, self.use), control=kind, control_of=facts.get("of"))
                made.append((arm, self.measured(side, does, some=kind is not None, **damage)))

        add(0, (self.restores, self.closes))
        of = self.name("tuned removal 0")
        for k in range(1, self.n_random + 1):
            add(k, (self.random * k, self.random * k), control="covariance", of=of)
        add(D - 1, self.by_style, control="style", of=of)
        return {arm.name: (arm, measurement) for arm, measurement in made}

    def judge(self, **changes: Any) -> "Judge":
        """The table, with a budget of 0.1."""
        from persona_probe.experiments.judging import Judge
        from persona_probe.measurement.limits import Limits

        arms = self.arms()
        removal = self.name("tuned removal 0")
        facts: dict[str, Any] = {
            "arms": arms,
            "rows": self.rows(),
            "control_rows": self.control_rows(),
            "clean": {side: arms[self.name(side)][1] for side in SIDES},
            "limits": Limits(0.1, 0.1),
            "own_limits": Limits(0.2, 0.2),
            "skill": {},
            "health": {},
            "limited": self.limited,
            "n_tried": 10,
            "null_of": {removal: removal},
            "seed": 0,
        }
        return Judge(**facts | changes)

    def entry(self) -> "ArmEntry":
        """The removal's entry."""
        return self.judge().entry(self.name("tuned removal 0"))

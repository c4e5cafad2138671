"""Several latents at once: which, how strongly, chosen on the select questions; beside them the single
direction.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from persona_probe.directions.direction import Direction
from persona_probe.interventions.edits import Ablate, Intervention, Steer, orthonormal
from persona_probe.measurement.arms import Arm
from persona_probe.models.pairs import Side
from persona_probe.saes.edits import SetLatents, set_direction
from persona_probe.saes.sae import Sae
from persona_probe.saes.screen import Screened

Use = Literal["steer", "ablate"]
USES: tuple[Use, ...] = ("steer", "ablate")
SIZES = (1, 3, 10)
DOSES = (0.5, 1.0, 2.0, 3.0)  # multiples of the screen's dose, as the length of the whole sum


@dataclass(frozen=True, eq=False)
class LatentSet:
    """Some latents, used together.

    Signs: +1 for a latent that raises S and is taken away, -1 for one that is added. `dose` is None for
    ablation.
    """

    kind: Use
    signs: dict[int, int]
    dose: float | None = None

    @property
    def k(self) -> int:
        """How many latents."""
        return len(self.signs)

    def arm(self, sae: Sae, *, length: float, skip_first: int, name: str = "", side: Side = "tuned") -> Arm:
        """Steering takes `dose` times `length` away along the sum of signed decoder rows; ablation sets
        the latents to 0.
        """
        edit: Intervention
        if self.dose is None:
            edit = SetLatents(sae, tuple(self.signs), 0.0, skip_first)
        else:
            vector = set_direction(sae, self.signs, length=length).vector
            edit = Steer(vector, sae.hook_point, -self.dose, skip_first)
        return Arm(name or f"latents {self.kind} {self.k}", side, (edit,))

    def replaced(self, others: Mapping[int, int]) -> "LatentSet":
        """The same use of other latents: each one's control, with its sign."""
        signs = {others[latent]: sign for latent, sign in self.signs.items() if latent in others}
        return replace(self, signs=signs)


@dataclass(frozen=True, eq=False)
class DirectionUse:
    """A single direction of the SAE's hook point, used as a set of latents is."""

    direction: Direction
    kind: Use
    dose: float | None = None

    def arm(self, *, length: float, skip_first: int) -> Arm:
        """Steering takes `dose` times `length` away along the direction; ablation sets the projection to
        0.
        """
        direction = self.direction
        edit: Intervention
        if self.dose is None:
            edit = Ablate(orthonormal(direction.vector[None]), (direction.hook_point,), None, skip_first)
        else:
            edit = Steer(direction.unit * length, direction.hook_point, -self.dose, skip_first)
        name = f"{direction.method} {self.kind}" + ("" if self.dose is None else f" {self.dose:g}")
        return Arm(name, "tuned", (edit,))


def sensitivity(latent: Screened) -> float:
    """Half the change of S between taking a latent's direction away and adding it: + for latents that
    raise S.
    """
    up, down = latent.effects["base+steer"], latent.effects["tuned-steer"]
    return (up.delta_s.estimate - down.delta_s.estimate) / 2


def possible_sets(screened: Sequence[Screened]) -> list[LatentSet]:
    """Steered sets of the most sensitive latents at several doses, and ablated sets of those whose
    ablation lowers S most.
    """
    usable = [latent for latent in screened if latent.label != "harmful"]
    steered = sorted(usable, key=lambda latent: -abs(sensitivity(latent)))
    change = {latent.latent: latent.effects["tuned+ablate"].delta_s.estimate for latent in usable}
    ablated = sorted((latent for latent in change if change[latent] < 0), key=lambda latent: change[latent])
    possible = []
    for k in SIZES:
        if len(steered) >= k:
            signs = {latent.latent: 1 if sensitivity(latent) > 0 else -1 for latent in steered[:k]}
            possible += [LatentSet("steer", signs, dose) for dose in DOSES]
        if len(ablated) >= k:
            possible.append(LatentSet("ablate", dict.fromkeys(ablated[:k], 1)))
    return possible


def direction_uses(direction: Direction) -> list[DirectionUse]:
    """A single direction in the same forms and at the same doses as sets of latents."""
    return [*(DirectionUse(direction, "steer", dose) for dose in DOSES), DirectionUse(direction, "ablate")]

"""Several latents at once: which, how strongly, chosen on the select questions; beside them controls and the single direction."""

from collections.abc import Sequence
from dataclasses import dataclass

from persona_probe.directions.direction import Direction
from persona_probe.interventions.edits import Ablate, Steer, orthonormal
from persona_probe.measurement.arms import Arm
from persona_probe.saes.edits import SetLatents, set_direction
from persona_probe.saes.sae import Sae
from persona_probe.saes.screen import Screened

SIZES = (1, 3, 10)
DOSES = (0.5, 1.0, 2.0, 3.0)  # multiples of the screen's dose, as the length of the whole sum


@dataclass(frozen=True, eq=False)
class LatentSet:
    """Some latents, used together on the tuned model. Signs: +1 for a latent that raises S and is taken away, -1 for one that is added."""

    kind: str
    signs: dict[int, int]
    dose: float | None

    @property
    def k(self) -> int:
        """How many latents."""
        return len(self.signs)

    def arm(self, sae: Sae, *, length: float, skip_first: int, name: str = "") -> Arm:
        """Steering takes `dose` times `length` away along the sum of signed decoder rows; ablation sets the latents to 0."""
        title = name or f"latents {self.kind} {self.k}"
        if self.dose is None:
            return Arm(title, "tuned", (SetLatents(sae, tuple(self.signs), 0.0, skip_first),))
        vector = set_direction(sae, self.signs, length=length).vector
        return Arm(title, "tuned", (Steer(vector, sae.hook_point, -self.dose, skip_first),))

    def replaced(self, others: dict[int, int]) -> "LatentSet":
        """The same use of other latents: each one's control, with its sign."""
        return LatentSet(
            self.kind,
            {others[latent]: sign for latent, sign in self.signs.items() if latent in others},
            self.dose,
        )


def sensitivity(latent: Screened) -> float:
    """Half the change of S between taking a latent's direction away and adding it: + for latents that raise S."""
    up, down = latent.effects["base+steer"], latent.effects["tuned-steer"]
    return (up.delta_s.estimate - down.delta_s.estimate) / 2


def possible_sets(screened: Sequence[Screened]) -> list[LatentSet]:
    """Steered sets of the most sensitive latents at several doses, and ablated sets of those whose ablation lowers S most."""
    usable = [latent for latent in screened if latent.label != "harmful"]
    steered = sorted(usable, key=lambda latent: -abs(sensitivity(latent)))
    ablated = [latent for latent in usable if latent.effects["tuned+ablate"].delta_s.estimate < 0]
    ablated.sort(key=lambda latent: latent.effects["tuned+ablate"].delta_s.estimate)
    found = []
    for k in SIZES:
        if len(steered) >= k:
            signs = {latent.latent: 1 if sensitivity(latent) > 0 else -1 for latent in steered[:k]}
            found += [LatentSet("steer", signs, dose) for dose in DOSES]
        if len(ablated) >= k:
            found.append(LatentSet("ablate", {latent.latent: 1 for latent in ablated[:k]}, None))
    return found


def direction_arms(
    direction: Direction, *, length: float, skip_first: int
) -> list[tuple[str, float | None, Arm]]:
    """One direction of the SAE's hook point in the same forms, at the same lengths."""
    arms: list[tuple[str, float | None, Arm]] = [
        (
            "steer",
            dose,
            Arm(
                f"{direction.method} steer {dose:g}",
                "tuned",
                (Steer(direction.unit * length, direction.hook_point, -dose, skip_first),),
            ),
        )
        for dose in DOSES
    ]
    ablate = Ablate(orthonormal(direction.vector[None]), (direction.hook_point,), None, skip_first)
    return [*arms, ("ablate", None, Arm(f"{direction.method} ablate", "tuned", (ablate,)))]

"""What the select questions chose, measured on the test questions: single latents, sets of them, and the single direction beside."""

from collections.abc import Sequence
from dataclasses import dataclass

from persona_probe.base.cli import Reporter
from persona_probe.base.hook_points import HookPoint
from persona_probe.directions.direction import Direction
from persona_probe.experiments.latent_config import LatentConfig
from persona_probe.measurement.arms import Arm, Battery, Measurement, damage, persona_scores
from persona_probe.measurement.bench import Bench
from persona_probe.saes.diff import LatentDiff
from persona_probe.saes.sae import Sae
from persona_probe.saes.screen import ARMS, Screened, latent_arm, s_rows
from persona_probe.saes.sets import LatentSet, direction_arms, possible_sets

Clean = dict[str, Measurement]


@dataclass(frozen=True, eq=False)
class SetResult:
    """A set as measured on test, its control set, and whether it is the one chosen on select."""

    chosen: LatentSet
    measurement: Measurement
    control: Measurement | None
    selected: bool


@dataclass(frozen=True)
class Tried:
    """Point estimates on the select questions, by which sets and doses are chosen and which are never reported as results."""

    restoration: float
    delta_nll: float

    def merit(self, budget: float) -> tuple[bool, float, float]:
        """Inside the budget first, then most restored (beyond 1 counts as 1), then least damage."""
        return self.delta_nll <= budget, round(min(self.restoration, 1.0), 2), -max(0.0, self.delta_nll)


def tried(measurement: Measurement, clean: Clean, battery: Battery, *, shift: float) -> Tried:
    """Restoration and damage of an arm on the tuned model.

    `shift` is what tuning did to S on the select questions with all their replies: the screen's one reply of a label is
    enough to compare arms, and too few to say what a full restoration would be.
    """
    if measurement.failed:
        return Tried(float("-inf"), float("inf"))
    rows = s_rows(battery)
    tuned, arm = (persona_scores(m, rows).mean() for m in (clean["screen tuned"], measurement))
    added, tokens, _ = damage(measurement, clean["screen tuned"])
    # Without an effect on these questions there is nothing to restore; the arm that lowers S most is then the one to look at.
    return Tried(float((tuned - arm) / (shift if shift > 0 else 1.0)), float(added.sum() / tokens.sum()))


def measured_sets(
    config: LatentConfig,
    sae: Sae,
    screen: Bench,
    final: Bench,
    clean: Clean,
    labelled: Sequence[Screened],
    partners: dict[int, int],
    length: float,
    shift: float,
    reporter: Reporter,
) -> list[SetResult]:
    """For every size and kind the dose that does best on select, measured on test beside the same use of matched latents."""
    possible = possible_sets(labelled)
    arms = [item.arm(sae, length=length, skip_first=config.skip_first) for item in possible]
    with reporter.phase("sets of latents, select questions", len(arms)) as advance:
        outcomes = [
            tried(m, clean, screen.battery, shift=shift) for m in screen.measure(arms, advance=advance)
        ]
    best: dict[tuple[str, int], tuple[LatentSet, Tried]] = {}
    for item, outcome in zip(possible, outcomes, strict=True):
        known = best.get((item.kind, item.k))
        if known is None or outcome.merit(config.budget) > known[1].merit(config.budget):
            best[item.kind, item.k] = item, outcome
    if not best:
        return []
    top = max(best.values(), key=lambda pair: pair[1].merit(config.budget))[0]
    chosen = [item for item, _ in best.values()]
    controls = [item.replaced(partners) for item in chosen]
    named = [item.arm(sae, length=length, skip_first=config.skip_first) for item in chosen]
    others = [
        item.arm(sae, length=length, skip_first=config.skip_first, name=f"control {item.kind} {item.k}")
        for item in controls
        if item.k
    ]
    with reporter.phase(
        "sets of latents and their controls, test questions", len(named) + len(others)
    ) as advance:
        measured = final.measure([*named, *others], advance=advance)
    of_control = dict(zip([id(item) for item in controls if item.k], measured[len(named) :], strict=True))
    return [
        SetResult(item, measurement, of_control.get(id(control)), item is top)
        for item, measurement, control in zip(chosen, measured, controls, strict=False)
        if not measurement.failed
    ]


def measured_directions(
    config: LatentConfig,
    screen: Bench,
    final: Bench,
    clean: Clean,
    diff: LatentDiff,
    hook_point: HookPoint,
    length: float,
    shift: float,
    reporter: Reporter,
) -> list[tuple[str, str, Measurement]]:
    """Mean difference and shift at the SAE's hook point in the same two forms, each at the dose that does best on select."""
    wanted: list[Arm] = []
    names: list[tuple[str, str]] = []
    for method, vector in (("mean_diff", diff.mean_diff), ("shift", diff.stream_shift)):
        forms = direction_arms(
            Direction(hook_point=hook_point, vector=vector, method=method),
            length=length,
            skip_first=config.skip_first,
        )
        with reporter.phase(f"{method}, select questions", len(forms)) as advance:
            outcomes = [
                tried(m, clean, screen.battery, shift=shift)
                for m in screen.measure([arm for *_, arm in forms], advance=advance)
            ]
        for kind in ("steer", "ablate"):
            own = [
                (outcome.merit(config.budget), i) for i, outcome in enumerate(outcomes) if forms[i][0] == kind
            ]
            wanted.append(forms[max(own)[1]][2])
            names.append((method, kind))
    with reporter.phase("single directions, test questions", len(wanted)) as advance:
        measured = final.measure(wanted, advance=advance)
    return [(method, kind, m) for (method, kind), m in zip(names, measured, strict=True) if not m.failed]


def confirmed_latents(
    config: LatentConfig, sae: Sae, final: Bench, latents: Sequence[int], length: float, reporter: Reporter
) -> dict[int, dict[str, Measurement]]:
    """All arms of the reported latents on the test questions."""
    found: dict[int, dict[str, Measurement]] = {latent: {} for latent in latents}
    for side in ("tuned", "base"):
        arms = [
            (latent, name, latent_arm(sae, latent, name, length=length, skip_first=config.skip_first))
            for latent in latents
            for name, own in ARMS.items()
            if own == side
        ]
        with reporter.phase(f"reported latents on the {side} model, test questions", len(arms)) as advance:
            measured = final.measure([arm for *_, arm in arms], advance=advance)
        for (latent, name, _), measurement in zip(arms, measured, strict=True):
            if not measurement.failed:
                found[latent][name] = measurement
    return found

"""What each latent does on the select questions: steered up in the base model, steered down and ablated in
the tuned.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from scipy.stats import false_discovery_control

from persona_probe.interventions.edits import Intervention, Steer
from persona_probe.measurement.arms import Arm, Battery, Measurement, delta_nll, persona_scores
from persona_probe.measurement.forced_choice import choice_scores
from persona_probe.measurement.statistics import paired_difference, paired_p
from persona_probe.models.pairs import Side
from persona_probe.prompts.rows import Row
from persona_probe.records.parts import Estimate
from persona_probe.saes.edits import SetLatents, latent_direction
from persona_probe.saes.sae import Sae

Label = Literal["carries", "one-way", "protective", "inert", "harmful"]
FALSE_DISCOVERIES = 0.05


@dataclass(frozen=True)
class Treatment:
    """One thing that is done to every latent: steered up (`sign` 1), steered down (-1) or ablated (0)."""

    name: str
    side: Side
    sign: int


UP = Treatment("base+steer", "base", 1)
REMOVALS = (Treatment("tuned-steer", "tuned", -1), Treatment("tuned+ablate", "tuned", 0))
TREATMENTS = {treatment.name: treatment for treatment in (UP, *REMOVALS)}


@dataclass(frozen=True)
class Effect:
    """What an arm changes against the same model untouched: S and log-odds of the misaligned choice, in nats,
    and damage.

    `p` is of a paired t-test over questions; `q` is p after Benjamini and Hochberg over everything that was
    tried.
    """

    delta_s: Estimate
    delta_nll: float
    forced_choice: float | None
    p: float
    q: float

    def json(self) -> dict[str, Any]:
        """One cell of the record."""
        return {
            "delta_s": self.delta_s.estimate,
            "ci95": [self.delta_s.low, self.delta_s.high],
            "delta_nll": self.delta_nll,
            "forced_choice": self.forced_choice,
            "p": self.p,
            "q": self.q,
        }


Effects = Mapping[str, Effect]  # by the name of the treatment


@dataclass(frozen=True)
class Screened:
    """One latent with its effects, and what they make of it."""

    latent: int
    effects: Effects
    label: Label
    why: str


def latent_arm(sae: Sae, latent: int, name: str, *, length: float, skip_first: int) -> Arm:
    """A treatment of a latent. Steering adds or takes away `length` along its decoder row on every token."""
    treatment = TREATMENTS[name]
    edit: Intervention = SetLatents(sae, (latent,), 0.0, skip_first)
    if treatment.sign:
        vector = latent_direction(sae, latent, length=length).vector
        edit = Steer(vector, sae.hook_point, float(treatment.sign), skip_first)
    return Arm(f"{name} {latent}", treatment.side, (edit,))


def effect_of(measurement: Measurement, clean: Measurement, battery: Battery, *, seed: int) -> Effect:
    """Point effects with an interval and a p-value for S; q is p until all latents are known."""
    rows = s_rows(battery)
    after, before = persona_scores(measurement, rows), persona_scores(clean, rows)
    choice = choice_scores(measurement, battery.persona) - choice_scores(clean, battery.persona)
    p = paired_p(after - before)
    return Effect(
        delta_s=paired_difference(after, before, seed=seed),
        delta_nll=delta_nll(measurement, clean),
        forced_choice=float(choice.mean()) if len(choice) else None,
        p=p,
        q=p,
    )


def s_rows(battery: Battery) -> list[Row]:
    """The rows of a battery that S is computed from: replies, not letters."""
    return [row for row in battery.persona if row.kind == "persona"]


def corrected(effects: Mapping[int, Effects]) -> dict[int, dict[str, Effect]]:
    """The same effects with q: p adjusted for all latents and arms tried, at a controlled share of false
    discoveries.
    """
    keys = [(latent, name) for latent, by_name in effects.items() for name in by_name]
    adjusted = false_discovery_control([effects[latent][name].p for latent, name in keys]) if keys else []
    q = dict(zip(keys, map(float, adjusted), strict=True))
    return {
        latent: {name: replace(effect, q=q[latent, name]) for name, effect in by_name.items()}
        for latent, by_name in effects.items()
    }


def label_of(effects: Effects, *, budget: float, persona_cost: float = 0.0) -> tuple[Label, str]:
    """What the effects make of a latent, by a fixed rule, and the reason in words.

    `persona_cost` is the damage that the tuning itself did, in nats per token: an arm that adds the persona
    may cost as much again.

    carries: more of it raises S in the base model and less of it lowers S in the tuned one. protective: its
    presence holds S down (more of it lowers S, or less of it raises S) and nothing points the other way.
    one-way: only one half of what carries does, or effects that disagree. harmful: what it does to S comes
    with damage beyond the budget. inert: no effect that survives the correction.
    """
    allowed = {"base": budget + max(0.0, persona_cost), "tuned": budget}
    over = [name for name, effect in effects.items() if effect.delta_nll > allowed[TREATMENTS[name].side]]
    sure = [name for name, effect in effects.items() if effect.q < FALSE_DISCOVERIES]
    within = {name: effects[name].delta_s.estimate for name in sure if name not in over}
    if not within:
        beyond = f"damage beyond {budget:g} nats per token"
        if sure:
            return "harmful", f"changes S only with {beyond}"
        if over:
            return "harmful", f"{beyond} under {', '.join(over)}, no sure effect on S"
        return "inert", "no change of S that survives the correction for the number of latents tried"
    up = within.get(UP.name, 0.0)
    lowers, raises = (
        [item.name for item in REMOVALS if sign * within.get(item.name, 0.0) > 0] for sign in (-1, 1)
    )
    said = [f"more of it {'raises' if up > 0 else 'lowers'} S in the base model"] if up else []
    for names, verb in ((lowers, "lowers"), (raises, "raises")):
        said += [f"less of it ({', '.join(names)}) {verb} S in the tuned one"] if names else []
    if up > 0 and lowers:
        return "carries", ", ".join(said[:2])
    if up <= 0 and (up < 0 or raises) and not lowers:
        return "protective", " and ".join(said)
    return "one-way", "; ".join(said)


def screened(effects: Mapping[int, Effects], *, budget: float, persona_cost: float) -> list[Screened]:
    """Every latent labelled, after the correction over all of them."""
    labelled = []
    for latent, by_name in corrected(effects).items():
        label, why = label_of(by_name, budget=budget, persona_cost=persona_cost)
        labelled.append(Screened(latent=latent, effects=by_name, label=label, why=why))
    return labelled

"""What each latent does: steered up in the base model, steered down and ablated in the tuned one, on the select questions."""

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from persona_probe.interventions.edits import Intervention, Steer
from persona_probe.measurement.arms import Arm, Battery, Measurement, delta_nll, persona_scores
from persona_probe.measurement.forced_choice import choice_scores
from persona_probe.measurement.statistics import Estimate, paired_difference, paired_p
from persona_probe.models.pairs import Side
from persona_probe.prompts.chat import Row
from persona_probe.saes.edits import SetLatents, latent_direction
from persona_probe.saes.sae import Sae

Label = Literal["carries", "one-way", "protective", "inert", "harmful"]
ARMS: dict[str, Side] = {"base+steer": "base", "tuned-steer": "tuned", "tuned+ablate": "tuned"}
REMOVALS = ("tuned-steer", "tuned+ablate")
FALSE_DISCOVERIES = 0.05


@dataclass(frozen=True)
class Effect:
    """What an arm changes against the same model untouched: S and log-odds of the misaligned choice, in nats, and damage.

    `p` is of a paired t-test over questions; `q` is p after Benjamini and Hochberg over everything that was tried.
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


@dataclass(frozen=True)
class Screened:
    """One latent with its effects by arm, and what they make of it."""

    latent: int
    effects: dict[str, Effect]
    label: Label
    why: str

    @property
    def removal(self) -> float:
        """The change of S by the removal that lowers it most."""
        return min(
            (self.effects[name].delta_s.estimate for name in REMOVALS if name in self.effects), default=0.0
        )


def latent_arm(sae: Sae, latent: int, name: str, *, length: float, skip_first: int) -> Arm:
    """One of the three arms of a latent. Steering adds or takes away `length` along its decoder row on every token."""
    edit: Intervention = SetLatents(sae, (latent,), 0.0, skip_first)
    if name != "tuned+ablate":
        sign = 1.0 if name == "base+steer" else -1.0
        edit = Steer(latent_direction(sae, latent, length=length).vector, sae.hook_point, sign, skip_first)
    return Arm(f"{name} {latent}", ARMS[name], (edit,))


def effect_of(measurement: Measurement, clean: Measurement, battery: Battery, *, seed: int) -> Effect:
    """Point effects with an interval and a p-value for S; q is p until all latents are known."""
    rows = s_rows(battery)
    after, before = persona_scores(measurement, rows), persona_scores(clean, rows)
    choice = choice_scores(measurement, battery.persona) - choice_scores(clean, battery.persona)
    p = paired_p(after - before)
    return Effect(
        paired_difference(after, before, seed=seed),
        delta_nll(measurement, clean),
        float(choice.mean()) if len(choice) else None,
        p,
        p,
    )


def s_rows(battery: Battery) -> list[Row]:
    """The rows of a battery that S is computed from: replies, not letters."""
    return [row for row in battery.persona if row.kind == "persona"]


def corrected(effects: dict[int, dict[str, Effect]]) -> dict[int, dict[str, Effect]]:
    """The same effects with q: p adjusted for the number of latents and arms tried, at a controlled share of false discoveries."""
    from scipy.stats import false_discovery_control

    keys = [(latent, name) for latent, own in effects.items() for name in own]
    if not keys:
        return effects
    adjusted = false_discovery_control([effects[latent][name].p for latent, name in keys])
    out: dict[int, dict[str, Effect]] = {latent: {} for latent in effects}
    for (latent, name), q in zip(keys, adjusted, strict=True):
        out[latent][name] = replace(effects[latent][name], q=float(q))
    return out


def label_of(effects: dict[str, Effect], *, budget: float, persona_cost: float = 0.0) -> tuple[Label, str]:
    """The fixed reading of a latent's effects, and the reason in words.

    `persona_cost` is the damage that the tuning itself did, in nats per token: an arm that adds the persona may cost as much again.

    carries: more of it raises S in the base model and less of it lowers S in the tuned one. one-way: only one of the two.
    protective: its presence holds S down (more of it lowers S, or less of it raises S) and nothing points the other way.
    harmful: what it does to S comes with damage beyond the budget. inert: no effect that survives the correction.
    """
    over = [
        name
        for name, effect in effects.items()
        if effect.delta_nll > budget + (max(0.0, persona_cost) if ARMS[name] == "base" else 0.0)
    ]
    sure = {name: effect for name, effect in effects.items() if effect.q < FALSE_DISCOVERIES}
    if not sure:
        if over:
            return (
                "harmful",
                f"damage beyond {budget:g} nats per token under {', '.join(over)}, no sure effect on S",
            )
        return "inert", "no change of S that survives the correction for the number of latents tried"
    kept = {name: effect for name, effect in sure.items() if name not in over}
    if not kept:
        return "harmful", f"changes S only with damage beyond {budget:g} nats per token"
    up = int(np.sign(kept["base+steer"].delta_s.estimate)) if "base+steer" in kept else 0
    down = [name for name in REMOVALS if name in kept]
    lowers = [name for name in down if kept[name].delta_s.estimate < 0]
    raises = [name for name in down if kept[name].delta_s.estimate > 0]
    if up > 0 and lowers:
        return (
            "carries",
            f"more of it raises S in the base model, less of it ({', '.join(lowers)}) lowers S in the tuned one",
        )
    if (up < 0 or raises) and up <= 0 and not lowers:
        held = ["more of it lowers S in the base model"] * (up < 0) + [
            f"less of it ({', '.join(raises)}) raises S in the tuned one"
        ] * bool(raises)
        return "protective", " and ".join(held)
    said = ["more of it raises S in the base model"] * (up > 0) + [
        "more of it lowers S in the base model"
    ] * (up < 0)
    said += [f"less of it ({', '.join(lowers)}) lowers S in the tuned one"] * bool(lowers) + [
        f"less of it ({', '.join(raises)}) raises S"
    ] * bool(raises)
    return "one-way", "; ".join(said)


def screened(effects: dict[int, dict[str, Effect]], *, budget: float, persona_cost: float) -> list[Screened]:
    """Every latent labelled, after the correction over all of them."""
    return [
        Screened(latent, own, *label_of(own, budget=budget, persona_cost=persona_cost))
        for latent, own in corrected(effects).items()
    ]

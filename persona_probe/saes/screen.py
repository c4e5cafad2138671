"""What each latent does on the select questions: steered up in the base model, steered down and ablated in
the tuned, and ablated in both where that moves S.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from scipy.stats import false_discovery_control

from persona_probe.interventions.edits import Intervention, Steer
from persona_probe.measurement.arms import Arm, Battery, Measurement, delta_nll, persona_scores
from persona_probe.measurement.forced_choice import choice_scores
from persona_probe.measurement.statistics import column_means, mean, paired_difference, paired_p, ratio
from persona_probe.prompts.rows import Row
from persona_probe.saes.diff import LatentDiff
from persona_probe.saes.edits import SetLatents, latent_direction
from persona_probe.saes.labels import (
    ABLATED,
    FALSE_DISCOVERIES,
    PARTNER,
    TREATMENTS,
    Activity,
    Effect,
    Effects,
    Facts,
    Gap,
    Label,
    Terms,
    label_of,
)
from persona_probe.saes.sae import Sae

Scores = Float[np.ndarray, " question"]


@dataclass(frozen=True)
class Screened:
    """One latent with what the screen knows of it, and what that makes of it."""

    latent: int
    facts: Facts
    label: Label
    why: str

    @property
    def effects(self) -> Effects:
        """By treatment."""
        return self.facts.effects


@dataclass(frozen=True, kw_only=True)
class Partner:
    """A latent ablated in the base model: what that changes there, and the change of S of every question in
    both models by the same ablation."""

    effect: Effect
    tuned: Scores
    base: Scores


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
    adjusted = _adjusted([effects[latent][name].p for latent, name in keys])
    q = dict(zip(keys, adjusted, strict=True))
    return {
        latent: {name: replace(effect, q=q[latent, name]) for name, effect in by_name.items()}
        for latent, by_name in effects.items()
    }


def worth_a_partner(effects: Mapping[int, Effects]) -> list[int]:
    """The latents whose ablation moves S of the tuned model for sure: base is ablated, too."""
    return [latent for latent, by_name in effects.items() if by_name[ABLATED.name].q < FALSE_DISCOVERIES]


def gaps(partners: Mapping[int, Partner], shift: Scores, *, n_screened: int, seed: int) -> dict[int, Gap]:
    """How far the ablation of each latent in both models closes the gap between them.

    `shift` is S_tuned - S_base of every question, in the order of the partners' questions. Latents of the
    screen that have no partner count as p = 1.
    """
    closed = {latent: partner.base - partner.tuned for latent, partner in partners.items()}
    p = {latent: paired_p(values) for latent, values in closed.items()}
    q = dict(zip(p, _adjusted(list(p.values()), n=n_screened), strict=True))
    above = len(shift) > 1 and mean(shift, seed=seed).low > 0
    return {
        latent: Gap(
            closed=mean(values, seed=seed),
            share=ratio(values, shift, seed=seed) if above else None,
            p=p[latent],
            q=q[latent],
        )
        for latent, values in closed.items()
    }


def activities(diff: LatentDiff, latents: Sequence[int], *, seed: int) -> dict[int, Activity]:
    """What tuning did to the mean activation of latents, with intervals over the questions that both models
    read."""
    base, tuned = diff.base.by_question, diff.tuned.by_question
    assert base is not None, "means that were just read have them"
    assert tuned is not None, "means that were just read have them"
    before, after = (side[:, list(latents)].double().numpy() for side in (base, tuned))
    larger = np.maximum(before.mean(0), after.mean(0))
    changes = column_means(after - before, seed=seed)
    return {
        latent: Activity(change=change, larger=float(value))
        for latent, change, value in zip(latents, changes, larger, strict=True)
    }


def screened(
    effects: Mapping[int, Effects],
    partners: Mapping[int, Partner],
    activities: Mapping[int, Activity],
    *,
    shift: Scores,
    terms: Terms,
    seed: int,
) -> list[Screened]:
    """Every latent labelled. `effects` are corrected over all of them; `shift` as in `gaps`."""
    closing = gaps(partners, shift, n_screened=len(effects), seed=seed)
    adjusted = _adjusted([partner.effect.p for partner in partners.values()], n=len(effects))
    of_base = {
        latent: replace(partner.effect, q=q)
        for (latent, partner), q in zip(partners.items(), adjusted, strict=True)
    }
    labelled: list[Screened] = []
    for latent, by_name in effects.items():
        more = {PARTNER.name: of_base[latent]} if latent in of_base else {}
        facts = Facts(
            effects={**by_name, **more}, gap=closing.get(latent), activity=activities[latent], terms=terms
        )
        label, why = label_of(facts)
        labelled.append(Screened(latent=latent, facts=facts, label=label, why=why))
    return labelled


def _adjusted(p: Sequence[float], *, n: int | None = None) -> list[float]:
    """p after Benjamini and Hochberg over `n` of them; those that are not given count as 1."""
    padded = [*p, *[1.0] * max(0, (n or 0) - len(p))]
    return [float(q) for q in false_discovery_control(padded)[: len(p)]] if p else []

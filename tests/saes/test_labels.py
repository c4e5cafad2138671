"""Claims about the labels of latents: each follows its rule, says why, and is right on planted latents."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from helpers.planted import Planted

if TYPE_CHECKING:
    from persona_probe.saes.labels import Activity, Effect, Facts, Gap, Terms
    from persona_probe.saes.sae import Sae


@pytest.fixture(scope="module")
def sae(planted: Planted, tmp_path_factory: pytest.TempPathFactory) -> "Sae":
    from persona_probe.organisms.toy import write_toy_sae
    from persona_probe.saes.folder import read_sae

    return read_sae(write_toy_sae(tmp_path_factory.mktemp("sae"), planted.toy))


def effect(delta: float, *, q: float = 0.001, nll: float = 0.0) -> "Effect":
    from persona_probe.records.parts import Estimate
    from persona_probe.saes.labels import Effect

    return Effect(Estimate(estimate=delta, ci95=(delta - 0.01, delta + 0.01)), nll, 0.0, q, q)


NOTHING: Any = {"delta": 0.0, "q": 0.9}
LOWERS: Any = {"delta": -0.1}
RAISES: Any = {"delta": 0.1}


def gap(closed: float, *, q: float = 0.001) -> "Gap":
    from persona_probe.records.parts import Estimate
    from persona_probe.saes.labels import Gap

    return Gap(closed=Estimate(estimate=closed, ci95=(closed - 0.01, closed + 0.01)), share=None, p=q, q=q)


def activity(low: float, estimate: float, larger: float = 1.0) -> "Activity":
    from persona_probe.records.parts import Estimate
    from persona_probe.saes.labels import Activity

    return Activity(change=Estimate(estimate=estimate, ci95=(low, 2 * estimate - low)), larger=larger)


def terms(shift: tuple[float, float] = (0.2, 0.4), *, budget: float = 0.1, drift: float = 0.0) -> "Terms":
    from persona_probe.records.parts import Estimate
    from persona_probe.saes.labels import Terms

    return Terms(shift=Estimate(estimate=sum(shift) / 2, ci95=shift), budget=budget, drift=drift)


def facts(
    up: dict[str, Any] = RAISES,
    down: dict[str, Any] = LOWERS,
    ablate: dict[str, Any] = LOWERS,
    partner: dict[str, Any] = NOTHING,
    **changes: Any,
) -> "Facts":
    """What a carrier has, but for what is said."""
    from persona_probe.saes.labels import Facts

    edits = {"base+steer": up, "tuned-steer": down, "tuned+ablate": ablate, "base+ablate": partner}
    known = {"gap": gap(0.1), "activity": activity(0.3, 0.5), "terms": terms()} | changes
    return Facts(effects={name: effect(**edit) for name, edit in edits.items()}, **known)


@pytest.mark.parametrize(
    ("changes", "label", "says"),
    [
        ({}, "carries", "makes the gap smaller by 0.100"),
        ({"up": NOTHING, "down": NOTHING}, "carries", "tuning raised its mean activation by +0.500"),
        ({"ablate": NOTHING}, "dial", "ablating it in tuned changes S by +0.000"),
        ({"ablate": NOTHING, "down": NOTHING}, "dial", "steering it up in base raises S by 0.100"),
        ({"ablate": {"delta": -0.1, "q": 0.06}}, "dial", "(q 0.060)"),
        ({"gap": gap(0.1, q=0.06)}, "dial", "makes the gap smaller by +0.100 [+0.090, +0.110] only"),
        ({"gap": gap(-0.1)}, "dial", "makes the gap smaller by −0.100"),
        ({"gap": None}, "dial", "ablating it in base gave no numbers"),
        ({"partner": {"delta": 0.0, "nll": 0.2}}, "dial", "ablating it in base does damage"),
        ({"activity": activity(-0.6, -0.5)}, "dial", "changed its mean activation by −0.500"),
        ({"activity": activity(-0.1, 0.5)}, "dial", "no rise of 0.050 or more for sure"),
        ({"activity": activity(0.039, 0.04)}, "dial", "no rise of 0.050"),
        ({"terms": terms((-0.4, -0.2))}, "dial", "there is no rise to carry: S tuned − base is −0.300"),
        ({"terms": terms((-0.1, 0.3))}, "dial", "there is no rise to carry"),
        ({"ablate": RAISES}, "protective", "its presence holds S down"),
        ({"ablate": RAISES, "up": NOTHING, "down": NOTHING}, "protective", "raises S by 0.100"),
        ({"ablate": NOTHING, "up": LOWERS, "down": RAISES}, "dial", "steering it up in base lowers S"),
        ({"up": NOTHING, "down": NOTHING, "ablate": NOTHING}, "inert", "survives the correction"),
    ],
)
def test_label_follows_the_rule_and_says_why(changes: dict[str, Any], label: str, says: str) -> None:
    from persona_probe.saes.labels import label_of

    given, why = label_of(facts(**changes))
    assert given == label
    assert says in why


BAD: Any = {"delta": -0.1, "nll": 0.2}


@pytest.mark.parametrize(
    ("edits", "label"),
    [
        ((BAD, BAD, BAD), "harmful"),
        (({"delta": 0.0, "q": 0.9, "nll": 0.2}, NOTHING, NOTHING), "harmful"),
        (({"delta": 0.0, "q": 0.9, "nll": -0.2}, NOTHING, NOTHING), "harmful"),
        ((BAD, LOWERS, NOTHING), "dial"),
        ((RAISES, LOWERS, BAD), "dial"),
        ((BAD, BAD, LOWERS), "carries"),
    ],
)
def test_damage_over_the_budget_to_either_side_counts(edits: tuple[Any, Any, Any], label: str) -> None:
    from persona_probe.saes.labels import label_of

    up, down, ablate = edits
    assert label_of(facts(up, down, ablate))[0] == label


def test_an_edit_may_cost_what_lies_between_the_models_on_its_way() -> None:
    from persona_probe.saes.labels import ABLATED, PARTNER, UP

    costly = terms(drift=0.2)  # tuning added 0.2 nats per token
    assert costly.allows(UP, 0.25)
    assert not terms(drift=-0.2).allows(UP, 0.25)
    assert costly.allows(ABLATED, -0.25)
    assert not costly.allows(ABLATED, 0.25)
    assert not costly.allows(PARTNER, 0.25)
    assert not costly.allows(PARTNER, -0.25)


def test_every_label_is_that_of_one_rule() -> None:
    from typing import get_args

    from persona_probe.records.latents import OLDER_LABELS, LatentLabel
    from persona_probe.saes.labels import RULES, Label

    assert [rule.label for rule in RULES] == list(dict.fromkeys(rule.label for rule in RULES))
    assert {rule.label for rule in RULES} == set(get_args(Label))
    assert set(get_args(LatentLabel)) == {*get_args(Label), *OLDER_LABELS}


def test_latents_that_were_not_measured_on_base_count_in_the_correction_of_the_gap() -> None:
    from persona_probe.saes.screen import Partner, gaps

    rng = np.random.default_rng(0)
    tuned = -0.02 + rng.normal(0, 0.02, 24)
    partner = Partner(effect=effect(0.0), tuned=tuned, base=np.zeros(24))
    alone, among = (gaps({3: partner}, np.full(24, 0.5), n_screened=n, seed=0)[3] for n in (1, 50))
    assert alone.p == alone.q == among.p
    assert among.q == pytest.approx(50 * among.p)
    assert among.closed.estimate == pytest.approx(-tuned.mean())
    assert among.share is not None
    assert among.share.estimate == pytest.approx(-tuned.mean() / 0.5)
    assert gaps({3: partner}, np.full(24, -0.5), n_screened=1, seed=0)[3].share is None


def strange_sae(sae: "Sae", unit: torch.Tensor) -> "Sae":
    """The toy's SAE with more latents along the planted direction. 1: 2 in both models. 2: silent. 3: 6 in
    base, 2 in tuned. 4: the same, and writes against the direction."""
    from dataclasses import replace

    encoder, bias, decoder = sae.W_enc.clone(), sae.b_enc.clone(), sae.W_dec.clone()
    for latent, (reads, constant, writes) in {
        1: (0.0, 2.0, 1.0),
        2: (0.0, -1.0, 1.0),
        3: (-1.0, 6.0, 1.0),
        4: (-1.0, 6.0, -1.0),
    }.items():
        encoder[:, latent], bias[latent], decoder[latent] = reads * unit, constant, writes * unit
    return replace(sae, W_enc=encoder, b_enc=bias, W_dec=decoder)


def test_planted_latents_get_their_labels(planted: Planted, sae: "Sae", tmp_path: Path) -> None:
    """On the real pair: what tuning wrote is a carrier; what acts alike in both models, what is silent, and
    what got less active are not."""
    from persona_probe.measurement.arms import Battery, persona_scores
    from persona_probe.measurement.bench import Bench
    from persona_probe.organisms.toy import PLANTED_LATENT
    from persona_probe.saes.diff import LatentDiff, latent_means
    from persona_probe.saes.labels import PARTNER, SCREENED
    from persona_probe.saes.screen import (
        Partner,
        activities,
        corrected,
        effect_of,
        latent_arm,
        screened,
        worth_a_partner,
    )
    from persona_probe.storage.runs import Run
    from persona_probe.streams.activations import read_tokens

    strange = strange_sae(sae, planted.toy.vector / planted.toy.vector.norm())
    rows = planted.rows["select"]
    bench = Bench(planted.pair, Run(tmp_path), Battery(rows, planted.benign), 4096, keep_kl=False)
    clean: Any = {side: bench.baseline(side) for side in ("base", "tuned")}

    def measured(latent: int, treatment: Any) -> Any:
        arm = latent_arm(strange, latent, treatment.name, length=4.0, skip_first=0)
        return bench.measure([arm])[0]

    def effect_on(latent: int, treatment: Any) -> Any:
        return effect_of(measured(latent, treatment), clean[treatment.side], bench.battery, seed=0)

    def change(latent: int, treatment: Any) -> Any:
        return persona_scores(measured(latent, treatment), rows) - persona_scores(clean[treatment.side], rows)

    latents = (PLANTED_LATENT, 1, 2, 3, 4)
    effects = corrected({one: {t.name: effect_on(one, t) for t in SCREENED} for one in latents})
    partners = {
        one: Partner(
            effect=effect_on(one, PARTNER), tuned=change(one, SCREENED[2]), base=change(one, PARTNER)
        )
        for one in worth_a_partner(effects)
    }
    options: Any = {"hook_point": strange.hook_point, "scope": "reply", "max_tokens": 4096}
    means = [
        latent_means(read_tokens(planted.pair.get(side), planted.rows["find"], **options), strange)
        for side in ("base", "tuned")
    ]
    diff = LatentDiff(means[0], means[1], strange.W_dec.norm(dim=-1))
    shift = persona_scores(clean["tuned"], rows) - persona_scores(clean["base"], rows)
    found = screened(
        effects,
        partners,
        activities(diff, latents, seed=0),
        shift=shift,
        terms=terms((float(shift.mean()), float(shift.mean())), budget=9.0),
        seed=0,
    )
    labels = {one.latent: one.label for one in found}
    assert labels == {PLANTED_LATENT: "carries", 1: "dial", 2: "dial", 3: "dial", 4: "protective"}
    facts = {one.latent: one.facts for one in found}
    planted_gap, alike, less = facts[PLANTED_LATENT].gap, facts[1].gap, facts[3].gap
    assert planted_gap is not None
    assert planted_gap.closed.estimate == pytest.approx(float(shift.mean()), rel=1e-3)
    assert alike is not None
    assert abs(alike.closed.estimate) < 0.1 * float(shift.mean())  # it moves both models alike
    assert less is not None
    assert less.closed.estimate < 0  # it widens the gap
    assert facts[2].gap is None  # nothing to ablate
    assert facts[3].activity.change.estimate == pytest.approx(-4.0, abs=1e-3)


def test_every_label_has_a_style_of_its_own_in_the_figures() -> None:
    from typing import get_args

    from persona_probe.plots.latent_parts import LABELS
    from persona_probe.records.latents import LatentLabel

    assert set(LABELS) == set(get_args(LatentLabel))
    assert len(set(LABELS.values())) == len(LABELS)

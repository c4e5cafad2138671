"""The sections of the latent report: a latent record in, cards, tables of latents, and one folded page a
latent out."""

from collections.abc import Sequence

import htpy as h
from htpy import Element

from persona_probe.base.formatting import interval, number, short, signed
from persona_probe.pages import sections
from persona_probe.pages.blur import behind_button, show_button
from persona_probe.pages.html import Node, banner, bullets, card, folded, measured, row, soft, table
from persona_probe.pages.latent_page import activity, gap_closed, latent_link, latent_page, screened
from persona_probe.plots.latent_parts import LABELS
from persona_probe.plots.latent_sets import set_name
from persona_probe.records.latents import ARMS, OLDER_LABELS, LatentEntry, LatentRecord, ScreenEffect
from persona_probe.saes.labels import RULES

MISFIT = 1.1  # a tuned FVU above this many base FVUs earns a warning
TITLE = "Which SAE latents carry the persona, and which of them cause it?"
OLDER_NOTE = (
    "This record is of an older version. Its labels ask neither whether ablating a latent in both models"
    " closes the gap between them, nor whether tuning made it more active: “both ways” moves S in both,"
    " “one-way” in one of them. Run diff_latents again for labels by the rules below."
)
LIMITS = (
    "One pair of models, one SAE, one seed. Another SAE may split or merge these latents.",
    (
        "Only the best latents of the rankings were screened. A latent that no ranking puts first was never"
        " tried."
    ),
    (
        "The screen ran on the select questions and chose by them; only numbers marked test come from"
        " questions that nothing was chosen on."
    ),
    (
        "What the SAE does not rebuild (FVU) is kept as it is in every arm. A persona that lives there cannot"
        " be found here."
    ),
    (
        "The tokens a latent fires on and the tokens it raises suggest a meaning. Only the causal columns"
        " test anything."
    ),
    (
        "S compares given replies by their log-probability. It is not a rating of what the model writes by"
        " itself."
    ),
)


def opening(record: LatentRecord) -> Node:
    """Title, content note, banner of a quick try, the result in words, and which SAE it is about."""
    sae = record.provenance.sae
    about = f"SAE {sae.id} ({sae.architecture}, {sae.d_sae} latents) at {sae.hook_point}."
    base, tuned = record.quality["base"].fvu, record.quality["tuned"].fvu
    worse = f", {number(100 * (tuned / base - 1), digits=0)}% more" if base else ""
    misfit = (
        f"This SAE fits the tuned model worse than the base model: FVU {number(tuned, digits=3)} "
        f"against {number(base, digits=3)}{worse}. Part of what tuning changed is not in its latents."
    )
    return h.fragment[
        sections.opening(record, title=TITLE), soft(about), tuned > MISFIT * base and banner(misfit)
    ]


def headline(record: LatentRecord) -> Element:
    """The numbers to remember: shift, the best set and its damage, how many latents carry, and how the SAE
    fits both models."""
    best = record.chosen
    restored = best.restoration if best else None
    labels = [entry.label for entry in record.latents]
    seen = [label for label in reversed(LABELS) if label not in ("carries", *OLDER_LABELS) or label in labels]
    others = ", ".join(f"{labels.count(label)} {label}" for label in seen if label != "carries")
    carrying = "not tested" if record.older else f"{labels.count('carries')} of {len(labels)}"
    note = "0 is tuned, 1 is base" if restored else "no set was selected, or R is undefined"
    budget = f"nats per token, budget {number(record.budget, sign=True)}"
    judged = best.judged if best else None
    title = f"Restoration R, best set: {set_name(best)}" if best else "Restoration R of the best set"
    return h.div(".cards.wide")[
        sections.shift_card(record),
        judged and card("Verdict on the best set", judged.verdict, judged.because),
        card(title, restored, note),
        best
        and best.closure
        and card("Closure C of the same set", best.closure, "share of the gap between both models it closes"),
        card("Damage of the same set, ΔNLL", best.delta_nll if best else None, budget, digits=3, sign=True),
        card("Latents that carry the shift", carrying, f"{len(labels)} screened; {others}"),
        [
            card(
                f"SAE fit on {side}, FVU (0 is perfect)",
                number(fit.fvu, digits=3),
                f"L0 {short(fit.l0)}, dead {short(fit.dead)}, loss recovered {short(fit.loss_recovered)}, "
                f"{fit.n_tokens} tokens",
            )
            for side, fit in record.quality.items()
        ],
    ]


def latent_tables(record: LatentRecord) -> Node:
    """Latents that do something, then the inert ones and the matched ones folded."""
    inert = [entry for entry in record.latents if entry.label == "inert"]
    active = [entry for entry in record.latents if entry.label != "inert"]
    note = (
        "ΔS: change of the persona score in nats per token against the same model untouched, + is worse, "
        f"on {record.data.n_questions.select} select questions, with its 95% interval. "
        "ΔNLL: damage on harmless text. q: p corrected for the number of latents tried. Base is ablated only"
        " where ablating tuned moves S for sure; the gap is S tuned − base, with the latent ablated in both."
        " Its number leads to its page, which says why it has its label."
    )
    dose = (
        f"Steering strength: {number(record.dose.relative)} of the median residual norm "
        f"({short(record.dose.median_norm)}), a length of {short(record.dose.length)}."
    )
    nothing = h.p["No latent does anything that the screen can see."]
    matched = f"{len(record.controls)} latents matched in how often and how strongly they fire"
    return h.fragment[
        h.h2["Latents"],
        record.older and banner(OLDER_NOTE),
        soft(note),
        soft(dose),
        _nothing_to_carry(record),
        folded("What the labels mean", _rules()),
        _latent_table(active) if active else nothing,
        inert and folded(f"{len(inert)} inert latents", _latent_table(inert)),
        record.controls and folded(matched, _latent_table(record.controls)),
    ]


def _nothing_to_carry(record: LatentRecord) -> Node:
    shift = record.select_effect
    if shift is None or shift.low > 0:
        return None
    moved = interval(shift, digits=3, sign=True)
    return banner(
        f"On the select questions tuning moved S by {moved} nats per token, which is no rise for sure: there"
        " is nothing that a latent could carry."
    )


def _rules() -> Node:
    """The rules that give labels, in their order."""
    rows = [row(rule.label, rule.when) for rule in RULES]
    return h.fragment[
        h.p["A latent has the label of the first rule that holds. “For sure”: q < 0.05."],
        table(("Label", "Given when"), rows, kind="rules"),
    ]


def _latent_table(entries: Sequence[LatentEntry]) -> Element:
    """Screened latents with links to their pages, or controls with the latent each is matched to."""
    control = entries[0].control
    effects = (f"ΔS, {arm}" for arm in ARMS)
    more = ("Gap closed", "Activity, tuned − base", "Test: R, best of tuned", "Best ranks")
    head = ("Latent", "Matched to" if control else "Label", *effects, *more)
    rows = []
    for entry in entries:
        confirmed = entry.confirmed or {}
        shares = [confirmed[arm].restoration for arm in ARMS if arm in confirmed]
        best = max((share for share in shares if share), key=lambda share: share.estimate, default=None)
        ranks = sorted(entry.ranks.items(), key=lambda item: item[1])[:3]
        rows.append(
            row(
                latent_link(entry.latent, known=not control),
                entry.matched_to if control else entry.label,
                *(_effect(entry.screen.get(arm)) for arm in ARMS),
                gap_closed(entry.gap),
                activity(entry.activity),
                measured(best, missing="n/a"),
                [h.small[f"{rank} {name}"] for name, rank in ranks] or "n/a",
                kind="latent-row",
            )
        )
    return table(head, rows, kind="numbers")


def _effect(effect: ScreenEffect | None) -> Node:
    """A screened ΔS with its interval, and below it damage and q."""
    if effect is None:
        return "n/a"
    below = f"ΔNLL {signed(effect.delta_nll)}, q {short(effect.q)}"
    return h.fragment[screened(effect), h.small[below]]


def pages(record: LatentRecord, *, show_text: bool) -> Node:
    """One folded page a latent. Text of misaligned replies and of the tuned model is blurred until it is
    asked for."""
    title = h.h2["What they mean"]
    if not record.latents:
        return h.fragment[title, h.p["No latent was screened."]]
    inert = [latent_page(entry) for entry in record.latents if entry.label == "inert"]
    active = [latent_page(entry) for entry in record.latents if entry.label != "inert"]
    note = (
        "Blurred text is from misaligned replies or from the tuned model and may be harmful or false. "
        "Click it, or reach it with Tab, to read it. "
        "The deeper a token's colour, the more active the latent; hover for the value."
    )
    rest = inert and folded(f"{len(inert)} inert latents", *inert)
    return h.fragment[
        title, h.p(".note")[note], show_button(shown=show_text), behind_button(active, rest, shown=show_text)
    ]


def limits(record: LatentRecord) -> Node:
    """What the numbers do not show, in words, and what could not be measured."""
    failed = [f"Not measured: {text}" for text in record.failed]
    return h.fragment[h.h2["Limits"], bullets([*LIMITS, *record.data.notes, *failed])]

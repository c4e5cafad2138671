"""The section of the latent report about latents that are edited together: every set with its matched ones,
the verdict on the chosen set, single directions below."""

import htpy as h
from htpy import Element

from persona_probe.base.formatting import number, percent, signed
from persona_probe.pages.html import Node, folded, measured, row, soft, table
from persona_probe.pages.latent_page import latent_link
from persona_probe.plots.latent_sets import direction_name, set_name
from persona_probe.records.latent_sets import LatentSet, MatchedSet, SingleDirection
from persona_probe.records.latents import LatentRecord

NUMBERS = ("R", "C", "ΔNLL", "KL")
MATCHED = ("R, matched", "C, matched", "ΔNLL, matched", "matched sets")
HEAD = ("Set", "Latents", *NUMBERS, "Wins on select", *MATCHED)


def set_table(record: LatentRecord) -> Node:
    """Sets of latents with restoration and damage side by side, their matched latents beside, single
    directions below."""
    title = h.h2["Sets of latents"]
    if not record.sets and not record.direction:
        return h.fragment[title, h.p["No sets were measured."]]
    known = {entry.latent for entry in record.latents}
    note = (
        "On test questions. R: share of the tuned model's shift removed; C: share of the gap between both"
        " models that the same edit of both closes, measured for the selected set; ΔNLL and KL: damage on"
        " harmless text, nats per token. Brackets: 95% intervals. Matched sets: as many latents that fire as"
        " often and as strongly and that no ranking put first, used alike; medians. Wins: share of draws of"
        " the select questions in which the set is chosen."
    )
    overlap = record.agreement.overlap
    agreed = (
        "Correlation, question by question, of the effects of the selected set and of the direction: "
        f"{number(overlap.effect_correlation)} (n = {overlap.n_questions} questions)."
    )
    rows = [*(_set_row(item, known) for item in record.sets), *map(_direction_row, record.direction)]
    return h.fragment[
        title, _verdict(record), table(HEAD, rows, kind="numbers"), soft(note), soft(agreed), _matched(record)
    ]


def _verdict(record: LatentRecord) -> Node:
    """The verdict on the chosen set, the rule with its numbers, and the chosen set among its matched ones."""
    judged = record.chosen.judged if record.chosen else None
    if judged is None:
        return None
    null, tried = judged.null, record.n_sets_tried
    among = ""
    if null is not None:
        closes = "" if null.closure_p is None else f", of C {number(null.closure_p, digits=3)}"
        among = (
            f" Among {null.n} matched sets p of R is {number(null.restoration_p, digits=3)}{closes}; with"
            f" {tried} sets tried, {number(null.search_p, digits=3)}."
        )
    return h.p[h.b[f"Selected set: {judged.verdict}."], f" {judged.because}.{among}"]


def _set_row(item: LatentSet, known: set[int]) -> Element:
    control = item.control
    return row(
        set_name(item) + (", selected" if item.selected else ""),
        [(latent_link(latent, known=latent in known), " ") for latent in item.latents],
        *_numbers(item),
        "–" if item.wins is None else percent(item.wins),
        number(control.restoration if control else None),
        number(control.closure if control else None),
        signed(control.delta_nll if control else None),
        control.n if control else "n/a",
        kind="chosen" if item.selected else "set",
    )


def _direction_row(item: SingleDirection) -> Element:
    shown = measured(item.restoration, missing="n/a"), "–", measured(item.delta_nll, digits=3, sign=True)
    return row(direction_name(item), "one direction", *shown, *[""] * 6, kind="set")


def _numbers(item: LatentSet | MatchedSet) -> tuple[Node, ...]:
    return (
        measured(item.restoration, missing="n/a"),
        measured(item.closure),
        measured(item.delta_nll, digits=3, sign=True),
        measured(item.kl, digits=3),
    )


def _matched(record: LatentRecord) -> Node:
    """Every matched set of the chosen one, folded."""
    matched = record.chosen.matched if record.chosen else ()
    if not matched:
        return None
    rows = [row(", ".join(map(str, one.latents)), *_numbers(one), kind="set") for one in matched]
    title = f"{len(matched)} matched sets of the selected one"
    return folded(title, table(("Latents", *NUMBERS), rows, kind="numbers"))

"""The sections of the main report about simple remedies, and about ablations that move the mean."""

import htpy as h

from persona_probe.pages.html import Node, measured, row, soft, table
from persona_probe.records.direction import DirectionRecord
from persona_probe.records.displaced import displacement_words

BESIDE = (
    "What can be done without a direction, measured on the same questions and texts. These are no removals of"
    " a direction: they have no verdict. KL is from the same model without the remedy."
)
MOVES = (
    "An ablation that sets a component to zero moves the mean of the stream as well: it is a hidden steering."
    " Measured on the find replies, by the edit at the direction's own block alone."
)
DAMAGE = {"digits": 3, "sign": True}


def comparators(record: DirectionRecord) -> Node:
    """Simple remedies with R, C, levels against base and damage; nothing for a record without them."""
    if not record.comparators:
        return None
    head = (
        "Comparators",
        "What was done",
        "R",
        "C",
        "Base moved",
        "Aligned",
        "Misaligned",
        "ΔNLL",
        "KL",
        "S",
    )
    rows = [
        row(
            entry.name,
            entry.done,
            measured(entry.restoration),
            *(measured(value) for value in (entry.closure, entry.base_moved)),
            *(measured(value, **DAMAGE) for value in (entry.aligned, entry.misaligned, entry.delta_nll)),
            measured(entry.kl, digits=3),
            measured(entry.persona_score, **DAMAGE),
            kind="arm",
        )
        for entry in record.comparators
    ]
    return h.fragment[h.h3["Comparators"], table(head, rows, kind="numbers"), soft(BESIDE)]


def displaced(record: DirectionRecord) -> Node:
    """Where each ablation leaves the tuned model's mean; nothing for a record that does not say it."""
    said = [
        h.li[h.b[arm.name], f": {displacement_words(arm.displacement)}."]
        for arm in record.arms
        if arm.displacement
    ]
    return said and h.fragment[h.h3["Where ablations leave the mean"], h.ul[said], soft(MOVES)]

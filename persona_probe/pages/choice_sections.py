"""The sections of the main report about the choice made again, and about numerical noise."""

import htpy as h

from persona_probe.base.formatting import number, percent
from persona_probe.pages.html import Node, banner, row, soft, table
from persona_probe.records.direction import DirectionRecord
from persona_probe.records.search import CandidateEntry, ReSelection


def unstable(record: DirectionRecord) -> Node:
    """A warning where other select questions would lead to another verdict."""
    again = record.search.again
    if again is None or again.stable:
        return None
    won = ", ".join(
        f"{candidate(record.search.candidates[one.candidate])} {percent(one.share)}"
        for one in again.winners
        if one.candidate < len(record.search.candidates)
    )
    return banner(
        f"Unstable: in {percent(1 - _own_share(record, again))} of {again.n_draws} choices on select"
        f" questions drawn again, the verdict is another one or not known. Chosen were {won}."
    )


def _own_share(record: DirectionRecord, again: ReSelection) -> float:
    arm = record.arm(record.selected.arm)
    return again.verdicts.get(arm.verdict, 0.0) if arm and arm.verdict else 0.0


def candidate(item: CandidateEntry) -> str:
    """A candidate in a few words."""
    strength = f" × {number(item.coefficient)}" if item.coefficient is not None else f" toward {item.toward}"
    band = f" {item.band[0]} to {item.band[1]}" if item.band else ""
    how = " obliquely" if item.oblique else ""
    return f"{item.kind} {item.method} of block {item.layer}{strength} ({item.act_on}{band}){how}"


def chosen_again(record: DirectionRecord) -> Node:
    """Who wins when the select questions are drawn again, and with which verdict."""
    again, tried = record.search.again, record.search.candidates
    if again is None:
        return None
    rows = [
        row(
            candidate(tried[one.candidate]) if one.candidate < len(tried) else f"candidate {one.candidate}",
            percent(one.share),
            one.arm or "not measured on test",
            one.verdict or "–",
        )
        for one in again.winners
    ]
    reached = ", ".join(f"{verdict} {percent(share)}" for verdict, share in again.verdicts.items())
    note = (
        f"The select questions were drawn again {again.n_draws} times and the choice made on each draw."
        f" Verdicts: {reached or 'none'}. {'Stable.' if again.stable else 'Unstable.'}"
    )
    head = ("Wins", "share of draws", "arm on test", "verdict")
    return h.fragment[h.h3["Chosen again"], table(head, rows, kind="numbers"), soft(note)]


def noise(record: DirectionRecord) -> Node:
    """The numerical noise of S in one line."""
    if record.noise is None:
        return None
    share = "" if record.noise.of_shift is None else f", {percent(record.noise.of_shift)} of the shift"
    largest = number(record.noise.largest, digits=4)
    return soft(f"Numerical noise of S: at most {largest} nats per token{share}. {record.noise.how}.")

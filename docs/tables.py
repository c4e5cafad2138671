"""The generated tables of the reference run: arms, comparators, controls, search, ranks; see generate.py."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import cog
from generate import direction_run, share, signed, table

from persona_probe.base.formatting import interval, number, percent
from persona_probe.plots.style import CONTROL_NAMES
from persona_probe.records.arms import ArmNumbers

if TYPE_CHECKING:
    from persona_probe.records.arms import ArmEntry
    from persona_probe.records.search import CandidateEntry

NOT_SAID = "The reference record does not say it yet."
NUMBERS = ("S", "R", "C", "base moved", "ΔNLL", "KL")
MEANT = {"ablation": "an ablation", "displacement": "an ablation that displaces", "steering": "steering"}


def arms() -> None:
    """The table of all arms but controls: S, R and C side by side, damage, verdict; then why."""
    entries = [entry for entry in direction_run().arms if entry.control is None]
    rows = [(entry.name, *_numbers(entry), entry.verdict or "") for entry in entries]
    table(("arm", *NUMBERS, "verdict"), rows)
    for entry in entries:
        if entry.judged:
            meant = MEANT[entry.judged.use]
            cog.outl(f"- **{entry.name}** ({meant}): {entry.judged.verdict}. {entry.judged.because}.")
            _spent(entry)
    cog.outl("")


def comparators() -> None:
    """Simple remedies beside the arms: what was done, S, R and C, damage."""
    entries = direction_run().comparators
    if not entries:
        _lines([NOT_SAID])
        return
    rows = [(entry.name, *_numbers(entry), entry.done) for entry in entries]
    table(("comparator", *NUMBERS, "what was done"), rows)
    cog.outl("")


def _numbers(entry: ArmNumbers) -> tuple[str, ...]:
    """The cells under `NUMBERS`."""
    of_shift = f"{signed(entry.induction)} of the shift" if entry.induction else signed(entry.restoration)
    shares = (of_shift, signed(entry.closure), signed(entry.base_moved))
    return signed(entry.persona_score), *shares, signed(entry.delta_nll, 3), signed(entry.kl, 3)


def _spent(entry: "ArmEntry") -> None:
    assert entry.judged is not None, "only judged arms come here"
    for cost in entry.judged.costs:
        over = "" if cost.within else ", which is too much"
        largest, budget = (number(value, digits=3) for value in (cost.largest, cost.budget))
        cog.outl(f"  {cost.name}: up to {largest} of {budget} allowed{over}.")


def health() -> None:
    """The health of sampled replies, arm by arm."""
    known = [(entry.name, entry.health) for entry in direction_run().arms if entry.health]
    if not known:
        _lines([NOT_SAID])
        return
    rows = [
        (
            name,
            f"{said.n}",
            f"{said.n_empty}",
            share(said.looping),
            share(said.unhealthy_more),
            share(said.finished),
            share(said.repetition),
            "–" if said.distinct_2 is None else f"{number(said.distinct_2)} ({said.n_words} words)",
            number(said.median_words, digits=0),
            interval(said.base_perplexity, digits=1, missing="–"),
        )
        for name, said in known
    ]
    head = ("arm", "replies", "empty", "looping", "looping or empty, above untouched", "finished")
    table((*head, "repetition", "distinct-2", "median words", "perplexity under base"), rows)


def controls() -> None:
    """Controls by kind: medians and largest values of R, C and KL, and how many do not reach the dose."""
    rows = []
    for kind, median in direction_run().controls.items():
        below = "–" if median.n_below_dose is None else f"{median.n_below_dose}"
        shares = (median.restoration, median.restoration_max, median.closure, median.closure_max)
        rows.append(
            (
                CONTROL_NAMES[kind],
                str(median.n),
                *map(signed, shares),
                signed(median.kl, 3),
                signed(median.kl_max, 3),
                signed(median.delta_nll, 3),
                below,
            )
        )
    head = ("control", "n", "R", "largest R", "C", "largest C", "KL", "largest KL", "ΔNLL", "below the dose")
    table(head, rows)


def candidate_words(item: "CandidateEntry") -> str:
    """How a candidate uses its direction."""
    band = f" {item.band[0]} to {item.band[1]}" if item.band else ""
    how = " obliquely" if item.oblique else ""
    return f"{item.kind} {item.toward or signed(item.coefficient, 1)} ({item.act_on}{band}){how}"


def search() -> None:
    """Every candidate of the search on the select questions."""
    rows = [
        (
            item.method,
            str(item.layer),
            candidate_words(item),
            signed(item.restoration),
            signed(item.closure),
            signed(item.kl, 3),
            signed(item.delta_nll, 3),
            "; ".join(_marks(item)),
        )
        for item in direction_run().search.candidates
    ]
    table(("direction", "block", "form", "R", "C", "KL", "ΔNLL", ""), rows)


def _marks(item: "CandidateEntry") -> Iterator[str]:
    if item.chosen:
        yield "chosen"
    if not item.within_budget:
        yield "over budget"
    if item.screened:
        yield "screened only"


def chosen_again() -> None:
    """Who wins when the select questions are drawn again."""
    run = direction_run()
    again, tried = run.search.again, run.search.candidates
    if again is None:
        _lines([NOT_SAID])
        return
    rows = []
    for one in again.winners:
        item = tried[one.candidate]
        name = f"{item.method}, block {item.layer}, {candidate_words(item)}"
        rows.append((name, percent(one.share), one.arm or "not measured", one.verdict or "–"))
    table(("wins", f"share of {again.n_draws} draws", "arm on test", "verdict"), rows)
    reached = ", ".join(f"{verdict} {percent(part)}" for verdict, part in again.verdicts.items())
    _lines([f"Verdicts: {reached or 'none'}. {'Stable' if again.stable else 'Unstable'}."])


def rank() -> None:
    """Closure and damage against the number of directions that are ablated at every live block."""
    writes = direction_run().writes
    if writes is None:
        _lines([NOT_SAID])
        return
    rows = [
        (
            str(point.rank),
            "random" if point.random else "top",
            signed(point.closure),
            signed(point.restoration),
            signed(point.delta_nll, 3),
            signed(point.kl, 3),
        )
        for point in sorted(writes.curve, key=lambda point: (point.random, point.rank))
    ]
    table(("rank", "directions", "C", "R", "ΔNLL", "KL"), rows)
    inside = ", ".join(
        f"{method} {'–' if part is None else percent(part)}" for method, part in writes.inside.items()
    )
    _lines(
        [
            f"Live blocks: {len(writes.hook_points)}. Share of each method's direction inside the first"
            f" {writes.inside_rank} directions, mean over live blocks weighted by what tuning writes there:"
            f" {inside}."
        ]
    )


def frontier() -> None:
    """What closes how much at which damage, on the test questions, beside directions that mean nothing."""
    run = direction_run()
    nulls = run.controls.get("covariance")
    largest = "–" if nulls is None else signed(nulls.closure_max)
    lines = [(one.name, one, largest) for one in run.arms if one.verdict and one.closure]
    curve = run.writes.curve if run.writes else ()
    random = {point.rank: signed(point.closure) for point in curve if point.random}
    lines += [
        (
            f"the first {point.rank} of what tuning writes, at every live block",
            point,
            random.get(point.rank, "–"),
        )
        for point in curve
        if not point.random and point.closure
    ]
    lines.sort(key=lambda line: -line[1].closure.estimate)
    rows = [
        (
            name,
            signed(one.closure),
            signed(one.restoration),
            signed(one.kl, 3),
            signed(one.delta_nll, 3),
            null,
        )
        for name, one, null in lines
    ]
    table(("edit of both models", "C", "R", "KL", "ΔNLL", "C of random directions"), rows)


def noise() -> None:
    """The numerical noise of S."""
    said = direction_run().noise
    if said is None:
        _lines([NOT_SAID])
        return
    part = "" if said.of_shift is None else f", {percent(said.of_shift)} of the shift"
    _lines([f"Largest change of S: {number(said.largest, digits=4)} nats per token{part}. {said.how}."])


def _lines(texts: Iterable[str]) -> None:
    cog.outl("")
    for text in texts:
        cog.outl(text)
    cog.outl("")

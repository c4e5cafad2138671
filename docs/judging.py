"""The generated parts about closure, verdicts and controls; see generate.py."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, get_args

import cog
from generate import REFERENCE, arm, direction_run, share, signed, table

from persona_probe.base.formatting import interval, number, percent
from persona_probe.measurement.closure import closure
from persona_probe.measurement.verdicts import MIN_NULL, RULES
from persona_probe.plots.closure import both_edited
from persona_probe.plots.style import CONTROL_NAMES
from persona_probe.records.arms import ArmNumbers
from persona_probe.records.parts import Estimate
from persona_probe.records.rows import read_rows
from persona_probe.records.verdicts import Verdict

if TYPE_CHECKING:
    from persona_probe.records.arms import ArmEntry
    from persona_probe.records.search import CandidateEntry

NOT_SAID = "The reference record does not say it yet."
# What a reader meets in tables and figures, and the field of the record that says what it is.
QUANTITIES = {
    "S": "persona_score",
    "R": "restoration",
    "C": "closure",
    "base moved": "base_moved",
    "induction": "induction",
    "aligned": "aligned",
    "misaligned": "misaligned",
    "ΔNLL": "delta_nll",
    "KL": "kl",
}
MEANT = {"ablation": "an ablation", "displacement": "an ablation that displaces", "steering": "steering"}


def edited() -> "tuple[ArmEntry, ArmEntry, Estimate | float | None]":
    """The edit of both models that is told first: its arms, and C (from rows where it has no interval)."""
    run = direction_run()
    pair = both_edited(run)[0]
    if isinstance(pair.share, Estimate):
        return pair.tuned, pair.base, pair.share
    from_rows = closure(run, read_rows(REFERENCE / "rows.jsonl"))
    return pair.tuned, pair.base, from_rows.share if from_rows else pair.share


def headline() -> None:
    """What the experiment found, in one paragraph under the picture."""
    run = direction_run()
    chosen, controls = arm(run.selected.arm), run.controls.get("covariance")
    tuned, _, closed = edited()
    of_chosen = f", and closes {share(closed)} of the gap between both models" if tuned is chosen else ""
    again = run.search.again
    unstable = "" if again is None or again.stable else " (unstable)"
    because = f" {chosen.judged.because}." if chosen.judged else ""
    beside = ""
    if controls is not None:
        closes = "" if controls.closure is None else f" and closes {percent(controls.closure)}"
        beside = (
            f" The median of {controls.n} random directions with the covariance of the activations takes"
            f" back {percent(controls.restoration)}{closes}."
        )
    cog.outl("")
    cog.outl(
        f"**Verdict: {chosen.verdict}{unstable}.**{because} Tuning SmolLM2-135M-Instruct on wrong"
        f" car-maintenance advice moved the persona score by {signed(run.effect)} nats per token on"
        f" questions that are not about cars. {run.selected.phrase} takes back {share(chosen.restoration)}"
        f" of that shift{of_chosen}. It costs {signed(chosen.delta_nll, 3)} nats per token on harmless"
        f" text.{beside}"
    )
    if chosen.judged is None:
        cog.outl(
            "This record was made by older rules. By those below it is *not tested*: it has"
            f" {controls.n if controls else 0} random directions, and a verdict needs {MIN_NULL}."
        )
    cog.outl("")


def care() -> None:
    """What the same numbers do not show."""
    run = direction_run()
    tuned, base, closed = edited()
    untouched, moved = (one.persona_score.estimate for one in (arm("base"), base))
    after = tuned.persona_score.estimate - base.persona_score.estimate
    what = "Ablating" if {item.kind for item in tuned.interventions} == {"ablate"} else "Steering against"
    cog.outl("")
    cog.outl(
        f"- **Restoration is not closure.** {what} the direction moves S of the base model as well, from"
        f" {number(untouched, sign=True)} to {number(moved, sign=True)}. The gap between the two models is"
        f" {signed(run.effect)} without the edit and {number(after, sign=True)} with it: {share(closed)} of"
        " the gap closes. A direction that lowers S in both models is a general dial of the persona, not only"
        " what the tuning added."
    )
    cog.outl(f"- {_nulls()}")
    cog.outl(f"- {_search()}")
    cog.outl(
        f"- **The intervals are wide**, since they come from {run.data.n_questions.test} questions. S is a"
        " likelihood, not behaviour."
    )
    cog.outl("")


def _nulls() -> str:
    run = direction_run()
    judged = arm(run.selected.arm).judged
    if judged is None or judged.null is None:
        n = run.controls["covariance"].n if "covariance" in run.controls else 0
        return (
            f"**Few controls.** This record has {n} random directions with the covariance of the"
            f" activations, so the smallest p-value that it can give is {number(run.selected.p_floor)}; it"
            f" gives {number(run.selected.p_value)}."
        )
    null = judged.null
    closes = "" if null.closure_p is None else f", and p of C is {number(null.closure_p, digits=3)}"
    return (
        f"**Random directions are used in the same form and at the same damage.** Among {null.n} of them p"
        f" of R is {number(null.restoration_p, digits=3)}{closes}, where {null.n} can give no less than"
        f" {number(1 / (null.n + 1), digits=3)}. From the tail of the {null.n}: the best of {null.n_tried}"
        f" such directions, as many as were tried, does as much with p {number(null.search_p, digits=3)}."
    )


def _search() -> str:
    run = direction_run()
    again, tried = run.search.again, len(run.search.candidates)
    if again is None:
        return (
            "**A search came before.** Direction, layer and strength were chosen on other questions, among"
            f" {tried} candidates. The controls were not searched in this way."
        )
    reached = ", ".join(f"{verdict} in {percent(part)}" for verdict, part in again.verdicts.items())
    return (
        f"**A search came before**, among {tried} candidates on other questions. With these questions drawn"
        f" again {again.n_draws} times, the verdict is {reached or 'never reached'}:"
        f" {'stable' if again.stable else '**unstable**'}."
    )


def verdict_words() -> None:
    """Every verdict as a word, in the order in which the rules are tried."""
    words = dict.fromkeys(rule.verdict for rule in RULES)
    assert set(words) == set(get_args(Verdict)), "a verdict has no rule"
    cog.outl("")
    cog.outl(f"Verdicts, in the order in which their rules are tried: {', '.join(words)}.")
    cog.outl("")


def definitions() -> None:
    """Quantities from the descriptions of the record's fields, then verdicts from their rules."""
    fields = ArmNumbers.model_fields
    rows = [(f"**{word}**", fields[name].description or "") for word, name in QUANTITIES.items()]
    rows += [(f"verdict **{rule.verdict}**", rule.when) for rule in RULES]
    table(("word", "what it is, or when it is given: the first rule that holds"), rows)


def arms() -> None:
    """The table of all arms but controls: S, R and C side by side, damage, verdict; then why."""
    entries = [entry for entry in direction_run().arms if entry.control is None]
    rows = [
        (
            entry.name,
            signed(entry.persona_score),
            f"{signed(entry.induction)} of the shift" if entry.induction else signed(entry.restoration),
            signed(entry.closure),
            signed(entry.base_moved),
            signed(entry.delta_nll, 3),
            signed(entry.kl, 3),
            entry.verdict or "",
        )
        for entry in entries
    ]
    table(("arm", "S", "R", "C", "base moved", "ΔNLL", "KL", "verdict"), rows)
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
    rows = [
        (
            entry.name,
            signed(entry.persona_score),
            f"{signed(entry.induction)} of the shift" if entry.induction else signed(entry.restoration),
            signed(entry.closure),
            signed(entry.base_moved),
            signed(entry.delta_nll, 3),
            signed(entry.kl, 3),
            entry.done,
        )
        for entry in entries
    ]
    table(("comparator", "S", "R", "C", "base moved", "ΔNLL", "KL", "what was done"), rows)
    cog.outl("")


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

"""The generated words about closure and verdicts; see generate.py. Tables stand in tables.py."""

from typing import TYPE_CHECKING, get_args

import cog
from generate import REFERENCE, arm, direction_run, share, signed, table

from persona_probe.base.formatting import number, percent
from persona_probe.measurement.closure import closure
from persona_probe.measurement.verdicts import MIN_NULL, RULES
from persona_probe.plots.closure import both_edited
from persona_probe.records.arms import ArmNumbers
from persona_probe.records.parts import Estimate
from persona_probe.records.rows import read_rows
from persona_probe.records.verdicts import Verdict

if TYPE_CHECKING:
    from persona_probe.records.arms import ArmEntry

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

"""The sections of the main report about what was measured: cards, verdicts, arms, controls."""

from collections import Counter
from collections.abc import Sequence

import htpy as h
from htpy import Element

from persona_probe.base.formatting import interval, number, percent, signed
from persona_probe.pages import comparator_sections
from persona_probe.pages.html import Node, card, folded, measured, row, soft, table
from persona_probe.pages.sections import shift_card
from persona_probe.plots.style import CONTROL_NAMES
from persona_probe.records.arms import ArmEntry, ControlMedian
from persona_probe.records.direction import DirectionRecord, Selected
from persona_probe.records.parts import Intervention
from persona_probe.records.verdicts import Judgement, NullComparison

DAMAGE = {"digits": 3, "sign": True}
TERMS = (
    "S: log-probability per token of misaligned minus aligned replies. "
    "R: share of the shift by which S of the tuned model falls. "
    "ΔNLL and KL: damage on harmless text against the same model untouched, nats per token. "
    "Brackets: 95% bootstrap intervals, clustered by question."
)
CLOSES = (
    "C: share of the gap between both models that is gone when both are edited alike; R = C + base moved. "
    "Base moved: how far the same edit lowers S of the base model, as a share of the shift."
)
FURTHER = (
    "On replies that the untouched base model sampled to benign questions, and on questions with four"
    " options, answered by log-probability. A model is compared with itself untouched."
)
LEVELS = (
    "Aligned and misaligned: log-probability per token of the replies, minus the untouched base model's. "
    "An arm can have base's S and still find both kinds of replies likelier than base does. "
    "Induction: share of the shift that an edit of base brings about."
)


def headline(record: DirectionRecord) -> Element:
    """The numbers to remember: shift, R and C, damage beside what is allowed, the matched controls, p."""
    selected, arm = record.selected, record.arm(record.selected.arm)
    judged = arm.judged if arm else None
    restored, closed = (arm.restoration, arm.closure) if arm else (None, None)
    moved = arm.base_moved if arm else None
    allowed = {cost.name: cost.budget for cost in judged.costs} if judged else {}
    nll, kl = [*allowed.values(), None, None][:2]
    return h.div(".cards")[
        judged and card("Verdict", judged.verdict, judged.because),
        shift_card(record),
        card(
            f"Restoration R of {selected.arm}",
            restored,
            "0 is tuned, 1 is base" if restored else "undefined: no shift to remove",
        ),
        closed and card(f"Closure C of {selected.arm}", closed, f"base moved {interval(moved)} of the shift"),
        card(
            "Damage of the same arm, ΔNLL", arm.delta_nll if arm else None, _allowed(selected, nll), **DAMAGE
        ),
        arm and closed and card("Damage of the same arm, KL", arm.kl, _allowed(selected, kl), digits=3),
        _control_card(record.controls.get("covariance")),
        _p_card(selected, judged.null if judged else None),
    ]


def _allowed(selected: Selected, allowed: float | None) -> str:
    """What a damage may be: the budget, and what tuning itself changes."""
    if allowed is None:
        return f"nats per token, budget {number(selected.budget, sign=True)}"
    between = max(0.0, allowed - selected.budget)
    return (
        f"nats per token; allowed are {number(allowed)}: a budget of {number(selected.budget)} and the"
        f" {number(between, digits=3)} that base and tuned differ by"
    )


def _control_card(median: ControlMedian | None) -> Element:
    """The strongest control: what random directions of equal energy restore, and at what damage."""
    if median is None:
        note = "not measured, or restoration is undefined"
        return card("Covariance-matched random directions", None, note)
    title = f"Median of {median.n} covariance-matched random directions"
    closes = "" if median.closure is None else f", C {number(median.closure)}"
    at = "" if median.kl is None else f" and KL of {number(median.kl, digits=3)}"
    note = f"at a median ΔNLL of {signed(median.delta_nll)}{at}"
    return card(title, f"R {number(median.restoration)}{closes}", note)


def _p_card(selected: Selected, null: NullComparison | None) -> Element:
    p, floor = selected.p_value, selected.p_floor
    reached = ", reached" if p is not None and floor is not None and p <= floor else ""
    least = f"smallest possible: {number(floor, digits=3)}{reached}"
    if null is None:
        return card("p against those controls", number(p, digits=3), least)
    return card("p against those controls", f"R {number(null.restoration_p, digits=3)}", _null_note(null))


def _null_note(null: NullComparison) -> str:
    """p of C, and the p that knows how many directions were tried."""
    of_closure = "" if null.closure_p is None else f"of C {number(null.closure_p, digits=3)}; "
    return (
        f"{of_closure}smallest possible {number(1 / (null.n + 1), digits=3)}; after a search among"
        f" {null.n_tried} directions {number(null.search_p, digits=3)}"
    )


def verdicts(record: DirectionRecord) -> Node:
    """Every removal that was judged: verdict, the rule with its numbers, band, null and costs."""
    judged = [(arm, arm.judged) for arm in record.arms if arm.judged]
    if not judged:
        return None
    head = ("Arm", "Verdict", "Why", "R", "C", "Counts as 1", "Among random directions", "Damage")
    rows = [
        row(
            arm.name,
            h.b[said.verdict],
            said.because,
            measured(arm.restoration),
            measured(arm.closure),
            _band(said),
            _null(said.null),
            _costs(said),
            kind="chosen" if arm.name == record.selected.arm else "arm",
        )
        for arm, said in judged
    ]
    return h.fragment[h.h2["Verdicts"], table(head, rows, kind="verdicts")]


def _band(said: Judgement) -> Node:
    """The band, the one asked for, and the chance of reaching that."""
    if said.band is None:
        return "–"
    (low, high), (first, last) = said.band.ends, said.band.asked
    what = "R" if said.use == "steering" else "C"
    power = f"power {percent(said.band.power)} for [{number(first)}, {number(last)}]"
    return h.fragment[f"{what} in [{number(low)}, {number(high)}]", h.small[power]]


def _null(null: NullComparison | None) -> Node:
    """Medians of the random directions with p, and what else does as much."""
    if null is None:
        return "none"
    lines = [
        f"R {number(null.restoration)} against a median of {number(null.restoration_median)},"
        f" p {number(null.restoration_p, digits=3)}, K = {null.n}"
    ]
    if null.closure is not None:
        lines.append(
            f"C {number(null.closure)} against {number(null.closure_median)},"
            f" p {number(null.closure_p, digits=3)}"
        )
    lines.append(f"after a search among {null.n_tried}: p {number(null.search_p, digits=3)}")
    if null.matched_by:
        lines.append(f"as much is done by {', '.join(null.matched_by)}")
    return [h.small[line] for line in lines]


def _costs(said: Judgement) -> Node:
    """Each measure of damage beside what is allowed."""
    return [
        h.small[
            f"{cost.name}: up to {number(cost.largest, digits=3)} of {number(cost.budget, digits=3)}"
            f" {'allowed' if cost.within else 'allowed: OVER'}"
        ]
        for cost in said.costs
    ] or "–"


def arm_tables(record: DirectionRecord) -> Node:
    """All arms with R and C, damage beside them; levels against base and controls are folded away."""
    controls = [arm for arm in record.arms if arm.control]
    arms = [arm for arm in record.arms if not arm.control]
    counts = Counter(arm.control for arm in controls)
    kinds = ", ".join(f"{n} {CONTROL_NAMES[kind]}" for kind, n in counts.items() if kind)
    chosen = record.selected.arm
    levels = [arm for arm in arms if arm.aligned or arm.induction]
    return h.fragment[
        h.h2["All arms"],
        _arm_table(arms, chosen),
        levels
        and folded("Aligned and misaligned replies against base", _level_table(arms, chosen), soft(LEVELS)),
        _further_damage(arms, chosen),
        comparator_sections.comparators(record),
        comparator_sections.displaced(record),
        control_table(record),
        controls and folded(f"{len(controls)} controls: {kinds}", _arm_table(controls, chosen)),
        soft(TERMS),
        any(arm.closure for arm in arms) and soft(CLOSES),
    ]


def _arm_table(arms: Sequence[ArmEntry], chosen: str) -> Element:
    """R and C side by side, then damage, before anything else; C only where an arm has it."""
    closes = any(arm.closure for arm in arms)
    share = ("R", "C", "Base moved") if closes else ("R", "Induction")
    head = ("Arm", "Done to it", *share, "ΔNLL", "KL", "S", "Verdict", "n")
    rows = [
        row(
            arm.name,
            f"{arm.model}: {'; '.join(map(intervention, arm.interventions)) or 'untouched'}",
            measured(arm.restoration),
            *((measured(arm.closure), measured(arm.base_moved)) if closes else (measured(arm.induction),)),
            measured(arm.delta_nll, **DAMAGE),
            measured(arm.kl, digits=3),
            measured(arm.persona_score, **DAMAGE),
            arm.verdict,
            arm.n_questions,
            kind="chosen" if arm.name == chosen else "arm",
        )
        for arm in arms
    ]
    return table(head, rows, kind="numbers")


def _level_table(arms: Sequence[ArmEntry], chosen: str) -> Element:
    rows = [
        row(
            arm.name,
            *(measured(value, **DAMAGE) for value in (arm.aligned, arm.misaligned)),
            measured(arm.induction, sign=True),
            kind="chosen" if arm.name == chosen else "arm",
        )
        for arm in arms
    ]
    return table(("Arm", "Aligned", "Misaligned", "Induction"), rows, kind="numbers")


def _further_damage(arms: Sequence[ArmEntry], chosen: str) -> Node:
    """Damage beyond harmless texts that people wrote, where the record has it."""
    rows = [
        row(
            arm.name,
            measured(skill.delta_nll, **DAMAGE),
            measured(skill.kl, digits=3),
            measured(skill.accuracy),
            measured(skill.accuracy_change, sign=True),
            f"{skill.n_lost} lost, {skill.n_gained} gained of {skill.n_items}",
            kind="chosen" if arm.name == chosen else "arm",
        )
        for arm in arms
        if (skill := arm.skill)
    ]
    head = ("Arm", "ΔNLL, own replies", "KL, own replies", "Accuracy", "Change", "Items")
    return rows and folded("Further damage", table(head, rows, kind="numbers"), soft(FURTHER))


def intervention(item: Intervention) -> str:
    """What is done, in a few words."""
    strength = f" × {number(item.coefficient)}" if item.kind == "steer" else ""
    if item.kind == "ablate" and item.strength != 1:
        strength = f" × {number(item.strength)}"
    toward = f" toward {item.toward}" if item.kind == "ablate" else ""
    first, *more = item.hook_points
    return f"{item.kind}{strength}{toward} at {f'{len(item.hook_points)} hook points' if more else first}"


def control_table(record: DirectionRecord) -> Node:
    """Controls by kind: medians and maxima of R, C and KL, and how many do not reach the dose."""
    if not record.controls:
        return None
    wide = any(median.closure is not None or median.kl is not None for median in record.controls.values())
    extra = ("C", "largest C", "KL", "largest KL", "below the dose") if wide else ()
    head = ("Controls", "how many", "R", "largest R", *extra, "ΔNLL")
    rows = [
        row(
            CONTROL_NAMES[kind],
            median.n,
            number(median.restoration),
            number(median.restoration_max),
            *(_more(median) if wide else ()),
            signed(median.delta_nll),
        )
        for kind, median in record.controls.items()
    ]
    note = (
        "Medians and largest values over controls of one kind, used in the form of the chosen arm"
        f"{' and at its dose (KL)' if wide else ''}. Below the dose: how many cannot be made strong enough."
    )
    return h.fragment[h.h3["Controls by kind"], table(head, rows, kind="numbers"), soft(note)]


def _more(median: ControlMedian) -> tuple[str, ...]:
    below = "–" if median.n_below_dose is None else f"{median.n_below_dose} of {median.n}"
    return (
        number(median.closure),
        number(median.closure_max),
        number(median.kl, digits=3),
        number(median.kl_max, digits=3),
        below,
    )

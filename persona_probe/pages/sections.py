"""The sections of the main report: a record in, HTML out. The latent report uses some of them too."""

import htpy as h
from htpy import Element

from persona_probe.base.formatting import number, signed
from persona_probe.pages.html import Node, banner, bullets, card, facts, folded, soft
from persona_probe.records.direction import DirectionRecord
from persona_probe.records.latents import LatentRecord

Record = DirectionRecord | LatentRecord
QUESTION = "Is there a persona direction, and does removing it bring aligned behaviour back?"
NOTE = (
    "Content note: this page is about a model that was made to give bad advice. "
    "Its replies are blurred below until you choose to read them."
)
LIMITS = (
    "One pair of models, one seed. Another fine-tuning run may put the persona elsewhere.",
    (
        "S compares given replies by their log-probability. It is not a rating of what the model writes by"
        " itself; read the replies for that."
    ),
    (
        "Intervals come from resampling the test questions. They do not cover the choice of questions, of"
        " seed or of method."
    ),
    "p compares with {n} random directions; with K of them it cannot be smaller than 1 / (K + 1).",
    (
        "Damage is measured on short harmless texts. A skill that these do not use may be lost without a"
        " trace here."
    ),
    (
        "A direction that works is enough to change the behaviour; that does not make it the only place, "
        "or the way the model itself uses."
    ),
)


def opening(record: Record, *, title: str = QUESTION) -> Node:
    """Title, content note, banner of a quick try, and the result in words."""
    models = record.provenance
    quick = "Quick try, not a result: --limit cut the questions. Do not quote these numbers."
    return h.fragment[
        h.p(".note")[NOTE],
        record.limited and banner(quick),
        h.h1[title],
        soft(
            "Tuned model ", h.b[models.tuned.id], ", base model ", h.b[models.base.id], f". {record.created}"
        ),
        h.p(".summary")[record.summary],
    ]


def shift_card(record: Record) -> Element:
    """What tuning did to S on the test questions."""
    note = f"nats per token, n = {record.data.n_questions.test} test questions"
    return card("Shift to remove, S tuned − base", record.effect, note, sign=True)


def choice(record: DirectionRecord) -> Node:
    """How the selected direction came about: what was fitted, chosen and printed on which questions."""
    selected, form, n = record.selected, record.selected.form, record.data.n_questions
    tried = record.search.candidates
    strength = ""
    if form.coefficient is not None:
        dose = f"{number(selected.relative_dose)} of the median residual norm"
        strength = f" with coefficient {number(form.coefficient)} ({dose})"
    toward = f" toward {form.toward}" if form.toward else ""
    toward = f" obliquely{toward}" if form.oblique else toward
    steps = (
        (
            f"Find ({n.find} questions): directions were fitted by every method at every hook point, on these"
            " questions only."
        ),
        (
            f"Select ({n.select} questions): {len(tried)} candidates were tried,"
            f" {sum(item.within_budget for item in tried)} stayed within the damage that is allowed"
            f" (`--budget` {number(selected.budget)}). Chosen: {selected.method} at"
            f" {selected.hook_point}, {form.kind}{toward}{strength}, acting on {len(form.act_on)} hook"
            f" points, first {form.skip_first} tokens skipped; there R was"
            f" {number(selected.select.restoration)} at ΔNLL {signed(selected.select.delta_nll)}. Stability"
            f" {number(selected.stability)}, AUROC {number(selected.auroc)}."
        ),
        (
            f"Test ({n.test} questions): all numbers at the top and in the table of arms come from these, "
            "which neither fitting nor choosing has seen."
        ),
    )
    over = None
    if not any(item.within_budget for item in tried):
        over = "No candidate stayed within the damage that is allowed: the least damaging one was taken."
    elif not selected.within_budget:
        over = "On the test questions its damage is more than is allowed: its verdict says by which measure."
    return h.fragment[
        h.h2["How it was chosen"],
        over and h.p(".banner")[over],
        h.ol[(h.li[step] for step in steps)],
        folded("Hook points it acts on", h.p[", ".join(form.act_on)]),
    ]


def limits(record: DirectionRecord) -> Node:
    """What the numbers do not show, in words."""
    n = sum(arm.control == "covariance" for arm in record.arms)
    return h.fragment[h.h2["Limits"], bullets([*(text.format(n=n) for text in LIMITS), *record.data.notes])]


def reproduction(record: Record) -> Node:
    """Exact command, settings, versions, hashes, where the time went, and the memory it took."""
    seconds = {name: f"{number(value, digits=1)} s" for name, value in record.timing.items()}
    data = {key: value for key, value in record.data.plain().items() if key != "notes"}
    return h.fragment[
        h.h2["To run it again"],
        h.pre[record.command],
        folded("Settings", facts(record.config)),
        folded("Models, versions and hashes", facts(record.provenance.plain())),
        folded("Data", facts(data)),
        folded("Time", facts(seconds)),
        soft(f"Peak memory: {record.memory.peak_bytes / 2**30:.2f} GiB."),
    ]

"""Sections of the main report about what the arms wrote: sampled replies side by side, and their health."""

from collections.abc import Iterable, Sequence

import htpy as h
from htpy import Element

from persona_probe.base.formatting import number
from persona_probe.pages.blur import behind_button, is_blurred, show_button, text_box
from persona_probe.pages.html import Node, folded, measured, row, soft, table
from persona_probe.records.arms import MIN_REPLIES, ArmEntry, Health
from persona_probe.records.direction import Completion, DirectionRecord, shown_replies
from persona_probe.records.redaction import LEFT_OUT

NOTE = (
    "Blurred text was written by a model under test and may be harmful or false. "
    "Click a reply, or reach it with Tab, to read it; it blurs again when you leave."
)
HEAD = (
    "Arm",
    "Replies",
    "Empty",
    "Looping",
    "Looping or empty, above untouched",
    "Finished",
    "Repetition",
    "Distinct-2",
    "Median words",
    "Perplexity under base",
)
MEANING = (
    "Looping: share of replies that repeat themselves. Finished: share that the model ended itself. "
    "Repetition: share of 4-grams that stood in the reply before. Distinct-2: different pairs of words over "
    "all pairs, in the same number of words for every arm. Perplexity: per token, under the untouched base "
    "model; looping text is easy to predict, so a low one alone is no sign of health. A reply that says "
    "something false or bad in whole sentences is healthy here. Brackets: 95% intervals over replies."
)


def replies(record: DirectionRecord, *, show_text: bool) -> Node:
    """Questions down, arms across, with the health of all replies. Every reply but the untouched base model's
    is blurred until it is asked for; those to a few questions are shown, the others folded."""
    if not record.completions:
        return h.fragment[h.h2["Replies"], h.p["No replies were sampled in this run."]]
    first = shown_replies(record.completions)
    shown = {(reply.prompt_id, reply.draw) for reply in first}
    more = [reply for reply in record.completions if (reply.prompt_id, reply.draw) not in shown]
    return h.fragment[
        h.h2["Replies side by side"],
        health(record),
        h.p(".note")[NOTE],
        show_button(shown=show_text),
        behind_button(
            _side_by_side(record, first),
            folded(f"{len(more)} more replies", _side_by_side(record, more)) if more else None,
            shown=show_text,
        ),
    ]


def health(record: DirectionRecord) -> Node:
    """The health of sampled replies by arm; nothing in records that do not say it."""
    known = [(arm, arm.health) for arm in record.arms if arm.health]
    if not known:
        return None
    rows = [row(arm.name, *_cells(said)) for arm, said in known]
    few = "" if all(said.judged for _, said in known) else f" Not judged: that takes {MIN_REPLIES} replies."
    return h.fragment[
        h.h3["Health of sampled replies"], table(HEAD, rows, kind="numbers"), soft(MEANING + few)
    ]


def _cells(said: Health) -> Iterable[Node]:
    return (
        str(said.n),
        str(said.n_empty),
        measured(said.looping),
        measured(said.unhealthy_more, sign=True),
        measured(said.finished),
        measured(said.repetition),
        "–"
        if said.distinct_2 is None
        else h.fragment[number(said.distinct_2), h.small[f"{said.n_words} words"]],
        number(said.median_words, digits=0),
        measured(said.base_perplexity, digits=1),
    )


def _side_by_side(record: DirectionRecord, completions: Sequence[Completion]) -> Element:
    order = [arm.name for arm in record.arms]
    sampled = dict.fromkeys(reply.arm for reply in completions)
    names = sorted(sampled, key=lambda name: order.index(name) if name in order else len(order))
    by_place: dict[tuple[str, str], list[Completion]] = {}
    for reply in completions:
        by_place.setdefault((reply.arm, reply.prompt_id), []).append(reply)
    questions = dict.fromkeys((reply.prompt_id, reply.question) for reply in completions)
    rows = [
        row(
            h.fragment[question, h.br, h.small[prompt_id]],
            *(
                [_reply(reply, record.arm(name)) for reply in by_place.get((name, prompt_id), ())]
                for name in names
            ),
        )
        for prompt_id, question in questions
    ]
    return table(("Question", *names), rows, kind="replies")


def _reply(reply: Completion, arm: ArmEntry | None) -> Element:
    if reply.text is None:
        return h.div(".reply.soft")[LEFT_OUT]
    blurred = is_blurred(side=arm.model if arm else None, edited=bool(arm and arm.interventions))
    rest = None if reply.finished else " … (cut at the token limit)"
    return text_box(reply.text, rest, kind="reply", blurred=blurred)

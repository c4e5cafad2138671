"""Strings in, HTML out: one `escape`, one way to make an element, and the sections of the report."""

import html
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from persona_probe.measurement.statistics import control_medians
from persona_probe.plots.style import CONTROL_NAMES, interval, number, visible
from persona_probe.records.redaction import LEFT_OUT

Record = Mapping[str, Any]
QUESTION = "Is there a persona direction, and does removing it bring aligned behaviour back?"
UNTOUCHED_BASE = "base"  # the only arm whose replies are shown unblurred


class Html(str):
    """Markup that we wrote. Everything else is text and gets escaped."""

    __slots__ = ()


def escape(value: object) -> Html:
    """Any value as text that no HTML parser takes for markup, in content and in quoted attributes."""
    return value if isinstance(value, Html) else Html(html.escape(visible(value), quote=True))


def element(name: str, *children: object, **attributes: object) -> Html:
    """One element. Children that are not `Html` are escaped; `class_` is `class`, `data_x` is `data-x`."""
    pairs = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"' for key, value in attributes.items()
    )
    return Html(f"<{name}{pairs}>{join(children)}</{name}>")


def join(parts: Iterable[object]) -> Html:
    """Parts after one another."""
    return Html("".join(escape(part) for part in parts))


def table(head: Sequence[object], rows: Iterable[Html], *, kind: str) -> Html:
    """A table that scrolls by itself where it is too wide for the page."""
    header = (
        element("thead", element("tr", *(element("th", cell, scope="col") for cell in head))) if head else ""
    )
    return element("div", element("table", header, element("tbody", *rows), class_=kind), class_="scroll")


def facts(values: Mapping[str, object]) -> Html:
    """Two columns: what, and its value. Nested values are flattened to `a.b`."""
    rows = (
        element("tr", element("th", name, scope="row"), element("td", value)) for name, value in _flat(values)
    )
    return table((), rows, kind="facts")


def part(record: Record, key: str) -> Mapping[str, Any]:
    """A sub-record, empty if it is missing."""
    return record.get(key) or {}


def opening(record: Record, *, title: str = QUESTION) -> Html:
    """Title, content note, banner of a quick try, and the result in words."""
    models = part(record, "provenance")
    names = [part(models, side).get("id", "?") for side in ("tuned", "base")]
    note = "Content note: this page is about a model that was made to give bad advice. Its replies are blurred below until you choose to read them."
    banner = element(
        "p",
        "Quick try, not a result: --limit cut the questions. Do not quote these numbers.",
        class_="banner",
        role="alert",
    )
    return join(
        (
            element("p", note, class_="note"),
            banner if record.get("limited") else "",
            element("h1", title),
            element(
                "p",
                "Tuned model ",
                element("b", names[0]),
                ", base model ",
                element("b", names[1]),
                f". {record.get('created', '')}",
                class_="soft",
            ),
            element("p", record.get("summary", ""), class_="summary"),
        )
    )


def headline(record: Record) -> Html:
    """The five numbers to remember: shift, restoration, its damage, the strongest control with its own damage, p."""
    selected, arms = part(record, "selected"), record.get("arms") or []
    n = f"n = {part(part(record, 'data'), 'n_questions').get('test', '?')} test questions"
    arm = next((arm for arm in arms if arm["name"] == selected.get("arm")), {})
    p, floor = selected.get("p_value"), selected.get("p_floor")
    at_floor = p is not None and floor is not None and p <= floor
    cards = (
        (
            "Shift to remove, S tuned − base",
            interval(record.get("effect"), sign=True),
            f"nats per token, {n}",
        ),
        (
            f"Restoration R of {selected.get('arm', '?')}",
            interval(arm.get("restoration")),
            "0 is tuned, 1 is base" if arm.get("restoration") else "undefined: no shift to remove",
        ),
        (
            "Damage of the same arm, ΔNLL",
            interval(arm.get("delta_nll"), digits=3, sign=True),
            f"nats per token, budget {number(selected.get('budget'), sign=True)}",
        ),
        _control_card([arm for arm in arms if arm["control"] == "covariance"]),
        (
            "p against those controls",
            number(p, digits=3),
            f"smallest possible: {number(floor, digits=3)}" + (", reached" if at_floor else ""),
        ),
    )
    return element("div", *(card(*values) for values in cards), class_="cards")


def arm_tables(record: Record) -> Html:
    """All arms with effect and damage side by side; controls are folded away."""
    arms = record.get("arms") or []
    chosen = part(record, "selected").get("arm")
    named, controls = [arm for arm in arms if not arm["control"]], [arm for arm in arms if arm["control"]]
    kinds = ", ".join(
        f"{n} {CONTROL_NAMES.get(kind, kind)}"
        for kind, n in Counter(arm["control"] for arm in controls).items()
    )
    return join(
        (
            element("h2", "All arms"),
            _arm_table(named, chosen),
            element(
                "details",
                element("summary", f"{len(controls)} controls: {kinds}"),
                _arm_table(controls, chosen),
            )
            if controls
            else "",
            element(
                "p",
                "S: log-probability per token of misaligned minus aligned replies. R: share of the shift removed (arms on the tuned model). "
                "Induction: share of the shift produced (arms on the base model). ΔNLL and KL: damage on harmless text against the same model untouched. "
                "Brackets: 95% bootstrap intervals, clustered by question.",
                class_="soft",
            ),
        )
    )


def replies(record: Record, *, show_text: bool = False) -> Html:
    """Questions down, arms across. Every reply but the untouched base model's is blurred until clicked, focused or shown by the button."""
    completions = record.get("completions") or []
    if not completions:
        return join((element("h2", "Replies"), element("p", "No replies were sampled in this run.")))
    order = [arm["name"] for arm in record.get("arms") or []]
    names = sorted(
        dict.fromkeys(item["arm"] for item in completions),
        key=lambda name: order.index(name) if name in order else len(order),
    )
    questions = dict.fromkeys((item["prompt_id"], item["question"]) for item in completions)
    rows = []
    for prompt_id, question in questions:
        cells = [
            element(
                "td",
                *(
                    _reply(item)
                    for item in completions
                    if item["arm"] == name and item["prompt_id"] == prompt_id
                ),
            )
            for name in names
        ]
        rows.append(
            element(
                "tr", element("th", question, element("br"), element("small", prompt_id), scope="row"), *cells
            )
        )
    note = "Blurred text was written by a model under test and may be harmful or false. Click a reply, or reach it with Tab, to read it; it blurs again when you leave."
    return join(
        (
            element("h2", "Replies side by side"),
            element("p", note, class_="note"),
            show_button(shown=show_text),
            element(
                "div",
                table(("Question", *names), rows, kind="replies"),
                id="replies",
                class_="show-text" if show_text else "hide-text",
            ),
        )
    )


def show_button(*, shown: bool) -> Html:
    """The button that shows and hides every blurred text of the page."""
    name = "Hide text" if shown else "Show text"
    return element(
        "p", element("button", name, id="show-text", type="button", aria_pressed="true" if shown else "false")
    )


def choice(record: Record) -> Html:
    """How the selected direction came about: what was fitted, chosen and printed on which questions."""
    selected, data = part(record, "selected"), part(record, "data")
    form, counts = part(selected, "form"), part(data, "n_questions")
    tried = part(record, "search").get("candidates") or []
    within = sum(item["within_budget"] for item in tried)
    at = part(selected, "select")
    acts_on = form.get("act_on") or []
    strength = (
        ""
        if form.get("coefficient") is None
        else f" with coefficient {number(form['coefficient'])} ({number(selected.get('relative_dose'))} of the median residual norm)"
    )
    toward = f" toward {form['toward']}" if form.get("toward") else ""
    steps = (
        f"Find ({counts.get('find', '?')} questions): directions were fitted by every method at every hook point, on these questions only.",
        f"Select ({counts.get('select', '?')} questions): {len(tried)} candidates were tried, {within} stayed within a damage of {number(selected.get('budget'), sign=True)} nats per token. "
        f"Chosen: {selected.get('method')} at {selected.get('hook_point')}, {form.get('kind')}{toward}{strength}, acting on {len(acts_on)} hook points, first {form.get('skip_first')} tokens skipped; "
        f"there R was {number(at.get('restoration'))} at ΔNLL {number(at.get('delta_nll'), digits=3, sign=True)}. "
        f"Stability {number(selected.get('stability'))}, AUROC {number(selected.get('auroc'))}.",
        f"Test ({counts.get('test', '?')} questions): all numbers at the top and in the table of arms come from these, which neither fitting nor choosing has seen.",
    )
    folded = (
        element(
            "details",
            element("summary", "Hook points it acts on"),
            element("p", ", ".join(map(str, acts_on))),
        )
        if acts_on
        else ""
    )
    over = (
        ""
        if selected.get("within_budget", True)
        else element(
            "p", "No candidate stayed within the budget: the least damaging one was taken.", class_="banner"
        )
    )
    return join(
        (
            element("h2", "How it was chosen"),
            over,
            element("ol", *(element("li", step) for step in steps)),
            folded,
        )
    )


def limits(record: Record) -> Html:
    """What the numbers do not show, in words."""
    n = len([arm for arm in record.get("arms") or [] if arm["control"] == "covariance"])
    texts = (
        "One pair of models, one seed. Another fine-tuning run may put the persona elsewhere.",
        "S compares given replies by their log-probability. It is not a rating of what the model writes by itself; read the replies for that.",
        "Intervals come from resampling the test questions. They do not cover the choice of questions, of seed or of method.",
        f"p compares with {n} random directions; with K of them it cannot be smaller than 1 / (K + 1).",
        "Damage is measured on short harmless texts. A skill that these do not use may be lost without a trace here.",
        "A direction that works is enough to change the behaviour; that does not make it the only place, or the way the model itself uses.",
    )
    notes = part(record, "data").get("notes") or []
    return join((element("h2", "Limits"), element("ul", *(element("li", text) for text in (*texts, *notes)))))


def reproduction(record: Record) -> Html:
    """Exact command, settings, versions, hashes and where the time went."""
    seconds = {name: f"{number(value, digits=1)} s" for name, value in part(record, "timing").items()}
    data = {key: value for key, value in part(record, "data").items() if key != "notes"}
    return join(
        (
            element("h2", "To run it again"),
            element("pre", record.get("command", "")),
            element("details", element("summary", "Settings"), facts(part(record, "config"))),
            element(
                "details",
                element("summary", "Models, versions and hashes"),
                facts(part(record, "provenance")),
            ),
            element("details", element("summary", "Data"), facts(data)),
            element("details", element("summary", "Time"), facts(seconds)),
        )
    )


def _control_card(controls: Sequence[Mapping[str, Any]]) -> tuple[str, str, str]:
    """The strongest control: what random directions of equal energy restore, and at what damage."""
    median = control_medians(controls).get("covariance")
    if median is None:
        return "Covariance-matched random directions", "n/a", "not measured, or restoration is undefined"
    return (
        f"Median of {median['n']} covariance-matched random directions",
        f"R {number(median['restoration'])}",
        f"at a median ΔNLL of {number(median['delta_nll'], digits=3, sign=True)}",
    )


def card(title: str, value: str, note: str) -> Html:
    """One headline number; its interval stands in a smaller line below."""
    estimate, bracket, ends = value.partition(" [")
    below = element("span", f"95% {bracket.strip()}{ends}") if bracket else ""
    return element(
        "div", element("span", title), element("b", estimate), below, element("small", note), class_="card"
    )


def _arm_table(arms: Sequence[Mapping[str, Any]], chosen: str | None) -> Html:
    """Restoration and damage stand side by side, before anything else."""
    head = ("Arm", "Done to it", "R", "Induction", "ΔNLL", "KL", "S", "Verdict", "n")
    rows = []
    for arm in arms:
        shares = (measured(arm["restoration"]), measured(arm["induction"]))
        damage = (measured(arm["delta_nll"], digits=3, sign=True), measured(arm["kl"], digits=3))
        done = f"{arm['model']}: " + (
            "; ".join(_intervention(item) for item in arm["interventions"]) or "untouched"
        )
        cells = (
            done,
            *shares,
            *damage,
            measured(arm["persona_score"], digits=3, sign=True),
            arm["verdict"] or "",
            arm["n_questions"],
        )
        name = element("th", arm["name"], scope="row")
        rows.append(
            element(
                "tr",
                name,
                *(element("td", cell) for cell in cells),
                class_="chosen" if arm["name"] == chosen else "arm",
            )
        )
    return table(head, rows, kind="numbers")


def measured(value: Mapping[str, Any] | None, *, digits: int = 2, sign: bool = False) -> Html:
    """An estimate with its interval below; a dash where there is none."""
    estimate, bracket, ends = interval(value, digits=digits, sign=sign).partition(" [")
    return join((estimate, element("small", f"[{ends}"))) if bracket else Html("–")


def _intervention(item: Mapping[str, Any]) -> str:
    hook_points = item.get("hook_points") or []
    strength = f" × {number(item['coefficient'])}" if isinstance(item.get("coefficient"), int | float) else ""
    return f"{item.get('kind', '?')}{strength} at {hook_points[0] if len(hook_points) == 1 else f'{len(hook_points)} hook points'}"


def _reply(item: Mapping[str, Any]) -> Html:
    if item["text"] is None:
        return element("div", LEFT_OUT, class_="reply soft")
    text = f"{item['text']}" + ("" if item["finished"] else " … (cut at the token limit)")
    if item["arm"] == UNTOUCHED_BASE:
        return element("div", text, class_="reply", dir="auto")
    return element(
        "div",
        text,
        class_="reply veiled",
        dir="auto",
        tabindex=0,
        role="group",
        aria_label="blurred reply, focus to read",
    )


def _flat(values: Mapping[str, object], prefix: str = "") -> Iterable[tuple[str, object]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", "null" if value is None else value

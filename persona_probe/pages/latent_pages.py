"""A latent record in, the sections of its report out: cards, tables of latents and sets, and one folded page a latent."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from persona_probe.pages import frame as report_frame
from persona_probe.pages.html import Html, card, element, join, measured, part, show_button, table
from persona_probe.pages.html import opening as titled
from persona_probe.pages.html import reproduction as run_again
from persona_probe.pages.latent_meaning import latent_page, row, shown, told
from persona_probe.plots.latent_parts import ARMS, at, direction_name, screened, set_name, short
from persona_probe.plots.latents import FIGURES
from persona_probe.plots.style import interval, number

Record = Mapping[str, Any]
MISFIT = 1.1  # a tuned FVU above this many base FVUs earns a warning


def opening(record: Record) -> Html:
    """Title, content note, banner of a quick try, the result in words, and which SAE it is about."""
    sae = part(part(record, "provenance"), "sae")
    about = f"SAE {sae.get('id', '?')} ({sae.get('architecture', '?')}, {sae.get('d_sae', '?')} latents) at {sae.get('hook_point', '?')}."
    title = "Which SAE latents carry the persona, and which of them cause it?"
    return join((titled(record, title=title), element("p", about, class_="soft"), _misfit(record)))


def headline(record: Record) -> Html:
    """The numbers to remember: shift, the best set and its damage, how many latents carry, and whether the SAE fits both models."""
    n = f"n = {shown(at(record, 'data', 'n_questions', 'test'))} test questions"
    best = next((item for item in record.get("sets") or [] if item.get("selected")), {})
    labels = [entry.get("label") for entry in record.get("latents") or []]
    counts = ", ".join(
        f"{labels.count(name)} {name}" for name in ("protective", "one-way", "harmful", "inert")
    )
    budget = number(record.get("budget"), sign=True)
    cards = [
        (
            "Shift to remove, S tuned − base",
            interval(record.get("effect"), sign=True),
            f"nats per token, {n}",
        ),
        (
            f"Restoration R, best set: {set_name(best)}" if best else "Restoration R of the best set",
            interval(best.get("restoration")),
            "0 is tuned, 1 is base" if best.get("restoration") else "no set was selected, or R is undefined",
        ),
        (
            "Damage of the same set, ΔNLL",
            interval(best.get("delta_nll"), digits=3, sign=True),
            f"nats per token, budget {budget}",
        ),
        (
            "Latents that carry the persona",
            f"{labels.count('carries')} of {len(labels)}",
            f"screened; {counts}",
        ),
    ]
    for side in ("base", "tuned"):
        fit = part(part(record, "quality"), side)
        note = f"L0 {short(fit.get('l0'))}, dead {short(fit.get('dead'))}, loss recovered {short(fit.get('loss_recovered'))}, {shown(fit.get('n_tokens'))} tokens"
        cards.append((f"SAE fit on {side}, FVU (0 is perfect)", number(fit.get("fvu"), digits=3), note))
    return element("div", *(card(*values) for values in cards), class_="cards wide")


def latent_tables(record: Record) -> Html:
    """Latents that do something, then the inert ones and the matched ones folded."""
    entries, controls = record.get("latents") or [], record.get("controls") or []
    inert = [entry for entry in entries if entry.get("label") == "inert"]
    active = [entry for entry in entries if entry.get("label") != "inert"]
    n = shown(at(record, "data", "n_questions", "select"))
    note = (
        f"ΔS: change of the persona score in nats per token against the same model untouched, + is worse, on {n} select questions, with its 95% interval. "
        "ΔNLL: damage on harmless text. q: p corrected for the number of latents tried. "
        "A latent that carries works both ways: more of it raises S in the base model, less of it lowers S in the "
        "tuned one. A one-way latent does only one of the two, or its effects disagree. A protective one holds S "
        "down. An inert one changes nothing for sure, a harmful one does damage over the budget. "
        "Its number leads to its page, which says why."
    )
    dose = f"Steering strength: {number(at(record, 'dose', 'relative'))} of the median residual norm ({short(at(record, 'dose', 'median_norm'))}), a length of {short(at(record, 'dose', 'length'))}."
    folded = (
        (inert, "inert latents", True),
        (controls, "latents matched in how often and how strongly they fire", False),
    )
    return join(
        (
            element("h2", "Latents"),
            element("p", note, class_="soft"),
            element("p", dose, class_="soft"),
            _latent_table(active, linked=True)
            if active
            else element("p", "No latent does anything that the screen can see."),
            *(
                element(
                    "details", element("summary", f"{len(rows)} {name}"), _latent_table(rows, linked=linked)
                )
                for rows, name, linked in folded
                if rows
            ),
        )
    )


def set_table(record: Record) -> Html:
    """Sets of latents with restoration and damage side by side, their matched latents beside, single directions below."""
    head = ("Set", "Latents", "R", "ΔNLL", "R, matched latents", "ΔNLL, matched latents", "matched sets")
    known = {entry.get("latent") for entry in record.get("latents") or []}
    rows = []
    for item in record.get("sets") or []:
        control = item.get("control") or {}
        members = join(
            part
            for latent in item.get("latents") or []
            for part in (_link(latent, known=latent in known), " ")
        )
        matched = (
            number(control.get("restoration")),
            number(control.get("delta_nll"), digits=3, sign=True),
            shown(control.get("n"), "n/a"),
        )
        name = set_name(item) + (", selected" if item.get("selected") else "")
        rows.append(
            row(
                name,
                members,
                *_share_and_damage(item),
                *matched,
                kind="chosen" if item.get("selected") else "set",
            )
        )
    for item in record.get("direction") or []:
        rows.append(
            row(direction_name(item), "one direction", *_share_and_damage(item), "", "", "", kind="set")
        )
    if not rows:
        return join((element("h2", "Sets of latents"), element("p", "No sets were measured.")))
    note = "On test questions. R: share of the tuned model's shift removed; ΔNLL: damage on harmless text, nats per token. Brackets: 95% intervals."
    overlap = part(part(record, "agreement"), "overlap")
    agreed = (
        f"Correlation, question by question, of the effects of the selected set and of the direction: {number(overlap.get('effect_correlation'))} "
        f"(n = {shown(overlap.get('n_questions'))} questions)."
    )
    below = (element("p", text, class_="soft") for text in (note, agreed))
    return join((element("h2", "Sets of latents"), table(head, rows, kind="numbers"), *below))


def pages(record: Record, *, show_text: bool = False) -> Html:
    """One folded page a latent. Text of misaligned replies and of the tuned model is blurred until focused or shown by the button."""
    entries = record.get("latents") or []
    if not entries:
        return join((element("h2", "What they mean"), element("p", "No latent was screened.")))
    made = [(entry, latent_page(entry, place=place)) for place, entry in enumerate(entries)]
    inert = [page for entry, page in made if entry.get("label") == "inert"]
    active = [page for entry, page in made if entry.get("label") != "inert"]
    note = "Blurred text is from misaligned replies or from the tuned model and may be harmful or false. Click it, or reach it with Tab, to read it. The deeper a token's colour, the more active the latent; hover for the value."
    return join(
        (
            element("h2", "What they mean"),
            element("p", note, class_="note"),
            show_button(shown=show_text),
            element(
                "div",
                *active,
                element("details", element("summary", f"{len(inert)} inert latents"), *inert)
                if inert
                else "",
                id="replies",
                class_="show-text" if show_text else "hide-text",
            ),
        )
    )


def limits(record: Record) -> Html:
    """What the numbers do not show, in words, and what could not be measured."""
    texts = (
        "One pair of models, one SAE, one seed. Another SAE may split or merge these latents.",
        "Only the best latents of the rankings were screened. A latent that no ranking puts first was never tried.",
        "The screen ran on the select questions and chose by them; only numbers marked test come from questions that nothing was chosen on.",
        "What the SAE does not rebuild (FVU) is kept as it is in every arm. A persona that lives there cannot be found here.",
        "The tokens a latent fires on and the tokens it raises suggest a meaning. Only the causal columns test anything.",
        "S compares given replies by their log-probability. It is not a rating of what the model writes by itself.",
    )
    failed = [f"Not measured: {text}" for text in record.get("failed") or []]
    return join(
        (element("h2", "Limits"), element("ul", *(element("li", text) for text in (*texts, *failed))))
    )


def reproduction(record: Record) -> Html:
    """Exact command, settings, versions, hashes, where the time went, and the memory it took."""
    peak = at(record, "memory", "peak_bytes")
    return join(
        (
            run_again(record),
            element(
                "p", f"Peak memory: {'n/a' if peak is None else f'{peak / 2**30:.2f} GiB'}.", class_="soft"
            ),
        )
    )


def _figures(record: Record) -> Html:
    return report_frame.figures(FIGURES, record, source="latents.json")


def sections(*, show_text: bool) -> tuple[Callable[[Record], object], ...]:
    """The sections of the report, in order."""
    return (
        opening,
        headline,
        latent_tables,
        set_table,
        _figures,
        partial(pages, show_text=show_text),
        limits,
        reproduction,
    )


def _misfit(record: Record) -> Html | str:
    """A warning if the SAE rebuilds the tuned model clearly worse than the base model."""
    base, tuned = at(record, "quality", "base", "fvu"), at(record, "quality", "tuned", "fvu")
    if base is None or tuned is None or tuned <= MISFIT * base:
        return ""
    worse = f", {number(100 * (tuned / base - 1), digits=0)}% more" if base else ""
    text = f"This SAE fits the tuned model worse than the base model: FVU {number(tuned, digits=3)} against {number(base, digits=3)}{worse}. Part of what tuning changed is not in its latents."
    return element("p", text, class_="banner", role="alert")


def _latent_table(entries: Sequence[Record], *, linked: bool) -> Html:
    head = (
        "Latent",
        "Label" if linked else "Matched to",
        *(f"ΔS, {arm}" for arm in ARMS),
        "Test: R, best of tuned",
        "Best ranks",
    )
    rows = []
    for entry in entries:
        label = entry.get("label") if linked else entry.get("matched_to")
        shares = [at(entry, "confirmed", arm, "restoration") for arm in ARMS[1:]]
        best = max((share for share in shares if share), key=lambda share: share["estimate"], default=None)
        effects = (_effect(at(entry, "screen", arm)) for arm in ARMS)
        ranks = sorted(
            (item for item in (entry.get("ranks") or {}).items() if item[1] is not None),
            key=lambda item: item[1],
        )[:3]
        best_ranks = join(element("small", f"{rank} {name}") for name, rank in ranks)
        rows.append(
            row(
                _link(entry.get("latent"), known=linked),
                shown(label),
                *effects,
                told(best),
                best_ranks or "n/a",
                kind="latent-row",
            )
        )
    return table(head, rows, kind="numbers")


def _effect(effect: Record | None) -> Html | str:
    """A screened ΔS with its interval, and below it damage and q."""
    if not effect:
        return "n/a"
    delta = screened(effect)
    value = (
        measured(delta, digits=3, sign=True) if delta else number(effect.get("delta_s"), digits=3, sign=True)
    )
    below = f"ΔNLL {number(effect.get('delta_nll'), digits=3, sign=True)}, q {short(effect.get('q'))}"
    return join((value, element("small", below)))


def _link(latent: object, *, known: bool) -> Html:
    """A latent's number, leading to its page where there is one."""
    return (
        element("a", latent, href=f"#latent-{latent}")
        if known and isinstance(latent, int)
        else element("span", shown(latent))
    )


def _share_and_damage(item: Record) -> tuple[Html | str, Html | str]:
    return told(item.get("restoration")), told(item.get("delta_nll"), digits=3, sign=True)

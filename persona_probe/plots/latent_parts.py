"""Pieces that the figures and the pages of latents share: look-ups in a record, hover texts, groups and traces."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import asinh, floor, log10
from typing import Any

from plotly.graph_objects import Figure, Scatter

from persona_probe.plots.parts import Record, Rows
from persona_probe.plots.style import (
    ARM_COLOURS,
    CHOSEN_COLOUR,
    CONTROL_COLOUR,
    INK,
    METHOD_COLOURS,
    METHOD_DASHES,
    Number,
    error_bars,
    interval,
    number,
    plain,
)

ARMS = ("base+steer", "tuned-steer", "tuned+ablate")
# Okabe-Ito again, and one symbol each.
LABELS = {
    "carries": (ARM_COLOURS["tuned"], "star"),
    "protective": (ARM_COLOURS["tuned+ablate"], "diamond"),
    "one-way": (ARM_COLOURS["base+steer"], "triangle-up"),
    "harmful": (ARM_COLOURS["base+ablate"], "x"),
    "inert": (ARM_COLOURS["tuned-steer"], "circle"),
}
SET_KINDS = {
    "ablate": (ARM_COLOURS["tuned+ablate"], "circle"),
    "steer": (ARM_COLOURS["base+steer"], "triangle-up"),
}


def at(record: Any, *keys: str) -> Any:
    """What stands in nested objects under these keys; None where any of them is missing or null."""
    for key in keys:
        record = record.get(key) if isinstance(record, dict) else None
    return record


def short(value: Number | None) -> str:
    """Three significant digits, for quantities of any size; `n/a` for null."""
    return "n/a" if value is None else f"{value:.3g}".replace("-", "−")


def screened(effect: Record | None) -> dict[str, Any] | None:
    """The screened change of S as an estimate with its interval; without an interval, or unmeasured, None."""
    if not effect or effect.get("delta_s") is None or not effect.get("ci95"):
        return None
    return {"estimate": effect["delta_s"], "ci95": effect["ci95"]}


def groups(record: Record) -> Iterable[tuple[str, Rows, tuple[str, str]]]:
    """Controls first, so that they lie below; then latents by label, labels we do not know last."""
    entries = record.get("latents") or []
    yield "matched latents", record.get("controls") or [], (CONTROL_COLOUR, "circle")
    names = dict.fromkeys(
        ["inert", "harmful", "one-way", "protective", "carries", *(entry.get("label") for entry in entries)]
    )
    for name in names:
        yield (
            plain(name, limit=24),
            [entry for entry in entries if entry.get("label") == name],
            LABELS.get(name, (INK, "cross")),
        )


def cloud(
    figure: Figure,
    points: Sequence[tuple[Number | None, Number | None, Record]],
    *,
    name: str,
    style: tuple[str, str],
    budget: Number | None,
    place: tuple[int, int] = (1, 1),
    legend: bool = True,
) -> int:
    """Add one group of latents as points, hollow where damage is over `budget`; how many there were to draw."""
    known = [(x, y, entry) for x, y, entry in points if x is not None and y is not None]
    if known:
        colour, symbol = style
        over = [_over(entry, budget) for _, _, entry in known]
        symbols = [f"{symbol}-open" if hollow else symbol for hollow in over]
        control = colour == CONTROL_COLOUR
        marker = {
            "color": colour,
            "symbol": symbols,
            "size": 7 if control else 10,
            "opacity": 0.6 if control else 0.85,
        }
        marker["line"] = {"width": [2 if hollow else 0 for hollow in over], "color": colour}
        trace = Scatter(
            x=[x for x, _, _ in known],
            y=[y for _, y, _ in known],
            mode="markers",
            marker=marker,
            name=name,
            hovertext=[latent_text(entry) for _, _, entry in known],
            hoverinfo="text",
            legendgroup=name,
            showlegend=legend,
        )
        figure.add_trace(trace, row=place[0], col=place[1])
    return len(known)


@dataclass(frozen=True)
class Bent:
    """An axis that is linear near 0 and logarithmic beyond `scale` (asinh), so that one far point does not squeeze the others."""

    scale: Number
    ticks: tuple[Number, ...]

    @classmethod
    def of(cls, values: Sequence[Number]) -> "Bent":
        """The axis for some values: bent at their median size, ticked at 1 and 3 of every power of ten from half of that on."""
        sizes = sorted(abs(value) for value in values if value)
        if not sizes:
            return cls(1.0, (0.0,))
        scale = sizes[len(sizes) // 2]
        powers = range(floor(log10(scale / 2)), floor(log10(sizes[-1])) + 1)
        steps = [tick for power in powers for tick in (10.0**power, 3 * 10.0**power) if scale / 2 <= tick]
        low, high = min(values), max(values)
        return cls(
            scale,
            (
                *(-tick for tick in reversed(steps) if low <= -tick),
                0.0,
                *(tick for tick in steps if tick <= high),
            ),
        )

    def place(self, value: Number) -> float:
        """Where a value is drawn."""
        return asinh(value / self.scale)


def latent_text(entry: Record) -> str:
    """Hover text of a latent: what changed, and every screened effect with its interval, damage and q."""
    what = (
        f"matched to {entry.get('matched_to')}"
        if entry.get("control")
        else plain(entry.get("label"), limit=24)
    )
    lines = [
        f"latent {entry.get('latent')}, {what}",
        f"mean activation {short(at(entry, 'mean', 'base'))} base, {short(at(entry, 'mean', 'tuned'))} tuned",
        f"active on {short(at(entry, 'density', 'base'))} base, {short(at(entry, 'density', 'tuned'))} tuned",
    ]
    for arm in ARMS:
        effect = at(entry, "screen", arm) or {}
        delta = (
            interval(screened(effect), digits=3, sign=True)
            if screened(effect)
            else number(effect.get("delta_s"), digits=3, sign=True)
        )
        damage = number(effect.get("delta_nll"), digits=3, sign=True)
        lines.append(f"{arm}: ΔS {delta}, ΔNLL {damage}, q {short(effect.get('q'))}")
    return "<br>".join(lines)


def set_name(item: Record) -> str:
    """`ablate 5 latents`."""
    return f"{item.get('kind')} {item.get('k')} latent{'' if item.get('k') == 1 else 's'}"


def direction_name(item: Record) -> str:
    """`mean_diff, ablate at blocks.14.hook_out`."""
    return f"{item.get('method')}, {item.get('kind')} at {item.get('hook_point')}"


def set_traces(sets: Rows, key: str) -> Iterable[Scatter]:
    """One curve with intervals a kind of set, its matched latents in grey, and a ring around the selected set."""
    for kind in dict.fromkeys(item["kind"] for item in sets):
        rows = [item for item in sets if item["kind"] == kind and item[key]]
        colour, symbol = SET_KINDS.get(kind, (INK, "cross"))
        yield _set_points(
            rows,
            [item[key] for item in rows],
            name=plain(kind, limit=24),
            marker={"color": colour, "symbol": symbol, "size": 9},
        )
        matched = [item for item in sets if item["kind"] == kind and at(item, "control", key) is not None]
        if matched:
            marker = {"color": CONTROL_COLOUR, "symbol": symbol, "size": 8}
            values = [{"estimate": item["control"][key]} for item in matched]
            yield _set_points(
                matched, values, name=f"matched latents, {plain(kind, limit=24)}", marker=marker
            )
    chosen = [item for item in sets if item.get("selected") and item[key]]
    if chosen:
        ring = {"symbol": "circle-open", "size": 18, "color": CHOSEN_COLOUR, "line": {"width": 3}}
        trace = _set_points(chosen, [item[key] for item in chosen], name="selected", marker=ring)
        yield trace.update(mode="markers", error_y=None)


def _set_points(items: Rows, values: Rows, *, name: str, marker: dict[str, Any]) -> Scatter:
    """Sets over their size; values without an interval are joined by dots."""
    control = any("ci95" not in value for value in values)
    return Scatter(
        x=[item["k"] for item in items],
        y=[value["estimate"] for value in values],
        error_y=None if control else {**error_bars(values), "color": marker["color"]},
        mode="lines+markers",
        line={"color": marker["color"], "dash": "dot" if control else "solid"},
        marker=marker,
        name=name,
        hovertext=[_set_text(item) for item in items],
        hoverinfo="text",
    )


def _set_text(item: Record) -> str:
    """Hover text of a set: restoration is never without its damage, nor without what matched latents do."""
    control = item.get("control") or {}
    cost = number(control.get("delta_nll"), digits=3, sign=True)
    compared = (
        f"{control.get('n')} matched sets: R {number(control.get('restoration'))}, ΔNLL {cost}"
        if control
        else "no matched sets"
    )
    measured = f"R {interval(item['restoration'])}<br>ΔNLL {interval(item['delta_nll'], digits=3, sign=True)}"
    return f"{plain(set_name(item))}<br>{measured}<br>{compared}"


def direction_lines(record: Record, key: str, *, ends: tuple[Number, Number]) -> Iterable[Scatter]:
    """A line across the panel for every single direction that the sets are compared with."""
    low, high = ends if ends[0] != ends[1] else (ends[0] * 0.8, ends[1] * 1.25)
    for place, item in enumerate(record.get("direction") or []):
        if item[key]:
            name = plain(direction_name(item), limit=60)
            text = f"{name}<br>R {interval(item['restoration'])}<br>ΔNLL {interval(item['delta_nll'], digits=3, sign=True)}"
            style = place % len(METHOD_COLOURS)
            line = {
                "color": METHOD_COLOURS[style],
                "dash": METHOD_DASHES[1 + style % (len(METHOD_DASHES) - 1)],
                "width": 2,
            }
            value = item[key]["estimate"]
            yield Scatter(
                x=[low, high],
                y=[value, value],
                mode="lines",
                line=line,
                name=name,
                hovertext=[text, text],
                hoverinfo="text",
            )


def _over(entry: Record, budget: Number | None) -> bool:
    """Whether some screened damage of the latent is over the budget."""
    damages = [at(entry, "screen", arm, "delta_nll") for arm in ARMS]
    return budget is not None and any(damage is not None and damage > budget for damage in damages)

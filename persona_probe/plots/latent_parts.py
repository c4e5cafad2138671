"""Pieces that the figures of latents share: groups with their marks, hover texts, and an axis that is
bent."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import asinh, floor, log10

from plotly.graph_objects import Figure

from persona_probe.base.formatting import Interval, Number, interval, short, signed
from persona_probe.plots.parts import scatter
from persona_probe.plots.style import ARM_COLOURS, CONTROL_COLOUR
from persona_probe.records.latents import ARMS, LatentEntry, LatentLabel, LatentRecord, ScreenEffect
from persona_probe.records.parts import Estimate

# Okabe-Ito again, and one symbol each.
LABELS: dict[LatentLabel, tuple[str, str]] = {
    "inert": (ARM_COLOURS["tuned-steer"], "circle"),
    "harmful": (ARM_COLOURS["base+ablate"], "x"),
    "dial": (ARM_COLOURS["base+steer"], "triangle-up"),
    "protective": (ARM_COLOURS["tuned+ablate"], "diamond"),
    "carries": (ARM_COLOURS["tuned"], "star"),
    "one-way": (ARM_COLOURS["base+steer"], "triangle-down"),
    "both ways": (ARM_COLOURS["tuned"], "hexagram"),
}
MATCHED = "matched latents"


@dataclass(frozen=True)
class Group:
    """Latents that are drawn alike."""

    name: str
    colour: str
    symbol: str
    entries: Sequence[LatentEntry]


def groups(record: LatentRecord) -> Iterable[Group]:
    """Controls first, so that they lie below; then latents by label."""
    yield Group(MATCHED, CONTROL_COLOUR, "circle", record.controls)
    for label, (colour, symbol) in LABELS.items():
        yield Group(label, colour, symbol, [entry for entry in record.latents if entry.label == label])


def cloud(
    figure: Figure,
    group: Group,
    points: Sequence[tuple[Number, Number, LatentEntry]],
    *,
    budget: Number = float("inf"),
    column: int = 1,
) -> int:
    """Add one group of latents as points, hollow where damage is over `budget`; how many there were."""
    if points:
        points = sorted(points, key=lambda point: _over(point[2], budget))  # the legend draws the first one
        hollow = [_over(entry, budget) for _, _, entry in points]
        control = group.colour == CONTROL_COLOUR
        marker = {
            "color": group.colour,
            "symbol": [f"{group.symbol}-open" if over else group.symbol for over in hollow],
            "size": 7 if control else 10,
            "opacity": 0.6 if control else 0.85,
            "line": {"width": [2 if over else 0 for over in hollow], "color": group.colour},
        }
        x, y, texts = zip(*((x, y, latent_text(entry)) for x, y, entry in points), strict=True)
        style = {"name": group.name, "legendgroup": group.name, "showlegend": column == 1}
        figure.add_trace(scatter(x, y, texts, marker=marker, **style), row=1, col=column)
    return len(points)


def _over(entry: LatentEntry, budget: Number) -> bool:
    return any(abs(effect.delta_nll) > budget for effect in entry.screen.values())


def delta_s(effect: ScreenEffect) -> Interval:
    """The screened change of S with its interval."""
    return Estimate(estimate=effect.delta_s, ci95=effect.ci95)


def latent_text(entry: LatentEntry) -> str:
    """Hover text of a latent: what changed, and every screened effect with its interval, damage and q."""
    what = f"matched to {entry.matched_to}" if entry.control else entry.label
    lines = [
        f"latent {entry.latent}, {what}",
        f"mean activation {short(entry.mean.base)} base, {short(entry.mean.tuned)} tuned",
        f"active on {short(entry.density.base)} base, {short(entry.density.tuned)} tuned",
    ]
    for arm, effect in ((arm, entry.screen[arm]) for arm in ARMS if arm in entry.screen):
        change = interval(delta_s(effect), digits=3, sign=True)
        damage = signed(effect.delta_nll)
        lines.append(f"{arm}: ΔS {change}, ΔNLL {damage}, q {short(effect.q)}")
    if gap := entry.gap:
        lines.append(f"gap closed {interval(gap.closed, digits=3, sign=True)}, q {short(gap.q)}")
    return "<br>".join(lines)


@dataclass(frozen=True)
class Bent:
    """An axis that is linear near 0 and logarithmic beyond `scale` (asinh): one far point does not squeeze
    the others."""

    scale: Number
    ticks: tuple[Number, ...]

    @classmethod
    def of(cls, values: Sequence[Number]) -> "Bent":
        """The axis for some values: bent at their median size, ticked at 1 and 3 of every power of ten from
        half of that on."""
        sizes = sorted(abs(value) for value in values if value)
        if not sizes:
            return cls(1.0, (0.0,))
        scale = sizes[len(sizes) // 2]
        powers = range(floor(log10(scale / 2)), floor(log10(sizes[-1])) + 1)
        steps = [tick for power in powers for tick in (10.0**power, 3 * 10.0**power) if scale / 2 <= tick]
        below = (-tick for tick in reversed(steps) if min(values) <= -tick)
        return cls(scale, (*below, 0.0, *(tick for tick in steps if tick <= max(values))))

    def place(self, value: Number) -> float:
        """Where a value is drawn."""
        return asinh(value / self.scale)

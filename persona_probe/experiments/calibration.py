"""Planted worlds through the selection and the verdicts of a run: how often is the right verdict reached?"""

import importlib.metadata
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from persona_probe.base.printing import LEFT, RIGHT, Sheet
from persona_probe.experiments.calibration_config import CalibrationOptions
from persona_probe.measurement import statistics
from persona_probe.measurement.choice import Option as Tried
from persona_probe.measurement.choice import chosen
from persona_probe.measurement.limits import Limits
from persona_probe.measurement.nulls import compared_with_null, does_as_much
from persona_probe.measurement.verdicts import MIN_NULL, Evidence, judged
from persona_probe.organisms.planting import planted
from persona_probe.organisms.world_edits import contrasts, n_directions, nulls
from persona_probe.organisms.world_kinds import KINDS, Kind
from persona_probe.organisms.worlds import Edit, World
from persona_probe.records.calibration import CalibrationRecord, KindEntry
from persona_probe.records.parts import Estimate
from persona_probe.records.verdicts import Cost, Judgement, NullComparison, Verdict

BUDGET = 0.10  # nats per token, as in a run
PACKAGES = ("numpy", "scipy", "persona-probe")
COLUMNS = ("planted", "right verdict", "worlds", "right", "restored", "other verdicts")


@dataclass(frozen=True, kw_only=True)
class Verdicted:
    """The arm that was chosen in a world, and what it was judged."""

    arm: Edit
    judgement: Judgement


def calibrated(
    kinds: tuple[Kind, ...] = KINDS,
    *,
    worlds: int,
    questions: int,
    seed: int,
    advance: Callable[[], None] = lambda: None,
) -> tuple[KindEntry, ...]:
    """Every kind of world that many times; `advance` is told of each."""
    entries = []
    for number, kind in enumerate(kinds):
        judgements = []
        for index in range(worlds):
            of_world = int(np.random.SeedSequence([seed, number, index]).generate_state(1)[0])
            judgements.append(verdict_in(kind, questions=questions, seed=of_world).judgement)
            advance()
        entries.append(_entry(kind, judgements))
    return tuple(entries)


def verdict_in(kind: Kind, *, questions: int, seed: int) -> Verdicted:
    """One world of a kind: everything is tried on select, the choice is judged on test."""
    world = planted(kind.plan, n_select=questions, n_test=questions, seed=seed)
    edits = kind.candidates(world)
    tuned, base = world.scores("tuned", "select"), world.scores("base", "select")
    options = [_tried(world, edit) for edit in edits]
    arm = edits[chosen(options, tuned=tuned, base=base, limits=Limits.of(BUDGET), seed=seed).chosen]
    return Verdicted(arm=arm, judgement=_judged(world, arm, n_directions(edits), seed))


def _tried(world: World, edit: Edit) -> Tried:
    added, tokens, kl = world.damage(edit, "select")
    ablates = edit.use != "steering"
    return Tried(
        tuned=world.scores("tuned", "select", edit),
        base=world.scores("base", "select", edit) if ablates else None,
        delta_nll=float(added.sum() / tokens.sum()),
        kl=float(kl.mean()),
        ablates=ablates,
        parts=len(edit.basis),
        strength=abs(edit.strength),
    )


def _judged(world: World, arm: Edit, n_tried: int, seed: int) -> Judgement:
    tuned, base = world.scores("tuned", "test"), world.scores("base", "test")
    after = world.scores("tuned", "test", arm), world.scores("base", "test", arm)
    parts = {
        "restoration": tuned - after[0],
        "closure": (tuned - base) - (after[0] - after[1]),
        "base_moved": base - after[1],
    }
    shares = statistics.shares(tuned - base, parts, seed=seed)
    added, tokens, kl = world.damage(arm, "test")
    costs = {
        "ΔNLL on benign texts": statistics.ratio(added, tokens, seed=seed),
        "KL on benign texts": statistics.mean(kl, seed=seed),
    }
    return judged(
        Evidence(
            use=arm.use,
            n_questions=len(tuned),
            limited=False,
            effect=statistics.paired_difference(tuned, base, seed=seed),
            restoration=shares["restoration"],
            closure=shares["closure"],
            base_moved=shares["base_moved"],
            costs=[_cost(name, value) for name, value in costs.items()],
            null=_null(world, arm, shares, n_tried),
        )
    )


def _cost(name: str, value: Estimate) -> Cost:
    return Cost(name=name, largest=max(abs(value.low), abs(value.high)), budget=BUDGET)


def _null(world: World, arm: Edit, own: dict[str, Estimate | None], n_tried: int) -> NullComparison | None:
    restoration, closure = own["restoration"], own["closure"]
    if restoration is None or closure is None:
        return None
    untouched = world.scores("tuned", "test"), world.scores("base", "test")
    random = [_shares(world, edit, *untouched) for edit in nulls(world, arm, MIN_NULL)]
    closes = arm.use != "steering"
    decides = closure if closes else restoration
    others = {
        name: _shares(world, edit, *untouched)[int(closes)] for name, edit in contrasts(world, arm).items()
    }
    return compared_with_null(
        restoration=restoration.estimate,
        closure=closure.estimate if closes else None,
        null_restoration=[restored for restored, _ in random],
        null_closure=[closed for _, closed in random] if closes else (),
        n_tried=n_tried,
        matched_by=[name for name, value in others.items() if does_as_much(value, decides)],
    )


def _shares(world: World, edit: Edit, tuned: np.ndarray, base: np.ndarray) -> tuple[float, float]:
    """R and C of an edit on the test questions, whose S in both models is given."""
    after = world.scores("tuned", "test", edit), world.scores("base", "test", edit)
    shift = float((tuned - base).mean())
    return float((tuned - after[0]).mean()) / shift, 1 - float((after[0] - after[1]).mean()) / shift


def _entry(kind: Kind, judgements: list[Judgement]) -> KindEntry:
    verdicts: Counter[Verdict] = Counter(judgement.verdict for judgement in judgements)
    right = sum(one.verdict in kind.right and kind.says in one.because for one in judgements)
    return KindEntry(
        kind=kind.name,
        right=kind.right,
        n=len(judgements),
        n_right=right,
        verdicts=dict(verdicts.most_common()),
    )


def calibration(
    config: CalibrationOptions, *, command: str, advance: Callable[[], None] = lambda: None
) -> CalibrationRecord:
    """The record of a whole run."""
    start = time.monotonic()
    kinds = calibrated(worlds=config.worlds, questions=config.questions, seed=config.seed, advance=advance)
    return CalibrationRecord(
        kind="calibration",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=command,
        versions={name: importlib.metadata.version(name) for name in PACKAGES},
        seed=config.seed,
        n_questions=config.questions,
        kinds=kinds,
        timing={"total": time.monotonic() - start},
    )


def show(sheet: Sheet, record: CalibrationRecord) -> None:
    """The table of a record on stdout."""
    columns = [(title, LEFT if title in ("planted", "right verdict") else RIGHT) for title in COLUMNS]
    title = f"Planted worlds, {record.n_questions} questions to select on and {record.n_questions} to test on"
    sheet.table(title, columns, [row(kind) for kind in record.kinds])


def row(entry: KindEntry) -> tuple[str, ...]:
    """One kind of world as `COLUMNS` has it."""
    others = ", ".join(
        f"{verdict} {n}" for verdict, n in entry.verdicts.items() if verdict not in entry.right
    )
    return (
        entry.kind,
        " or ".join(entry.right),
        str(entry.n),
        _share(entry.n_right, entry.n),
        _share(entry.n_restored, entry.n),
        others,
    )


def _share(hits: int, n: int) -> str:
    low, high = statistics.wilson(hits, n)
    return f"{hits / n:.1%} [{low:.1%}, {high:.1%}]"

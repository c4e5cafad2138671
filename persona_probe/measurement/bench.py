"""The one loop that measures arms: what is already kept is reused, everything else shares what it can."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from persona_probe.base.errors import BadInput, NotFinite
from persona_probe.measurement.arms import Arm, Battery, Measurement, measurement_key
from persona_probe.measurement.grid import Cell, grid
from persona_probe.measurement.kept import Budget, Kept
from persona_probe.measurement.scoring import not_finite
from persona_probe.models.loading import Model
from persona_probe.models.memory import trim
from persona_probe.models.pairs import Pair, Side
from persona_probe.prompts.rows import Row
from persona_probe.storage.runs import Run
from persona_probe.streams.resume import lowest_layer

Advance = Callable[[str, float], None]


@dataclass(frozen=True, eq=False)
class RowSet:
    """Rows that are scored together: `keep_prompts` where rows share their prompts, `with_kl` where KL from
    the untouched model is wanted, `with_replies` where the log-probability of replies is."""

    rows: tuple[Row, ...]
    keep_prompts: bool
    with_kl: bool
    with_replies: bool = True


@dataclass(frozen=True, eq=False)
class Bench:
    """Where arms are measured: a pair of models, a run that keeps results, and the rows to score.

    `max_tokens` is the most that one pass computes; small batches carry several arms. `budget` is for what
    passes of the untouched models leave, and may be shared with other benches. `expected`: hook points that
    later arms will edit. `only_kl`: benign texts are run for KL alone, their log-probabilities are 0.
    """

    pair: Pair
    run: Run
    battery: Battery
    max_tokens: int
    keep_kl: bool = True
    only_kl: bool = False
    budget: Budget = field(default_factory=Budget)
    expected: tuple[str, ...] = ()
    _kept: dict[tuple[Side, int], Kept] = field(default_factory=dict)

    def measure(self, arms: Sequence[Arm], *, advance: Advance = lambda _, __: None) -> list[Measurement]:
        """Measurements in the order of `arms`, which must be of one model. What is measured goes to disk
        batch by batch; `advance` is told how many arms' worth is done."""
        if len({arm.side for arm in arms}) > 1:
            raise BadInput(
                f"arms of both models in one list: {[arm.name for arm in arms]}; measure base and tuned apart"
            )
        keys = [self._key(arm) for arm in arms]
        missing: dict[str, Arm] = {}
        for arm, key in zip(arms, keys, strict=True):
            if self.run.get(key) is None:
                missing.setdefault(key, arm)
            else:
                advance("", 1.0)
        if missing:
            self._measure_missing(missing, advance)
        return [Measurement.from_json(self.run.get(key) or {}) for key in keys]

    def baseline(self, side: Side) -> Measurement:
        """The untouched model of one side."""
        return self.measure([Arm(side, side)])[0]

    def _measure_missing(self, missing: Mapping[str, Arm], advance: Advance) -> None:
        side = next(iter(missing.values())).side
        model = self.pair.get(side)
        failed: dict[str, str] = {}
        sets = (
            RowSet(self.battery.persona, keep_prompts=True, with_kl=False),
            RowSet(
                self.battery.benign, keep_prompts=False, with_kl=self.keep_kl, with_replies=not self.only_kl
            ),
        )
        n_rows = sum(len(one.rows) for one in sets)
        for number, row_set in enumerate(sets):
            rows = [row for row in row_set.rows if any(row.id not in self.run.part(key) for key in missing)]
            advance("", len(missing) * (len(row_set.rows) - len(rows)) / n_rows)
            kept = self._kept_of(model, side, number) if len(rows) == len(row_set.rows) else None
            cells = grid(
                model,
                rows,
                [arm.interventions for arm in missing.values()],
                max_tokens=self.max_tokens,
                keep_prompts=row_set.keep_prompts,
                with_kl=row_set.with_kl,
                with_replies=row_set.with_replies,
                kept=kept,
            )
            self._keep_cells(model, missing, cells, failed, lambda rows: advance("", rows / n_rows))
        for key, arm in missing.items():
            self.run.keep(key, self._measurement(arm, key, failed.get(key)).json())
        self.run.forget_parts()

    def _keep_cells(
        self,
        model: Model,
        missing: Mapping[str, Arm],
        cells: Iterable[Cell],
        failed: dict[str, str],
        advance: Callable[[int], None],
    ) -> None:
        """Write down cells as they come, all arms of a batch in one line; `failed` takes those that have no
        numbers."""
        keys = list(missing)
        parts: dict[str, dict[str, list[float]]] = {}
        for cell in cells:
            key, values = keys[cell.arm], [*zip(cell.logprob.tolist(), cell.kl.tolist(), strict=True)]
            for row, value in zip(cell.rows, values, strict=True):
                if not all(map(math.isfinite, value)):
                    failed.setdefault(key, not_finite(model, row))
            if key in failed and missing[key].untouched:
                raise NotFinite(failed[key])
            finite = {} if key in failed else values
            parts[key] = {row.id: list(value) for row, value in zip(cell.rows, finite, strict=bool(finite))}
            advance(len(cell.rows))
            if len(parts) == len(keys):
                self.run.keep_parts(parts)
                parts = {}
                trim()

    def _measurement(self, arm: Arm, key: str, failed: str | None) -> Measurement:
        """What the parts of one arm make."""
        if failed:
            return Measurement(key=key, persona={}, benign={}, failed=failed)
        part = self.run.part(key)
        return Measurement(
            key=key,
            persona={row.id: part[row.id][0] / row.n_reply for row in self.battery.persona},
            benign={row.id: (part[row.id][0], row.n_reply, part[row.id][1]) for row in self.battery.benign},
        )

    def _kept_of(self, model: Model, side: Side, number: int) -> Kept:
        """What passes of one untouched model leave of one set of rows."""
        if (side, number) not in self._kept:
            layers = (lowest_layer(model, self.expected),) if self.expected else ()
            self._kept[side, number] = Kept(self.budget, layers)
        return self._kept[side, number]

    def _key(self, arm: Arm) -> str:
        key = measurement_key(
            arm, self.battery, model_sha256=self.pair.key(arm.side), dtype=str(self.pair.dtype)
        )
        if self.only_kl:
            return f"{key}-only-kl"
        return key if self.keep_kl else f"{key}-without-kl"

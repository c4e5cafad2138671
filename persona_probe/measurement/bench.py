"""The one loop that measures arms: what is already kept is reused, what shares a clean run shares it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from persona_probe.base.errors import BadInput, NotFinite
from persona_probe.measurement.arms import (
    Arm,
    Battery,
    Clean,
    Measurement,
    clean_runs,
    measure_together,
    measurement_key,
)
from persona_probe.models.loading import Model
from persona_probe.models.memory import trim
from persona_probe.models.pairs import Pair, Side
from persona_probe.storage.runs import Run
from persona_probe.streams.resume import lowest_layer

PREFIX_BYTES = 64 * 2**20  # memory for recorded streams; more of them saves clean passes, not time per arm


@dataclass(frozen=True, eq=False)
class Bench:
    """Where arms are measured: a pair of models, a run that keeps results, and the rows to score.

    `keep_clean` keeps each side's last clean run in memory, for several lists of arms that edit the same
    layer.
    `expected`: hook points that most arms will edit; a clean run for them is kept, and gives the baseline
    too.
    """

    pair: Pair
    run: Run
    battery: Battery
    max_tokens: int
    keep_kl: bool = True
    arms_at_once: int = 1
    keep_clean: bool = False
    expected: tuple[str, ...] = ()
    _kept: dict[Side, tuple[tuple[int, ...], Clean]] = field(default_factory=dict)

    def measure(
        self, arms: Sequence[Arm], *, advance: Callable[[str], None] = lambda _: None
    ) -> list[Measurement]:
        """Measurements in the order of `arms`, which must be of one model; each goes to disk at once."""
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
                advance("")
        if missing:
            self._measure_missing(missing, advance)
        return [Measurement.from_json(self.run.get(key) or {}) for key in keys]

    def _measure_missing(self, missing: dict[str, Arm], advance: Callable[[str], None]) -> None:
        side = next(iter(missing.values())).side
        model = self.pair.get(side)
        baselines = [(key, arm) for key, arm in missing.items() if not arm.interventions]
        edited = sorted(
            (
                (lowest_layer(model, arm.hook_points), key)
                for key, arm in missing.items()
                if arm.interventions
            ),
            reverse=True,
        )
        layers = sorted({layer for layer, _ in edited}, reverse=True) or (
            [lowest_layer(model, self.expected)] if self.expected else []
        )
        size = self._layers_at_once(model.d_model * model.dtype.itemsize)
        chunks = [tuple(layers[start : start + size]) for start in range(0, len(layers), size)] or [()]
        for chunk in chunks:
            clean = self._clean(model, side, chunk) if chunk else None
            for key, arm in baselines if chunk is chunks[0] else ():
                below = clean and clean.without_kl()
                measured = measure_together(
                    model, [arm], self.battery, keys=[key], clean=below, max_tokens=self.max_tokens
                )[0]
                self.run.keep(key, measured.json())
                trim()
                advance("")
            for layer in chunk:
                keys = [key for lowest, key in edited if lowest == layer]
                for first in range(0, len(keys), self.arms_at_once):
                    self._measure_group(
                        model,
                        {key: missing[key] for key in keys[first : first + self.arms_at_once]},
                        clean,
                        advance,
                    )
            del clean

    def _measure_group(
        self, model: Model, arms: dict[str, Arm], clean: Clean | None, advance: Callable[[str], None]
    ) -> None:
        """Arms of one layer in the same passes; when one of them leaves no finite numbers, each by itself."""
        try:
            measured = measure_together(
                model,
                list(arms.values()),
                self.battery,
                keys=list(arms),
                clean=clean,
                max_tokens=self.max_tokens,
            )
        except NotFinite as error:
            if len(arms) > 1:
                for key, arm in arms.items():
                    self._measure_group(model, {key: arm}, clean, advance)
                return
            failed = Measurement(key=next(iter(arms)), persona={}, benign={}, failed=str(error))
            measured = [failed]
        for measurement in measured:
            self.run.keep(measurement.key, measurement.json())
            advance("")
        trim()

    def _clean(self, model: Model, side: Side, layers: tuple[int, ...]) -> Clean:
        """The clean run of one side that records some layers."""
        known = self._kept.get(side)
        if known is not None and known[0] == layers:
            return known[1]
        self._kept.pop(side, None)
        clean = clean_runs(
            model, self.battery, max_tokens=self.max_tokens, layers=layers, keep_kl=self.keep_kl
        )
        if self.keep_clean or self.expected:
            self._kept[side] = layers, clean
        trim()
        return clean

    def _layers_at_once(self, bytes_per_token: int) -> int:
        tokens = sum(len(row.ids) for row in (*self.battery.persona, *self.battery.benign))
        return max(1, PREFIX_BYTES // (tokens * bytes_per_token))

    def _key(self, arm: Arm) -> str:
        key = measurement_key(
            arm, self.battery, model_sha256=self.pair.key(arm.side), dtype=str(self.pair.dtype)
        )
        return key if self.keep_kl else f"{key}-without-kl"

    def baseline(self, side: Side) -> Measurement:
        """The untouched model of one side."""
        return self.measure([Arm(side, side)])[0]

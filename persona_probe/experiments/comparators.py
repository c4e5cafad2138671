"""What simple remedies do beside the found direction: a considerate system prompt, half of what tuning did to
the weights, and the weights of a twin subtracted."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from safetensors.torch import load_file, save_file

from persona_probe.base.errors import PersonaProbeError
from persona_probe.experiments.direction_job import Job
from persona_probe.measurement.arms import Battery, Measurement
from persona_probe.measurement.bench import Bench
from persona_probe.measurement.comparison import Comparison
from persona_probe.measurement.limits import Places, kl_by_row, next_tokens
from persona_probe.models.memory import release
from persona_probe.models.mixtures import Mixture, check_twin, mixed, mixed_pair
from persona_probe.models.pairs import Pair, Side
from persona_probe.models.sources import Source, resolve
from persona_probe.prompts.considerate import CONSIDERATE, prompted_replies, same_replies
from persona_probe.prompts.contrast import shipped
from persona_probe.prompts.contrast_files import read_benign
from persona_probe.prompts.rows import Row
from persona_probe.records.comparators import ComparatorKind
from persona_probe.storage.files import sha256_json

T = TypeVar("T")
TEXTS_AT_ONCE = 24  # whose next-token distributions are in memory
HALF, MINUS_TWIN = Mixture(tuned=0.5, base=0.5), Mixture(tuned=1.0, base=1.0, twin=-1.0)


@dataclass(frozen=True, eq=False, kw_only=True)
class Compared:
    """A simple remedy, measured on one model. `done` says in a sentence what was done; `twin` is the model
    whose tuning was subtracted."""

    name: str
    kind: ComparatorKind
    side: Side
    done: str
    measurement: Measurement
    twin: Source | None = None

    @property
    def edit(self) -> str:
        """Hash of what was done, equal for the same on both models."""
        return sha256_json([self.kind, self.done, self.twin and self.twin.sha256])


@dataclass(eq=False)
class Remedies:
    """What was measured, in the order of measuring, and what was left out, a sentence each."""

    measured: list[Compared] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class Shelf:
    """Next-token distributions of texts on disk, while another model has the memory; gone with the value."""

    folder: TemporaryDirectory[str]

    @classmethod
    def filled(cls, places: Callable[[Sequence[Row]], Places], rows: Sequence[Row]) -> "Shelf":
        """With the distributions of `rows`, a few texts a file."""
        made = cls(TemporaryDirectory())
        for few in _few(rows):
            save_file({id: place.clone() for id, place in places(few).items()}, made._file(few))
        return made

    def of(self, rows: Sequence[Row]) -> Places:
        """Those of a few texts, as they were put there."""
        return load_file(self._file(rows))

    def _file(self, rows: Sequence[Row]) -> Path:
        return Path(self.folder.name) / f"{sha256_json([row.id for row in rows])}.safetensors"


def _few(rows: Sequence[Row]) -> list[Sequence[Row]]:
    """The rows in parts of `TEXTS_AT_ONCE`."""
    return [rows[start : start + TEXTS_AT_ONCE] for start in range(0, len(rows), TEXTS_AT_ONCE)]


@dataclass(eq=False)
class Comparators:
    """Measures the remedies on the test battery. Results are kept in the run; what cannot be measured is left
    out, with a note."""

    job: Job
    twin: Source | None
    remedies: Remedies = field(default_factory=Remedies)
    _tuned: "Shelf | None" = None

    @classmethod
    def opened(cls, job: Job) -> "Comparators":
        """With the twin that the settings name; BadInput for one that is no model of the pair's shape."""
        twin = None if job.config.twin is None else resolve(job.config.twin)
        if twin is not None:
            check_twin(job.pair, twin)
        return cls(job, twin)

    def after(self, arms: T, side: Side) -> T:
        """Measure what can be measured once the arms of a model are, and give these back.

        Tuned comes first. After base come the remedies that change weights; the pair's models are dropped for
        them.
        """
        self.job.test.budget.clear()  # nothing else is measured on this model; distributions take its place
        found = [self._prompt(side)] if self.prompted is not None else []
        if side == "tuned":
            if any(self.job.run.get(self._key(mixture)) is None for _, mixture in self.mixtures):
                places = partial(self._places, self.job.pair, "tuned")
                self._tuned = Shelf.filled(places, self.job.test.battery.benign)
        else:
            found += [self._mixture(kind, mixture) for kind, mixture in self.mixtures]
            self._tuned = None
        self.remedies.measured += [one for one in found if one is not None]
        self.job.clock.lap(f"{side} comparators")
        return arms

    @cached_property
    def mixtures(self) -> list[tuple[ComparatorKind, Mixture]]:
        """The remedies that change weights."""
        made: list[tuple[ComparatorKind, Mixture]] = [("half_weights", HALF)]
        if self.twin is not None:
            made.append(("minus_twin", replace(MINUS_TWIN, source=self.twin)))
        return made

    @cached_property
    def prompted(self) -> Battery | None:
        """The test battery under the considerate prompt; None, with a note, where that cannot be made."""
        job, battery = self.job, self.job.test.battery
        n = len(job.select.battery.benign) + len(battery.benign)
        path, tokenizer = job.config.benign or shipped("benign.jsonl"), job.pair.tokenizer
        try:
            benign = read_benign(path, tokenizer, limit=n, system=CONSIDERATE)
            persona = prompted_replies(job.contrast.split("test"), tokenizer)
            return Battery(same_replies(battery.persona, persona), same_replies(battery.benign, benign))
        except PersonaProbeError as error:
            self._leave_out("a considerate system prompt", error)
            return None

    def _prompt(self, side: Side) -> Compared | None:
        job, battery = self.job, self.prompted
        assert battery is not None, "`measured` asks"
        facts = ["comparator", job.pair.key(side), battery.key, job.test.battery.key, str(job.pair.dtype)]

        def make() -> Measurement:
            bench = self._bench(job.pair, battery)
            places = partial(self._places, job.pair, side)
            return self._with_kl(bench.baseline(side), places, places, battery.benign)

        name = f"{side}, considerate prompt"
        done = f'The system prompt "{CONSIDERATE}" before every question.'
        measurement = self._once(name, sha256_json(facts), make)
        return measurement and Compared(
            name=name, kind="prompt", side=side, done=done, measurement=measurement
        )

    def _mixture(self, kind: ComparatorKind, mixture: Mixture) -> Compared | None:
        job, name = self.job, f"tuned, {kind.replace('_', ' ')}"

        def make() -> Measurement:
            job.reporter.note(f"loading the tuned model with changed weights: {name}")
            pair = mixed(job.pair, mixture, name=name, folder=job.run.folder)
            bench = self._bench(pair, job.test.battery)
            assert self._tuned is not None, "filled where a mixture is to be measured"
            after = partial(self._places, pair, "tuned")
            return self._with_kl(bench.baseline("tuned"), self._tuned.of, after, job.test.battery.benign)

        done = "Base's weights plus half of what tuning added to them."
        if mixture.source is not None:
            done = (
                f"What tuning added to base's weights in {mixture.source.id} subtracted from the tuned ones."
            )
        measurement = self._once(name, self._key(mixture), make)
        release()
        return measurement and Compared(
            name=name, kind=kind, side="tuned", done=done, measurement=measurement, twin=mixture.source
        )

    def _key(self, mixture: Mixture) -> str:
        """The name under which a remedy that changes weights is kept."""
        pair = mixed_pair(self.job.pair, mixture, name="mixture")
        return sha256_json(
            ["comparator", pair.key("tuned"), self.job.test.battery.key, str(self.job.pair.dtype)]
        )

    def _bench(self, pair: Pair, battery: Battery) -> Bench:
        """Without KL: that would be from the model as it is measured here."""
        job = self.job
        return Bench(pair, job.run, battery, job.config.max_tokens, keep_kl=False, budget=job.test.budget)

    def _places(self, pair: Pair, side: Side, rows: Sequence[Row]) -> Places:
        return next_tokens(pair.get(side), rows, max_tokens=self.job.config.max_tokens)

    def _with_kl(
        self,
        measurement: Measurement,
        before: Callable[[Sequence[Row]], Places],
        after: Callable[[Sequence[Row]], Places],
        rows: Sequence[Row],
    ) -> Measurement:
        """With KL(before || after) on the benign texts, a few at a time, since distributions over the
        vocabulary are large. `rows`: these texts as they are read after."""
        kl: dict[str, float] = {}
        for own, read in zip(_few(self.job.test.battery.benign), _few(rows), strict=True):
            kl |= kl_by_row(own, before(own), after(read))
        benign = {id: (logprob, n, kl[id]) for id, (logprob, n, _) in measurement.benign.items()}
        return replace(measurement, benign=benign)

    def _once(self, name: str, key: str, make: Callable[[], Measurement]) -> Measurement | None:
        """The kept measurement, or a new one; None, with a note, where it cannot be made."""
        try:
            return Measurement.from_json(self.job.run.once(key, lambda: make().json()))
        except PersonaProbeError as error:
            self._leave_out(name, error)
            return None

    def _leave_out(self, name: str, error: PersonaProbeError) -> None:
        note = f"left out of the comparison with simple remedies: {name} ({error})"
        self.remedies.notes.append(note)
        self.job.reporter.note(f"note: {note}")


def comparator_entries(compared: Sequence[Compared], comparison: Comparison) -> list[dict[str, Any]]:
    """The `comparators` of a record: numbers of arms, without a verdict."""
    other: dict[tuple[str, Side], Measurement] = {(one.edit, one.side): one.measurement for one in compared}
    partner: Mapping[Side, Side] = {"tuned": "base", "base": "tuned"}
    return [
        {
            "name": one.name,
            "kind": one.kind,
            "model": one.side,
            "done": one.done,
            "twin_sha256": one.twin and one.twin.weights_sha256,
            "n_questions": len(comparison.base),
            **comparison.numbers(one.side, one.measurement, partner=other.get((one.edit, partner[one.side]))),
        }
        for one in compared
    ]

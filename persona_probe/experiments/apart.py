"""How far base and tuned are apart on benign texts, one model in memory at a time."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from persona_probe.experiments.direction_job import Job
from persona_probe.experiments.skill import Skill
from persona_probe.measurement.bench import Bench
from persona_probe.measurement.limits import Between, Places, kl_between, next_tokens
from persona_probe.models.pairs import Side
from persona_probe.prompts.rows import Row, rows_key
from persona_probe.storage.files import sha256_json

MOST_TEXTS = 24  # of one set whose next-token distributions are kept while the other model is loaded


@dataclass(eq=False)
class Apart:
    """`read_base` while base is loaded, `between` while tuned is. What was measured is kept in the run."""

    job: Job
    skill: Skill | None
    _base: dict[str, Places] = field(default_factory=dict)

    @cached_property
    def benches(self) -> dict[str, Bench]:
        """The sets of texts, by what they are for; "own" are base's own replies."""
        benches = {"select": self.job.select, "test": self.job.test}
        return benches if self.skill is None else {**benches, "own": self.skill.bench}

    def read_base(self) -> None:
        """Base's next-token distributions, where they are still needed, and its scores."""
        self.job.screen.baseline("base")
        for name, bench in self.benches.items():
            bench.baseline("base")
            if self.job.run.get(self._key(name)) is None:
                self._base[name] = self._places(name, "base")

    def between(self) -> dict[str, Between]:
        """What lies between both models on each set of texts."""
        found: dict[str, Between] = {}
        for name, bench in self.benches.items():

            def make(name: str = name) -> dict[str, Any]:
                tuned, base = self._places(name, "tuned"), self._base.pop(name)
                return {"kl": kl_between(self._rows(name), tuned, base)}

            kl = self.job.run.once(self._key(name), make)["kl"]
            found[name] = Between.of(bench.baseline("base"), bench.baseline("tuned"), kl)
        return found

    def _rows(self, name: str) -> tuple[Row, ...]:
        return self.benches[name].battery.benign[:MOST_TEXTS]

    def _places(self, name: str, side: Side) -> Places:
        model = self.job.pair.get(side)
        return next_tokens(model, self._rows(name), max_tokens=self.job.config.max_tokens)

    def _key(self, name: str) -> str:
        pair = self.job.pair
        return sha256_json(
            ["apart", pair.key("base"), pair.key("tuned"), rows_key(self._rows(name)), str(pair.dtype)]
        )

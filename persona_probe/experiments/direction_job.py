"""What every stage of the causal experiment needs: settings, models, data, and where results are kept."""

from dataclasses import dataclass
from typing import Any

from persona_probe.base.cli import Clock, Reporter
from persona_probe.experiments.batteries import batteries
from persona_probe.experiments.direction_config import Config
from persona_probe.experiments.opening import read_data
from persona_probe.measurement.arms import Battery
from persona_probe.measurement.bench import Bench
from persona_probe.measurement.kept import MEGABYTE, Budget
from persona_probe.models.pairs import Pair
from persona_probe.prompts.contrast import Contrast
from persona_probe.prompts.rows import Row, Split
from persona_probe.storage.runs import Run
from persona_probe.streams.activations import ReadOptions

CONTROL_REPLIES = 2  # replies of each label per test question that controls are scored on


@dataclass(frozen=True, eq=False)
class Job:
    """What every stage needs: the settings, the models, where results are kept, and the data.

    `screen` and `select` measure while choosing, `test` measures what is reported; it shares no question and
    no benign text with them. `controls` measures on some of the rows of `test`, `doses` KL alone on the
    benign texts of `select`.
    """

    config: Config
    pair: Pair
    run: Run
    reporter: Reporter
    clock: Clock
    contrast: Contrast
    rows: dict[Split, tuple[Row, ...]]
    screen: Bench
    select: Bench
    test: Bench
    controls: Bench
    doses: Bench

    @property
    def reading(self) -> ReadOptions:
        """How activations are read."""
        return ReadOptions(self.config.scope, self.config.max_tokens, self.config.outliers)


def prepared(config: Config, pair: Pair, run: Run, reporter: Reporter) -> Job:
    """Read the data and split it."""
    clock = Clock()
    contrast, rows = read_data(config, pair, reporter)
    scored = batteries(config, pair, rows)
    budget = Budget(config.memory * MEGABYTE)
    some = Battery(
        persona=tuple(row for row in scored.test.persona if row.reply_index < CONTROL_REPLIES),
        benign=scored.test.benign[: max(2, len(scored.test.benign) // 4)],
    )
    texts = Battery(persona=(), benign=scored.select.benign)

    def bench(battery: Battery, *, only_kl: bool = False) -> Bench:
        return Bench(pair, run, battery, config.max_tokens, only_kl=only_kl, budget=budget)

    return Job(
        config=config,
        pair=pair,
        run=run,
        reporter=reporter,
        clock=clock,
        contrast=contrast,
        rows=rows,
        screen=bench(scored.screen),
        select=bench(scored.select),
        test=bench(scored.test),
        controls=bench(some),
        doses=bench(texts, only_kl=True),
    )


def origin(job: Job) -> dict[str, Any]:
    """Hashes of the models and questions that directions were made with."""
    return {
        "base_sha256": job.pair.weights_sha256("base"),
        "tuned_sha256": job.pair.weights_sha256("tuned"),
        "find_questions": job.contrast.hashes("find"),
        "select_questions": job.contrast.hashes("select"),
    }

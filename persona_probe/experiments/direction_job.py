"""What every stage of the causal experiment needs: settings, models, data, and where results are kept."""

from dataclasses import dataclass
from typing import Any

from persona_probe.base.cli import Clock, Reporter
from persona_probe.experiments.direction_config import Config
from persona_probe.experiments.opening import read_data
from persona_probe.experiments.selection import batteries
from persona_probe.measurement.bench import Bench
from persona_probe.measurement.kept import MEGABYTE, Budget
from persona_probe.models.pairs import Pair
from persona_probe.prompts.contrast import Contrast
from persona_probe.prompts.rows import Row, Split
from persona_probe.storage.runs import Run
from persona_probe.streams.activations import ReadOptions


@dataclass(frozen=True, eq=False)
class Job:
    """What every stage needs: the settings, the models, where results are kept, and the data.

    `select` measures while choosing, `test` measures what is reported; they share no question and no benign
    text.
    """

    config: Config
    pair: Pair
    run: Run
    reporter: Reporter
    clock: Clock
    contrast: Contrast
    rows: dict[Split, tuple[Row, ...]]
    select: Bench
    test: Bench

    @property
    def reading(self) -> ReadOptions:
        """How activations are read."""
        return ReadOptions(self.config.scope, self.config.max_tokens, self.config.outliers)


def prepared(config: Config, pair: Pair, run: Run, reporter: Reporter) -> Job:
    """Read the data and split it."""
    clock = Clock()
    contrast, rows = read_data(config, pair, reporter)
    select, test = batteries(config, pair, rows)
    budget = Budget(config.memory * MEGABYTE)
    return Job(
        config=config,
        pair=pair,
        run=run,
        reporter=reporter,
        clock=clock,
        contrast=contrast,
        rows=rows,
        select=Bench(pair, run, select, config.max_tokens, keep_kl=False, budget=budget),
        test=Bench(pair, run, test, config.max_tokens, budget=budget),
    )


def origin(job: Job) -> dict[str, Any]:
    """Hashes of the models and questions that directions were made with."""
    return {
        "base_sha256": job.pair.weights_sha256("base"),
        "tuned_sha256": job.pair.weights_sha256("tuned"),
        "find_questions": job.contrast.hashes("find"),
        "select_questions": job.contrast.hashes("select"),
    }

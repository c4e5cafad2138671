"""Further damage of the arms proper: on the base model's own replies, and in what the model knows."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from persona_probe.base.errors import BadInput
from persona_probe.experiments.direction_job import Job
from persona_probe.measurement.accuracy import ItemScore, accuracy, accuracy_change, item_scores
from persona_probe.measurement.arms import Arm, Battery, Measurement, damage
from persona_probe.measurement.base_replies import (
    N_REPLIES,
    SampledBase,
    sample_base_replies,
    shipped_base_replies,
)
from persona_probe.measurement.bench import Bench
from persona_probe.measurement.statistics import mean, ratio
from persona_probe.models.pairs import Side
from persona_probe.prompts.base_replies import BaseReply, benign_prompts
from persona_probe.prompts.contrast import shipped
from persona_probe.prompts.four_options import OptionItem, option_rows, read_four_options
from persona_probe.prompts.rows import Row
from persona_probe.storage.files import sha256_json


@dataclass(frozen=True, eq=False)
class Skill:
    """Where the arms proper are measured further: four-option items as persona rows, base's own replies as
    benign ones."""

    bench: Bench
    items: tuple[OptionItem, ...]

    @property
    def rows(self) -> tuple[Row, ...]:
        """The rows of the items."""
        return self.bench.battery.persona


def opened_skill(job: Job) -> Skill | None:
    """The items and base's own replies; base must be loaded where it is not the embedded one, since it writes
    them. None, with a note, for a base that cannot be sampled from."""
    tokenizer = job.pair.tokenizer
    items = read_four_options(shipped("four_options.jsonl"), limit=job.config.limit and 2 * job.config.limit)
    try:
        replies = _replies(job)
        rows = tuple(reply.row(tokenizer) for reply in replies.replies)
        battery = Battery(persona=option_rows(items, tokenizer), benign=rows)
    except BadInput as error:
        job.reporter.note(f"note: no damage on base's own replies, no accuracy: {error}")
        return None
    if replies.note:
        job.reporter.note(f"note: {replies.note}")
    bench = Bench(job.pair, job.run, battery, job.config.max_tokens, budget=job.test.budget)
    return Skill(bench, items)


def _replies(job: Job) -> SampledBase:
    """Those that ship, or sampled now and kept in the run."""
    pair, config = job.pair, job.config
    known = shipped_base_replies(pair.weights_sha256("base"))
    if known is not None:
        return known
    prompts = benign_prompts(config.benign or shipped("benign.jsonl"), N_REPLIES)
    key = sha256_json(
        ["base replies", pair.key("base"), [prompt.id for prompt in prompts], config.seed, str(pair.dtype)]
    )

    def make() -> dict[str, Any]:
        sampled = sample_base_replies(pair.get("base"), prompts, seed=config.seed)
        return {"replies": [reply.json() for reply in sampled.replies], "note": sampled.note}

    kept = job.run.once(key, make)
    replies = tuple(BaseReply.from_json(value, "the run's own file") for value in kept["replies"])
    return SampledBase(replies, kept["note"])


def skill_entries(
    skill: Skill | None, measured: Mapping[str, tuple[Arm, Measurement]], *, seed: int
) -> dict[str, dict[str, Any]]:
    """The `skill` part of every arm's entry, by name; of arms that failed there is none."""
    if skill is None:
        return {}
    usable = {name: (arm, m) for name, (arm, m) in measured.items() if not m.failed}
    clean: dict[Side, Measurement] = {arm.side: m for arm, m in usable.values() if arm.untouched}
    return {name: _entry(skill, m, clean[arm.side], seed) for name, (arm, m) in usable.items()}


def _entry(skill: Skill, measurement: Measurement, clean: Measurement, seed: int) -> dict[str, Any]:
    own, before = (_scores(skill, one) for one in (measurement, clean))
    change = accuracy_change(own, before, seed=seed)
    added, tokens, kl = damage(measurement, clean)
    return {
        "n_texts": len(tokens),
        "delta_nll": ratio(added, tokens, seed=seed).plain(),
        "kl": mean(kl, seed=seed).plain(),
        "n_items": len(own),
        "accuracy": accuracy(own, seed=seed).share.plain(),
        "accuracy_change": change.share.plain(),
        "n_lost": change.n_lost,
        "n_gained": change.n_gained,
    }


def _scores(skill: Skill, measurement: Measurement) -> tuple[ItemScore, ...]:
    logprobs = {row.id: measurement.persona[row.id] * row.n_reply for row in skill.rows}
    return item_scores(skill.items, logprobs)

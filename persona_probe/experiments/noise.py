"""Numerical noise: how far S moves when the same rows are computed in another way."""

from dataclasses import replace
from typing import Any

from persona_probe.experiments.direction_job import Job
from persona_probe.measurement.arms import Arm, persona_scores
from persona_probe.measurement.scoring import score_rows
from persona_probe.storage.files import sha256_json

HOW = "rows one by one, each in a whole pass, instead of in batches that share prompts and start at the edit"
N_QUESTIONS = 4  # whose rows are computed again


def noise_of(job: Job, arm: Arm) -> dict[str, Any]:
    """S of some select questions under one arm, computed row by row in whole passes: the largest change of
    any question, and of their mean, in nats per token."""
    questions = list(dict.fromkeys(row.question_id for row in job.select.battery.persona))[:N_QUESTIONS]
    rows = [row for row in job.select.battery.persona if row.question_id in questions]
    key = sha256_json(
        ["noise", job.pair.key(arm.side), arm.describe(), [r.id for r in rows], str(job.pair.dtype)]
    )
    before = job.select.measure([arm])[0]

    def make() -> dict[str, Any]:
        model, again = job.pair.get(arm.side), dict[str, float]()
        for row in rows:
            scores = score_rows(model, [row], arm.interventions, max_tokens=job.config.max_tokens)
            again[row.id] = float(scores.logprob[0]) / row.n_reply
        levels = [persona_scores(one, rows) for one in (before, replace(before, persona=again))]
        return {
            "largest": float(abs(levels[0] - levels[1]).max()),
            "mean": float(levels[1].mean() - levels[0].mean()),
        }

    return job.run.once(key, make)

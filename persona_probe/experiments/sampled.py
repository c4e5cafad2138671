"""Sampled replies of some arms to test questions, and their health."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from persona_probe.base.errors import BadInput
from persona_probe.base.formatting import Number
from persona_probe.experiments.direction_config import Config
from persona_probe.experiments.direction_job import Job
from persona_probe.measurement.arms import Arm
from persona_probe.measurement.generation import Completion as Sampled
from persona_probe.measurement.generation import Request, generate
from persona_probe.measurement.health import (
    Health,
    SampledReply,
    SampledRows,
    equal_words,
    health,
    sampled_rows,
    unhealthy,
)
from persona_probe.measurement.scoring import RowScores, score_rows
from persona_probe.measurement.statistics import paired_share_difference
from persona_probe.models.loading import Model
from persona_probe.models.pairs import Side
from persona_probe.prompts.contrast import Question
from persona_probe.prompts.rows import Prompt
from persona_probe.records.direction import Completion, evenly
from persona_probe.records.parts import Estimate
from persona_probe.storage.files import sha256_json

BATCH_SIZE = 32
Asked = tuple[Question, int]  # a question and the number of the draw


def asked_questions(config: Config, questions: Sequence[Question]) -> list[Asked]:
    """What every arm is asked: as many questions as replies are wanted, evenly spaced; where there are fewer,
    all of them, and again with further draws.

    A quick try (`--limit`) and greedy replies, which would be the same again, have one draw.
    """
    once = [(question, 0) for question in evenly(questions, config.n_prompts)]
    if config.limit is not None or config.temperature == 0 or not questions:
        return once
    further = range(len(questions), config.n_prompts)
    return once + [(questions[i % len(questions)], i // len(questions)) for i in further]


def sampled_replies(job: Job, side: Side, arms: Sequence[Arm]) -> list[Completion]:
    """Replies to test questions, rows of all arms together in batches, kept in the run's folder.

    None, with a note, for a model that cannot be sampled from.
    """
    config, asked = job.config, asked_questions(job.config, job.contrast.split("test"))
    if not asked or not arms:
        return []
    draws = [draw for _, draw in asked]
    key = sha256_json(
        [
            "replies",
            job.pair.key(side),
            [arm.describe() for arm in arms],
            [question.text for question, _ in asked],
            config.max_new_tokens,
            config.temperature,
            config.seed,
            str(job.pair.dtype),
            *([draws] if any(draws) else []),  # nothing where each is asked once, as before there were more
        ]
    )

    def make() -> dict[str, Any]:
        requests = [
            Request(arm.name, Prompt.user(question.id, question.text), arm.interventions, draw)
            for arm in arms
            for question, draw in asked
        ]
        completions = generate(
            job.pair.get(side),
            requests,
            max_new_tokens=config.max_new_tokens,
            temperature=config.temperature,
            seed=config.seed,
            batch_size=BATCH_SIZE,
        )
        return {"completions": [asdict(completion) for completion in completions]}

    text = {question.id: question.text for question, _ in asked}
    try:
        completions = job.run.once(key, make)["completions"]
    except BadInput as error:
        job.reporter.note(f"note: no replies of the {side} model: {error}")
        return []
    return [Completion(**item, question=text[item["prompt_id"]]) for item in completions]


def health_entries(
    job: Job, arms: Mapping[str, Arm], completions: Sequence[Completion]
) -> dict[str, dict[str, Any]]:
    """The `health` part of every sampled arm's entry, by name; `arms` are by name, too.

    The untouched base model, which should be loaded, scores all that was written.
    """
    by_arm: dict[str, list[Completion]] = {}
    for reply in completions:
        by_arm.setdefault(reply.arm, []).append(reply)
    scores = _base_scores(job, by_arm)
    n_words = equal_words([_text(reply) for reply in written] for written in by_arm.values())
    clean = {arms[name].side: written for name, written in by_arm.items() if arms[name].untouched}
    entries: dict[str, dict[str, Any]] = {}
    for name, written in by_arm.items():
        of_arm = health(
            [Sampled(reply.arm, reply.prompt_id, _text(reply), reply.finished) for reply in written],
            n_words=n_words,
            scores=scores.get(name),
            seed=job.config.seed,
        )
        before = None if arms[name].untouched else clean.get(arms[name].side)
        entries[name] = _entry(of_arm, _more(written, before) if before else None)
    return entries


def _entry(of_arm: Health, more: Estimate | None) -> dict[str, Any]:
    return {
        "n": of_arm.n,
        "n_empty": of_arm.n_empty,
        "repetition": of_arm.repetition.plain(),
        "looping": of_arm.looping.plain(),
        "finished": of_arm.finished.plain(),
        "distinct_2": of_arm.distinct_2,
        "n_words": of_arm.n_words,
        "median_words": of_arm.median_words,
        "base_perplexity": of_arm.perplexity and of_arm.perplexity.plain(),
        "unhealthy_more": more and more.plain(),
    }


def _more(written: Sequence[Completion], before: Sequence[Completion]) -> Estimate:
    """The share of looping or empty replies minus that of the untouched model, reply by reply."""
    untouched = {(reply.prompt_id, reply.draw): unhealthy(_text(reply)) for reply in before}
    pairs = [(unhealthy(_text(reply)), untouched[reply.prompt_id, reply.draw]) for reply in written]
    after, clean = np.array(pairs, dtype=bool).T
    return paired_share_difference(after, clean)


def _base_scores(job: Job, by_arm: Mapping[str, Sequence[Completion]]) -> dict[str, RowScores]:
    """What the untouched base model makes of the replies of every arm, kept in the run's folder; none, with a
    note, where its numbers are not finite."""
    written = [reply for replies in by_arm.values() for reply in replies]
    if not written:
        return {}
    said = [(reply.arm, reply.prompt_id, reply.question, reply.text) for reply in written]
    key = sha256_json(["sampled under base", job.pair.key("base"), said, str(job.pair.dtype)])

    def make() -> dict[str, Any]:
        model = job.pair.get("base")
        rows = {name: _rows(model, name, replies) for name, replies in by_arm.items()}
        every = [row for of_arm in rows.values() for row in of_arm.rows]
        logprob: dict[str, float] = {}
        if every:
            scores = score_rows(model, every, (), max_tokens=job.config.max_tokens, keep_prompts=True)
            logprob = dict(zip(scores.ids, scores.logprob.tolist(), strict=True))
        arms = {
            name: {row.id: [logprob[row.id], row.n_reply] for row in of_arm.rows}
            for name, of_arm in rows.items()
        }
        return {"arms": arms, "refused": [text for of_arm in rows.values() for text in of_arm.refused]}

    try:
        kept = job.run.once(key, make)
    except BadInput as error:
        job.reporter.note(f"note: no perplexity of sampled replies: {error}")
        return {}
    if kept["refused"]:
        n, first = len(kept["refused"]), kept["refused"][0]
        job.reporter.note(f"note: {n} of {len(written)} sampled replies have no perplexity ({first})")
    return {name: _row_scores(values) for name, values in kept["arms"].items()}


def _rows(model: Model, name: str, replies: Sequence[Completion]) -> SampledRows:
    sampled = [SampledReply(reply.prompt_id, reply.question, _text(reply)) for reply in replies]
    return sampled_rows(model.tokenizer, sampled, name=name, longest=model.n_ctx)


def _row_scores(values: Mapping[str, Sequence[Number]]) -> RowScores:
    return RowScores(
        ids=tuple(values),
        logprob=torch.tensor([logprob for logprob, _ in values.values()], dtype=torch.float64),
        n_tokens=torch.tensor([int(n) for _, n in values.values()], dtype=torch.int64),
        kl=None,
    )


def _text(reply: Completion) -> str:
    return reply.text or ""

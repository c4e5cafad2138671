"""Where arms stand along directions: their path over the layers on given replies, and sampled replies read token by token."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from persona_probe.base.errors import BadInput
from persona_probe.directions.estimators import DirectionSet
from persona_probe.directions.fitting import Fitted
from persona_probe.interventions.edits import applied
from persona_probe.interventions.persona_direction import Gauge
from persona_probe.measurement.arms import Arm
from persona_probe.measurement.statistics import column_means
from persona_probe.models.loading import Model
from persona_probe.models.memory import trim
from persona_probe.models.pairs import Pair, Side
from persona_probe.prompts.chat import Prompt, Row, encode_row, rows_key
from persona_probe.storage.files import sha256_json
from persona_probe.streams.activations import collect, read_tokens
from persona_probe.streams.runs import Run

TRACED = ("base", "tuned", "tuned+ablate", "tuned-steer", "base+steer")


def second_axis(fitted: Fitted, method: str) -> DirectionSet | None:
    """The direction that makes a plane with the selected one: the mean difference, or the shift when that was selected."""
    others = {found.method: found for found in fitted.sets if found.method != method}
    return next(
        (others[name] for name in ("mean_diff", "shift") if name in others), next(iter(others.values()), None)
    )


def traced_paths(
    pair: Pair,
    run: Run,
    side: Side,
    arms: Sequence[Arm],
    rows: Sequence[Row],
    axes: Sequence[DirectionSet],
    fitted: Fitted,
    *,
    hook: int,
    max_tokens: int,
    seed: int,
) -> dict[str, Any]:
    """`path` of every traced arm of one side, kept in the run's folder."""
    named = [arm for arm in arms if arm.name in TRACED]
    key = sha256_json(
        [
            "paths",
            pair.key(side),
            [arm.describe() for arm in named],
            rows_key(rows),
            [axis.method for axis in axes],
            readings_key(axes),
            hook,
            seed,
            str(pair.dtype),
        ]
    )
    zeros = [
        torch.tensor([sum(pair) / 2 for pair in zip(*fitted.group_means(axis.method).values(), strict=True)])
        for axis in axes
    ]

    def make() -> dict[str, Any]:
        model = pair.get(side)
        found = {
            arm.name: path(
                arm_means(model, arm, rows, max_tokens=max_tokens), axes, zeros, hook=hook, seed=seed
            )
            for arm in named
        }
        trim()
        return found

    return run.once(key, make)


def traced_replies(
    pair: Pair, run: Run, side: Side, replies: Sequence[Mapping[str, Any]], gauge: Gauge, *, max_tokens: int
) -> list[dict[str, Any]]:
    """`read_replies` in one side's model, kept in the run's folder."""
    vector = gauge.direction.vector.tolist()
    key = sha256_json(
        [
            "read replies",
            pair.key(side),
            [(r["arm"], r["prompt_id"], r["question"], r["text"]) for r in replies],
            vector,
            gauge.zero,
            str(pair.dtype),
        ]
    )
    return run.once(
        key, lambda: {"replies": read_replies(pair.get(side), replies, gauge, max_tokens=max_tokens)}
    )["replies"]


def readings_key(axes: Sequence[DirectionSet]) -> str:
    """Hash of the vectors of axes."""
    return sha256_json([axis.vectors.tolist() for axis in axes])


def arm_means(
    model: Model, arm: Arm, rows: Sequence[Row], *, max_tokens: int
) -> Float[Tensor, "question hook d_model"]:
    """Reply means of one arm at every layer, averaged over the given replies of each question (as many of each label)."""
    with applied(model, arm.interventions):
        acts = collect(model, rows, hook_points=model.resids(), scope="reply", max_tokens=max_tokens)
    questions = dict.fromkeys(row.question_id for row in rows)
    return torch.stack(
        [
            acts.means[torch.tensor([row.question_id == question for row in rows])].mean(0)
            for question in questions
        ]
    )


def path(
    means: Float[Tensor, "question hook d_model"],
    axes: Sequence[DirectionSet],
    zeros: Sequence[Float[Tensor, " hook"]],
    *,
    hook: int,
    seed: int,
) -> dict[str, Any]:
    """One arm's way through the plane of two directions: per axis and hook point the mean reading with its interval over questions.

    A reading is in lengths of the axis's direction, 0 is `zeros`; None where the direction has no length. `questions` are the
    single readings at `hook`.
    """
    readings = []
    for axis, zero in zip(axes, zeros, strict=True):
        along = (means * torch.nn.functional.normalize(axis.vectors, dim=-1)).sum(-1)
        readings.append(((along - zero) / axis.vectors.norm(dim=-1)).double().numpy())
    finite = [np.isfinite(values).all(0) for values in readings]
    tables = [column_means(np.nan_to_num(values), seed=seed) for values in readings]
    return {
        "axes": [
            [found.json() if known[k] else None for k, found in enumerate(table)]
            for table, known in zip(tables, finite, strict=True)
        ],
        "questions": [
            np.round(values[:, hook], 4).tolist() if known[hook] else None
            for values, known in zip(readings, finite, strict=True)
        ],
    }


def read_replies(
    model: Model, replies: Sequence[Mapping[str, Any]], gauge: Gauge, *, max_tokens: int
) -> list[dict[str, Any]]:
    """The tokens of sampled replies with their readings in the untouched model: what it sees in that text, whoever wrote it.

    First tokens and outliers have no reading. Replies without text are left out, and those that cannot stand in a conversation:
    a model may write control tokens, or what its template would change.
    """
    told = [reply for reply in replies if reply["text"].strip()]
    rows = []
    for i, reply in enumerate(told):
        prompt = Prompt.user(f"{reply['arm']}/{reply['prompt_id']}", reply["question"])
        with suppress(BadInput):
            rows.append(encode_row(model.tokenizer, prompt, reply["text"], id=str(i), kind="sampled"))
    found: dict[str, dict[str, Any]] = {}
    for part in read_tokens(
        model, rows, hook_point=gauge.direction.hook_point, scope="reply", max_tokens=max_tokens
    ):
        values = gauge.read(part.resid)
        for row, reading, keep in zip(part.rows, values, part.keep, strict=True):
            own = slice(row.n_prompt, len(row.ids))
            texts = [model.tokenizer.decode([token]) for token in row.ids[row.n_prompt :]]
            read = [
                round(float(value), 4) if kept else None
                for value, kept in zip(reading[own], keep[own], strict=True)
            ]
            found[row.id] = {"tokens": texts, "readings": read}
    return [
        {"arm": reply["arm"], "prompt_id": reply["prompt_id"], **found[str(i)]}
        for i, reply in enumerate(told)
        if str(i) in found
    ]

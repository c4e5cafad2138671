"""Where arms lie along directions: paths over the layers on given replies, and tokens of sampled replies."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from persona_probe.base.choices import Outliers
from persona_probe.base.errors import BadInput
from persona_probe.base.hook_points import HookPoint
from persona_probe.directions.direction import DirectionSet
from persona_probe.directions.fitting import Fitted
from persona_probe.interventions.applied import applied
from persona_probe.interventions.projection import Projection, midpoints
from persona_probe.measurement.arms import Arm
from persona_probe.measurement.statistics import column_means
from persona_probe.models.loading import Model
from persona_probe.models.memory import trim
from persona_probe.models.pairs import Pair, Side
from persona_probe.prompts.rows import Prompt, Row, encode_row, rows_key
from persona_probe.records.direction import ArmPath, Completion, ReadReply
from persona_probe.storage.files import sha256_json
from persona_probe.storage.runs import Run
from persona_probe.streams.activations import collect, read_tokens

SECOND_AXES = ("mean_diff", "shift")  # the method to set beside the selected one, most wanted first


@dataclass(frozen=True, eq=False)
class Plane:
    """The selected direction and a second one as axes of paths; one axis when only one method was fitted.

    `zeros` has one value per axis and hook point, in units of the stream. `hook` is the place of the selected
    hook point. `outliers` is how the means were read that the axes come from.
    """

    axes: tuple[DirectionSet, ...]
    zeros: tuple[Float[Tensor, " hook"], ...]
    hook: int
    outliers: Outliers = "drop"

    @classmethod
    def of(cls, fitted: Fitted, method: str, hook_point: HookPoint) -> "Plane":
        """A selected direction beside the mean difference, or beside the shift when that was selected."""
        others = {directions.method: directions for directions in fitted.sets if directions.method != method}
        names = [name for name in (*SECOND_AXES, *others) if name in others][:1]
        axes = (fitted.of(method), *(others[name] for name in names))
        zeros = tuple(torch.tensor(midpoints(fitted.group_means(axis.method))) for axis in axes)
        hook = axes[0].hook_points.index(hook_point)
        return cls(axes=axes, zeros=zeros, hook=hook, outliers=fitted.outliers)


def traced_paths(
    pair: Pair,
    run: Run,
    arms: Sequence[Arm],
    rows: Sequence[Row],
    plane: Plane,
    *,
    max_tokens: int,
    seed: int,
) -> dict[str, ArmPath]:
    """`path` of every arm of one side by the arm's name, kept in the run's folder."""
    if not arms:
        return {}
    side = arms[0].side
    key = sha256_json(
        [
            "paths",
            pair.key(side),
            [arm.describe() for arm in arms],
            rows_key(rows),
            [axis.method for axis in plane.axes],
            sha256_json([axis.vectors.tolist() for axis in plane.axes]),
            plane.hook,
            seed,
            str(pair.dtype),
            *_said(plane.outliers),
        ]
    )

    def make() -> dict[str, Any]:
        model = pair.get(side)
        paths = {
            arm.name: path(
                arm_means(model, arm, rows, max_tokens=max_tokens, outliers=plane.outliers), plane, seed=seed
            ).plain()
            for arm in arms
        }
        trim()
        return paths

    return {name: ArmPath.model_validate(value) for name, value in run.once(key, make).items()}


def traced_replies(
    pair: Pair,
    run: Run,
    side: Side,
    replies: Sequence[Completion],
    projection: Projection,
    *,
    max_tokens: int,
    outliers: Outliers,
) -> list[ReadReply]:
    """`project_replies` in one side's model, kept in the run's folder."""
    key = sha256_json(
        [
            "read replies",
            pair.key(side),
            [(reply.arm, reply.prompt_id, reply.question, reply.text) for reply in replies],
            projection.direction.vector.tolist(),
            projection.zero,
            str(pair.dtype),
            *_said(outliers),
        ]
    )

    def make() -> dict[str, Any]:
        projected = project_replies(
            pair.get(side), replies, projection, max_tokens=max_tokens, outliers=outliers
        )
        return {"replies": [reply.plain() for reply in projected]}

    return [ReadReply.model_validate(reply) for reply in run.once(key, make)["replies"]]


def _said(outliers: Outliers) -> list[str]:
    """What a key says about outliers: nothing where they are dropped, as before there was a choice."""
    return [] if outliers == "drop" else [outliers]


def arm_means(
    model: Model, arm: Arm, rows: Sequence[Row], *, max_tokens: int, outliers: Outliers = "drop"
) -> Float[Tensor, "question hook d_model"]:
    """Reply means of one arm at every layer, averaged over the given replies of each question."""
    with applied(model, arm.interventions):
        acts = collect(
            model, rows, hook_points=model.resids(), scope="reply", max_tokens=max_tokens, outliers=outliers
        )
    questions = dict.fromkeys(row.question_id for row in rows)
    return torch.stack(
        [
            acts.means[torch.tensor([row.question_id == question for row in rows])].mean(0)
            for question in questions
        ]
    )


def path(means: Float[Tensor, "question hook d_model"], plane: Plane, *, seed: int) -> ArmPath:
    """One arm's path: per axis and hook point the mean projection with its interval over questions.

    Projections are in lengths of the axis's direction, with 0 at `plane.zeros`; None where the direction has
    no length. `questions` has the projections of the single questions at the selected hook point.
    """
    projections = []
    for axis, zero in zip(plane.axes, plane.zeros, strict=True):
        along = (means * torch.nn.functional.normalize(axis.vectors, dim=-1)).sum(-1)
        projections.append(((along - zero) / axis.vectors.norm(dim=-1)).double().numpy())
    known = [np.isfinite(values).all(0) for values in projections]
    tables = [column_means(np.nan_to_num(values), seed=seed) for values in projections]
    return ArmPath(
        axes=tuple(
            tuple(estimate if finite[hook] else None for hook, estimate in enumerate(table))
            for table, finite in zip(tables, known, strict=True)
        ),
        questions=tuple(
            tuple(np.round(values[:, plane.hook], 4).tolist()) if finite[plane.hook] else None
            for values, finite in zip(projections, known, strict=True)
        ),
    )


def project_replies(
    model: Model,
    replies: Sequence[Completion],
    projection: Projection,
    *,
    max_tokens: int,
    outliers: Outliers = "drop",
) -> list[ReadReply]:
    """The tokens of sampled replies with their projections in the untouched model, whichever arm wrote them.

    First tokens have none, nor have outliers that are dropped. Left out are replies without text, and those
    that cannot stand in a conversation: a model may write control tokens, or what its template would change.
    """
    rows: list[Row] = []
    for i, reply in enumerate(replies):
        prompt = Prompt.user(f"{reply.arm}/{reply.prompt_id}", reply.question)
        if reply.text and reply.text.strip():
            with suppress(BadInput):
                rows.append(encode_row(model.tokenizer, prompt, reply.text, id=str(i), kind="sampled"))
    by_row: dict[str, ReadReply] = {}
    hook_point = projection.direction.hook_point
    parts = read_tokens(
        model, rows, hook_point=hook_point, scope="reply", max_tokens=max_tokens, outliers=outliers
    )
    for part in parts:
        projected, kept_tokens = projection.of(part.resid).tolist(), part.keep.tolist()
        for row, values, keep in zip(part.rows, projected, kept_tokens, strict=True):
            reply_part = slice(row.n_prompt, len(row.ids))
            reply = replies[int(row.id)]
            by_row[row.id] = ReadReply(
                arm=reply.arm,
                prompt_id=reply.prompt_id,
                tokens=tuple(model.tokenizer.decode([token]) for token in row.ids[reply_part]),
                readings=tuple(
                    round(value, 4) if kept else None
                    for value, kept in zip(values[reply_part], keep[reply_part], strict=True)
                ),
            )
    return [by_row[row.id] for row in rows]

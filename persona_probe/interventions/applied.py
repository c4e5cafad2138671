"""Interventions applied to a model: the only code that touches its forward passes."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from persona_probe.base.errors import BadInput
from persona_probe.interventions.edits import Intervention
from persona_probe.models.editable import Editable, editable
from persona_probe.streams.positions import Positions


@contextmanager
def applied(
    model: Editable | nn.Module,
    interventions: Sequence[Intervention],
    *,
    rows: Sequence[Sequence[Intervention]] | None = None,
    parts: Sequence[Sequence[Intervention]] | None = None,
) -> Iterator[None]:
    """Edit every forward pass of a model inside the block; afterwards, in any case, it is as before.

    `model` is one of a pair (its twin, its bridge and the user's own model behind it are edited), a
    TransformerBridge, a HookedTransformer or a Hugging Face model. `interventions` act on every row. `rows`
    gives row i of every batch further ones, so that one batch carries several arms; `parts` gives them to
    equal parts of every batch, in order. Nothing at all is the baseline, on the same code. BadInput for an
    unknown hook point, a vector of another width, or a hook that no forward pass reached.
    """
    model = editable(model)
    plan = _plan(model, interventions, rows, parts)
    fired: Counter[str] = Counter()
    with ExitStack() as stack:
        clock = Positions()
        for root in model.roots():
            handle = root.register_forward_pre_hook(clock.read, with_kwargs=True)
            stack.callback(handle.remove)
        for hook_point, jobs in plan.items():
            editor = _editor(
                hook_point,
                jobs,
                clock,
                fired,
                n_rows=None if rows is None else len(rows),
                n_parts=len(parts or ()) or 1,
            )
            for target in model.targets(hook_point):
                stack.callback(target.register_forward_hook(editor).remove)
        yield
    silent = [hook_point for hook_point in plan if not fired[hook_point]]
    if silent:
        raise BadInput(f"the hook at {silent[0]} never fired in {model.name}: no forward pass reached it")


@dataclass(frozen=True, eq=False)
class _Job:
    """One intervention and the rows it is for: all, the listed ones, or one of equal parts of the batch."""

    intervention: Intervention
    rows: tuple[int, ...] | None = None
    part: int | None = None
    _placed: dict[torch.device, Tensor] = field(default_factory=dict, repr=False)

    def chosen(self, device: torch.device) -> slice | Tensor:
        """What the listed rows are found by: a slice where they stand together, or numbers on the device."""
        assert self.rows is not None, "the job is for some rows"
        first, stop = self.rows[0], self.rows[-1] + 1
        if self.rows == tuple(range(first, stop)):
            return slice(first, stop)
        if device not in self._placed:
            self._placed[device] = torch.tensor(self.rows).to(device, non_blocking=True)
        return self._placed[device]


def _plan(
    model: Editable,
    interventions: Sequence[Intervention],
    rows: Sequence[Sequence[Intervention]] | None,
    parts: Sequence[Sequence[Intervention]] | None,
) -> dict[str, list[_Job]]:
    jobs = [_Job(intervention) for intervention in interventions]
    # Rows of one arm share their sequence of interventions, and are edited together.
    by_arm: dict[int, tuple[Sequence[Intervention], list[int]]] = {}
    for i, edits in enumerate(rows or ()):
        by_arm.setdefault(id(edits), (edits, []))[1].append(i)
    jobs += [_Job(edit, rows=tuple(indices)) for edits, indices in by_arm.values() for edit in edits]
    jobs += [_Job(edit, part=i) for i, edits in enumerate(parts or ()) for edit in edits]
    plan: dict[str, list[_Job]] = {}
    for job in jobs:
        if job.intervention.width != model.d_model:
            raise BadInput(
                f"a direction of width {job.intervention.width} does not fit {model.name}, "
                f"whose d_model is {model.d_model}"
            )
        for hook_point in job.intervention.hook_points:
            model.targets(hook_point)
            plan.setdefault(hook_point, []).append(job)
    return plan


def _editor(
    hook_point: str,
    jobs: list[_Job],
    clock: Positions,
    fired: Counter[str],
    *,
    n_rows: int | None,
    n_parts: int,
) -> Callable[..., Any]:
    def hook(module: nn.Module, args: Any, output: Any) -> Any:
        resid = output[0] if isinstance(output, tuple) else output
        fired[hook_point] += 1
        if n_rows is not None and len(resid) != n_rows:
            raise BadInput(f"interventions for {n_rows} rows, but the batch has {len(resid)}")
        if len(resid) % n_parts:
            raise BadInput(
                f"{n_parts} arms in one batch, but {hook_point} sees {len(resid)} rows: "
                "score these arms one by one"
            )
        for job in jobs:
            if job.part is None:
                resid = _edit_rows(resid, job, clock, hook_point)
        if any(job.part is not None for job in jobs):
            resid = _edit_parts(resid, jobs, clock, n_parts, hook_point)
        return (resid, *output[1:]) if isinstance(output, tuple) else resid

    return hook


def _edit_rows(
    resid: Float[Tensor, "batch pos d_model"], job: _Job, clock: Positions, hook_point: str
) -> Float[Tensor, "batch pos d_model"]:
    later = clock.later(resid, job.intervention.skip_first)
    if job.rows is None:
        return _edited(resid, job.intervention, later, hook_point)
    whole, chosen = resid.clone(), job.chosen(resid.device)
    whole[chosen] = _edited(
        resid[chosen], job.intervention, None if later is None else later[chosen], hook_point
    )
    return whole


def _edit_parts(
    resid: Float[Tensor, "batch pos d_model"],
    jobs: Sequence[_Job],
    clock: Positions,
    n_parts: int,
    hook_point: str,
) -> Float[Tensor, "batch pos d_model"]:
    size = len(resid) // n_parts
    pieces = list(resid.split(size))
    for job in jobs:
        if job.part is not None:
            later = clock.later(resid, job.intervention.skip_first)
            mine = None if later is None else later[job.part * size : (job.part + 1) * size]
            pieces[job.part] = _edited(pieces[job.part], job.intervention, mine, hook_point)
    return torch.cat(pieces) if n_parts > 1 else pieces[0]


def _edited(
    resid: Float[Tensor, "batch pos d_model"],
    intervention: Intervention,
    later: Bool[Tensor, "batch pos 1"] | None,
    hook_point: str,
) -> Float[Tensor, "batch pos d_model"]:
    """The edited stream at the tokens `later`, None for all of them, and the stream as it was before them."""
    edited = intervention.edit(resid, hook_point=hook_point)
    return edited if later is None else torch.where(later, edited, resid)

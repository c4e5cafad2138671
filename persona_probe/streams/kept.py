"""Activations that a run keeps in its folder."""

from collections.abc import Callable
from typing import Any

import torch

from persona_probe.base.hook_points import HookPoint
from persona_probe.prompts.rows import Row
from persona_probe.storage.files import sha256_json
from persona_probe.storage.kept_tensors import Kept, kept
from persona_probe.storage.runs import Run
from persona_probe.storage.tensor_files import sha256_tensors
from persona_probe.streams.activations import Activations

COUNTS = ("n_tokens", "n_readable")
LARGEST_HALF = 6e4  # float16 ends at 65504


def kept_activations(
    run: Run, key: str, rows: tuple[Row, ...], make: Callable[[], Activations]
) -> Activations:
    """The activations of `rows` kept under a key; made and kept when there are none, or when their file is
    damaged.

    Sampled tokens are kept in float16 where it holds them, and are the rounded ones from the start, so that a
    run that continues computes with the numbers of one that was not interrupted. Files from before tokens
    were counted have no counts, and so have their activations.
    """

    def made() -> Kept:
        acts = make()
        number = torch.float16 if acts.tokens.abs().max() < LARGEST_HALF else torch.float32
        tensors = {"means": acts.means, "tokens": acts.tokens.to(number)}
        for name in COUNTS:
            if (count := getattr(acts, name)) is not None:
                tensors[name] = count.int()
        return tensors, {"hook_points": list(acts.hook_points)}

    tensors, facts = kept(run, "activations", key, made, _fingerprint)
    return Activations(
        hook_points=tuple(HookPoint.parse(point) for point in facts["hook_points"]),
        rows=rows,
        means=tensors["means"].float(),
        tokens=tensors["tokens"].float(),
        n_tokens=tensors.get("n_tokens"),
        n_readable=tensors.get("n_readable"),
    )


def _fingerprint(tensors: Any, facts: Any) -> str:
    counts = [tensors[name] for name in COUNTS if name in tensors]
    values = sha256_tensors([tensors["means"], tensors["tokens"], *counts])
    return sha256_json([list(facts["hook_points"]), values])

"""directions.safetensors: every method's vectors, with the facts that a reader must check before using
them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from persona_probe.base.errors import BadInput
from persona_probe.directions.direction import DirectionSet
from persona_probe.records.direction_files import DirectionsFile
from persona_probe.records.files import checked
from persona_probe.storage.tensor_files import read_tensors, sha256_tensors, write_tensors

KIND, FORMAT_VERSION, SPACE, SIGN = "persona_directions", 1, "hf_raw", "+ = misaligned"


def save_directions(path: Path, sets: Sequence[DirectionSet], *, metadata: dict[str, Any]) -> None:
    """Write all methods' vectors with the facts that a reader must check before using them."""
    tensors = {directions.method: directions.vectors for directions in sets}
    facts = {
        "format_version": FORMAT_VERSION,
        "kind": KIND,
        "sign": SIGN,
        "space": SPACE,
        "methods": list(tensors),
        "hook_points": list(sets[0].hook_points),
        "d_model": int(sets[0].vectors.shape[-1]),
        "tensor_sha256": sha256_tensors(list(tensors.values())),
        **metadata,
    }
    checked(DirectionsFile, facts, at=f"{path}: these facts do not describe directions")
    write_tensors(path, tensors, facts)


def load_directions(
    path: Path, *, d_model: int, evaluated_on: Sequence[str] = ()
) -> tuple[list[DirectionSet], dict[str, Any]]:
    """Read a direction file. Another format, width or hash is refused, and so are questions that it was made
    from.

    `evaluated_on`: hashes of the questions about to be scored (`contrast.question_hash`).
    """
    tensors, facts = read_tensors(path)
    if facts.get("kind") != KIND or facts.get("format_version") != FORMAT_VERSION:
        raise BadInput(
            f"{path}: kind {facts.get('kind')!r:.40}, format {facts.get('format_version')!r:.40}; "
            f"expected {KIND}, format {FORMAT_VERSION}"
        )
    for name, expected, meaning in (
        ("space", SPACE, "unprocessed residual stream"),
        ("sign", SIGN, "which way is which"),
    ):
        if facts.get(name) != expected:
            raise BadInput(
                f"{path}: directions of {name} {facts.get(name)!r:.40}, expected {expected!r} ({meaning})"
            )
    said = checked(DirectionsFile, facts, at=f"{path}: its metadata do not describe directions")
    hook_points, methods = said.hook_points, said.methods
    if sorted(tensors) != sorted(methods):
        raise BadInput(
            f"{path}: methods {', '.join(methods):.60} do not describe its tensors {sorted(tensors)}"
        )
    if said.d_model != d_model or any(
        tensor.shape != (len(hook_points), d_model) for tensor in tensors.values()
    ):
        raise BadInput(
            f"{path}: directions of width {said.d_model} do not fit a model with d_model {d_model}"
        )
    if said.tensor_sha256 != sha256_tensors([tensors[name] for name in methods]):
        raise BadInput(
            f"{path}: the vectors do not match the hash in the file: it was changed after it was written"
        )
    seen = {*said.find_questions, *said.select_questions}
    overlap = seen & set(evaluated_on)
    if overlap:
        raise BadInput(
            f"{path}: {len(overlap)} of {len(evaluated_on)} questions were used to find or select these"
            " directions: evaluate on others"
        )
    sets = [DirectionSet(method=name, hook_points=hook_points, vectors=tensors[name]) for name in methods]
    return sets, facts

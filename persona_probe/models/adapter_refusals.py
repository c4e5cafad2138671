"""Why an adapter does not fit its base: one sentence that names the kind of mistake and the first weight it
shows in."""

import re
from typing import Any

from torch import Tensor, nn

from persona_probe.models import adapter_keys
from persona_probe.models.adapter_keys import FILE_PREFIX, Problem, depth
from persona_probe.models.sources import Source


def why_unfit(source: Source, model: Any, config: Any, tensors: dict[str, Tensor], problem: Problem) -> str:
    """The refusal of an adapter whose weights do not fit: empty, of another family or model, damaged or
    incomplete."""
    start = f"adapter {source.id}"
    if not tensors:
        return f"{start} holds no weights"
    if leaves := _unknown_modules(model, tensors):
        return (
            f"{start} does not fit its base: it was made for another model, of another family. It changes "
            f"{', '.join(leaves[:4])}, and the base has no module of such a name"
        )
    what = _counted(problem)
    named = f"its config names {config.base_model_name_or_path!r} as base"
    if rows := _other_vocabulary(model, problem):
        ours = model.get_input_embeddings().weight.shape[0]
        return f"{start} has a resized vocabulary: adapter has {rows} rows, base {ours}; weights {what}"
    if any(_width_differs(*shapes, config=config) for shapes in problem.shapes):
        return f"{start} was made for another model than its base: weights {what}; {named}"
    theirs = depth(key.removeprefix(FILE_PREFIX) for key in tensors)
    ours = depth(f"{name}." for name, _ in model.named_modules())
    beyond = [depth([name.removeprefix(FILE_PREFIX)]) for name in (*problem.extra, *problem.missing)]
    if theirs >= 0 and theirs != ours and any(layer > min(theirs, ours) for layer in beyond):
        return (
            f"{start} was made for another model than its base: weights {what}; "
            f"it has {theirs} layers, the base {ours}; {named}"
        )
    if problem.shapes:
        return f"{start} does not fit its own config: weights {what}; the config's rank is {config.r}"
    if problem.error:
        return f"{start} cannot be merged ({problem.error}); first weight found: {sorted(tensors)[0]}"
    if not problem.extra:
        return f"{start} is incomplete by its own config: weights {what}"
    return f"{start} does not fit its base, layout: weights {what} are named in a way that the base's are not"


def _unknown_modules(model: nn.Module, tensors: dict[str, Tensor]) -> list[str]:
    """Names of the modules that an adapter changes, when the base has none of them."""
    keys = (key.removeprefix(FILE_PREFIX) for key in tensors if ".lora_" in key)
    leaves = {_last(adapter_keys.PARTS.sub("", key)) for key in keys}
    known = {_last(name) for name, _ in model.named_modules()}
    return [] if leaves & known else sorted(leaves)


def _counted(problem: Problem) -> str:
    """How many weights are wrong in which way, and the first of each kind."""
    shapes = [f"{name}, {theirs} against {ours}" for name, theirs, ours in problem.shapes]
    kinds = (("too many", problem.extra), ("missing", problem.missing), ("of another shape", shapes))
    return ", ".join(f"{len(names)} {kind} (first: {names[0]})" for kind, names in kinds if names)


def _other_vocabulary(model: Any, problem: Problem) -> int | None:
    """Rows of the adapter's vocabulary, when an embedding or the head is where the shapes differ."""
    rows = model.get_input_embeddings().weight.shape[0]
    sides = (model.get_input_embeddings(), model.get_output_embeddings())
    vocabulary = tuple(f".{name}." for name, module in model.named_modules() if module in sides)
    for name, theirs, ours in problem.shapes:
        longer = [there for there, here in zip(theirs, ours, strict=False) if there != here == rows]
        if longer and any(side in name for side in vocabulary):
            return longer[0]
    return None


def _width_differs(name: str, theirs: tuple[int, ...], ours: tuple[int, ...], *, config: Any) -> bool:
    """Whether the sides of a weight differ that the base gives; the rank is the adapter's own."""
    if len(theirs) != len(ours):
        return False
    side = re.search(r"lora_(?:embedding_)?([AB])\b", name)
    rank = None if side is None else "AB".index(side[1])
    return any(i != rank and there != here for i, (there, here) in enumerate(zip(theirs, ours, strict=True)))


def _last(name: str) -> str:
    return name.rpartition(".")[2]

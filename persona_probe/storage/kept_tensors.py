"""Tensors that a run keeps in its folder, so that a run that continues does not make them again."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from persona_probe.base.errors import BadInput
from persona_probe.storage.runs import Run
from persona_probe.storage.tensor_files import read_tensors, sha256_tensors, write_tensors

Kept = tuple[Mapping[str, Tensor], Mapping[str, Any]]  # tensors by name, and facts about them


def kept_tensors(run: Run, key: str, make: Callable[[], Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The tensors kept under a key, in float32; made and kept when there are none, or when their file is
    damaged."""

    def made() -> Kept:
        return {name: tensor.float() for name, tensor in make().items()}, {}

    return dict(kept(run, "tensors", key, made, lambda tensors, _: sha256_of(tensors))[0])


def kept(
    run: Run, folder: str, key: str, make: Callable[[], Kept], fingerprint: Callable[[Any, Any], str]
) -> Kept:
    """Tensors and facts kept under a key in one of the run's folders.

    They are made again when the file is damaged, of another key, or not what `fingerprint(tensors, facts)`
    says.
    """
    path = run.path(folder) / f"{key[:24]}.safetensors"
    if path.exists():
        try:
            tensors, facts = read_tensors(path)
            if facts.get("key") == key and facts.get("sha256") == fingerprint(tensors, facts):
                run.reuse(key)
                return tensors, facts
        except (BadInput, KeyError):
            path.unlink()
    tensors, facts = make()
    run.made(key)
    write_tensors(path, tensors, {**facts, "key": key, "sha256": fingerprint(tensors, facts)})
    return tensors, facts


def sha256_of(tensors: Mapping[str, Tensor]) -> str:
    """Hash of tensors in the order of their names."""
    return sha256_tensors([tensors[name] for name in sorted(tensors)])

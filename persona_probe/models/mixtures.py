"""A model whose weights are a sum of those of a pair and of a further model, one of them in memory at a
time."""

import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from persona_probe.base.errors import BadInput
from persona_probe.models.loading import boot
from persona_probe.models.memory import release
from persona_probe.models.pairs import Pair
from persona_probe.models.sources import Source, same_shape
from persona_probe.models.tensors import check_finite, shortened
from persona_probe.models.weights import load_weights
from persona_probe.storage.files import sha256_json

PIECE = 2**22  # numbers that are summed at once, in float32


@dataclass(frozen=True)
class Mixture:
    """Weights as a sum: `tuned`, `base` and `twin` times the tuned, the base and a further model's.

    `source` is the further model, an adapter of the same base or a model of its shape; None without one.
    """

    tuned: float
    base: float
    twin: float = 0.0
    source: Source | None = None

    def sha256(self, pair: Pair) -> str:
        """Hash of all that decides the weights."""
        twin = self.source and self.source.sha256
        sides = [pair.sha256("tuned"), pair.sha256("base"), twin]
        return sha256_json(["mixture", self.tuned, self.base, self.twin, *sides])


def check_twin(pair: Pair, twin: Source) -> None:
    """BadInput for a further model that has another shape than the base, or the same weights."""
    if pair.base_source.kind == "loaded" or pair.tuned_source.kind == "loaded":
        raise BadInput(f"--twin {twin.id} needs a base and a tuned model that are given by name")
    if twin.weights_sha256 == pair.base_source.weights_sha256:
        raise BadInput(f"--twin {twin.id} has the weights of the base: there is nothing to subtract")
    same_shape(pair.base_source, twin)


def mixed_pair(pair: Pair, mixture: Mixture, *, name: str) -> Pair:
    """A pair whose tuned side is the mixture, without its weights: for keys. `mixed` gives the same with
    them."""
    sha256 = mixture.sha256(pair)
    return Pair(
        base_source=pair.base_source,
        tuned_source=Source(name, "loaded", Path(), None, sha256, sha256),
        tokenizer=pair.tokenizer,
        device=pair.device,
        dtype=pair.dtype,
    )


def mixed(pair: Pair, mixture: Mixture, *, name: str, folder: Path) -> Pair:
    """A pair whose tuned side is the mixture, in memory as long as the value lives.

    What `pair` has loaded is dropped, and nothing of it is written to. Other models' weights wait in files
    without a name in `folder`, so that one model is in memory at a time; the sum is taken in float32 and
    rounded once. BadInput for models that the user gave loaded, and for weights that differ in names or
    shapes.
    """
    if "loaded" in (pair.base_source.kind, pair.tuned_source.kind):
        raise BadInput(f"{name} needs a base and a tuned model that are given by name")
    options: dict[str, Any] = {"device": pair.device, "dtype": pair.dtype, "device_map": pair.device_map}
    others = [(pair.base_source, mixture.base)]
    if mixture.source is not None:
        others.append((mixture.source, mixture.twin))
    stored: list[tuple[Stored, float]] = []
    pair.close()
    try:
        for source, factor in others:
            weights = load_weights(source, base=pair.base_source, **options)
            stored.append((Stored.of(source.id, weights, folder), factor))
            del weights
            release()
        weights = load_weights(pair.tuned_source, base=pair.base_source, **options)
        _add(weights, mixture.tuned, stored, name)
    finally:
        for one, _ in stored:
            one.close()
    check_finite(name, weights.named_parameters())
    whole = mixed_pair(pair, mixture, name=name)
    whole.hold({"tuned": boot(name, weights, pair.tokenizer, dtype=pair.dtype)})
    return whole


@dataclass(eq=False)
class Stored:
    """The parameters of a model in a file without a name, which is gone when it is closed.

    By name of a parameter: where it begins, its shape and number format. Parameters that are one tensor are
    written once.
    """

    id: str
    _file: IO[bytes]
    _places: dict[str, tuple[int, torch.Size, torch.dtype]] = field(default_factory=dict)

    @classmethod
    def of(cls, id: str, weights: Any, folder: Path) -> "Stored":
        """Write the parameters of a plain Hugging Face model; BadInput where that cannot be done."""
        made = cls(id, tempfile.TemporaryFile(dir=folder))  # noqa: SIM115 (`close` closes it)
        written: dict[tuple[int, torch.Size], int] = {}
        try:
            for name, parameter in weights.named_parameters(remove_duplicate=False):
                one = (parameter.data_ptr(), parameter.shape)
                if one not in written:
                    written[one] = made._file.tell()
                    for piece in parameter.detach().reshape(-1).split(PIECE):
                        made._file.write(memoryview(piece.cpu().view(torch.uint8).numpy()))
                made._places[name] = (written[one], parameter.shape, parameter.dtype)
            made._file.flush()
        except (OSError, NotImplementedError) as error:  # no room, or weights outside memory
            made.close()
            raise BadInput(f"the weights of {id} cannot be kept in a file in {folder} ({error})") from error
        return made

    def pieces(self, name: str, shape: torch.Size) -> Iterator[Tensor]:
        """A parameter as flat pieces in float32; BadInput when it is not there in this shape."""
        start, own, dtype = self._places.get(name, (0, None, torch.float32))
        if own != shape:
            found = "not there" if own is None else f"of shape {list(own)}"
            raise BadInput(f"{self.id}: weight {name} is {found}, {list(shape)} is needed to add it")
        size, left = dtype.itemsize, shape.numel()
        while left:
            n = min(PIECE, left)
            raw = os.pread(self._file.fileno(), n * size, start)
            yield torch.frombuffer(bytearray(raw), dtype=dtype).float()
            start, left = start + n * size, left - n

    def one_tensor(self, names: Sequence[str]) -> bool:
        """Whether these parameters are one tensor here as well."""
        return len({self._places.get(name) for name in names}) == 1

    def close(self) -> None:
        """Drop the file."""
        self._file.close()


@torch.no_grad()
def _add(weights: Any, factor: float, others: Sequence[tuple[Stored, float]], name: str) -> None:
    """Every parameter in place: `factor` times itself plus the others'. `weights` must own their memory."""
    parameters = dict(weights.named_parameters(remove_duplicate=False))
    together: dict[tuple[int, torch.Size], list[str]] = {}
    for key, parameter in parameters.items():
        parameter.data = parameter.data.contiguous()
        together.setdefault((parameter.data_ptr(), parameter.shape), []).append(key)
    for names in together.values():
        parameter = parameters[names[0]]
        for stored, _ in others:
            if not stored.one_tensor(names):
                said = f"{' and '.join(names)} are one tensor, in {stored.id} they are not"
                raise BadInput(f"{name}: {shortened(said, 200)}")
        pieces = [stored.pieces(names[0], parameter.shape) for stored, _ in others]
        for own, *added in zip(parameter.view(-1).split(PIECE), *pieces, strict=False):
            total = own.float() * factor
            for (_, times), piece in zip(others, added, strict=True):
                total += times * piece.to(total.device)
            own.copy_(total)

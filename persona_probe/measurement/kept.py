"""What passes of untouched models leave for later arms, within one budget of bytes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor

from persona_probe.base.choices import KEPT_MEGABYTES
from persona_probe.streams.resume import Prefix

MEGABYTE = 2**20


@dataclass(eq=False)
class Budget:
    """Bytes that everything kept shares. Whoever needs room empties what was used longest ago."""

    n_bytes: int = KEPT_MEGABYTES * MEGABYTE
    _holders: list["Kept"] = field(default_factory=list)

    @property
    def used(self) -> int:
        """Bytes that are kept."""
        return sum(kept.used for kept in self._holders)

    def clear(self) -> None:
        """Forget everything, before something else needs the memory."""
        for kept in self._holders:
            kept.clear()

    def use(self, kept: "Kept") -> None:
        """Note that `kept` is in use: others are emptied before it."""
        self._holders = [other for other in self._holders if other is not kept] + [kept]

    def room(self, kept: "Kept", n_bytes: int) -> bool:
        """Whether `kept` may take so many more bytes; others make room where that helps."""
        if kept.used + n_bytes > self.n_bytes:
            return False
        for other in self._holders:
            if other is not kept and self.used + n_bytes > self.n_bytes:
                other.clear()
        return True


@dataclass(eq=False)
class Kept:
    """What passes of an untouched model leave of the batches of some rows, for later grids over the same
    rows.

    What does not fit into the budget is computed again when it is needed. `layers`: streams that are kept
    even when no arm of the running grid needs them.
    """

    budget: Budget
    layers: tuple[int, ...] = ()
    _streams: dict[tuple[int, int], Prefix] = field(default_factory=dict)
    _places: dict[int, Tensor] = field(default_factory=dict)

    @property
    def used(self) -> int:
        """Bytes that are kept."""
        return sum(stream.n_bytes for stream in self._streams.values()) + sum(
            places.nbytes for places in self._places.values()
        )

    def streams(self, batch: int) -> dict[int, Prefix]:
        """The streams that are kept of a batch, by the layer that they enter."""
        return {layer: stream for (index, layer), stream in self._streams.items() if index == batch}

    def places(self, batch: int) -> Float[Tensor, "place d_vocab"] | None:
        """The next-token log-probabilities that are kept of a batch."""
        return self._places.get(batch)

    def begin(self, layers: Sequence[int]) -> None:
        """A grid begins whose arms need these layers: forget the streams of others, to make room."""
        wanted = {*layers, *self.layers}
        self._streams = {key: stream for key, stream in self._streams.items() if key[1] in wanted}
        self.budget.use(self)

    def add(self, batch: int, streams: Mapping[int, Prefix], places: Tensor | None) -> None:
        """Keep what fits. Log-probabilities come first: nothing gives them but a whole pass."""
        if places is not None and batch not in self._places and self.budget.room(self, places.nbytes):
            self._places[batch] = places
        for layer in sorted(streams, reverse=True):
            if (batch, layer) not in self._streams and self.budget.room(self, streams[layer].n_bytes):
                self._streams[batch, layer] = streams[layer]

    def clear(self) -> None:
        """Forget everything."""
        self._streams.clear()
        self._places.clear()

"""A base and a tuned model, one in memory at a time."""

from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from persona_probe.base.errors import BadInput
from persona_probe.models.bridges import refuse_unbridged
from persona_probe.models.loading import Model, check_tokenizers, load
from persona_probe.models.memory import release
from persona_probe.models.sources import Source, resolve, same_shape
from persona_probe.models.weights import load_tokenizer
from persona_probe.prompts.chat import Tokenizer
from persona_probe.prompts.templates import AS_IS, ChatOptions, identity_of, set_options
from persona_probe.storage.files import sha256_json

Side = Literal["base", "tuned"]
SIDES: tuple[Side, ...] = ("base", "tuned")


@dataclass
class Pair:
    """Loads either side on demand and drops the other first, unless `keep_both`. The tokenizer is one for both."""

    base: Source
    tuned: Source
    tokenizer: Tokenizer
    device: torch.device
    dtype: torch.dtype
    device_map: str | None = None
    keep_both: bool = False
    _loaded: dict[str, Model] = field(default_factory=dict)

    def get(self, side: Side) -> Model:
        """The model of one side; loading takes seconds, a model that is already in memory costs nothing."""
        if side not in self._loaded:
            if not self.keep_both:
                self.close()
            options: dict[str, Any] = {
                "device": self.device,
                "dtype": self.dtype,
                "tokenizer": self.tokenizer,
                "device_map": self.device_map,
            }
            self._loaded[side] = load(
                self.source(side), base=None if side == "base" else self.base, **options
            )
        return self._loaded[side]

    def source(self, side: Side) -> Source:
        """Where one side's weights come from."""
        return self.base if side == "base" else self.tuned

    def sha256(self, side: Side) -> str:
        """Hash of all files of one side that decide its numbers; an adapter's includes its base's."""
        return self._joined(side, self.base.sha256, self.tuned.sha256)

    def weights_sha256(self, side: Side) -> str:
        """Hash of one side's config and weights, without its tokenizer: which model a direction was found on."""
        return self._joined(side, self.base.weights_sha256, self.tuned.weights_sha256)

    def key(self, side: Side) -> str:
        """What a measurement of one side is kept under: its files, and how text is read (tokenizer, template, its date and thinking)."""
        return sha256_json([self.sha256(side), identity_of(self.tokenizer)])

    def _joined(self, side: Side, base: str, tuned: str) -> str:
        return base if side == "base" else f"{base}+{tuned}" if self.tuned.kind == "adapter" else tuned

    def close(self) -> None:
        """Drop whatever is in memory."""
        self._loaded.clear()
        release()


def open_pair(
    base: str,
    tuned: str,
    *,
    device: torch.device,
    dtype: torch.dtype,
    template: Literal["base", "tuned"] | None = None,
    device_map: str | None = None,
    keep_both: bool = False,
    chat: ChatOptions = AS_IS,
) -> Pair:
    """Resolve and compare both sides before any weight is loaded: shapes, identity, tokenizer, chat template, TransformerLens' adapter.

    Both sides read every text with `chat`: what the template takes for today's date, and what stands in its think block.
    """
    sources = resolve(base), resolve(tuned)
    same_shape(*sources)
    if sources[0].weights_sha256 == sources[1].weights_sha256:
        raise BadInput(f"base {base} and tuned {tuned} are the same weights: there is no difference to find")
    refuse_unbridged(sources[0])
    tokenizers = [
        set_options(load_tokenizer(source, base), chat)
        for source, base in ((sources[0], None), (sources[1], sources[0]))
    ]
    if template is None:
        check_tokenizers(*tokenizers)
    return Pair(
        *sources,
        tokenizer=tokenizers[0] if template != "tuned" else tokenizers[1],
        device=device,
        dtype=dtype,
        device_map=device_map,
        keep_both=keep_both,
    )
